"""A farm of forked workers: each child runs synth.run.loop.Worker on a probe stage and exits with its code.

Forked, not executed: a child costs milliseconds, so thousands of kills are affordable.
"""

import contextlib
import hashlib
import json
import os
import signal
import sys
import time
import traceback
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import synth.run.probe  # noqa: F401 (children shall not import it anew)
from synth.keys import dump
from synth.numerics import EXACT
from synth.run.loop import Worker
from synth.store import commit as commit_module
from synth.store import faults
from synth.store.folder import StageFolder
from synth.store.spec import StageSpec
from tests.configs import ProbeConfig

FAST = {
    "SYNTHSET_BEAT_S": "0.05",
    "SYNTHSET_DEAD_AFTER_S": "0.3",
}  # seconds; the living may look dead: that is part of the test
SLOW = {"SYNTHSET_BEAT_S": "5", "SYNTHSET_DEAD_AFTER_S": "60"}  # nobody looks dead


def plan(root: Path, slots=60, unit=10, batch=3, links=True, **probe) -> StageFolder:
    """A probe stage below `root`; links=False makes it a stage on a file system without hard links."""
    folder = StageFolder.create(
        Path(root), StageSpec("probe", "probe", dump(ProbeConfig(**probe)), slots, unit, batch, EXACT, framing=probe.get("framing", "tar"))
    )
    if not links:
        path = folder.path / "inputs.json"
        path.write_text(json.dumps(json.loads(path.read_text()) | {"hard_links": False}))
        folder = StageFolder.open(folder.path)
    return folder


def claims_only() -> None:
    """Patch for a child: a kernel or file system that cannot rename without replacing, so that claim files decide."""
    commit_module.rename_once = lambda source, target: None


@dataclass
class Child:
    """One forked worker."""

    folder: StageFolder
    job_idx: int = 0
    n_jobs: int = 1
    env: dict = field(default_factory=lambda: SLOW)
    fault: str = ""
    patch: Callable[[], None] | None = None
    code: int | None = None  # exit code, or -signal

    def __post_init__(self):
        self.log = self.folder.path / "logs" / f"child-{time.monotonic_ns()}.log"
        try:
            fd = os.open(self.log, os.O_CREAT | os.O_WRONLY)
        except OSError:  # a full disk
            fd = os.open("/dev/null", os.O_WRONLY)
        self._pipe, begun = os.pipe2(os.O_NONBLOCK)
        self.pid = os.fork()
        if self.pid == 0:
            code = 99
            try:
                _tell_of_first_unit(begun)
                os.dup2(fd, 2)
                sys.stderr = os.fdopen(2, "w", buffering=1, closefd=False)
                signal.signal(signal.SIGINT, signal.default_int_handler)
                os.environ.update(self.env | {"SYNTHSET_FAULT": self.fault})
                faults._seen.clear()
                if self.patch:
                    self.patch()
                code = Worker(StageFolder.open(self.folder.path), self.job_idx, self.n_jobs).run()
            except BaseException:  # noqa: BLE001 (run() promises to return)
                traceback.print_exc()
            finally:
                os._exit(code)
        os.close(fd)
        os.close(begun)

    def __del__(self):
        os.close(self._pipe)

    def began(self) -> bool:
        """Whether it claimed a unit since the last time this said yes."""
        try:
            return os.read(self._pipe, 1) != b""
        except BlockingIOError:
            return False

    def signal(self, sig: int) -> None:
        if self.code is None:
            os.kill(self.pid, sig)

    def poll(self) -> int | None:
        if self.code is None:
            pid, status = os.waitpid(self.pid, os.WNOHANG)
            if pid:
                self.code = os.waitstatus_to_exitcode(status)
        return self.code

    def wait(self, seconds: float = 240) -> int:
        """Its exit code; a child that does not end is killed and is a failure."""
        end = time.monotonic() + seconds
        while self.poll() is None:
            if time.monotonic() > end:
                self.signal(signal.SIGKILL)
                os.waitpid(self.pid, 0)
                self.code = -signal.SIGKILL
                raise AssertionError(f"child {self.pid} did not end in {seconds} s: {self.text()}")
            time.sleep(0.001)
        return self.code

    def wait_stopped(self, seconds: float = 240) -> bool:
        """Whether it stopped by SIGSTOP (False: it ended first)."""
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            pid, status = os.waitpid(self.pid, os.WNOHANG | os.WUNTRACED)
            if pid and os.WIFSTOPPED(status):
                return True
            if pid:
                self.code = os.waitstatus_to_exitcode(status)
                return False
            time.sleep(0.001)
        raise AssertionError(f"child {self.pid} neither stopped nor ended: {self.text()}")

    def text(self) -> str:
        with contextlib.suppress(OSError):
            return self.log.read_text(errors="replace")[-4000:]
        return ""


def _tell_of_first_unit(fd: int) -> None:
    real = Worker._do

    def do(self, *args):
        Worker._do = real
        os.write(fd, b"x")
        return real(self, *args)

    Worker._do = do


def run(folder: StageFolder, job_idx=0, n_jobs=1, **kw) -> int:
    """One worker from start to end; its exit code."""
    return Child(folder, job_idx, n_jobs, **kw).wait()


def finish(folder: StageFolder, **kw) -> None:
    """Run one undisturbed worker: it must find or make the stage whole."""
    child = Child(folder, **{"env": FAST} | kw)
    assert child.wait() == 0, child.text()
    assert folder.is_whole() and folder.is_done()


def digests(folder: StageFolder) -> dict[int, str]:
    """unit -> sha256 of its file."""
    return {u: hashlib.sha256(folder.unit_path(u).read_bytes()).hexdigest() for u in sorted(folder.committed())}


def reference(root: Path, like: StageFolder) -> dict[int, str]:
    """Digests of an undisturbed run of the same spec by one worker."""
    folder = StageFolder.create(Path(root) / "reference", like.spec)
    if not folder.is_done():
        finish(folder, env=SLOW)
    return digests(folder)


def check(folder: StageFolder, want: dict[int, str], whole: bool = True) -> None:
    """Every file in units/ is a whole valid unit with the right digest; no slot and no key twice; nothing else lies there."""
    names = {p.relative_to(folder.path / "units").as_posix() for p in (folder.path / "units").rglob("*") if not p.is_dir()}
    assert names == {folder.unit_path(u).relative_to(folder.path / "units").as_posix() for u in folder.committed()}
    assert digests(folder) == {u: want[u] for u in sorted(folder.committed())}
    slots, keys = [], set()
    for u in sorted(folder.committed()):
        with folder.reader(u) as reader:
            assert (reader.index.unit, reader.index.first, reader.index.count) == (u, folder.unit(u).start, len(folder.unit(u)))
            assert all(reader.verify(e) for e in reader.index.samples)
            assert sorted([e.slot for e in reader.index.samples] + list(reader.index.tombstones)) == list(
                range(folder.unit(u).start, folder.unit(u).stop)
            )
            slots += [e.slot for e in reader.index.samples]
            keys |= {e.key for e in reader.index.samples}
    assert len(set(slots)) == len(slots) == len(keys)
    reports = [p.read_text() for unit in folder.failures().values() for p in unit]
    assert not reports, reports
    if whole:
        assert folder.is_whole() and set(want) == folder.committed()


def left_over(folder: StageFolder) -> list[int]:
    """Processes that still have a file of the stage open."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):  # it may end while it is looked at
            if any(link.startswith(f"{folder.path}/") for link in _open_files(process)):
                found.append(int(process.name))
    return found


def _open_files(process: Path) -> Iterator[str]:
    for fd in os.listdir(process / "fd"):
        with contextlib.suppress(OSError):
            yield os.readlink(process / "fd" / fd)
