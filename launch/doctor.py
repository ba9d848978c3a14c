"""Will it run here? Look at everything a run needs, and say what mends what is wrong.

    synthset doctor [the same arguments as run] [--login-only] [--json] [--wait MINUTES]

    synthset doctor --login-only                                 # seconds, computes nothing: packages, models, keys, disk, Slurm
    synthset doctor model=sdxl model.path=/models/sdxl           # and then tries each model on this machine
    synthset doctor cluster=slurm cluster.partition=gpu          # ... or on a node, by one short job a model

  --login-only   look, start no job, load no model
  --json         the same as JSON, for programs
  --wait N       minutes that a job may wait in the queue before it is cancelled (default 10)

Each line is ok, warn (it will run, with a drawback), wrong (it will not), or unknown, with the reason. Below what is not ok stands the fix.

The trial draws two batches by the real model at the real size, twice, in a folder that is removed afterwards: whether the device works,
how much memory it takes, how long a batch takes, how large a sample is, and whether two processes make the same bytes. What it measured is
kept in runs_dir/.doctor: dry_run=true and max_device_hours= then know what the whole run takes.

Exit code: 0 nothing is wrong; 65 the config or a file has to be mended; 75 the machine or the site has to.
"""

if __name__ == "__main__":  # python launch/doctor.py and python -m launch.doctor are synthset doctor
    import runpy

    runpy.run_path(f"{__file__.rpartition('/')[0]}/__main__.py", {"COMMAND": "doctor"}, "__main__")

import argparse
import contextlib
import getpass
import signal
import sys
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from launch.config.program import help_text
from launch.run import Session, hydra_main
from synth.errors import EXIT_AGAIN, EXIT_BAD_INPUT, EXIT_OK, InputError, StoreError, tool

if TYPE_CHECKING:
    from launch.checkup.planned import Planned
    from launch.checkup.rows import Row
    from launch.plan.planned import PlannedStage, Point

WAIT = 10.0  # minutes that a job may wait


class Examination(Session):
    """A session that plans as far as it gets, notes what stands in the way, and executes nothing."""

    def __init__(self) -> None:
        super().__init__()
        self.unplanned: list = []
        self.runs: Path | None = None

    def planned(self, config, label: str) -> "Point":
        from launch.config.clusters import without_time
        from launch.plan.graph import plan_point

        reasons: dict[str, InputError] = {}
        self.runs = Path(config.runs_dir).expanduser().absolute()
        point = plan_point(config, label, command=self.command, unplanned=reasons)
        if reasons:
            self.unplanned.append((config, reasons))
        return replace(point, cluster=without_time(point.cluster))


def plan(argv: Sequence[str]) -> "Planned":
    """Compose and plan a command line; whatever is wrong with it is noted."""
    from launch.checkup.planned import Planned
    from launch.plan.planned import Failure

    session = Examination()
    try:
        session.check(list(argv))
        hydra_main(session)
    except InputError as e:
        session.failures.append(Failure("", EXIT_BAD_INPUT, str(e)))
    except StoreError as e:
        session.failures.append(Failure("", EXIT_AGAIN, str(e)))
    return Planned(session.points, session.failures, session.runs, session.unplanned)


def on_login(planned: "Planned", stages: "Sequence[PlannedStage]") -> "dict[str, Sequence[Row]]":
    """The rows that need no job."""
    from launch.checkup import filesystem, packages, site
    from launch.checkup import planned as of_plan
    from launch.plan.devices import uses_gpu

    cluster = planned.points[0].cluster if planned.points else None
    on_slurm = cluster is not None and cluster.kind == "slurm"
    here = packages.rows()
    if any(uses_gpu(s.spec.kind, s.spec.config) for s in stages):
        build = packages.torch_build()
        here.append(packages.torch_of_jobs(build, _same_python(cluster)) if on_slurm else _torch_here(build, here))
    parts: dict[str, Sequence[Row]] = {"this machine": here, "plan": of_plan.rows(planned, stages)}
    if on_slurm:
        parts["Slurm"] = site.rows(stages, cluster)
    if (runs := planned.runs) is not None:
        readings = filesystem.probe(runs)
        needs = of_plan.needs(planned, stages, _costs(planned, stages))
        parts["disk"] = [
            *filesystem.rows(readings, needs, runs, on_slurm),
            *filesystem.quota_rows(filesystem.quotas(readings.folder, readings.kind, getpass.getuser()), needs),
        ]
    return parts


def _same_python(cluster) -> bool:
    """Whether jobs run the Python of this command, and no image."""
    return not any(c.python or c.container for c in (cluster, cluster.cpu, *cluster.stages.values()))


def _torch_here(build: tuple[str, str, str] | None, rows: "list[Row]") -> "Row":
    """Of the workers of this machine; a GPU that cannot be used becomes one of `rows`."""
    from launch.checkup import packages
    from launch.checkup.rows import broken
    from launch.plan.devices import visible_gpus
    from synth.host.gpu import driver_version

    try:
        gpus = visible_gpus(tell=lambda text: None)
    except InputError as e:
        rows.append(broken("GPUs", str(e)))
        gpus = ()
    return packages.torch_row(build, gpus, driver_version() if gpus else "")


def _costs(planned: "Planned", stages: "Sequence[PlannedStage]"):
    """None where what is there cannot be read."""
    from launch.show.dry_run import workers_of
    from launch.show.estimate import costs

    with contextlib.suppress(InputError, StoreError, OSError):
        return costs(planned.points, stages, workers_of(planned.points, stages))
    return None


def parser() -> argparse.ArgumentParser:
    p = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    p.add_argument("--login-only", action="store_true")
    p.add_argument("--json", action="store_true")
    p.add_argument("--wait", type=float, default=WAIT, metavar="MINUTES")
    return p


def main(argv: list[str]) -> int:
    """The exit code."""
    if {"-h", "--help"} & set(argv):
        return tool(lambda: help_text(__doc__ or ""))
    args, rest = parser().parse_known_args(argv)
    try:
        with _stopping():
            return tool(lambda: examined(args, rest))
    except KeyboardInterrupt:
        print("stopped; nothing was changed", file=sys.stderr)
        return EXIT_AGAIN


@contextlib.contextmanager
def _stopping() -> Iterator[None]:
    """SIGTERM and a terminal that hangs up are Ctrl-C, which cancels the job of the trial and removes its folder; the first of each."""

    def stop(number: int, frame: object) -> None:
        signal.signal(number, signal.SIG_IGN)
        raise KeyboardInterrupt

    before = {s: signal.signal(s, stop) for s in (signal.SIGTERM, signal.SIGHUP) if signal.getsignal(s) is not signal.SIG_IGN}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def examined(args: argparse.Namespace, argv: Sequence[str]) -> int:
    """Look, try, tell; the exit code."""
    from rich.console import Console

    from launch.checkup import rows as of_rows
    from launch.checkup import site
    from launch.checkup.rows import unknown
    from launch.plan.graph import distinct
    from synth.host.slurm import hurry

    with hurry(site.EACH, site.ALL) as asking:
        planned = plan(argv)
        stages = distinct(planned.points)
        parts = on_login(planned, stages)
    if unheard := site.silent(asking):
        parts["Slurm"] = [*unheard, *parts.get("Slurm", ())]
    console = Console(width=None if sys.stdout.isatty() else 100)
    if not args.json:
        for part, rows in parts.items():
            of_rows.shown(part, rows, console)
    if not args.login_only and planned.points:
        good = of_rows.exit_code(row for rows in parts.values() for row in rows) == EXIT_OK
        trial = tried(planned, stages, args.wait) if good else [unknown("trial", "not begun: mend what is wrong first")]
        if trial:
            parts["trial"] = trial
        if trial and not args.json:
            of_rows.shown("trial", trial, console)
    everything = [row for rows in parts.values() for row in rows]
    code = of_rows.exit_code(everything)
    if args.json:
        print(of_rows.as_json(parts, {"login_only": args.login_only}))
    else:
        console.print(f"{of_rows.summary(everything)}: exit code {code}", highlight=False)
    return code


def tried(planned: "Planned", stages: "Sequence[PlannedStage]", wait: float) -> "list[Row]":
    """The rows of the trial; [] where nothing of the plan computes."""
    from rich.console import Console

    from launch.checkup import jobs, trial
    from launch.config.clusters import SlurmConfig

    runs, cluster, console = planned.runs, planned.points[0].cluster, Console(stderr=True)
    assert runs is not None
    with trial.throwaway(runs) as place:
        chain = trial.chain_of(stages, place)
        if not chain.tried:
            return trial.run(chain, runs, trial.local(cluster, console))
        firsts = [t.first for t in chain.tried]
        on_slurm = isinstance(cluster, SlurmConfig)
        make = jobs.on_nodes(firsts, cluster, console, wait * 60) if on_slurm else trial.local(cluster, console)
        return trial.run(chain, runs, make)
