"""The worker's loop: claim a unit, adopt what is left of it, compute its batches, hand them to the writer."""

import contextlib
import os
import platform
import signal
import sys
import threading
import time
import traceback
from types import FrameType

from synth.errors import EXIT_AGAIN, EXIT_BAD_INPUT, EXIT_BUG, EXIT_OK, DeviceFailed, InputError, Killed, StoreError, refused
from synth.host import allocation, container
from synth.host.code import Sources
from synth.host.deadline import Deadline
from synth.host.gone import SlurmJobs
from synth.host.gpu import every_allocation
from synth.host.squeue import JobRef
from synth.kinds import stage_class
from synth.redaction import redacted
from synth.run.finish import finish_stage
from synth.run.judgement import Fault, TooLarge, breaks, brief, fault_of, forget_frames, is_fatal
from synth.run.opening import CannotOpen, Opening
from synth.run.reopened import Before, back_in_step
from synth.run.suspicion import Kills, NothingWorks, Suspicion
from synth.run.usage import Usage
from synth.run.writer import UnitJob, Writer
from synth.store.blame import TRIES
from synth.store.claims import LINGERERS, Claims, linger
from synth.store.commit import link_from_relative
from synth.store.events import EventLog, seat
from synth.store.folder import StageFolder
from synth.store.framing import FRAMINGS
from synth.store.heartbeat import Heartbeat
from synth.store.leases import Lease, Observer, Owner, Times
from synth.store.parts import PartWriter, adopt, part_files
from synth.terminal import printable

DRAIN_SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGUSR2)  # heard unless whoever started us ignores them, as nohup does
PACE = 60.0  # seconds between two events about how busy the device is


class Worker:
    """One worker on one stage. `run` returns the exit code and never raises."""

    def __init__(self, folder: StageFolder, job_idx: int, n_jobs: int, lingers: bool = False):
        self.folder, self.job_idx, self.n_jobs, self.lingers = folder, job_idx, n_jobs, lingers or job_idx < LINGERERS
        self.owner, self.times = Owner.me(), Times.from_env()
        self.observer = Observer(self.times, slurm_job_gone=SlurmJobs(JobRef.from_env()).gone)
        self.deadline = Deadline()
        self.events = EventLog(folder.path, self.owner.worker, echo=_echo)
        self._place = allocation.place()
        self.draining = ""  # what asked for it: the name of a signal, or the end of time
        self._settled: list[UnitJob] = []
        self._lock = threading.Lock()
        self._differs = self._device_failed = False
        self._suspicion, self._kills = Suspicion(folder, self._place), Kills()
        self._usage, self._sources = Usage(), Sources()
        self._opening = Opening(folder, self._usage, self.events.write)
        self._paced = time.monotonic()

    # -- life --------------------------------------------------------------------------------------------------------

    def run(self) -> int:
        started, why, code = time.monotonic(), "", EXIT_BUG
        handlers = self._catch_signals()
        self._beats = Heartbeat(self.times)
        try:
            self.events.write(
                "start", job_idx=self.job_idx, n_jobs=self.n_jobs, host=platform.node(), pid=os.getpid(), slurm=self.owner.slurm_job,
                cores=allocation.cores(), devices=os.environ.get("CUDA_VISIBLE_DEVICES", ""), place=self._place,
                node=os.environ.get("SLURMD_NODENAME", ""), sources=self._sources.digest, **seat(),
            )  # fmt: skip
            self._sources.begin(self.events.write)
            container.tell(self.events.write)
            if warning := allocation.advice(allocation.cores(), os.environ):
                self.events.write("warning", why=warning)
            if less := allocation.short_of_gpus():
                raise DeviceFailed(f"{less}: look at the site's GPU flags (gpus-per-task, gpu-bind), or leave the node out", sticky=True)
            self.deadline.watch(self._beats.stopped)
            self.stage = stage_class(self.folder.spec.kind)(self.folder)
            self.stage.workers = self.n_jobs
            self.stage.check()
            code, why = self._work()
        except BaseException as e:  # noqa: BLE001 (a bug too: said with its traceback, exit 70)
            code, why = self._ended_by(self._opening.judged(e))
        finally:
            self._beats.close()
            self._opening.close()
            self._report(code, why, time.monotonic() - started)
            for sig, handler in handlers.items():
                signal.signal(sig, handler)
        return code

    def _ended_by(self, error: BaseException) -> tuple[int, str]:
        """Exit code and reason of a worker that an error ends."""
        match error:
            case DeviceFailed():
                return EXIT_AGAIN, self._avoid_device(error)
            case InputError():
                if isinstance(error, TooLarge):
                    self.events.write("too_large", why=str(error))  # a gate need not try it again
                return EXIT_BAD_INPUT, str(error)
            case StoreError() | Killed():
                return EXIT_AGAIN, str(error)
            case NothingWorks():
                return EXIT_BUG, str(error)
        with contextlib.suppress(OSError):
            print(redacted("".join(traceback.format_exception(error))), file=sys.stderr)
        why = f"{type(error).__name__}: {error}"
        if refused(error):
            return EXIT_AGAIN, f"{why}; nothing made so far is lost: mend that, then run the same command again"
        return EXIT_BUG, why

    def _catch_signals(self) -> dict:
        if threading.current_thread() is not threading.main_thread():
            return {}
        return {s: signal.signal(s, self._ask_to_drain) for s in DRAIN_SIGNALS if signal.getsignal(s) is not signal.SIG_IGN}

    def _ask_to_drain(self, sig: int, frame: FrameType | None) -> None:
        self.draining = signal.Signals(sig).name

    def _stops(self) -> bool:
        """Whether nothing more is to be begun: a signal asked for it, or the job's time ends before one more batch would."""
        if not self.draining and self.deadline.is_near(self._usage.longest):
            self.events.write("deadline", left_s=round(self.deadline.left() or 0.0), batch_s=round(self._usage.longest, 3))
            self.draining = "the end of the job's time"
        return bool(self.draining)

    def _report(self, code: int, why: str, seconds: float) -> None:
        self._sources.end(self.events.write)
        self.events.write(
            "stop", code=code, why=why, units=self._usage.units, samples=self._usage.samples, seconds=round(seconds, 3),
            load_s=round(self._usage.load, 3), **self._usage.facts(), **allocation.peaks(), **self._spent(),
        )  # fmt: skip
        self.events.close()

    def _avoid_device(self, error: DeviceFailed) -> str:
        """Say which device to avoid, for launchers and for people; the reason why this worker ends."""
        facts = allocation.gpu()
        where = () if self._place == allocation.DEFAULT else (self._place,)
        name = " ".join([platform.node(), *where, *facts.values()])
        self.events.write(
            "device", why=str(error), host=platform.node(), place=self._place, node=os.environ.get("SLURMD_NODENAME", ""), **facts
        )
        return f"{error}. Device to avoid: {name}. Nothing made so far is lost: run the same command again"

    def _spent(self) -> dict[str, float]:
        return dict(self.stage.usage()) if hasattr(self, "stage") else {}

    # -- work --------------------------------------------------------------------------------------------------------

    def _work(self) -> tuple[int, str]:
        mine = (self.folder, self.stage, self.owner, self.observer, self._beats)
        back_in_step(*mine, draining=self._stops, log=self.events.write)
        self._relatives = [(other, other.committed()) for other in self.folder.relatives() if not other.reopening.in_doubt()]
        claims = Claims(self.folder, self.job_idx, self.n_jobs, self.owner, self.observer, self.lingers)
        writer = Writer(self.folder, self.stage, self.events.write, self._settle)
        try:
            while not self._stops():
                lease = claims.next()
                if lease is None:
                    writer.flush()
                    self._absorb(claims)
                    lease = linger(claims, self.observer, self._stops)
                if lease is None:
                    break
                self._beats.hold(lease)
                self._do(lease, claims, writer)
                self._absorb(claims)
        finally:
            writer.close()
        self._absorb(claims)
        return self._verdict(claims)

    def _verdict(self, claims: Claims) -> tuple[int, str]:
        """Exit code and reason, judged by what is on disk."""
        if self._differs:
            return EXIT_BUG, f"a unit was made twice with different bytes; see {self.folder.path / 'failed'}"
        if self.folder.is_whole():
            patience = self.times.dead_after * 1.1 if self.lingers else 0.0
            mine = (self.folder, self.stage, self.owner, self.observer, self._beats)
            return finish_stage(*mine, patience=patience, draining=lambda: bool(self.draining), log=self.events.write)
        aside = self.folder.set_aside()
        if self.draining:
            missing = self.folder.spec.n_units - len(self.folder.committed())
            return EXIT_AGAIN, f"drained on {self.draining}; {missing} units to do: run the same command again"
        if left := claims.left_to_others():
            return EXIT_AGAIN, f"units {left[:10]} failed {TRIES} times here; another device is to try them: run the same command again"
        if aside:
            where = self.folder.path / "failed"
            return EXIT_BUG, f"units {aside[:10]} failed {TRIES} times and are set aside; see {where}; retry_failed=true tries them again"
        return EXIT_OK, "nothing left for this job; others hold the rest"

    def _do(self, lease: Lease, claims: Claims, writer: Writer) -> None:
        """One unit from lease to the queue of the writer."""
        unit = self.folder.unit(lease.unit)
        part = None
        try:
            inputs = self.stage.unit_inputs(unit)
            before = Before.of(self.folder, self.stage, unit, inputs)
            relatives = [] if before else [other for other, committed in self._relatives if unit.number in committed]
            if other := link_from_relative(self.folder, relatives, unit.number, inputs):
                self.events.write("linked", unit=unit.number, source=other.path.name)
                self._beats.remove(lease)
                return
            self._opening.open(self.stage, writer.flush)
            path = self.folder.part_path(unit.number, self.owner.worker, lease.generation)
            batches = self.folder.spec.batches(unit)
            part = PartWriter(path, self.folder.framing, len(batches))
            job = UnitJob(unit, lease, inputs, part, before=before)
            if before:
                self.events.write("reopened", unit=unit.number, empty=before.empty)
            if lease.generation:
                left = part_files(path.parent, unit.number, FRAMINGS[self.folder.framing].suffix)
                job.others = adopt(part, left, batches)
                job.adopted = part.batches
                if part.batches:
                    self.events.write("adopted", unit=unit.number, batches=part.batches, of=len(batches))
            self._compute(job, batches, writer)
        except BaseException as e:  # noqa: BLE001 (handed on, or raised again as what it means)
            error = self._opening.judged(e)
            if part is not None:
                job.computing_failed = True
                writer.leave(job, error)
            else:
                self._not_begun(lease, claims, error)
            writer.flush()  # so that it is counted before another unit begins; encoders may still use the stage
            if breaks(error):
                self._opening.free(error)

    def _not_begun(self, lease: Lease, claims: Claims, error: BaseException) -> None:
        """A unit met an error before anything was queued for it: report it and let the unit go, or raise what ends the worker."""
        killed = fault_of(error) is Fault.CHILD
        error = self._kills.another(error) if killed else error
        try:
            if is_fatal(error) or isinstance(error, CannotOpen):
                raise error from error.__cause__
            (self._killed if killed else self._failed)(lease.unit, error)
        finally:
            self._beats.release(lease)
        (claims.keep_in_mind if killed else claims.give_back)(lease.unit)

    def _compute(self, job: UnitJob, batches: list[range], writer: Writer) -> None:
        if job.part.batches < len(batches):
            with self._usage.computing():
                job.state = self.stage.begin(job.unit)
                if job.part.batches:
                    self.stage.resume(job.state, batches[job.part.batches - 1].stop, job.part.stored(job.unit.number))
        for slots in batches[job.part.batches :]:
            if self._stops() or job.lease.lost or job.error:
                writer.leave(job)
                return
            items: list = []
            for wanted in job.before.to_compute(slots) if job.before else [slots]:
                with self._usage.computing(lambda: not self.stage.warmed_up()), every_allocation(self.stage.promised):
                    computed = self.stage.compute(job.state, wanted)
                self._opening.fitted = True
                if len(computed) != len(wanted):
                    raise RuntimeError(f"{self.folder.spec.kind}: computed {len(computed)} items for {len(wanted)} slots")
                items += computed
            writer.batch(job, items, slots)
        writer.end(job)

    # -- what became of units ----------------------------------------------------------------------------------------

    def _settle(self, job: UnitJob) -> None:
        """In the writer's thread: a unit was committed, left, or failed. Its error is stored before its lease goes."""
        if job.committed:
            self._suspicion.made()
        if job.committed or job.part.batches > job.adopted:
            self._kills.made()
        if job.error is not None:
            if not job.computing_failed:
                job.error = self._opening.judged(job.error)
            if fault_of(job.error) is Fault.CHILD:
                job.error = self._kills.another(job.error)
            try:
                self._store_error(job, job.error)
            except Exception as e:  # noqa: BLE001 (the report could not be stored)
                job.error = e
        job.state = None
        job.part.keep()
        if not job.committed:
            job.lease.release()
        job.lease.close()
        self._beats.forget(job.lease.unit)
        with self._lock:
            self._settled.append(job)

    def _store_error(self, job: UnitJob, error: BaseException) -> None:
        """Report what a unit met. A device that failed under it is said too: a unit that does that to every device is to blame."""
        if isinstance(error, DeviceFailed):
            if error.sticky and not self._device_failed:  # units that were in the queue meet the same one
                self._device_failed = True
                self._failed(job.unit.number, error)
        elif fault_of(error) is Fault.CHILD and not job.committed:
            self._killed(job.unit.number, error)
        elif not is_fatal(error) and (job.differs or not job.committed):
            self._failed(job.unit.number, error)
        elif job.committed:  # the unit exists, and what went wrong after that is only untidy
            self.events.write("untidy", unit=job.unit.number, error=f"{type(error).__name__}: {error}")

    def _absorb(self, claims: Claims) -> None:
        """In the main thread: count settled units, take back those to be tried again, raise errors that end the worker."""
        with self._lock:
            settled, self._settled = self._settled, []
        fatal = None
        for job in settled:
            if job.committed:
                self._usage.units += 1
                self._usage.samples += job.part.n_samples
                self._differs = self._differs or job.differs
            elif job.error is None:
                claims.keep_in_mind(job.unit.number)
            elif is_fatal(job.error):
                fatal = fatal or job.error
            else:
                if fault_of(job.error) is Fault.CHILD:
                    claims.keep_in_mind(job.unit.number)
                else:
                    claims.give_back(job.unit.number)
                if breaks(job.error) and not job.computing_failed:
                    self._opening.broken = True
                forget_frames(job.error)
        if fatal:
            raise fatal
        self._suspicion.check()
        if settled and time.monotonic() - self._paced >= PACE:
            self._paced = time.monotonic()
            self.events.write("pace", units=self._usage.units, samples=self._usage.samples, **self._usage.facts(), **self._spent())

    def _killed(self, unit: int, error: BaseException) -> None:
        """Say that a process of the stage was killed while a unit was made, which is no fault of the unit."""
        self.events.write("killed", unit=unit, why=brief(error))

    def _failed(self, unit: int, error: BaseException) -> None:
        """Report an error of a unit."""
        report = {
            "unit": unit,
            "slots": [self.folder.unit(unit).start, self.folder.unit(unit).stop],
            "worker": self.owner.worker,
            "host": platform.node(),
            "device": self._place,
            "sticky": isinstance(error, DeviceFailed),
            "error": f"{type(error).__name__}: {error}",
            "traceback": "".join(traceback.format_exception(error)),
            "retry": "run the same command with retry_failed=true",
        }
        n = self.folder.report_failure(unit, report)
        if n == 1:
            self._suspicion.failed(unit, error)
        self.events.write("failed", unit=unit, tries=n, error=report["error"])


def _echo(line: dict) -> None:
    rest = " ".join(f"{k}={v}" for k, v in line.items() if k not in ("event", "time", "versions", "inside", "said"))
    with contextlib.suppress(OSError, ValueError):  # nobody reads any more: no reason to stop working
        sys.stderr.write(f"{time.strftime('%H:%M:%S')} {line['event']} {printable(rest)}\n")  # one write: two threads log
