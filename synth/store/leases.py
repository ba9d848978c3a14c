"""Leases: a live worker's claim on a unit. They save work; safety comes from the commit alone.

A lease is one file per generation, `leases/000/000042.g3`, created exclusively and never replaced. Taking over g3 is
creating g4. Its owner rewrites a beat counter in place; an observer that sees the same bytes for `dead_after` seconds on
its own monotonic clock calls it dead. No two machines' clocks are compared and no mtime is read.
"""

import contextlib
import errno
import json
import os
import re
import secrets
import socket
import threading
import time
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from synth import foreign
from synth.errors import InputError, StoreError
from synth.foreign import COUNT, WORD, Maybe, whole
from synth.host.squeue import JobRef
from synth.store import faults
from synth.store.files import is_number, make_folder, names_in, storing

RECORD = 512  # bytes of a lease: rewritten in place by one pwrite, so never longer or shorter
ENV_BEAT, ENV_DEAD_AFTER = "SYNTHSET_BEAT_S", "SYNTHSET_DEAD_AFTER_S"


@dataclass(frozen=True)
class Times:
    beat: float = 20.0  # seconds between two rewrites of the counter
    dead_after: float = 180.0  # seconds of one observer's clock without a change

    @staticmethod
    def from_env(env: Mapping[str, str] = os.environ) -> "Times":
        try:
            times = Times(float(env.get(ENV_BEAT, 20.0)), float(env.get(ENV_DEAD_AFTER, 180.0)))
        except ValueError as e:
            raise InputError(f"{ENV_BEAT} and {ENV_DEAD_AFTER} must be seconds: {e}") from e
        if not 0 < 2 * times.beat <= times.dead_after:
            raise InputError(
                f"{ENV_DEAD_AFTER}={times.dead_after:g} must be at least twice {ENV_BEAT}={times.beat:g}, or the living look dead"
            )
        return times


@dataclass(frozen=True)
class Owner:
    """Who holds a lease, with all that another process on the same host needs to see whether it still lives."""

    worker: str
    host: str
    boot: str  # boot id and pid namespace: a pid means something only inside both
    pid: int
    start: str  # start time of the process in clock ticks since boot: a recycled pid differs in it
    slurm_job: str = ""  # one incarnation: "dev/11_3@1", see synth.host.squeue.JobRef

    @staticmethod
    def me() -> "Owner":
        host = re.sub(r"[^A-Za-z0-9_-]", "_", socket.gethostname().split(".")[0])[:40] or "host"
        pid = os.getpid()
        job = str(JobRef.from_env() or "")
        return Owner(f"{host}-{pid}-{secrets.token_hex(3)}", host, _boot(), pid, process_start(pid) or "", job)

    def lives_elsewhere(self) -> bool:
        """Whether its pid cannot be judged from here: another host, boot or pid namespace."""
        return self.boot != _boot()

    def is_gone(self) -> bool:
        """Whether it ran on this host and has ended (or become a zombie)."""
        return not self.lives_elsewhere() and process_start(self.pid) not in (self.start, "")


def process_start(pid: int) -> str | None:
    """Start time of a living process, None if there is none (a zombie counts as none), "" if it lives but /proc hides it."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        try:
            os.kill(pid, 0)
        except ProcessLookupError:
            return None
        except OSError:  # another user's, on a host whose /proc shows one's own processes only
            pass
        return ""
    return None if fields[0] in "ZX" else fields[19]


def _boot() -> str:
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        return f"{boot}/{os.readlink('/proc/self/ns/pid')}"
    except OSError:
        return f"unknown-{socket.gethostname()}-{secrets.token_hex(8)}"  # never equal to another: judged by the beat alone


@dataclass
class Lease:
    """A lease that this process holds."""

    unit: int
    generation: int
    path: Path
    owner: Owner
    beats: int = 0
    lost: bool = False  # a newer generation was seen: someone took the unit over
    _fd: int = field(default=-1, repr=False)
    _lock: threading.Lock = field(default_factory=threading.Lock, repr=False)  # a beat must never write to a closed, reused fd

    def beat(self, state: str = "held") -> None:
        """Rewrite the counter; `state` "released" lets the next worker take over at once."""
        with self._lock:
            if self._fd >= 0:
                self.beats += 1
                os.pwrite(self._fd, _record(self.owner, self.beats, state), 0)

    def check(self) -> bool:
        """Whether no newer generation exists; one stat."""
        self.lost = self.lost or os.path.exists(_generation(self.path, self.generation + 1))
        return not self.lost

    def release(self) -> None:
        """Let the unit go, unfinished."""
        with contextlib.suppress(OSError):
            self.beat("released")
        self.close()

    def remove(self) -> None:
        """The unit exists: this and older generations mean nothing any more."""
        self.close()
        for g in range(self.generation, -1, -1):
            try:
                _generation(self.path, g).unlink()
            except FileNotFoundError:
                break
            except OSError:
                return

    def close(self) -> None:
        with self._lock:
            if self._fd >= 0:
                os.close(self._fd)
                self._fd = -1


def _record(owner: Owner, beats: int, state: str) -> bytes:
    data = json.dumps({"beat": beats, "state": state} | vars(owner)).encode()
    return data[: RECORD - 1].ljust(RECORD - 1) + b"\n"


def _generation(path: Path, generation: int) -> Path:
    return path.with_name(f"{path.name.partition('.')[0]}.g{generation}")


def create(path: Path, unit: int, generation: int, owner: Owner) -> Lease | None:
    """Take generation `generation` of a unit; None if somebody else has it. path: any generation's file of the unit."""
    path = _generation(path, generation)
    with storing(path):
        try:
            fd = os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o644)
        except FileExistsError:
            return None
        except FileNotFoundError:
            make_folder(path.parent)
            return create(path, unit, generation, owner)
        lease = Lease(unit, generation, path, owner, _fd=fd)
        try:
            if os.pwrite(fd, _record(owner, 0, "held"), 0) < RECORD:  # half a record names nobody: others would wait it out
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        except OSError:  # a full disk can still make empty files; older generations stay: they say that there are parts
            lease.close()
            with contextlib.suppress(OSError):
                path.unlink()
            raise
    faults.point("after_lease")
    return lease


@dataclass
class _Sighting:
    generation: int
    record: bytes
    since: float


class Observer:
    """Judges other workers' leases by what this process saw of them, on its own monotonic clock."""

    def __init__(
        self,
        times: Times,
        clock: Callable[[], float] = time.monotonic,
        slurm_job_gone: Callable[[str], bool] = lambda job: False,
    ):
        self.times, self._clock, self._slurm_job_gone = times, clock, slurm_job_gone
        self._seen: dict[int, _Sighting] = {}

    def is_free(self, unit: int, path: Path, generation: int) -> bool:
        """Whether the newest lease of a unit (its `generation`) may be taken over now."""
        try:
            with foreign.open_file(_generation(path, generation)) as f:
                record = f.read(RECORD)
        except InputError:
            record = b""  # no file, so it names nobody: waited out as one that is torn
        except (StoreError, OSError):
            return True  # removed: the unit exists, or there is nothing to respect
        seen = self._seen.get(unit)
        if seen is None or (seen.generation, seen.record) != (generation, record):
            seen = self._seen[unit] = _Sighting(generation, record, self._clock())
        owner = parse(record)
        if owner is not None:
            if owner["state"] == "released":
                return True
            who = Owner(**{k: owner[k] for k in Owner.__dataclass_fields__})
            if who.is_gone() or (who.slurm_job and self._slurm_job_gone(who.slurm_job)):
                return True
        return self._clock() - seen.since >= self.times.dead_after

    def watched(self) -> int:
        return len(self._seen)

    def forget(self, units: Collection[int]) -> None:
        """These exist: their leases mean nothing any more, and a long run sees many."""
        for unit in self._seen.keys() & set(units):
            del self._seen[unit]


_RECORD: dict[str, object] = {
    **dict.fromkeys(("state", "worker", "host", "boot", "start"), WORD),
    "beat": COUNT,
    "pid": whole(1, (1 << 31) - 1),
    "slurm_job": Maybe(WORD, ""),
}


def parse(record: bytes) -> dict | None:
    """A lease record as a dict; None if it is empty or torn."""
    try:
        return foreign.obj(foreign.parse(record, "lease"), "lease", **_RECORD)
    except InputError:
        return None


def newest_generations(folder: Path) -> dict[int, int]:
    """unit -> newest generation, from one listing of a shard folder of leases/."""
    newest: dict[int, int] = {}
    for name in names_in(folder):
        unit, _, generation = name.partition(".g")
        if is_number(unit) and is_number(generation):
            newest[int(unit)] = max(newest.get(int(unit), -1), int(generation))
    return newest
