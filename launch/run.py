"""Make a dataset: plan the stages of a recipe, then run or submit what is missing.

    synthset run [-m] recipe=.. dataset=.. captioner=.. model=.. cluster=.. KEY=VALUE ...

hydra.main only plans. What it planned is run or submitted afterwards, all points together, each distinct stage once:
hydra.main always returns None, and an exit inside one point of a sweep would end the sweep.
"""

if __name__ == "__main__":  # python launch/run.py and python -m launch.run are synthset run
    import runpy

    runpy.run_path(f"{__file__.rpartition('/')[0]}/__main__.py", {"COMMAND": "run"}, "__main__")

import contextlib
import itertools
import shlex
import sys
import traceback
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from launch.config.program import as_typed, this_command
from synth.errors import EXIT_AGAIN, EXIT_BAD_INPUT, EXIT_BUG, EXIT_OK, InputError, StoreError, explained, refused, tool, worst
from synth.host.scratch import Scratch
from synth.host.source import as_module

if TYPE_CHECKING:
    from pathlib import Path

    from omegaconf import DictConfig
    from rich.console import Console

    from launch.config.clusters import ClusterConfig
    from launch.config.root import Config
    from launch.plan.planned import Outcome, PlannedStage, Point
    from launch.show.estimate import Costs

WIDE = 160  # columns where there is no terminal to ask: paths in logs stay whole


class Session:
    """check -> plan (once a point, from hydra.main) -> execute."""

    def __init__(self):
        self.points: list[Point] = []
        self.failures: list = []
        self.begun = False  # whether stages were run or submitted
        self.command = this_command()
        self.config_dir: str | None = None
        self._multirun = False
        self._words: list[str] = []  # of the command line

    def check(self, argv: list[str]) -> None:
        """Judge the command line; InputError if it is wrong."""
        from launch.config.check import check
        from synth.host.code import planned_with

        planned_with()
        line = check(argv)
        sys.argv[1:] = self._words = line.argv
        self.config_dir, self._multirun = line.args.config_dir, line.multirun

    @contextlib.contextmanager
    def scratch(self) -> Iterator[None]:
        """A place for the multirun.yaml that Hydra's sweeper insists on writing; gone afterwards, so no stray multirun/."""
        if not self._multirun:
            yield
            return
        folder = Scratch()
        sys.argv.append(f"hydra.sweep.dir={folder.path}")
        try:
            yield
        finally:
            sys.argv.pop()
            folder.remove()

    def plan(self, config: "DictConfig") -> None:
        """Plan one point. Whatever is wrong with it is noted, and the sweep goes on."""
        from hydra.core.hydra_config import HydraConfig

        from launch.config.compose import typed
        from launch.plan.nearest import check_only
        from launch.plan.planned import Failure

        own = HydraConfig.get().overrides.task
        label = " ".join(own) if self._multirun else ""
        try:
            point = self.planned(typed(config), label)
            if point.only:
                check_only(point)
            self.points.append(point)
        except InputError as e:
            self.failures.append(Failure(label, EXIT_BAD_INPUT, str(e)))
        except Exception as e:  # noqa: BLE001 (a bug in one point must not end the others; it is shown and exits 70)
            self.failures.append(
                Failure(label, EXIT_AGAIN, explained(e)) if refused(e) else Failure(label, EXIT_BUG, traceback.format_exc())
            )

    def planned(self, config: "Config", label: str) -> "Point":
        """One composed config as a point."""
        from launch.plan.graph import plan_point

        return plan_point(config, label, command=self.command)

    def hydra_gave_up(self, code: object) -> None:
        """Hydra printed why and wanted to exit; a code other than 0 counts as bad input."""
        from launch.plan.planned import Failure

        if code:
            self.failures.append(Failure("", EXIT_BAD_INPUT, "the config could not be composed; Hydra's reason is above"))

    def execute(self, run: Callable | None = None) -> int:
        """Run or submit the distinct stages of all points; the worst exit code. `run` takes the place of the cluster's own runner."""
        from rich.console import Console

        from launch.plan.graph import distinct
        from launch.plan.nearest import planned_elsewhere
        from launch.plan.outputs import check_outputs
        from launch.show import dry_run, left, summary, trial
        from launch.show.enough import one_end, settled
        from launch.show.saying import say
        from synth.run import trust

        wide = None if sys.stdout.isatty() else WIDE
        console = Console(width=wide)
        outcomes = []
        stages = distinct(self.points)
        check_outputs(stages)
        told = (n for p in self.points for n in p.notes), (n for s in stages for n in s.spec.settings.get("notes", ()))
        for note in dict.fromkeys(itertools.chain(*told)):
            say(console, note)
        for remark in filter(None, map(planned_elsewhere, stages)):
            say(console, remark)
        if self.points and run is not None:
            for line in self._own_workers():
                say(console, line)
        elif self.points and (self.points[0].dry_run or not self.points[0].plan_only):
            self.points, said = settled(self.points, stages, workers_a_job(self.points[0].cluster))
            for line in said:
                say(console, line)
        if self.points and self.points[0].dry_run:
            dry_run.show(self.points, stages, console, self._words)
        elif self.points:
            for stage in stages:
                if stage.planned:
                    trust.note(stage.spec)
            first = self.points[0]
            if first.plan_only:
                make_folders(stages, console)
                summary.show((), self.failures, self.command, console)
                return worst(f.code for f in self.failures)
            one_end(self.points)
            if len(self.points) > 1:
                console.print(f"{len(self.points)} points, {len(stages)} distinct stages")
            left.begin(stages, within_limits(self.points, stages, console), self.command)
            retry = any(p.retry_failed for p in self.points)
            outcomes = (run or self._told)(stages, first.cluster, console, retry)
            self.begun = True
            left.store()
        summary.show(outcomes, self.failures, self.command, console, self._labels())
        trial.show(self.points, outcomes, console)
        return worst([o.code for o in outcomes] + [f.code for f in self.failures])

    def _own_workers(self) -> list[str]:
        """What to say of keys of cluster and notify where whoever runs the stages has workers of its own: they are not asked."""
        from launch.config.clusters import without_time

        lines = []
        given = any(w.lstrip("+").startswith("cluster.n_jobs=") for w in self._words)
        if given or any(p.cluster != without_time(p.cluster) for p in self.points):
            lines.append(f"cluster.n_jobs={self.points[0].cluster.n_jobs}: is not asked here: this command starts workers by N_GPUS")
            self.points = [replace(p, cluster=without_time(p.cluster)) for p in self.points]
        if any(p.notify and p.notify.command for p in self.points):
            lines.append("warning: notify.command: this command tells nobody; only synthset run does")
        return lines

    def _told(self, stages: Sequence["PlannedStage"], cluster: "ClusterConfig", console: "Console", retry: bool) -> "list[Outcome]":
        """Run or submit; then tell the user by notify.command, which on Slurm the last gate does."""
        from launch.config.clusters import runner
        from launch.show.notice import news_of, send
        from launch.show.saying import say
        from launch.show.summary import page
        from launch.slurm.last import notice_of

        roots = list(dict.fromkeys(s.dataset_root for s in stages if s.planned))
        report = f"{as_typed('report')} {shlex.quote(str(roots[0] if len(roots) == 1 else roots[0].parent))}" if roots else ""
        notify, on_slurm = self.points[0].notify, cluster.kind == "slurm"
        more = {}
        if on_slurm and notify:
            more["notice"] = notice_of(notify, [s.folder for s in stages], [up for s in stages for up in s.upstream], report)
        outcomes = runner(cluster.kind)(stages, cluster, console, retry, **more)
        over = not on_slurm or (bool(outcomes) and all(o.before for o in outcomes))  # else jobs are in the queue, or the user reads why not
        if notify and notify.command and over:
            bad = next((o for o in outcomes if o.code != EXIT_OK), None)
            facts = {"stage": str(bad.stage.folder), "why": bad.message} if bad else {}
            code = worst([o.code for o in outcomes] + [f.code for f in self.failures])
            send(notify.command, notify.timeout_s, news_of(code, roots, report, page(outcomes), **facts), lambda text: say(console, text))
        return outcomes

    def _labels(self) -> dict["Path", str]:
        """Folder of a stage -> the point of a sweep that it is of, where it is of one alone: what is set otherwise than in other points."""
        words = [point.label.split(" ") for point in self.points]
        common = set(words[0]).intersection(*words[1:]) if words else set()
        labels: dict[Path, set[str]] = {}
        for point, own in zip(self.points, words, strict=True):
            for stage in point.stages:
                labels.setdefault(stage.folder, set()).add(" ".join(w for w in own if w not in common))
        return {folder: next(iter(of_points)) for folder, of_points in labels.items() if len(of_points) == 1}


def workers_a_job(cluster: "ClusterConfig") -> "Callable[[PlannedStage], int]":
    """Workers of one job of a stage: several where a job of Slurm has several GPUs."""
    from launch.config.clusters import SlurmConfig

    def workers(stage: "PlannedStage") -> int:
        from launch.slurm.resources import resources_of

        return resources_of(replace(cluster, n_jobs=1), stage.spec.kind, stage.spec.config).workers

    return workers if isinstance(cluster, SlurmConfig) else lambda stage: 1


def within_limits(points: Sequence["Point"], stages: Sequence["PlannedStage"], console: "Console") -> "Costs | None":
    """Refuse a plan that takes more than one wants to spend; before jobs are queued, say what is known of them. What is known of it."""
    from launch.show.dry_run import workers_of
    from launch.show.estimate import costs
    from launch.show.saying import say

    hours, gb = points[0].max_device_hours, points[0].max_gb
    workers = workers_of(points, stages)
    if hours is None and gb is None and points[0].cluster.kind == "local":
        with contextlib.suppress(InputError, StoreError):  # a stage that cannot be read says so when its turn comes
            return costs(points, stages, workers)
        return None
    known = costs(points, stages, workers)
    known.check(hours, gb)
    if known.estimates:
        for line in known.lines():
            say(console, line)
    elif known.unknown and not (hours is gb is None):
        say(console, f"warning: max_device_hours and max_gb limit nothing yet: {known.lines()[0]}")
    return known


def make_folders(stages: Sequence["PlannedStage"], console: "Console") -> None:
    """plan_only=true: the folders of stages, in which any worker can work, and how one is started. Computes nothing."""
    from launch.show.saying import say
    from synth.store.folder import StageFolder

    for stage in stages:
        folder = StageFolder.create(stage.dataset_root, stage.spec)
        say(console, f"{folder.path}  ({folder.spec.n_units:,} units, {len(folder.missing()):,} of them to do)")
    if stages:
        say(
            console,
            f"nothing was computed; in this order: {as_module('synth.worker')} {shlex.quote(str(stages[0].folder))} --job-idx 0 --n-jobs 1",
        )


def planned_and_run(session: Session, argv: list[str], run: Callable | None = None) -> int:
    """Plan all points of a command line, then run or submit them; the worst exit code."""
    session.check(argv)
    hydra_main(session)
    return session.execute(run)


def main(argv: list[str]) -> int:
    """The exit code: 0, 75 run it again, 65 bad input, 70 a bug; the worst of all points."""
    if {"-h", "--help"} & set(argv):
        from launch.config.usage import asked_group, group_usage, usage

        group = asked_group(argv)
        return tool(lambda: group_usage(group) if group else usage(argv))
    session = Session()
    try:
        return tool(lambda: planned_and_run(session, argv))
    except KeyboardInterrupt:  # while planning: afterwards the clusters catch it themselves
        said = f"stopped at its end; what was begun stays, and is shown by {as_typed('status')}"
        print(said if session.begun else "stopped before anything was begun", file=sys.stderr)
        return EXIT_AGAIN


def hydra_main(session) -> None:
    """Compose every point and hand it to the session, which plans it."""
    import hydra

    from launch.config.compose import CONF, CONFIG_NAME, VERSION_BASE, register

    register(session.config_dir)

    @hydra.main(version_base=VERSION_BASE, config_path=str(CONF), config_name=CONFIG_NAME)
    def task(config) -> None:
        session.plan(config)

    with session.scratch():
        try:
            task()
        except SystemExit as e:  # Hydra has said why; its own code 1 means nothing to a scheduler
            session.hydra_gave_up(e.code)
