"""What a person sees at the end of a try: where it lies, the command that shows it, and how to get all of it."""

import shlex
from collections.abc import Sequence

from rich.console import Console

from launch.config.program import as_typed
from launch.plan.planned import Outcome, Point
from launch.show.saying import say
from synth.errors import EXIT_OK


def show(points: Sequence[Point], outcomes: Sequence[Outcome], console: Console) -> None:
    """Nothing of a run that is no try, or is only planned."""
    tried = [p for p in points if p.trial is not None and not p.dry_run and p.stages]
    if not tried or any(o.code != EXIT_OK for o in outcomes):
        return
    for root in dict.fromkeys(p.stages[-1].dataset_root for p in tried):
        when = "" if tried[0].cluster.kind != "slurm" else f", when its jobs have ended ({as_typed('status')} {shlex.quote(str(root))})"
        say(console, f"try={tried[0].trial}: all of it lies in {root}; to look at it{when}:")
        say(console, f"  {as_typed('report')} {shlex.quote(str(root))} --out {shlex.quote(str(root / 'report.html'))}")
    say(console, "For the whole run: the same command without try. A try may be deleted at any time.")
