"""The worker processes of one stage on this machine: started, watched, drained, never left behind."""

import os
import signal
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from synth.errors import EXIT_AGAIN, EXIT_BAD_INPUT, EXIT_BUG, EXIT_OK
from synth.host.children import PARENT
from synth.host.source import SAFE, python_path
from synth.numerics import environment
from synth.store.folder import StageFolder

KNOWN_CODES = (EXIT_OK, EXIT_AGAIN, EXIT_BAD_INPUT, EXIT_BUG)
KILLS = 3  # times in a row, without a finished slot between them, that workers may be killed before we give up


@dataclass
class Job:
    """One worker process and where its output goes."""

    job_idx: int
    process: subprocess.Popen
    log: Path

    def tail(self, lines: int = 15) -> str:
        try:
            return "\n".join(self.log.read_text(encoding="utf-8", errors="replace").splitlines()[-lines:])
        except OSError as e:
            return f"({e})"


@dataclass
class Crew:
    """Starts workers of one stage at `places` (GPU names or None) and knows how they ended."""

    folder: StageFolder
    places: Sequence[tuple[str, ...] | None]
    n_jobs: int
    label: str = "local"  # of the log files
    running: list[Job] = field(default_factory=list)
    ended: list[tuple[Job, int]] = field(default_factory=list)

    def start(self, job_idx: int, *options: str) -> None:
        """Start the worker of a place; options: more flags of synth.worker."""
        log = self.folder.path / "logs" / f"{self.label}-{os.getpid()}-{job_idx}.log"
        words = ["--job-idx", str(job_idx), "--n-jobs", str(self.n_jobs), "--die-with-parent", *options]
        command = [sys.executable, *SAFE, "-m", "synth.worker", str(self.folder.path), *words]
        with open(log, "ab") as out:
            # a session of its own: ctrl-C in the terminal reaches only the launcher, which drains the workers in good order
            process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=out,
                env=self._environment(job_idx),
                start_new_session=True,
            )
        self.running.append(Job(job_idx, process, log))

    def _environment(self, job_idx: int) -> dict[str, str]:
        env = dict(os.environ) | environment(self.folder.spec.numerics) | python_path()
        for name in ("JOB_IDX", "N_JOBS", "JOB_OFFSET", "SLURM_ARRAY_TASK_ID"):
            env.pop(name, None)
        env[PARENT] = str(os.getpid())
        place = self.places[job_idx % len(self.places)]
        if place is not None:
            env["CUDA_VISIBLE_DEVICES"] = ",".join(place)
        return env

    def reap(self) -> list[tuple[Job, int]]:
        """Workers that ended since the last call, with their exit codes (negative: killed by that signal)."""
        new = [(job, code) for job in self.running if (code := job.process.poll()) is not None]
        self.running = [job for job in self.running if job.process.returncode is None]
        self.ended += new
        return new

    def signal(self, number: signal.Signals) -> None:
        """To each worker, which passes a drain on to its own children; SIGKILL goes to the whole group of each."""
        for job in self.running:
            try:
                if number == signal.SIGKILL:
                    os.killpg(job.process.pid, number)
                else:
                    job.process.send_signal(number)
            except ProcessLookupError:
                continue

    def close(self) -> None:
        """Nothing of us stays, whatever happened to the launcher."""
        self.signal(signal.SIGKILL)
        for job in self.running:
            job.process.wait()
        self.running = []


def was_killed(code: int) -> bool:
    return code < 0


def judged(code: int) -> int:
    """An exit code as one of ours: a worker that could not even start is a bug."""
    return code if code in KNOWN_CODES else EXIT_AGAIN if was_killed(code) else EXIT_BUG
