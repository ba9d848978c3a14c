"""Cancel the Slurm jobs of a run.

Cancels what was submitted for these stages (submissions/*.json), and jobs of these names that hold leases there, on the cluster on
which they are. A job is known by cluster, number, name and time of submission: if one differs, as of slurm/stage.sbatch the name, it
is told and left alone; the exit code is 75 if it may be of this run all the same, and if jobs are somebody else's.

Nothing that is finished is lost either way: with --drain the running batches are kept, too, and units are let go at once. Running the
same launch command again goes on from there.
"""

if __name__ == "__main__":  # python launch/cancel.py and python -m launch.cancel are synthset cancel
    import runpy

    runpy.run_path(f"{__file__.rpartition('/')[0]}/__main__.py", {"COMMAND": "cancel"}, "__main__")

import argparse
import re
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from launch.config.program import as_typed
from launch.show.stages import find_stages, report_on
from launch.slurm import jobs, order
from launch.slurm.jobs import Job
from launch.slurm.submissions import read
from synth.errors import EXIT_AGAIN, EXIT_OK, InputError, StoreError, tool
from synth.host import slurm, squeue
from synth.terminal import printable

DENIED = re.compile(r"job id (\d+).*denied")  # of scancel, about a job of somebody else
POLL = 1.0  # seconds between looks at the queue while jobs drain


def scancel(cluster: str, *args: str) -> set[str]:
    """Run scancel; ids of jobs that are not this user's to cancel. What else it cannot do, other than to jobs that have ended, is an
    InputError."""
    done = slurm.command("scancel", *args, cluster=cluster)
    if done is None:
        raise InputError("scancel: not here; run this where the cluster's commands work")
    code, _, err = done
    lines = [line for line in err.splitlines() if line.strip()]
    if code and not all("Invalid job id" in line or "already completing" in line or DENIED.search(line) for line in lines):
        raise InputError(f"scancel {' '.join(args)}: {err.strip()}")
    return {found[1] for line in lines if (found := DENIED.search(line))}


@dataclass(frozen=True)
class Found:
    """Jobs of stages, by what Slurm says of them."""

    live: list[Job]  # pending or running
    silent: list[Job]  # of clusters that do not answer
    left: list[Job]  # live ones that may be of these stages, and whose name is of no submission
    hidden: list[str]  # stages of somebody else whose jobs this site shows nobody, in words
    answered: bool  # whether any cluster did


def live_jobs(stages: Sequence[Path], tell: Callable[[str], None] = print) -> Found:
    """Jobs of these stages that may be pending or running.

    What cannot be read of a stage is told, and the rest still cancelled.
    """
    live: dict[tuple[str, str], Job] = {}
    silent: dict[tuple[str, str], Job] = {}
    left: dict[tuple[str, str], Job] = {}
    hidden = []
    answered = False
    for stage in stages:
        held: list[str] = []
        try:
            report = report_on(stage)
            held = [h.slurm for h in report.held if h.slurm]
            for what in report.unread:
                tell(what)
        except (InputError, StoreError) as e:
            tell(f"{e}; who holds its units is not known")
        named = jobs.of(stage, held, tell, slurm.TIMEOUT)
        states = jobs.states(named)
        if not any(states.values()) and not (stage / "done.json").exists() and (of_whom := order.hidden(stage, read(stage))):
            hidden.append(f"{stage}: {of_whom}")
        for job in named:
            tasks = states[job.key]
            if tasks is None:
                silent[job.key] = job
                continue
            answered = True
            # one that a federation has dropped ends no more, and what waits for it does not begin
            tasks = [task for task in tasks if squeue.is_live(task.state) or task.state == squeue.REVOKED]
            others = list(filter(None, (job.other(task) for task in tasks)))
            if others:
                if any(job.renamed(task) for task in tasks):
                    left[job.key] = job
                at = f"-M {job.cluster} " if slurm.elsewhere(job.cluster) else ""
                tell(f"{stage}: names job {job}, {others[0]}: left alone (scancel {at}{job.id} ends it)")
            elif tasks:
                live[job.key] = job
    return Found(list(live.values()), list(silent.values()), list(left.values()), hidden, answered)


def drain(found: Sequence[Job], patience: float, tell: Callable[[str], None]) -> bool:
    """Ask all running workers of jobs of one cluster to end their batch, and wait; whether all had left in time.

    Pending tasks are cancelled first, and again at every look: a preempted or requeued one would start in the meantime.
    """
    cluster, ids = found[0].cluster, [job.id for job in found]
    denied = scancel(cluster, "--state=PENDING", *ids)
    denied |= scancel(cluster, "--state=RUNNING", "--signal=USR2", *ids)  # to the steps, not to the batch scripts
    found = [job for job in found if job.id not in denied]
    ids = [job.id for job in found]
    end, last = time.monotonic() + patience, -1
    while True:
        seen = jobs.states(found).values()
        live = [task for tasks in seen for task in tasks or () if squeue.is_live(task.state)]
        pending = [task for task in live if task.state in squeue.WAITING]
        if not live and None not in seen:
            return True
        if len(live) - len(pending) != last:
            last = len(live) - len(pending)
            tell(f"{last} tasks end their running batch")
        if time.monotonic() >= end:
            return False
        if pending:
            scancel(cluster, "--state=PENDING", *ids)
        time.sleep(POLL)


def cancel(path: Path, drained: bool, patience: float, tell: Callable[[str], None], more: Sequence[Path] = ()) -> int:
    """Cancel the jobs of all stages below a path, and below more of them; the exit code."""
    jobs_there = live_jobs(list(dict.fromkeys(stage for place in (path, *more) for stage in find_stages(place, tell))), tell)
    found, silent, left = jobs_there.live, jobs_there.silent, jobs_there.left
    if silent and not jobs_there.answered:
        raise InputError("squeue: not here, or no answer; run this where the cluster's commands work")
    in_time, denied = True, []
    for cluster in dict.fromkeys(job.cluster for job in found):
        there = [job for job in found if job.cluster == cluster]
        for i in range(0, len(there), jobs.AT_ONCE):
            some = there[i : i + jobs.AT_ONCE]
            if drained:
                in_time = drain(some, patience, tell) and in_time
            others = scancel(cluster, *(job.id for job in some))
            denied += [job for job in some if job.id in others]
    if done := [job for job in found if job not in denied]:
        tell(f"cancelled: {' '.join(map(str, done))}")
    elif not silent and not left and not denied and not jobs_there.hidden:
        tell("no job of this run is pending or running")
    for user in dict.fromkeys(map(_user, denied)):
        tell(f"{user}'s, who can cancel them: {' '.join(str(job) for job in denied if _user(job) == user)}")
    for what in jobs_there.hidden:
        tell(what)
    if left:
        tell(f"left alone, though they may be of this run: {', '.join(map(str, left))}")
    if silent:
        tell(f"not asked, so not cancelled: {', '.join(map(str, silent))}: no answer from there; run this again later, or on that cluster")
    if not in_time:
        tell(f"some had not drained after {patience:.0f} s: their running batches are lost, nothing else")
    return EXIT_OK if in_time and not (silent or left or denied or jobs_there.hidden) else EXIT_AGAIN


def _user(job: Job) -> str:
    """Who submitted a job, as far as it is written."""
    return next((record.user for record in job.owners if record.user), "somebody else")


def parser() -> argparse.ArgumentParser:
    p = argparse.ArgumentParser(prog=as_typed("cancel"), description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    p.add_argument("path", type=Path, nargs="+", help="runs folder, dataset folder or stage folder")
    p.add_argument("--drain", action="store_true", help="first let every worker end and keep its running batch (USR2)")
    p.add_argument("--patience", type=float, default=600.0, metavar="SECONDS", help="how long to wait for the drain (default: 600)")
    return p


def main(argv: Sequence[str] | None = None) -> int:
    args = parser().parse_args(argv)
    path, *more = args.path
    return tool(lambda: cancel(path, args.drain, args.patience, lambda text: print(printable(text), flush=True), more))
