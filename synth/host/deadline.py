"""The end of a job's time, so that a worker drains before it instead of being killed in the middle of a batch."""

import os
import random
import threading
import time
from collections.abc import Callable, Mapping

from synth.host import slurm, squeue

EVERY = 600.0  # seconds between two questions: a time limit may be changed while the job runs
FLOOR = 15.0  # seconds for encoding, commit and exit, whatever a batch takes
SLACK = 1.5  # times the longest batch so far: the next one may be slower
ENV_LIMIT = "SYNTHSET_TIME_LIMIT_S"  # for schedulers that tell nothing: seconds from the start of the worker


def margin(batch_s: float) -> float:
    """Seconds that must be left for one more batch to be begun; `batch_s` is the longest so far, 0 if none is measured."""
    return FLOOR + SLACK * batch_s


def parse_end(text: str) -> float | None:
    """Seconds since the epoch from squeue's %e: "1795236000" or local time "2026-11-21T04:40:00"; None for N/A, Unknown and the like."""
    text = text.strip()
    if text.isdigit():
        return float(text) or None
    try:
        return time.mktime(time.strptime(text, "%Y-%m-%dT%H:%M:%S"))
    except ValueError:
        return None


def end_from_env(env: Mapping[str, str], started: float) -> float | None:
    """End of this job's time if the environment tells it: SLURM_JOB_END_TIME (Slurm 23.02 and later), else a limit of our own."""
    if end := parse_end(env.get("SLURM_JOB_END_TIME", "")):
        return end
    try:
        return started + float(env[ENV_LIMIT])
    except (KeyError, ValueError):
        return None


def ask_squeue(job: str) -> float | None:
    """End of a job's time by squeue; None if it is unknown or squeue is not there."""
    return parse_end(slurm.ask("squeue", "-h", "-j", job, "-o", "%e"))


class Deadline:
    """Knows when this job's time ends, or does not. Asks squeue in a thread of its own, so that no batch waits for a slow controller."""

    def __init__(
        self,
        env: Mapping[str, str] = os.environ,
        ask: Callable[[str], float | None] = ask_squeue,
        clock: Callable[[], float] = time.time,
    ):
        self._clock, self._ask = clock, ask
        self.end = end_from_env(env, clock())
        ref = squeue.JobRef.from_env(env)
        self._job = ref.job if ref and self.end is None else ""

    def left(self) -> float | None:
        """Seconds until the end; None if it is not known."""
        return None if self.end is None else self.end - self._clock()

    def is_near(self, batch_s: float) -> bool:
        """Whether one more batch might not end in time."""
        left = self.left()
        return left is not None and left < margin(batch_s)

    def ask(self) -> None:
        """Ask now. No answer keeps what was known."""
        self.end = self._ask(self._job) or self.end

    def watch(self, stopped: threading.Event) -> None:
        """Ask now and every ten minutes until `stopped`, if there is anyone to ask."""
        if self._job:
            threading.Thread(target=self._watch, args=(stopped,), name="deadline", daemon=True).start()

    def _watch(self, stopped: threading.Event) -> None:
        wait = random.uniform(0, 5)
        while not stopped.wait(wait):
            self.ask()
            wait = EVERY
