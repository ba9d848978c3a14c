"""The captions that rounds of feedback draw from, and which of them one draws: those of a class and mode that were drawn least so far."""

import heapq
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

from synth.captions.records import records_of
from synth.captions.table import CaptionRow, rows
from synth.errors import InputError
from synth.judge.allocation import in_turn
from synth.seeds import derive
from synth.store.folder import StageFolder

UNKNOWN = ""  # mode of a caption that tells none

Cell = tuple[int, str]  # official index of a class, mode
Place = tuple[str, int]  # captions stage, slot in it


@dataclass(frozen=True)
class Pool:
    """captions: all of captions.json. of_cell: class and mode -> numbers of its captions, in their order."""

    captions: Sequence[CaptionRow]
    of_cell: Mapping[Cell, Sequence[int]]

    @classmethod
    def of(cls, table: StageFolder) -> "Pool":
        """InputError where there is no caption."""
        captions = rows(table, 0, table.spec.config["total"])
        if not captions:
            raise InputError(f"{table.path}: holds no caption that could be drawn")
        modes = {
            (stage.spec.fingerprint, slot): str(record.get("mode") or UNKNOWN)
            for stage in table.upstream("captions")
            for slot, record in records_of(stage)
            if not isinstance(record, str)
        }
        of_cell: dict[Cell, list[int]] = {}
        for number, caption in enumerate(captions):
            of_cell.setdefault((caption.label, modes.get(place_of(caption), UNKNOWN)), []).append(number)
        return cls(captions, dict(sorted(of_cell.items())))

    @cached_property
    def labels(self) -> list[int]:
        """Official indices of the classes that have captions, in order."""
        return sorted(self.of_class)

    @cached_property
    def modes(self) -> dict[str, int]:
        """mode -> its number, in order."""
        return {mode: number for number, mode in enumerate(sorted({mode for _, mode in self.of_cell}))}

    @cached_property
    def of_class(self) -> Mapping[int, Mapping[str, Sequence[int]]]:
        """class -> mode -> numbers of its captions. There may be ten thousands of classes: none is looked for among all cells."""
        found: dict[int, dict[str, Sequence[int]]] = {}
        for (label, mode), numbers in self.of_cell.items():
            found.setdefault(label, {})[mode] = numbers
        return found

    def modes_of(self, label: int) -> dict[str, int]:
        """mode -> captions of a class."""
        return {mode: len(numbers) for mode, numbers in self.of_class[label].items()}


def place_of(caption: CaptionRow) -> Place:
    """Where a caption comes from, whichever table it stands in."""
    return caption.source, caption.slot


def in_order(pool: Pool, label: int, count: int, before: Mapping[Place, int]) -> dict[str, int]:
    """mode -> how many of the next `count` captions of a class, drawn in the order of all of them, as a run without rounds does."""
    modes = {number: mode for mode, numbers in pool.of_class[label].items() for number in numbers}
    counts = dict.fromkeys(modes.values(), 0)
    for number, _ in _least(pool, modes, count, before):
        counts[modes[number]] += 1
    return counts


def draw(pool: Pool, counts: Mapping[Cell, int], before: Mapping[Place, int]) -> list[tuple[CaptionRow, str]]:
    """(caption, mode) of each picture, going round the classes. before: how often each caption was drawn in earlier rounds.

    Of a class and mode the captions come in order, those that were drawn least first. One that was drawn before has another seed than then;
    a first time it has its own, with which other recipes draw it, too.
    """
    drawn: dict[int, list[tuple[CaptionRow, str]]] = {}
    for (label, mode), count in counts.items():
        drawn.setdefault(label, []).extend((caption, mode) for caption in _of_cell(pool, (label, mode), count, before))
    turns = {label: iter(pictures) for label, pictures in sorted(drawn.items())}
    order = in_turn({label: len(drawn[label]) for label in turns})
    return [(replace(caption, row=row), mode) for row, (caption, mode) in enumerate(next(turns[label]) for label in order)]


def _of_cell(pool: Pool, cell: Cell, count: int, before: Mapping[Place, int]) -> Iterator[CaptionRow]:
    for number, times in _least(pool, pool.of_cell[cell], count, before):
        caption = pool.captions[number]
        yield replace(caption, seed=derive(caption.seed, "feedback", times)) if times else caption


def _least(pool: Pool, numbers: Iterable[int], count: int, before: Mapping[Place, int]) -> Iterator[tuple[int, int]]:
    """(number of a caption, how often it was drawn until then), `count` times: the one that was drawn least, the first of those."""
    least = [(before.get(place_of(pool.captions[number]), 0), number) for number in numbers]
    heapq.heapify(least)
    for _ in range(count):
        times, number = least[0]
        heapq.heapreplace(least, (times + 1, number))
        yield number, times
