"""One call of run.py: what was asked, what was planned, what became of it."""

import contextlib
import shlex
import sys
import tempfile
import traceback
from collections.abc import Callable, Iterator

from omegaconf import DictConfig

from launch.codes import worst
from launch.planned import Failure, Point
from launch.schema import Config
from synth.errors import EXIT_BAD_INPUT, EXIT_BUG, InputError

WIDE = 160  # columns where there is no terminal to ask: paths in logs stay whole


class Session:
    """check -> plan (once a point, from hydra.main) -> execute."""

    def __init__(self):
        self.points: list[Point] = []
        self.failures: list[Failure] = []
        self.command = ""
        self._multirun = False

    def check(self, argv: list[str]) -> None:
        """Judge the command line; InputError if it is wrong."""
        from launch.check import check

        self.command = shlex.join(["python", sys.argv[0], *argv])
        line = check(argv)
        sys.argv[1:] = line.argv
        self._multirun = line.multirun

    @contextlib.contextmanager
    def scratch(self) -> Iterator[None]:
        """A place for the multirun.yaml that Hydra's sweeper insists on writing; gone afterwards, so no stray multirun/."""
        if not self._multirun:
            yield
            return
        with tempfile.TemporaryDirectory(prefix="synthset-") as folder:
            sys.argv.append(f"hydra.sweep.dir={folder}")
            try:
                yield
            finally:
                sys.argv.pop()

    def plan(self, config: DictConfig) -> None:
        """Plan one point. Whatever is wrong with it is noted, and the sweep goes on."""
        from hydra.core.hydra_config import HydraConfig

        from launch.compose import typed
        from launch.nearest import check_only

        own = HydraConfig.get().overrides.task
        label = " ".join(own) if self._multirun else ""
        try:
            point = self.planned(typed(config), label)
            if point.only:
                check_only(point)
            self.points.append(point)
        except InputError as e:
            self.failures.append(Failure(label, EXIT_BAD_INPUT, str(e)))
        except Exception:  # noqa: BLE001 (a bug in one point must not end the others; it is shown and exits 70)
            self.failures.append(Failure(label, EXIT_BUG, traceback.format_exc()))

    def planned(self, config: Config, label: str) -> Point:
        """One composed config as a point."""
        from launch.plan import plan_point

        return plan_point(config, label, command=self.command)

    def hydra_gave_up(self, code: object) -> None:
        """Hydra printed why and wanted to exit; a code other than 0 counts as bad input."""
        if code:
            self.failures.append(Failure("", EXIT_BAD_INPUT, "the config could not be composed; Hydra's reason is above"))

    def execute(self, run: Callable | None = None) -> int:
        """Run or submit the distinct stages of all points; the worst exit code. `run` takes the place of the cluster's own runner."""
        from rich.console import Console

        from launch import dry_run, summary
        from launch.clusters import runner
        from launch.outputs import check_outputs
        from launch.plan import distinct

        wide = None if sys.stdout.isatty() else WIDE
        console = Console(width=wide)
        outcomes = []
        stages = distinct(self.points)
        check_outputs(stages)
        for note in dict.fromkeys(n for s in stages for n in s.spec.settings.get("notes", ())):
            console.print(note, markup=False, highlight=False, soft_wrap=True)
        if self.points and self.points[0].dry_run:
            dry_run.show(self.points, stages, console)
        elif self.points:
            first = self.points[0]
            if any(p.cluster != first.cluster for p in self.points):
                msg = "cluster: a sweep runs on one cluster with one n_jobs; start one command each"
                raise InputError(msg)
            if len(self.points) > 1:
                console.print(f"{len(self.points)} points, {len(stages)} distinct stages")
            outcomes = (run or runner(first.cluster.kind))(stages, first.cluster, console, any(p.retry_failed for p in self.points))
        summary.show(outcomes, self.failures, self.command, console)
        return worst([o.code for o in outcomes] + [f.code for f in self.failures])
