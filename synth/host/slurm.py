"""What Slurm says about jobs, by squeue alone. Never needed: where squeue is missing or silent nothing is known, and leases are judged
by their beat as everywhere else.
"""

import os
import re
import shutil
import subprocess
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass

# An owner in one of these states has ended; PENDING, because only a requeue brings a job that held a lease back there.
ENDED = frozenset(
    [
        "COMPLETED",
        "CANCELLED",
        "FAILED",
        "TIMEOUT",
        "NODE_FAIL",
        "PREEMPTED",
        "OUT_OF_MEMORY",
        "BOOT_FAIL",
        "DEADLINE",
        "REVOKED",
        "PENDING",
        "REQUEUED",
        "REQUEUE_HOLD",
        "REQUEUE_FED",
        "SPECIAL_EXIT",
    ]
)
TIMEOUT = 20.0  # seconds that one call may take: a controller that restarts answers late
EVERY = 10.0  # seconds between two questions about the same array
PAUSE = 1.0  # seconds between any two questions


@dataclass(frozen=True)
class JobRef:
    """One incarnation of a job: "dev/11_3@1" is task 3 of array 11 on cluster dev, after its first requeue."""

    job: str
    restart: int = 0
    cluster: str = ""

    def __str__(self) -> str:
        return (f"{self.cluster}/" if self.cluster else "") + self.job + (f"@{self.restart}" if self.restart else "")

    @property
    def base(self) -> str:
        """The id that squeue knows the whole array by: "11"."""
        return self.job.partition("_")[0]

    @staticmethod
    def parse(text: str) -> "JobRef | None":
        """Read what str() wrote; None if it is none: parse("dev/11_3@1") == JobRef("11_3", 1, "dev")."""
        found = re.fullmatch(r"(?:([^/@]+)/)?(\d+(?:_\d+)?)(?:@(\d+))?", text)
        return JobRef(found[2], int(found[3] or 0), found[1] or "") if found else None

    @staticmethod
    def from_env(env: Mapping[str, str] = os.environ) -> "JobRef | None":
        """The job that this process runs in.

        An array task is named ARRAY_TASK: the SLURM_JOB_ID of an array's last task is the id of the whole array.
        """
        job = env.get("SLURM_ARRAY_JOB_ID", env.get("SLURM_JOB_ID", ""))
        if job and env.get("SLURM_ARRAY_TASK_ID", ""):
            job = f"{job}_{env['SLURM_ARRAY_TASK_ID']}"
        restart = env.get("SLURM_RESTART_COUNT", "0")
        return JobRef(job, int(restart) if restart.isdigit() else 0, env.get("SLURM_CLUSTER_NAME", "")) if job else None


def command(*args: str, timeout: float = TIMEOUT) -> tuple[int, str, str] | None:
    """Exit code, stdout and stderr of a Slurm command; None if there is no such command or it does not answer."""
    if shutil.which(args[0]) is None:
        return None
    # SQUEUE_FORMAT, SQUEUE_USERS, SLURM_CLUSTERS ... would change the meaning of our own options
    env = {k: v for k, v in os.environ.items() if not k.startswith(("SQUEUE_", "SACCT_", "SCANCEL_")) and k != "SLURM_CLUSTERS"}
    try:
        done = subprocess.run(
            args,
            env=env | {"SLURM_TIME_FORMAT": "%s"},
            capture_output=True,
            text=True,
            timeout=timeout,
            stdin=subprocess.DEVNULL,
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.returncode, done.stdout, done.stderr


def parse_states(text: str) -> dict[str, tuple[str, int]]:
    """squeue's lines of job, state, restarts: "11_3  RUNNING  1" gives {"11_3": ("RUNNING", 1)}."""
    found = {}
    for line in text.splitlines():
        words = line.split()
        if len(words) == 3 and words[2].isdigit():
            found[words[0]] = (words[1], int(words[2]))
    return found


def job_states(base: str, timeout: float = TIMEOUT) -> dict[str, tuple[str, int]] | None:
    """State and restarts of every task of a job that Slurm still knows; None if Slurm could not be asked."""
    done = command("squeue", "-h", "-r", "-a", "-t", "all", "-j", base, "-O", "JobArrayID:60,State:30,RestartCnt:12", timeout=timeout)
    if done is None:
        return None
    code, out, err = done
    if code:
        return {} if "Invalid job id" in err else None
    return parse_states(out)


def is_over(state: tuple[str, int] | None, restart: int) -> bool:
    """Whether an incarnation has ended, by the (state, restarts) of its job; None = Slurm does not know the job any more."""
    return state is None or state[0] in ENDED or state[1] > restart


class SlurmJobs:
    """Answers whether the job of a lease is gone, with few calls of squeue.

    A wrong "gone" costs a unit computed twice, never a wrong unit: the commit is first-wins. It can happen when a node is cut off and
    its old processes live on.
    """

    def __init__(self, me: JobRef | None, ask: Callable = job_states, clock: Callable[[], float] = time.monotonic):
        self.me, self._ask, self._clock = me, ask, clock
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
        return asked >= seen and is_over(states.get(ref.job), ref.restart)
