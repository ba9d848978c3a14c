"""Whether the Slurm job of a lease has ended, asked with few calls of squeue."""

import time
from collections.abc import Callable

from synth.host.slurm import hides_jobs, job_states
from synth.host.squeue import OVER, WAITING, JobRef

EVERY = 10.0  # seconds between two questions about the same array
PAUSE = 1.0  # seconds between any two questions


def is_over(state: tuple[str, int] | None, restart: int) -> bool:
    """Whether an incarnation has ended, by the (state, restarts) of its job; None = Slurm does not know the job any more.

    One whose job waits has, too: only a requeue brings a job that held a lease back there.
    """
    return state is None or state[0] in OVER | WAITING or state[1] > restart


class SlurmJobs:
    """Answers whether the job of a lease is gone, with few calls of squeue.

    A wrong "gone" costs a unit computed twice, never a wrong unit: the commit is first-wins. It can happen when a node is cut off and
    its old processes live on.
    """

    def __init__(
        self,
        me: JobRef | None,
        ask: Callable = job_states,
        clock: Callable[[], float] = time.monotonic,
        hidden: Callable[[], bool] = hides_jobs,
    ):
        self.me, self._ask, self._clock, self._hidden = me, ask, clock, hidden
        self._listed: dict[str, tuple[float, dict]] = {}  # array -> (when asked, states)
        self._first_seen: dict[str, float] = {}
        self._next = 0.0  # when squeue may be asked again

    def gone(self, job: str) -> bool:
        """Whether the job incarnation that a lease names has certainly ended; False when that cannot be known now."""
        ref = JobRef.parse(job)
        if ref is None or self.me is None or ref.cluster != self.me.cluster:
            return False  # another cluster may share this file system, and its job numbers mean nothing here
        if ref.job == self.me.job:
            return ref.restart < self.me.restart
        now = self._clock()
        seen = self._first_seen.setdefault(job, now)
        asked, states = self._listed.get(ref.base, (float("-inf"), {}))
        # a listing from before the lease was seen may show the job still pending for its first start
        if (asked < seen or now - asked >= EVERY) and now >= max(self._next, asked + EVERY):
            self._next = now + PAUSE
            answer = self._ask(ref.base)
            if answer is None:
                self._next = now + 30 * PAUSE
                return False
            asked, states = self._listed[ref.base] = now, answer
        if ref.job not in states and self._hidden():
            return False
        return asked >= seen and is_over(states.get(ref.job), ref.restart)
