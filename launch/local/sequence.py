"""Stages one after the other on this machine, upstreams first, each until it is done. Truth is on disk.

How workers run is the caller's: `Shift` starts them on a stage and returns their exit codes when all have left.
"""

import json
import time
from collections.abc import Callable, Sequence

from rich.console import Console

from launch.local.stops import Stop
from launch.plan.planned import Outcome, PlannedStage
from launch.plan.state import forget_done, state_of
from launch.show.progress import Bars
from synth.errors import EXIT_AGAIN, EXIT_BAD_INPUT, EXIT_BUG, EXIT_OK, InputError, StoreError, worst
from synth.store.events import read_events
from synth.store.folder import StageFolder

Shift = Callable[[StageFolder, int, Bars, Stop], list[int]]  # (stage, units missing, bars, stop) -> exit codes
WATCH = 2.0  # seconds between two looks at a stage that only others work on


def run_in_order(stages: Sequence[PlannedStage], shift: Shift, stop: Stop, console: Console, retry_failed: bool = False) -> list[Outcome]:
    """The outcome of each stage. A stage whose upstream failed is not begun; a drain ends all."""
    outcomes: list[Outcome] = []
    failed: dict = {}
    with Bars(console) as bars:
        for stage in stages:
            broken = next((failed[up] for up in stage.upstream if up in failed), None)
            if broken is not None:
                outcome = Outcome(stage, broken, message="not begun: a stage that it reads failed")
            else:
                outcome = _run_one(stage, shift, stop, bars, retry_failed)
            outcomes.append(outcome)
            if outcome.code != EXIT_OK:
                failed[stage.folder] = outcome.code
            if stop.drain or outcome.code == EXIT_AGAIN:
                break
    return outcomes


def _run_one(stage: PlannedStage, shift: Shift, stop: Stop, bars: Bars, retry_failed: bool) -> Outcome:
    try:
        state = state_of(stage)
        if state.done:
            return Outcome(stage, EXIT_OK, done=True, before=True, facts=StageFolder.open(stage.folder).done())
        folder = StageFolder.create(stage.dataset_root, stage.spec)
        if state.gone:
            forget_done(folder)
        if retry_failed:
            folder.retry_set_aside()
        return _complete(stage, folder, shift, stop, bars)
    except InputError as e:
        return Outcome(stage, EXIT_BAD_INPUT, message=str(e))
    except (StoreError, OSError) as e:
        return Outcome(stage, EXIT_AGAIN, message=str(e))


def _complete(stage: PlannedStage, folder: StageFolder, shift: Shift, stop: Stop, bars: Bars) -> Outcome:
    """Shift after shift, until the stage is done, failed or drained. Others may work on it too, and may be the last."""
    begun, first = time.monotonic(), folder.progress()
    bars.begin(stage.name, folder.spec.slots, first, f"{len(folder.missing())} units in {folder.path}")
    code = EXIT_OK
    while not stop.drain:
        code = worst(shift(folder, len(folder.missing()), bars, stop))
        if folder.is_done() or code != EXIT_OK:
            break
        _watch(folder, bars, stop)  # all of ours left content, so the rest is in the hands of others
    done = folder.is_done()
    if stop.drain and not done:
        code = EXIT_AGAIN
    reached = folder.spec.slots if done else folder.progress()
    bars.end(reached)
    return Outcome(
        stage,
        EXIT_OK if done else code or EXIT_BUG,
        done=done,
        seconds=time.monotonic() - begun,
        made=max(0, reached - first),
        message="" if done else _why(folder, code, stop),
        facts=folder.done(),
    )


def _watch(folder: StageFolder, bars: Bars, stop: Stop) -> None:
    """Look on for a moment: somebody else's worker may finish, or die and leave a unit to be taken by the next shift."""
    end = time.monotonic() + WATCH
    while time.monotonic() < end and not stop.drain and not folder.is_done():
        bars.at(folder.progress())
        time.sleep(0.2)


def _why(folder: StageFolder, code: int, stop: Stop) -> str:
    if stop.drain:
        return f"drained on {stop.name}"
    aside = folder.set_aside()
    if aside:
        error = ""
        reports = folder.failures().get(aside[0], [])
        if reports:
            try:
                error = f": {json.loads(reports[-1].read_bytes())['error']}"
            except (OSError, ValueError, KeyError):
                error = ""
        more = f" and {len(aside) - 1} more" if aside[1:] else ""
        where = folder.path / "failed"
        return f"unit {aside[0]}{more} failed three times{error}; see {where}; retry_failed=true tries again"
    said = [e for e in read_events(folder.path) if e["event"] == "stop" and e.get("code") == code and e.get("why")]
    if said:
        return max(said, key=lambda e: e.get("time", 0))["why"]
    return {EXIT_AGAIN: "stopped before it was whole", EXIT_BAD_INPUT: "bad input"}.get(code, "a worker ended by an error")
