"""What judgements say, on a terminal: a table of points, best first, and the line that says which to take."""

import os
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from rich.cells import cell_len
from rich.console import Console
from rich.table import Table
from rich.text import Text

from launch.show.saying import say
from synth.errors import InputError
from synth.store.folder import StageFolder
from synth.terminal import printable

if TYPE_CHECKING:
    from synth.judge.reading import Point

REPORT = "judge_report"  # the kind of stage
SOURCE = "source"  # input of features of pictures that a key names


def show(stages: Sequence[Path], labels: Mapping[Path, str], console: Console) -> None:
    """Of whole stages of kind `judge_report`; labels: what a stage's point is called, where the command has a word for it."""
    if not stages:
        return
    try:
        groups = judged(stages, labels)
    except InputError as e:  # the stages are made; that one cannot be read again ends no command
        say(console, f"judge: {e}")
        return
    for group in groups:
        for line in told(group, console):
            say(console, line)


def judged(stages: Sequence[Path], labels: Mapping[Path, str]) -> "list[list[Point]]":
    """The judgements of stages, in groups that were measured alike. InputError for one that cannot be read."""
    from synth.judge.reading import comparable, read_point

    points = []
    for path in stages:
        folder = StageFolder.open(path)
        point = read_point(folder.out_dir)
        points.append(replace(point, title=labels.get(path) or _source_of(folder)))
    return comparable(points)


def _source_of(report: StageFolder) -> str:
    """What the user called the pictures of somebody's folder: their path, which no stage holds but as a note; "" for pictures of a run."""
    judge = report.upstream("judge")[0]
    path = Path(os.path.normpath(judge.path / judge.spec.upstream["features"][0].path))
    if not (path / "stage.json").is_file():
        return ""
    inputs = StageFolder.open(path).spec.inputs
    return f"judge.source={inputs[SOURCE].path}" if SOURCE in inputs and inputs[SOURCE].path else ""


def told(group: "Sequence[Point]", console: Console) -> list[str]:
    """Print the table of points; the sentences that go with it."""
    from synth.judge.verdict import rows, sentences, verdict

    found = verdict(group)
    lines = rows(found)
    shown = fitting(lines, console.width)
    table = Table(title="judge", title_justify="left")
    for name in shown:
        table.add_column(name, justify="left" if name == "point" else "right", no_wrap=name != "point", overflow="fold")
    for line in lines:
        table.add_row(*(Text(printable(line[name])) for name in shown))
    console.print(table)
    left = [name for name in lines[0] if name not in shown]
    return ([f"no room here for {', '.join(left)}: the page has them, and a wider terminal"] if left else []) + sentences(found)


def fitting(lines: Sequence[Mapping[str, str]], width: int) -> list[str]:
    """The columns that so many characters have room for: the first ones, which say most. The first is always there, and folded.

    >>> fitting([{"point": "steps=20", "accuracy": ".62", "leaks": "3"}], 26)
    ['point', 'accuracy']
    """
    shown: list[str] = []
    room = width - 1
    for name in lines[0]:
        room -= 3 + max(cell_len(printable(text)) for text in (name, *(line[name] for line in lines)))
        if shown and room < 0:
            break
        shown.append(name)
    return shown
