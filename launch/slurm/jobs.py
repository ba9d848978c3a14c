"""What Slurm says about the jobs of a stage: squeue, and sacct for those that squeue has forgotten. Neither is needed."""

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

from launch.slurm import submissions
from synth.host import slurm
from synth.host.slurm import JobRef

TIMEOUT = 3.0  # seconds for each call: somebody looks at a screen
IDS = 20  # the newest submissions of a stage that are asked about
LIVE = frozenset(
    [
        "PENDING",
        "RUNNING",
        "COMPLETING",
        "SUSPENDED",
        "CONFIGURING",
        "REQUEUED",
        "REQUEUE_HOLD",
        "RESIZING",
        "SIGNALING",
        "STAGE_OUT",
        "STOPPED",
    ]
)


@dataclass(frozen=True)
class StageJobs:
    """States of the tasks of a stage's submissions. `answered` is False where Slurm could not be asked."""

    answered: bool = False
    states: dict[str, int] = field(default_factory=dict)  # RUNNING -> tasks
    tasks: dict[str, str] = field(default_factory=dict)  # "11_3" -> RUNNING

    @property
    def live(self) -> list[str]:
        return [task for task, state in self.tasks.items() if state in LIVE]


def job_ids(stage: Path, held: Iterable[str] = (), find: Callable[[str], list[str]] | None = None) -> list[str]:
    """Ids of all jobs of a stage, newest submission last: those of submissions/, those whose ids were lost (found by their unique
    name) and those that hold leases (`held`: "dev/11_3@1"), which may have been submitted by hand."""
    ids: list[str] = []
    for submission in submissions.read(stage):
        ids += submission.job_ids
        if submission.state == submissions.INTENDED:  # whoever submits it may have died between sbatch and the file
            ids += (find or find_by_name)(submission.job_name)
    refs = filter(None, map(JobRef.parse, held))
    ids += [ref.base for ref in refs if ref.cluster in ("", cluster_name())]
    return list(dict.fromkeys(ids))


def find_by_name(name: str) -> list[str]:
    """Ids of the jobs of this name, by squeue; [] if there are none or it cannot be asked."""
    done = slurm.command("squeue", "-h", "-a", "-n", name, "-o", "%F", timeout=TIMEOUT) if name else None
    return list(dict.fromkeys(done[1].split())) if done and done[0] == 0 else []


@cache
def cluster_name() -> str:
    """Name of the cluster that commands here talk to; "" if there is none. A lease of another cluster says nothing to them."""
    done = slurm.command("scontrol", "show", "config", timeout=TIMEOUT)
    lines = done[1].splitlines() if done and done[0] == 0 else []
    return next((line.partition("=")[2].strip() for line in lines if line.startswith("ClusterName")), "")


def ask(ids: Sequence[str], sacct: bool = True) -> StageJobs:
    """States of the jobs with these ids."""
    tasks: dict[str, str] = {}
    answered, unknown = False, []
    for job in ids[-IDS:]:
        states = slurm.job_states(job, timeout=TIMEOUT)
        if states is None:
            return StageJobs()
        answered = True
        tasks |= {task: state for task, (state, _) in states.items()}
        if not states:
            unknown.append(job)
    if unknown and sacct:
        tasks |= ask_sacct(unknown)
    return StageJobs(answered, dict(Counter(tasks.values())), tasks)


def ask_sacct(ids: Sequence[str]) -> dict[str, str]:
    """States of jobs that squeue has forgotten, where there is accounting; else {}."""
    done = slurm.command("sacct", "-X", "-n", "-P", "-j", ",".join(ids), "-o", "JobID,State", timeout=TIMEOUT)
    return parse_sacct(done[1]) if done and done[0] == 0 else {}


def parse_sacct(text: str) -> dict[str, str]:
    """Lines "11_3|CANCELLED by 1000" as {"11_3": "CANCELLED"}; the not yet split rest of an array, "11_[4-7]", counts as one."""
    found = {}
    for line in text.splitlines():
        job, bar, state = line.partition("|")
        if bar and job and state:
            found[job] = state.split()[0]
    return found
