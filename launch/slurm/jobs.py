"""What Slurm says about the jobs of a stage, for who looks on or cancels. It need not be there."""

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from launch.slurm import submissions
from synth.host import slurm
from synth.host.slurm import JobRef

TIMEOUT = 3.0  # seconds for each call: somebody looks at a screen
IDS = 20  # the newest submissions of a stage that are asked about


@dataclass(frozen=True)
class StageJobs:
    """States of the tasks of a stage's submissions. `answered` is False where Slurm could not be asked."""

    answered: bool = False
    states: dict[str, int] = field(default_factory=dict)  # RUNNING -> tasks
    tasks: dict[str, str] = field(default_factory=dict)  # "11_3" -> RUNNING

    @property
    def live(self) -> list[str]:
        return [task for task, state in self.tasks.items() if slurm.is_live(state)]


def job_ids(stage: Path, held: Iterable[str] = (), tell: Callable[[str], object] = lambda what: None) -> list[str]:
    """Ids of all jobs of a stage, newest submission last: those of submissions/, those whose ids were lost (found by their unique
    name) and those that hold leases (`held`: "dev/11_3@1"), which may have been submitted by hand."""
    return list(named(stage, held, tell))


def named(stage: Path, held: Iterable[str] = (), tell: Callable[[str], object] = lambda what: None) -> dict[str, set[str]]:
    """The same, each with the names that a job of this stage may have under that id.

    Records and leases are files that others may write, and numbers are used again: a job of another name is none of this stage.
    """
    jobs: dict[str, set[str]] = {}
    names: set[str] = set()
    for submission in submissions.read(stage, tell):
        name = submission.job_name
        own = {name} if name == submissions.job_name(stage, submission.token) else set()
        ids = list(submission.job_ids)
        if submission.state == submissions.INTENDED:  # whoever submits it may have died between sbatch and the file
            ids += slurm.find_by_name(name, TIMEOUT)
        for job in ids:
            jobs.setdefault(job, set()).update(own)
        names |= own
    for ref in filter(None, map(JobRef.parse, held)):
        if ref.cluster in ("", slurm.cluster_name(TIMEOUT)):
            jobs.setdefault(ref.base, set(names))
    return jobs


def ask(ids: Sequence[str]) -> StageJobs:
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
    if unknown:
        tasks |= slurm.accounted(unknown, TIMEOUT)
    return StageJobs(answered, dict(Counter(tasks.values())), tasks)
