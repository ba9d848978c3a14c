"""What a person sees at the end: a table of the stages, what the exports made, and the picture to look at as the last line."""

import os
import shlex
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path

from rich.console import Console
from rich.table import Table

from launch.config.program import as_typed
from launch.plan.planned import Failure, Outcome
from launch.plan.state import is_export
from launch.show import judge
from launch.show.asked import asked
from launch.show.saying import say
from launch.show.stages import work_of
from launch.show.took_out import took_out
from synth.errors import EXIT_AGAIN
from synth.kinds import kind_of
from synth.store.folder import StageFolder
from synth.store.framing import shared

NAMED = 3  # reasons of tombstones that are told


def show(
    outcomes: Sequence[Outcome], failures: Sequence[Failure], command: str, console: Console, labels: Mapping[Path, str] | None = None
) -> None:
    """The summary of a run; the last line is the path of the contact sheet or page, or of the last export.

    labels: folder of a stage -> the point of a sweep that it is of, where it is of one alone.
    """
    if outcomes:
        console.print(_table(outcomes))
    for outcome in outcomes:
        if outcome.message:
            say(console, f"{outcome.stage.name}: {outcome.message}" + ("" if outcome.done else f"\n  {outcome.stage.folder}"))
        if outcome.done and not outcome.before:
            if outcome.facts.get("tombstones"):
                say(console, f"{outcome.stage.name}: {_left_out(outcome)}")
            elif kind_of(outcome.stage.spec.kind).group == "filter" and kind_of(outcome.stage.spec.kind).chooses:
                say(console, f"{outcome.stage.name}: took out none of {outcome.stage.spec.slots:,}")
        for line in took_out(outcome.stage.folder, outcome.stage.spec.kind) if outcome.done and not outcome.before else ():
            say(console, f"{outcome.stage.name}: {line}")
        if not outcome.before and outcome.stage.folder.is_dir():
            for line in asked(work_of(outcome.stage.folder)):
                say(console, f"{outcome.stage.name}: {line}")
    if outcomes:
        say(console, f"all of it on one page: {page_command(outcomes)}")
    for failure in failures:
        say(console, f"{failure.label + ': ' if failure.label else ''}{failure.message}")
    if any(o.code == EXIT_AGAIN for o in outcomes):
        say(console, f"What is finished is kept. To go on, run the same command again:\n  {command}")
    if outcomes and not failures and all(o.before for o in outcomes):
        say(console, "Everything was done already.")
    judge.show([o.stage.folder for o in outcomes if o.done and o.stage.spec.kind == judge.REPORT], labels or {}, console)
    for line in made(outcomes):
        say(console, line)


def page_command(outcomes: Sequence[Outcome]) -> str:
    """What writes the page of a run."""
    roots = {str(o.stage.dataset_root) for o in outcomes}
    return f"{as_typed('report')} {shlex.quote(_short(Path(os.path.commonpath(roots))))} --out report.html"


def made(outcomes: Sequence[Outcome]) -> list[str]:
    """A line an export, what is to be looked at last: "image_folder: PATH", ..., "PATH of the PNG or page"."""
    exports = [o for o in outcomes if o.done and is_export(o.stage.spec)]
    look_at = {o.stage.folder: kind_of(o.stage.spec.kind).look_at for o in exports}
    pictures = [p for o in exports if look_at[o.stage.folder] for p in sorted(_place(o).glob(look_at[o.stage.folder]))]
    lines = [f"{o.stage.name}: {_place(o)}" for o in exports if not look_at[o.stage.folder]]
    lines += [str(p) for p in pictures]
    if lines and not pictures:
        lines[-1] = lines[-1].partition(": ")[2]
    return lines


def page(outcomes: Sequence[Outcome]) -> str:
    """The path of what is to be looked at last, "" if nothing was made."""
    return (made(outcomes) or [""])[-1]


def _table(outcomes: Sequence[Outcome]) -> Table:
    table = Table()
    for name in ("stage", "samples", "units", "seconds", "samples/s"):
        table.add_column(name, justify="left" if name == "stage" else "right", no_wrap=True)
    table.add_column("path", overflow="fold")
    for o in outcomes:
        unfinished = "" if o.done else f"{o.made:,} of {o.stage.spec.slots:,}"
        samples = f"{o.facts['samples']:,}" if "samples" in o.facts else unfinished
        rate = f"{o.made / o.seconds:.1f}" if o.seconds and o.made else ""
        seconds = "done before" if o.before else f"{o.seconds:.1f}" if o.seconds else ""
        table.add_row(o.stage.name, samples, f"{o.stage.spec.n_units:,}", seconds, rate, _short(o.stage.folder))
    return table


def _left_out(outcome: Outcome) -> str:
    """How many slots have no sample, with the first reasons."""
    n, folder = outcome.facts["tombstones"], StageFolder.open(outcome.stage.folder)
    reasons: Counter = Counter()
    for number in range(folder.spec.n_units):
        with folder.reader(number) as reader:
            reasons.update(map(shared, reader.index.tombstones.values()))
    named = "; ".join(f"{reason} ({count:,})" if count > 1 else reason for reason, count in reasons.most_common(NAMED))
    return f"{n:,} of {folder.spec.slots:,} slots have no sample: " + named + ("; .." if len(reasons) > NAMED else "")


def _place(outcome: Outcome) -> Path:
    return StageFolder.open(outcome.stage.folder).out_dir


def _short(path: Path) -> str:
    try:
        return str(path.relative_to(Path.cwd()))
    except ValueError:
        return str(path)
