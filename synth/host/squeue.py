"""Jobs as Slurm tells them: their names and states, and the lines of squeue and sacct, read. Nothing here asks; see synth.host.slurm."""

import os
import re
import time
from collections.abc import Mapping
from dataclasses import dataclass

REVOKED = "REVOKED"  # what a cluster of a federation says of a job that another one has begun
OVER = frozenset(
    ["COMPLETED", "CANCELLED", "FAILED", "TIMEOUT", "NODE_FAIL", "PREEMPTED", "OUT_OF_MEMORY", "BOOT_FAIL", "DEADLINE", REVOKED]
)
ENDING = OVER | {"COMPLETING"}  # nothing more is to be expected of it
# what a job is called on its way back into the queue, too: since Slurm 23.11 also when its nodes did not start it
WAITING = frozenset(
    [
        *("PENDING", "REQUEUED", "REQUEUE_HOLD", "REQUEUE_FED", "SPECIAL_EXIT"),
        *("RESV_DEL_HOLD", "EXPEDITING", "LAUNCH_FAILED", "RECONFIG_FAIL"),
    ]
)


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
        m = re.fullmatch(r"(?:([^/@]+)/)?(\d+(?:_\d+)?)(?:@(\d+))?", text)
        return JobRef(m[2], int(m[3] or 0), m[1] or "") if m else None

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


@dataclass(frozen=True)
class Listed:
    """A job of squeue: "11_3" or "12"."""

    job: str
    state: str
    reason: str
    depends: str  # squeue's %E: "afterany:11_*(unfulfilled)"
    comment: str
    name: str
    submitted: float = 0.0  # seconds since the epoch, by the controller's clock; a requeued job has it anew
    cluster: str = ""

    @property
    def base(self) -> str:
        return self.job.partition("_")[0]

    @property
    def held(self) -> bool:
        """By a user, an administrator (JobHeldAdmin), or Slurm after a failed start ("launch failed requeued held", JobHoldMaxRequeue)."""
        return self.state == "PENDING" and ("held" in self.reason.lower() or "Hold" in self.reason)


# the comment is the user's, and may hold bars and lines; the time behind it tells where it ends. The name is all of the rest
LISTED = re.compile(
    r"^(\d[^|\n]*)\|([A-Z][^|\n]*)\|([^|\n]*)\|([^|\n]*)\|((?:(?!\n\d[^|\n]*\|[A-Z]).)*?)\|(\d{9,}|N/A|Unknown|\d{4}-[\d:T-]+)\|([^\n]*)$",
    re.MULTILINE | re.DOTALL,
)


def parse_listing(text: str, cluster: str = "") -> list[Listed]:
    """squeue's lines; a name may hold a bar, and a comment bars and ends of lines.

    >>> parse_listing("11_3|PENDING|Dependency|afterany:9(unfulfilled)|tok|1795236000|images|1\\n")[0].name
    'images|1'
    """
    return [
        Listed(job, whole_state(state), why, after, comment, name, when(at), cluster)
        for job, state, why, after, comment, at, name in LISTED.findall(text)
    ]


def when(text: str) -> float:
    """Seconds since the epoch of a time that squeue tells, also where it does not know SLURM_TIME_FORMAT; 0 if it tells none.

    >>> when("1795236000"), when("N/A")
    (1795236000.0, 0.0)
    """
    text = text.strip()
    if text.isdigit():
        return float(text)
    try:
        return time.mktime(time.strptime(text, "%Y-%m-%dT%H:%M:%S"))
    except ValueError:
        return 0.0


def whole_state(words: str) -> str:
    """A job's state, where a column cuts it, or something is added to it.

    >>> whole_state("OUT_OF_ME+"), whole_state("CANCELLED by 1000"), whole_state("OUT_OF_ME"), whole_state("COMPLETING"), whole_state("")
    ('OUT_OF_MEMORY', 'CANCELLED', 'OUT_OF_MEMORY', 'COMPLETING', '')
    """
    word = next(iter(words.split()), "").rstrip("+")
    return next((state for state in sorted(OVER) if len(word) > 6 and state.startswith(word)), word)


def is_live(state: str) -> bool:
    """Whether a job in this state computes or may come to; a state that we do not know is one."""
    return state not in OVER


def depends_on(listed: Listed) -> dict[str, str]:
    """job id -> kind of dependency, of a pending job.

    >>> depends_on(Listed("3", "PENDING", "Dependency", "afterany:11_*(unfulfilled),afterany:12(unfulfilled)", "", ""))
    {'11': 'afterany', '12': 'afterany'}
    """
    return {job: kind for kind, job in re.findall(r"(after\w*):(\d+)", listed.depends)}


@dataclass(frozen=True)
class Seen:
    """A task of a job that Slurm still knows, ended or not."""

    job: str  # "11_3" or "12"
    state: str
    restarts: int
    submitted: float  # seconds since the epoch, by the controller's clock; a requeued job has it anew
    name: str

    @property
    def base(self) -> str:
        return self.job.partition("_")[0]


SEEN = "JobArrayID:60,State:30,RestartCnt:12,SubmitTime:24,Name:1100"  # of squeue -O; the longest name has 1024 characters


def parse_seen(text: str) -> list[Seen]:
    """squeue's lines of job, state, restarts, time of submission, name.

    >>> parse_seen("11_3   RUNNING  1   1795236000  my images  ")
    [Seen(job='11_3', state='RUNNING', restarts=1, submitted=1795236000.0, name='my images')]
    """
    lines = [line.split(None, 4) for line in text.splitlines()]
    return [Seen(w[0], whole_state(w[1]), int(w[2]), when(w[3]), w[4].rstrip()) for w in lines if len(w) == 5 and w[2].isdigit()]


def parse_states(text: str) -> dict[str, tuple[str, int]]:
    """squeue's lines of job, state, restarts.

    >>> parse_states("11_3  RUNNING  1")
    {'11_3': ('RUNNING', 1)}
    """
    lines = [line.split() for line in text.splitlines()]
    return {words[0]: (whole_state(words[1]), int(words[2])) for words in lines if len(words) == 3 and words[2].isdigit()}


def parse_sacct(text: str) -> dict[str, str]:
    """Lines of job and state; the not yet split rest of an array, "11_[4-7]", counts as one.

    >>> parse_sacct("11_3|CANCELLED by 1000")
    {'11_3': 'CANCELLED'}
    """
    pairs = [(job, whole_state(state)) for job, bar, state in (line.partition("|") for line in text.splitlines()) if bar]
    return {job: state for job, state in pairs if job and state}
