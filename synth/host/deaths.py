"""What the end of a child process tells: what it did by itself, or what was done to it.

SIGSEGV, SIGABRT, SIGBUS, SIGFPE and SIGILL are what a program brings upon itself, and so is an exit code, and so they may come from
what it was given. FROM_OUTSIDE are signals that somebody else sends: the OOM killer, a scheduler, a person, a limit.
A program that could not write ends with a code of its own: whether the disk takes anything is tried where it writes.
"""

import contextlib
import os
import signal
import tempfile
from pathlib import Path

from synth.errors import Killed, StoreError, refused

FROM_OUTSIDE = frozenset(
    [signal.SIGKILL, signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGQUIT, signal.SIGUSR1, signal.SIGUSR2, signal.SIGXCPU]
)
CGROUPS = Path("/sys/fs/cgroup")
ROOM = 1 << 20  # bytes that are tried to be written
BY_SIGNAL = 128  # added to the number of a signal by shells, containers and our guardian, whose exit code is that of what they ran


class Watch:
    """Begun with a child, that writes below `places`."""

    def __init__(self, *places: Path):
        self._places, self._kills = places, oom_kills()

    def nobodys_fault(self, code: int | None, who: str, more: str) -> Killed | StoreError | None:
        """What to raise of a child that ended with `code` (as Popen has it; None: it lives), None if it may have done that by itself.

        who: what the message calls it. more: what stands below the reason, the end of its log.
        """
        if number := from_outside(code):
            return Killed(f"{who} was {self._killed_by(number)}\n{more}")
        if code and (why := no_room(*self._places)):
            return StoreError(f"{why}, where {who} writes: make room, then run the same command again\n{more}")
        return None

    def _killed_by(self, number: signal.Signals) -> str:
        before, now = self._kills, oom_kills()
        killed = f"killed by {number.name}"
        if number is not signal.SIGKILL:
            return killed
        if now["cgroup"] > before["cgroup"]:
            return f"{killed}: the memory that this job may use was full (the kernel's oom_kill); give workers more, or start fewer"
        if now["machine"] > before["machine"]:
            return f"{killed}: this machine's memory was full (the kernel's oom_kill); start fewer workers"
        return killed


def from_outside(code: int | None) -> signal.Signals | None:
    """The signal by which somebody else ended a process, by its exit code.

    >>> from_outside(-9).name, from_outside(143).name, from_outside(-11), from_outside(139), from_outside(1), from_outside(None)
    ('SIGKILL', 'SIGTERM', None, None, None, None)
    """
    number = 0 if code is None else -code if code < 0 else code - BY_SIGNAL
    return next((s for s in FROM_OUTSIDE if s == number), None)


def no_room(*places: Path) -> str:
    """The first of these folders that takes nothing now, and why; "" if all do."""
    for place in places:
        try:
            with tempfile.TemporaryFile(dir=place) as f:
                f.write(bytes(ROOM))
                f.flush()
                os.fsync(f.fileno())
        except OSError as e:
            if refused(e):
                return f"{place}: {e.strerror}"
    return ""


def oom_kills() -> dict[str, int]:
    """How many processes the kernel killed for want of memory: in this process's cgroup, and on this machine. 0 where it does not say."""
    return {"cgroup": max((_count(file) for file in _memory_events()), default=0), "machine": _count(Path("/proc/vmstat"))}


def _memory_events() -> list[Path]:
    """Where the cgroup of this process (v2, v1) counts them; in a container that sees its own as the root, there."""
    files: list[Path] = []
    with contextlib.suppress(OSError):
        for line in Path("/proc/self/cgroup").read_text().splitlines():
            _, controllers, path = line.split(":", 2)
            if not controllers:
                files += _nearest(CGROUPS / path.lstrip("/"))
            elif "memory" in controllers.split(","):
                files += [CGROUPS / f"memory{path}/memory.oom_control", CGROUPS / "memory/memory.oom_control"]
    return files


def _nearest(cgroup: Path) -> list[Path]:
    """That of the nearest cgroup (v2) that has the memory controller: a process may be in one below it. Those above count others, too."""
    above = (place / "memory.events" for place in (cgroup, *cgroup.parents) if place.is_relative_to(CGROUPS))
    return [file for file in above if file.exists()][:1]


def _count(file: Path) -> int:
    """The number in a line "oom_kill N" of a file."""
    with contextlib.suppress(OSError, ValueError):
        for line in file.read_text().splitlines():
            name, _, number = line.partition(" ")
            if name == "oom_kill":
                return int(number)
    return 0
