"""Processes of a test, as /proc tells them. One that ends while it is looked at is gone, and no error."""

import contextlib
import os
import signal
from collections.abc import Iterable, Iterator
from pathlib import Path

from synth.host.children import descendants, is_alive
from tests.stages import wait_for


def words_of(pid: int) -> list[bytes]:
    """The command line; [] of one that is gone, or a zombie."""
    with contextlib.suppress(OSError):
        return Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")[:-1]
    return []


def below(parent: int, module: str) -> list[int]:
    """Processes below another one that run a module of Python."""
    return [pid for pid in descendants(parent) if module.encode() in words_of(pid)[:8]]


def everywhere() -> dict[int, list[bytes]]:
    """pid -> command line of all processes of this machine."""
    return {int(entry.name): words_of(int(entry.name)) for entry in Path("/proc").glob("[0-9]*")}


def links_of(pid: int) -> list[str]:
    """What the open files of a process are."""
    found = []
    with contextlib.suppress(OSError):
        for fd in Path(f"/proc/{pid}/fd").iterdir():
            with contextlib.suppress(OSError):
                found.append(os.readlink(fd))
    return found


@contextlib.contextmanager
def standing_still(pids: Iterable[int]) -> Iterator[None]:
    """Some processes are stopped meanwhile, and go on whatever happens: nothing else would ever end one that stands."""
    pids = list(pids)
    try:
        for pid in pids:
            os.kill(pid, signal.SIGSTOP)
        yield
    finally:
        for pid in pids:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGCONT)


def wait_gone(pids: Iterable[int]) -> None:
    """Until none of some processes is alive: one that was killed may take its time on a busy machine."""
    wait_for(lambda: not any(map(is_alive, pids)))
