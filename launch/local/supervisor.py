"""Keeps the workers of one stage on one machine running: starts them, starts the dead again with a back-off, drains all, leaves none.

A worker that died (killed, or "run it again") is started again, later and later, and given up when it died a few times while the
stage did not move on. Bad input and a bug would only come again. A worker that says that its device is bad gets a fresh process there,
twice at most, counted anew after one that made units or lived long; then the device is retired, and the others do its work.
"""

import os
import secrets
import signal
import socket
import subprocess
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from launch.local.contained import Contained
from launch.local.idle import Idle, Reading
from launch.local.sequence import Stop
from launch.plan.devices import environment as gpus_of
from launch.show.progress import Bars
from synth.errors import EXIT_AGAIN, EXIT_BAD_INPUT, EXIT_BUG, EXIT_OK
from synth.host import children
from synth.host.code import PLANNED, planned_with
from synth.numerics import environment
from synth.run.trust import secrets_of
from synth.store.events import SEAT, bad_device
from synth.store.files import make_folder
from synth.store.folder import StageFolder
from synth.store.leases import Owner

RESTARTS = 3  # times in a row, without a finished batch of anybody between them, that a worker may be started again
BACK_OFF = 2.0  # seconds before the first restart; doubles
LONGEST = 120.0  # seconds between two restarts at most
FRESH = 2  # processes that a device gets after the first one that left it as bad
LIVED = 600.0  # seconds of life after which the back-off begins anew
POLL = 0.05  # seconds between looks at the workers
LOOK = 1.0  # seconds between looks at the stage folder
READ = 5.0  # seconds between two readings of the GPUs
FINAL = (EXIT_OK, EXIT_BAD_INPUT, EXIT_BUG)  # starting a worker again would change nothing


@dataclass
class Slot:
    """The place of one worker, and how its processes fared."""

    job_idx: int
    gpus: tuple[str, ...] | None = None  # None: on cores
    options: tuple[str, ...] = ()  # more flags of synth.worker
    process: subprocess.Popen | None = None  # while one runs
    seat: str = ""  # by which its events are found, where the worker is another process: in a container
    due: float = 0.0  # monotonic time from which one may be started
    started: float = 0.0
    deaths: int = 0  # in a row; they make the back-off
    in_vain: int = 0  # deaths since the stage last moved on
    reached: int = -1  # slots of the stage that were done at the last death


class Devices:
    """How often in a row the devices of this machine were left as bad, in the life of this launcher."""

    def __init__(self) -> None:
        self._left: Counter[tuple[str, ...]] = Counter()

    def leave(self, device: tuple[str, ...], was_well: bool = False) -> int:
        """A worker left it; how often that happened since it was well, as was_well says of the time until now."""
        self._left[device] = 1 if was_well else self._left[device] + 1
        return self._left[device]

    def is_retired(self, device: tuple[str, ...] | None) -> bool:
        """Whether no process is put there any more: on one of these GPUs, all of which a worker left too often."""
        return any(n > FRESH and set(bad) <= set(device or ()) for bad, n in self._left.items())


def back_off(deaths: int) -> float:
    """Seconds until the next start after so many deaths in a row.

    >>> [back_off(n) for n in (1, 2, 3, 9)]
    [2.0, 4.0, 8.0, 120.0]
    """
    return min(LONGEST, BACK_OFF * 2 ** (deaths - 1))


class Supervisor:
    """Runs the workers of a pool of slots until each has left for good; `run` returns their exit codes.

    n_jobs: workers of all machines. tell: what people should know. idle: begin a worker only when its GPUs are idle.
    devices: what this launcher knows of its GPUs; a place on cores is judged for this stage alone. trusted: PlannedStage.trusted.
    contained: workers run in containers.
    """

    def __init__(
        self,
        folder: StageFolder,
        pool: Sequence[Slot],
        n_jobs: int,
        stop: Stop,
        tell: Callable[[str], None],
        idle: Idle | None = None,
        clock=time.monotonic,
        devices: Devices | None = None,
        trusted: Sequence[str] = (),
        contained: Contained | None = None,
    ):
        self.folder, self.pool, self.n_jobs, self.stop = folder, pool, n_jobs, stop
        self._tell, self._idle, self._clock = tell, idle, clock
        self._gpus, self._cores = devices or Devices(), Devices()
        self._pending = list(pool)
        self._trusted = trusted
        self._contained = contained
        self._code = planned_with()
        self._codes: list[int] = []
        self._asked = 0  # signals that were passed on
        self._read = float("-inf")
        self._idle_gpus: list[Reading] = []  # of the last reading

    @property
    def running(self) -> list[tuple[Slot, subprocess.Popen]]:
        return [(slot, slot.process) for slot in self.pool if slot.process is not None]

    def run(self, bars: Bars) -> list[int]:
        looked = self._clock()
        try:
            while self.running or self._pending:
                self._obey()
                for slot, process in self.running:
                    if (code := process.poll()) is not None:
                        self._ended(slot, code)
                self._start_due()
                if self._clock() - looked >= LOOK:
                    looked = self._clock()
                    bars.at(self.folder.progress())
                    if self._pending and self.folder.is_done():
                        self._pending = []
                time.sleep(POLL)
            return [EXIT_AGAIN] if self.stop.drain else self._codes
        finally:
            self._close()

    def _obey(self) -> None:
        """The first signal drains the workers, each of which passes it on to its own children; the second kills them."""
        if not self.stop.drain:
            return
        self._pending = []
        for _, process in self.running:
            if self._asked == 0:
                process.send_signal(signal.SIGTERM)
            if self._asked < 2 and self.stop.kill:
                _kill(process)
        self._asked = 2 if self.stop.kill else 1

    def _start_due(self) -> None:
        for slot in list(self._pending):
            if self._clock() >= slot.due and self._has_place(slot):
                self._pending.remove(slot)
                self._start(slot)

    def _has_place(self, slot: Slot) -> bool:
        """Whether its GPUs are idle, where that is asked for."""
        if self._idle is None or slot.gpus is None:
            return True
        if self._clock() - self._read >= READ:
            self._read = self._clock()
            self._idle_gpus = self._idle.look([gpu for other, _ in self.running for gpu in other.gpus or ()])
        return all(any(reading.is_called(gpu) for reading in self._idle_gpus) for gpu in slot.gpus)

    def _start(self, slot: Slot) -> None:
        make_folder(self._log(slot).parent)
        if self._idle is not None:
            taken = [reading for reading in self._idle_gpus if any(map(reading.is_called, slot.gpus or ()))]
            self._idle_gpus = [reading for reading in self._idle_gpus if reading not in taken]
            self._idle.take(taken)
        with_us = "--die-with-input" if self._contained else "--die-with-parent"
        words = [self.folder.path, "--job-idx", slot.job_idx, "--n-jobs", self.n_jobs, with_us, *slot.options, *self._trusted]
        env = os.environ | environment(self.folder.spec.numerics)
        for name in ("JOB_IDX", "N_JOBS", "JOB_OFFSET", "SLURM_ARRAY_TASK_ID"):
            env.pop(name, None)
        env |= gpus_of(slot.gpus, env) | {PLANNED: "" if self._contained else self._code}
        slot.started = self._clock()
        words, module = [str(w) for w in words], "synth.worker"
        if self._contained is not None:
            slot.seat = f"{os.getpid()}-{slot.job_idx}-{secrets.token_hex(4)}"
            env |= self._contained.environment | {SEAT: slot.seat}
            words, module = self._contained.words(self.folder, words, bool(slot.gpus)), "synth.host.contained"
        slot.process = children.tied(module, words, self._log(slot), env, secrets_of(self.folder.spec))

    def _log(self, slot: Slot) -> Path:
        host = socket.gethostname().partition(".")[0]
        return self.folder.path / "logs" / f"local-{host}-{os.getpid()}-{slot.job_idx}.log"

    def _ended(self, slot: Slot, code: int) -> None:
        pid = slot.process.pid if slot.process is not None else 0
        slot.process = None
        name, log, last = f"{self.folder.spec.name}: worker {slot.job_idx}", self._log(slot), children.tail(self._log(slot), 15)
        if self.stop.drain or code in FINAL:
            self._codes.append(code)
            if code == EXIT_OK:  # nothing is left to begin: whoever still waits for a GPU need not
                self._pending = []
            elif not self.stop.drain:
                self._tell(f"{name} {fate(code)}; the {last}")
            return
        if code == EXIT_AGAIN and (left := bad_device(self.folder.path, Owner.me().host, pid, slot.seat)):
            self._left_device(slot, left.why, left.units, last)
            return
        lived, reached = self._clock() - slot.started, self.folder.progress()
        slot.deaths = 1 if lived >= LIVED else slot.deaths + 1
        slot.in_vain = 1 if reached > slot.reached else slot.in_vain + 1
        slot.reached = max(reached, slot.reached)
        if slot.in_vain > RESTARTS:
            self._codes.append(EXIT_AGAIN if code < 0 else code)
            advice = " (out of memory? lower cluster.n_jobs, N_GPUS or the batch size)" if code == -signal.SIGKILL else ""
            self._tell(f"{name} {fate(code)}, {slot.in_vain} times in a row: given up{advice}. The {last}")
            return
        pause = back_off(slot.deaths)
        slot.due = self._clock() + pause
        self._pending.append(slot)
        self._tell(f"{name} {fate(code)}; starting it again in {pause:.0f} s. Log: {log}")

    def _left_device(self, slot: Slot, why: str, units: int, last: str) -> None:
        """A worker that made so many units said that its device is bad: a fresh process there, or none any more."""
        devices, device = self._device_of(slot)
        name, where = f"{self.folder.spec.name}: worker {slot.job_idx}", f"{socket.gethostname()}, {' '.join(device)}"
        shared = sum(bool(set(other.gpus or ()) & set(slot.gpus or ())) for other in self.pool)
        if shared > 1:
            why += f" (cluster.n_jobs gives this GPU to {shared} workers, which share its memory: lower it if that is too little)"
        n = devices.leave(device, units > 0 or self._clock() - slot.started >= LIVED)
        if not self._is_retired(slot):
            pause = back_off(n)
            slot.due = self._clock() + pause
            self._pending.append(slot)
            self._tell(f"{name} left a bad device ({where}): {why}; a fresh process there in {pause:.0f} s. Log: {self._log(slot)}")
            return
        self._pending = [other for other in self._pending if not self._is_retired(other)]
        # the launcher may have GPUs beside those of this pool: it tells, in its next round, when none is left
        left = slot.gpus or any(not self._is_retired(other) for other in self.pool)
        self._codes.append(EXIT_OK if left else EXIT_AGAIN)
        self._tell(f"{name}: {where} is bad, and was left {n} times: it gets no process any more. {why}; the {last}")

    def _device_of(self, slot: Slot) -> tuple[Devices, tuple[str, ...]]:
        return (self._gpus, slot.gpus) if slot.gpus else (self._cores, (f"cores of worker {slot.job_idx}",))

    def _is_retired(self, slot: Slot) -> bool:
        devices, device = self._device_of(slot)
        return devices.is_retired(device)

    def _close(self) -> None:
        """Nothing of us stays, whatever happened to the launcher."""
        for slot, process in self.running:
            _kill(process)
            process.wait()
            slot.process = None


def _kill(worker: subprocess.Popen) -> None:
    """Its whole group, unless it was waited for already: then its number may be somebody else's."""
    if worker.poll() is None:
        os.killpg(worker.pid, signal.SIGKILL)


def fate(code: int) -> str:
    """How a worker ended.

    >>> fate(75), fate(-9), fate(-35)
    ('ended with exit code 75', 'was killed by SIGKILL', 'was killed by signal 35')
    """
    names = {-number: number.name for number in signal.Signals}
    return f"was killed by {names.get(code, f'signal {-code}')}" if code < 0 else f"ended with exit code {code}"
