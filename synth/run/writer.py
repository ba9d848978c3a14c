"""Beside the device: encode, frame, hash, write and commit, in a bounded pool and one writer thread."""

import contextlib
import os
import queue
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field

from synth.run.empty import Empty
from synth.run.reopened import Before
from synth.run.stage import Stage
from synth.store.commit import Outcome, commit
from synth.store.folder import StageFolder
from synth.store.framing import frame
from synth.store.leases import Lease
from synth.store.parts import PartWriter
from synth.store.samples import Unit

BATCHES_AHEAD = 2  # computed batches that may wait for the disk: bounds memory
MAX_THREADS = 8  # encoders; more would only fight with each other


@dataclass
class UnitJob:
    """One unit on its way through a worker."""

    unit: Unit
    lease: Lease
    inputs: str  # digest of the upstream rows
    part: PartWriter
    before: Before | None = None  # what the unit held before it was taken from its place, to be made again
    state: object = None
    adopted: int = 0  # batches that were in the part at first
    others: list = field(default_factory=list)  # parts of earlier owners, to be removed once the unit exists
    started: float = field(default_factory=time.monotonic)
    error: BaseException | None = None
    computing_failed: bool = False  # the error came from the main thread, not from beside the device
    committed: bool = False
    differs: bool = False  # it existed, with other bytes, though the stage promises the same


class Writer:
    """Takes computed batches in order and makes committed units of them."""

    def __init__(self, folder: StageFolder, stage: Stage, log: Callable, on_settled: Callable[[UnitJob], None]):
        self.folder, self.stage, self._log, self._on_settled = folder, stage, log, on_settled
        self._empty = Empty(folder, stage)
        self._queue: queue.Queue = queue.Queue(maxsize=BATCHES_AHEAD)
        threads = min(MAX_THREADS, len(os.sched_getaffinity(0)))
        self._pool = ThreadPoolExecutor(threads, thread_name_prefix="encode")
        self._thread = threading.Thread(target=self._run, name="writer", daemon=True)
        self._thread.start()

    def batch(self, job: UnitJob, items: Sequence[object], slots: range) -> None:
        """Queue one computed batch of these slots; blocks while BATCHES_AHEAD of them wait."""
        futures = [self._pool.submit(self.stage.encode, job.state, item) for item in items]
        self._queue.put((self._write, job, (futures, slots)))

    def end(self, job: UnitJob) -> None:
        """All batches of the unit are queued: seal and commit it after them."""
        self._queue.put((self._commit, job, ()))

    def leave(self, job: UnitJob, error: BaseException | None = None) -> None:
        """Let the unit go unfinished, after what is queued of it: its finished batches stay for whoever goes on."""
        self._queue.put((None, job, error))

    def flush(self) -> None:
        """Wait until everything queued so far is on disk."""
        self._queue.join()

    def close(self) -> None:
        self.flush()
        self._queue.put(None)
        self._thread.join()
        self._pool.shutdown(cancel_futures=True)

    def _run(self) -> None:
        while (item := self._queue.get()) is not None:
            step, job, what = item
            try:
                if job.error is None and step is None:
                    job.error = what
                elif job.error is None:
                    step(job, what)
            except BaseException as e:  # noqa: BLE001 (handed to the main thread with the job)
                job.error = e
            finally:
                if step != self._write:
                    self._on_settled(job)
                self._queue.task_done()
        self._queue.task_done()

    def _write(self, job: UnitJob, what: tuple[Sequence[Future], range]) -> None:
        futures, slots = what
        results = [f.result() for f in futures]
        batch = frame(self.folder.framing, job.before.filled(slots, results) if job.before else results)
        self._empty.judge(batch, job.part.n_samples)
        job.part.append(batch)

    def _commit(self, job: UnitJob, _: object) -> None:
        digest = job.part.seal(job.unit.number, job.unit.start, len(job.unit), job.inputs)
        outcome = commit(self.folder, job.part.path, job.unit.number, digest)
        job.committed = True
        job.part.clean()
        for other in job.others:
            for path in (other, f"{other}.idx"):
                with contextlib.suppress(OSError):  # the unit exists: what cannot be removed now is only untidy
                    os.unlink(path)
        job.lease.remove()
        self._log(
            "unit",
            unit=job.unit.number,
            seconds=round(time.monotonic() - job.started, 3),
            samples=job.part.n_samples,
            tombstones=job.part.n_tombstones,
            bytes=job.part.size,
            outcome=outcome.value,
        )
        job.differs = outcome is Outcome.DIFFERS and self.stage.promised
        if job.differs:
            raise RuntimeError(
                f"unit {job.unit.number} was made twice with different bytes; the first one stays. The stage is not "
                "deterministic here: compare the kinds of device and the versions in events/"
            )
