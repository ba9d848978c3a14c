"""What Slurm says about the jobs of a stage, for who looks on or cancels. It need not be there."""

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from launch.slurm import submissions
from launch.slurm.submissions import Submission
from synth.host import slurm, squeue
from synth.host.squeue import JobRef, Seen

TIMEOUT = 3.0  # seconds for each call: somebody looks at a screen
IDS = 20  # the newest submissions of a stage that are asked about
AT_ONCE = 200  # job ids a call of squeue or scancel
CLOCKS = 600.0  # seconds that the clocks of a controller and of who submits may differ


@dataclass(frozen=True)
class StageJobs:
    """States of the tasks of a stage's submissions. `answered` is False where Slurm could not be asked."""

    answered: bool = False
    states: dict[str, int] = field(default_factory=dict)  # RUNNING -> tasks
    tasks: dict[str, str] = field(default_factory=dict)  # "11_3" -> RUNNING

    @property
    def live(self) -> list[str]:
        return [task for task, state in self.tasks.items() if squeue.is_live(state)]


@dataclass(frozen=True)
class Job:
    """A job that a record or a lease of a stage names. Numbers are used again, and each cluster has its own: it is the one that it is
    meant to be only if cluster, number, name and time of submission agree."""

    cluster: str
    id: str
    owners: tuple[Submission, ...] = ()  # by whose names it may be called; a lease does not say which
    submitted: float = 0.0  # by the controller's clock; 0: not recorded, as in older records and in leases

    @property
    def key(self) -> tuple[str, str]:
        return self.cluster, self.id

    def __str__(self) -> str:
        return self.id + (f" of cluster {self.cluster}" if slurm.elsewhere(self.cluster) else "")

    def other(self, task: Seen) -> str:
        """Why a task that has its number is another job's; "" if it is its own."""
        own = next((record for record in self.owners if record.part(task.name)), None)
        if own is None:
            return f"whose name ({ascii(task.name)[:100]}) is of no submission there"
        # a requeue is a submission of its own to Slurm, so what was requeued is younger than its record
        early = task.submitted < (self.submitted or own.created - CLOCKS)
        if task.submitted and (early or (self.submitted and task.submitted != self.submitted and not task.restarts)):
            return f"which was submitted {'before' if early else 'after'} that of its submission {own.number}"
        return ""

    def renamed(self, task: Seen) -> bool:
        """Whether a task of another name may be its own all the same: where a site gives jobs names of its own, or where it was submitted
        by hand and only a lease names it."""
        named = any(record.part(task.name) for record in self.owners)
        return not named and (not self.submitted or task.submitted == self.submitted)


def of(stage: Path, held: Iterable[str] = (), tell: Callable[[str], object] = lambda what: None, timeout: float = TIMEOUT) -> list[Job]:
    """All jobs of a stage, newest submission last: those of submissions/, those whose ids were lost (found by their unique name) and
    those that hold leases (`held`: "dev/11_3@1"), which may have been submitted by hand."""
    jobs: dict[tuple[str, str], Job] = {}
    records = submissions.read(stage, tell)
    # one with the names of another stage says nothing about whose a job is
    own = tuple(r for r in records if r.job_name and r.job_name == submissions.job_name(stage, r.token))
    for record in records:
        clusters = [slurm.home(name, timeout) for name in record.cluster.split(",")]
        owners = (record,) if record in own else ()
        found = [Job(clusters[0], job, owners, record.submitted.get(job, 0.0)) for job in record.job_ids]
        if record.state == submissions.INTENDED:  # whoever submits it may have died between sbatch and the file
            known = {job.key for job in found}
            found += [Job(c, job, owners) for c in clusters for job in lost(record, c, timeout) if (c, job) not in known]
        for job in found:  # the newest last, were numbers begun anew meanwhile
            jobs.pop(job.key, None)
            jobs[job.key] = job
    for ref in filter(None, map(JobRef.parse, held)):
        cluster = slurm.home(ref.cluster, timeout)
        jobs.setdefault((cluster, ref.base), Job(cluster, ref.base, own))
    return list(jobs.values())


def lost(record: Submission, cluster: str, timeout: float = TIMEOUT) -> list[str]:
    """Ids of the jobs in a cluster's queue that have the names of a submission whose ids may not all be written."""
    tasks = slurm.seen(names=[*record.names(), record.job_name], cluster=cluster, timeout=timeout)
    return list(dict.fromkeys(task.base for task in tasks or ()))


def states(jobs: Sequence[Job], timeout: float = slurm.TIMEOUT) -> dict[tuple[str, str], list[Seen] | None]:
    """By the key of each job: the tasks that Slurm knows under its number, be it another job's; None where it could not be asked."""
    by_cluster: dict[str, list[str]] = {}
    for job in jobs:
        by_cluster.setdefault(job.cluster, []).append(job.id)
    found: dict[tuple[str, str], list[Seen] | None] = {}
    for cluster, ids in by_cluster.items():
        for i in range(0, len(ids), AT_ONCE):
            tasks = slurm.seen(ids[i : i + AT_ONCE], cluster=cluster, timeout=timeout)
            for one in ids[i : i + AT_ONCE]:
                found[cluster, one] = None if tasks is None else [task for task in tasks if task.base == one]
    return found


def ask(jobs: Sequence[Job]) -> StageJobs:
    """States of the newest of these jobs; what only has the number of one is left out. Where a site gives jobs names of its own, cluster,
    number and time of submission are enough, as for launch.slurm.order.part_of."""
    newest = jobs[-IDS:]
    known = states(newest, TIMEOUT)
    found = [(job, task) for job in newest for task in known[job.key] or ()]
    own = [(job, task) for job, task in found if not job.other(task) or (job.owners and job.submitted and job.renamed(task))]
    tasks = {_shown(job, task.job): task.state for job, task in own}
    for cluster in {job.cluster for job in newest}:
        forgotten = [job for job in newest if job.cluster == cluster and known[job.key] == []]
        if forgotten:
            states_of = slurm.accounted([job.id for job in forgotten], TIMEOUT, cluster)
            tasks |= {_shown(forgotten[0], task): state for task, state in states_of.items()}
    return StageJobs(any(seen is not None for seen in known.values()), dict(Counter(tasks.values())), tasks)


def _shown(job: Job, task: str) -> str:
    return f"{job.cluster}/{task}" if slurm.elsewhere(job.cluster) else task
