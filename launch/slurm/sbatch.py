"""sbatch, and what it queued: the queue is asked by the job's own name before anything is said of it.

What sbatch prints is no proof. Sites wrap it (a line of budgets behind the id, no --parsable, colours), some wrappers fail after the job
is in, and an answer can get lost on its way. So a name is given to one job alone, and the queue has the last word: a job that is queued
is found, whatever was printed, and is never submitted twice.
"""

import re
import time
from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace

from launch.slurm.policy import time_mends
from synth.host import slurm, squeue
from synth.host.slurm import SlurmError

PATIENCE = 60.0  # seconds that a controller may be away, and that the queue may take to show what sbatch says it took
PAUSES = (1.0, 10.0)  # seconds between two tries: the first, and the longest
COLOURS = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]|\x1b\][^\x07]*\x07")
WORDS = re.compile(r"Submitted batch job (\d+)(?: on cluster ([A-Za-z0-9][\w.-]*))?")
ALONE = re.compile(r"(\d+)(?:;([A-Za-z0-9][\w.-]*))?")


@dataclass(frozen=True)
class Queued:
    """A job as a cluster knows it."""

    job: str
    cluster: str = ""
    submitted: float = 0.0  # seconds since the epoch, by the controller's clock; 0: not known


def answer(text: str) -> Queued | None:
    r"""The job that sbatch's answer names, in any of its public forms, among the lines of wrappers; None if it names none, or several.

    >>> answer("\x1b[32m12;far\x1b[0m\nbudget left: 80 h")
    Queued(job='12', cluster='far', submitted=0.0)
    """
    plain = COLOURS.sub("", text)
    found = [(m[1], m[2] or "") for m in WORDS.finditer(plain)]
    found = found or [(m[1], m[2] or "") for line in plain.splitlines() if (m := ALONE.fullmatch(line.strip()))]
    jobs = {job for job, _ in found}
    return Queued(jobs.pop(), max(cluster for _, cluster in found)) if len(jobs) == 1 else None


def submit(args: Sequence[str], name: str, clusters: str = "", keep: Collection[str] = (), patience: float = PATIENCE) -> Queued:
    """sbatch; the job that is in the queue now. A SlurmError that is `unsure` says that nobody knows whether there is one.

    name: of no other job. clusters: where it may go, "a,b". keep: names of the secrets of our environment that go along with the job.
    """
    end, pause = time.monotonic() + patience, PAUSES[0]
    while True:
        printed, refusal = _sbatch(args, name, clusters, keep)
        expected = answer(printed)
        queued = _look(name, expected, clusters, end, refusal)
        if queued:
            return queued
        if refusal is None:
            words = f"sbatch answered {printed.strip()[-200:]!r}, which names no job, and none of the name {name} is in the queue"
            raise SlurmError(words, unsure=True)
        if not refusal.passing:
            raise refusal
        full = time_mends(str(refusal))  # not by trying for a minute
        if time.monotonic() > end and not full:
            raise SlurmError(str(refusal), passing=True, unsure=True)  # a slow controller may take it yet
        time.sleep(pause)
        pause = min(2 * pause, PAUSES[1])
        if queued := _look(name, None, clusters, end, refusal):  # it may have taken it only now
            return queued
        if full:
            raise refusal


def in_queue(name: str, clusters: str = "") -> list[Queued]:
    """Our jobs of this name, ended ones too, the first one first. SlurmError where Slurm cannot be asked."""
    found: dict[str, Queued] = {}
    for cluster in clusters.split(","):
        tasks = slurm.seen(names=[name], cluster=cluster, mine=True)
        if tasks is None:
            raise SlurmError(f"squeue does not answer{f' for cluster {cluster}' if cluster else ''}", passing=True)
        for task in tasks:
            if squeue.is_live(task.state) or task.base not in found:
                found.setdefault(task.base, Queued(task.base, slurm.home(cluster), task.submitted))
    return sorted(found.values(), key=lambda job: int(job.job))


def _sbatch(args: Sequence[str], name: str, clusters: str, keep: Collection[str]) -> tuple[str, SlurmError | None]:
    try:
        return slurm.call("sbatch", "--parsable", f"--job-name={name}", *args, patience=-1.0, keep=keep, cluster=clusters), None
    except SlurmError as e:
        return "", e


def _look(name: str, expected: Queued | None, clusters: str, end: float, refusal: SlurmError | None) -> Queued | None:
    """The job of this name; None if there is none. Asked again while Slurm does not answer, and while one that it took is not shown yet.

    expected: what sbatch's answer says. It is believed where the queue does not know the name: some sites give jobs names of their own.
    """
    where = expected.cluster if expected and expected.cluster else clusters
    pause = PAUSES[0]
    while True:
        try:
            found = in_queue(name, where)
            if found:
                return _one(found, expected)
            if expected:
                return _as_told(expected, where)
            if refusal is not None or time.monotonic() > end:
                return None
        except SlurmError as e:
            if expected:
                return expected
            if time.monotonic() > end:
                raise SlurmError(f"{refusal or 'sbatch answered'}; whether the job {name} is queued is not known: {e}", True, True) from e
        time.sleep(pause)
        pause = min(2 * pause, PAUSES[1])


def _one(found: Sequence[Queued], expected: Queued | None) -> Queued:
    """One of several jobs of one name: a wrapper tried again by itself, or an answer came after we did. The others are cancelled."""
    kept = next((job for job in found if expected and job.job == expected.job), found[0])
    for job in found:
        if job != kept:
            slurm.command("scancel", job.job, cluster=job.cluster)
    return kept


def _as_told(expected: Queued, cluster: str) -> Queued:
    tasks = slurm.seen([expected.job], cluster=cluster)
    return replace(expected, cluster=slurm.home(cluster), submitted=tasks[0].submitted if tasks else 0.0)
