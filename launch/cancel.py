"""Cancel the Slurm jobs of a run.

Cancels what was submitted for these stages (submissions/*.json), and jobs of these names that hold leases there. A job of another
name, such as one of slurm/stage.sbatch, is told and left alone. Nothing that is finished is lost either way: with --drain the running
batches are kept, too, and units are let go at once. Running the same launch command again goes on from there.
"""

if __name__ == "__main__":  # python launch/cancel.py and python -m launch.cancel are synthset cancel
    import runpy

    runpy.run_path(f"{__file__.rpartition('/')[0]}/__main__.py", {"COMMAND": "cancel"}, "__main__")

import argparse
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from launch.config.program import as_typed
from launch.show.stages import find_stages, report_on
from launch.slurm import jobs
from synth.errors import EXIT_AGAIN, EXIT_OK, InputError, StoreError, tool
from synth.host import slurm
from synth.terminal import printable

POLL = 1.0  # seconds between looks at the queue while jobs drain
CHUNK = 200  # job ids a call of scancel


def scancel(*args: str) -> None:
    """Run scancel; what it cannot do, other than to jobs that have ended, is an InputError."""
    done = slurm.command("scancel", *args)
    if done is None:
        raise InputError("scancel: not here; run this where the cluster's commands work")
    code, _, err = done
    if code and not all("Invalid job id" in line or "already completing" in line for line in err.splitlines() if line.strip()):
        raise InputError(f"scancel {' '.join(args)}: {err.strip()}")


def live_jobs(stages: Sequence[Path], tell: Callable[[str], None] = print) -> list[str]:
    """Ids of the jobs of these stages that are pending or running. What cannot be read of a stage is told, and the rest still cancelled."""
    live: list[str] = []
    for stage in stages:
        held: list[str] = []
        try:
            report = report_on(stage)
            held = [h.slurm for h in report.held if h.slurm]
            for what in report.unread:
                tell(what)
        except (InputError, StoreError) as e:
            tell(f"{e}; who holds its units is not known")
        for job, names in jobs.named(stage, held, tell).items():
            states = slurm.job_states(job)
            if states is None:
                raise InputError("squeue: not here, or no answer; run this where the cluster's commands work")
            if any(slurm.is_live(state) for state, _ in states.values()):
                found = slurm.job_names(job)
                if found and found <= names:
                    live.append(job)
                else:
                    said = ascii(min(found))[:100] if found else "not known"
                    tell(f"{stage}: names job {job}, whose name ({said}) is of no submission there: left alone (scancel {job} ends it)")
    return list(dict.fromkeys(live))


def drain(ids: Sequence[str], patience: float, tell: Callable[[str], None]) -> bool:
    """Ask all running workers to end their batch, and wait; whether all had left in time.

    Pending tasks are cancelled first, and again at every look: a preempted or requeued one would start in the meantime.
    """
    scancel("--state=PENDING", *ids)
    scancel("--state=RUNNING", "--signal=USR2", *ids)  # to the steps, not to the batch scripts
    end, last = time.monotonic() + patience, -1
    while True:
        states = [slurm.job_states(job) for job in ids]
        running = [task for s in states for task, (state, _) in (s or {}).items() if slurm.is_live(state) and state not in slurm.WAITING]
        pending = [task for s in states for task, (state, _) in (s or {}).items() if state in slurm.WAITING]
        if not running and not pending and None not in states:
            return True
        if len(running) != last:
            last = len(running)
            tell(f"{last} tasks end their running batch")
        if time.monotonic() >= end:
            return False
        if pending:
            scancel("--state=PENDING", *ids)
        time.sleep(POLL)


def cancel(path: Path, drained: bool, patience: float, tell: Callable[[str], None]) -> int:
    """Cancel the jobs of all stages below a path; the exit code."""
    ids = live_jobs(find_stages(path), tell)
    if not ids:
        tell("no job of this run is pending or running")
        return EXIT_OK
    in_time = True
    for i in range(0, len(ids), CHUNK):
        if drained:
            in_time = drain(ids[i : i + CHUNK], patience, tell) and in_time
        scancel(*ids[i : i + CHUNK])
    tell(f"cancelled: {' '.join(ids)}")
    if not in_time:
        tell(f"some had not drained after {patience:.0f} s: their running batches are lost, nothing else")
    return EXIT_OK if in_time else EXIT_AGAIN


def parser() -> argparse.ArgumentParser:
    p = argparse.ArgumentParser(prog=as_typed("cancel"), description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    p.add_argument("path", type=Path, help="runs folder, dataset folder or stage folder")
    p.add_argument("--drain", action="store_true", help="first let every worker end and keep its running batch (USR2)")
    p.add_argument("--patience", type=float, default=600.0, metavar="SECONDS", help="how long to wait for the drain (default: 600)")
    return p


def main(argv: Sequence[str] | None = None) -> int:
    args = parser().parse_args(argv)
    return tool(lambda: cancel(args.path, args.drain, args.patience, lambda text: print(printable(text), flush=True)))
