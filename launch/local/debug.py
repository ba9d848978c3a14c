"""cluster=debug: one worker in the calling process, so that a debugger's breakpoints work."""

from collections.abc import Sequence

from rich.console import Console

from launch.config.clusters import ClusterConfig
from launch.local.sequence import run_in_order
from launch.local.stops import Stop
from launch.plan.planned import Outcome, PlannedStage
from launch.show.progress import Bars
from synth.errors import EXIT_AGAIN
from synth.store.folder import StageFolder


def run(stages: Sequence[PlannedStage], cluster: ClusterConfig, console: Console, retry_failed: bool) -> list[Outcome]:
    """All stages, in order, in this process. The worker itself catches ctrl-C and drains."""

    def shift(folder: StageFolder, missing: int, bars: Bars, stop: Stop) -> list[int]:
        from synth import worker  # the worker side: numpy and torch come with it, here on purpose

        code = worker.main([str(folder.path), "--job-idx", "0", "--n-jobs", "1"])
        if code == EXIT_AGAIN:
            stop.name, stop.count = stop.name or "a signal or a full disk", stop.count + 1
        return [code]

    return run_in_order(stages, shift, Stop(), console, retry_failed)
