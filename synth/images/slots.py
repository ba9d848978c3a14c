"""Which caption, and which repeat of it, each slot of an images stage is: pure functions of the config and the captions.

Two rules. Per caption: slot = caption * per_caption + replica. Per class (GenCL's): every class has a number of
pictures that is fixed when the stage is planned; its captions are repeated whole, and what remains is drawn by seed.
"""

import re
from array import array
from bisect import bisect_right
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from synth.images.config import ClassCount, ImagesConfig
from synth.keys import WrongKey
from synth.seeds import derive
from synth.store.names import MOST_CLASSES

_SPAN = re.compile(r"(\d+)(?:\.\.(\d+))?")


class Ranges:
    """Numbers written as "0..99,150,200..300" (both ends included), in rising order without repeats; "" holds none."""

    def __init__(self, spans: Sequence[tuple[int, int]]):
        self._spans: list[tuple[int, int]] = []  # (first, last); neighbours joined
        for first, last in sorted(spans):
            if self._spans and first <= self._spans[-1][1] + 1:
                self._spans[-1] = self._spans[-1][0], max(last, self._spans[-1][1])
            else:
                self._spans.append((first, last))
        self._before = [0]  # numbers in all earlier spans
        for first, last in self._spans:
            self._before.append(self._before[-1] + last - first + 1)

    @classmethod
    def parse(cls, text: str, key: str = "subset") -> "Ranges":
        """WrongKey that names the item for anything that is no number or range. key: that gave the text."""
        spans = []
        for item in filter(None, (part.strip() for part in re.split(r"[,\s]+", text))):
            match = _SPAN.fullmatch(item)
            first, last = (int(match[1]), int(match[2] or match[1])) if match else (1, 0)
            if first > last:
                raise WrongKey(key, item, "is no number and no range", "write 17, or 0..99 with both ends included")
            spans.append((first, last))
        return cls(spans)

    @classmethod
    def of(cls, numbers: Sequence[int]) -> "Ranges":
        return cls([(n, n) for n in numbers])

    def __len__(self) -> int:
        return self._before[-1]

    def __getitem__(self, i: int) -> int:
        span = bisect_right(self._before, i) - 1
        return self._spans[span][0] + i - self._before[span]

    def __iter__(self) -> Iterator[int]:
        return (n for first, last in self._spans for n in range(first, last + 1))

    def __contains__(self, n: int) -> bool:
        span = bisect_right(self._spans, (n, float("inf"))) - 1
        return span >= 0 and n <= self._spans[span][1]

    @property
    def last(self) -> int:
        return self._spans[-1][1] if self._spans else -1

    def __str__(self) -> str:
        return ",".join(f"{first}" if first == last else f"{first}..{last}" for first, last in self._spans)


@dataclass(frozen=True)
class Place:
    """What a slot is: a caption row and the number of pictures that the row had before, or why there is none."""

    row: int = -1
    replica: int = 0
    reason: str = ""


class PerCaption:
    """Every caption, or those of `images.subset`, `per_caption` times in a row."""

    def __init__(self, config: ImagesConfig):
        self._n = config.per_caption
        self._subset = Ranges.parse(config.subset) if config.subset else None

    def place(self, slot: int) -> Place:
        number, replica = divmod(slot, self._n)
        return Place(number if self._subset is None else self._subset[number], replica)


class PerClass:
    """A number of pictures a class. Slots go round the classes, so that any first part of them is balanced.

    rows: official index -> (row, seed) of the class's captions in the order of the captions table.
    """

    def __init__(self, counts: Sequence[ClassCount], rows: Mapping[int, Sequence[tuple[int, int]]], seed: int):
        self._counts = {c.index: c.count for c in counts}
        self._rows, self._seed = rows, seed
        self._drawn: dict[int, list[int]] = {}  # class -> its rows in the order in which a remainder takes them
        self._parts: list[tuple[int, int, list[int]]] = []  # (first slot, first round, classes that still want pictures)
        slot = before = 0
        for last in sorted({n for n in self._counts.values() if n}):
            wanting = [index for index, n in sorted(self._counts.items()) if n >= last]
            self._parts.append((slot, before, wanting))
            slot, before = slot + (last - before) * len(wanting), last

    def place(self, slot: int) -> Place:
        first, before, wanting = self._parts[bisect_right(self._parts, slot, key=lambda part: part[0]) - 1]
        rounds, at = divmod(slot - first, len(wanting))
        return self._nth(wanting[at], before + rounds)

    def _nth(self, index: int, k: int) -> Place:
        """Picture k of a class: n <= L captions: the first n; else the whole list n // L times, then n % L drawn by seed."""
        rows, n = self._rows.get(index, ()), self._counts[index]
        if not rows:
            return Place(reason=f"no caption of class {index}")
        whole = len(rows) * max(1, n // len(rows))
        if k < whole:
            return Place(rows[k % len(rows)][0], k // len(rows))
        if index not in self._drawn:
            lots = sorted((derive(self._seed, "images", "remainder", seed), row) for row, seed in rows)
            self._drawn[index] = [row for _, row in lots]
        return Place(self._drawn[index][k - whole], k // len(rows))


class Together:
    """The slots of a table in another order: pictures of one class lie behind each other, so that a unit needs few LoRAs."""

    def __init__(self, table: PerCaption | PerClass, slots: int, labels: Sequence[int]):
        """labels: of every row of the captions table."""
        rows = [table.place(slot).row for slot in range(slots)]
        of_slot = [labels[row] if 0 <= row < len(labels) else MOST_CLASSES for row in rows]  # slots without a caption are last
        self._table, self._order = table, array("q", sorted(range(slots), key=of_slot.__getitem__))

    def place(self, slot: int) -> Place:
        return self._table.place(self._order[slot])


def together(classes: Mapping[int, int | None], batch: int) -> dict[int, list[int]]:
    """slot -> the slots of its call, itself too: at most `batch` of one LoRA. A function of the whole unit, wherever drawing it begins.

    classes: slot -> which LoRA draws it.

    >>> together({0: 3, 1: 5, 2: 3, 3: 3}, 2)
    {0: [0, 2], 1: [1], 2: [0, 2], 3: [3]}
    """
    last: dict[int | None, list[int]] = {}
    calls: dict[int, list[int]] = {}
    for slot, which in classes.items():
        if len(last.get(which, ())) in (0, batch):
            last[which] = []
        last[which].append(slot)
        calls[slot] = last[which]
    return calls


def per_class(config: ImagesConfig, labels: Sequence[int], seeds: Sequence[int]) -> PerClass:
    """The table of a config with counts. labels, seeds: of every row of the captions table, in its order."""
    subset = Ranges.parse(config.subset) if config.subset else None
    rows: dict[int, list[tuple[int, int]]] = {}
    for row, (label, seed) in enumerate(zip(labels, seeds, strict=True)):
        if subset is None or row in subset:
            rows.setdefault(label, []).append((row, seed))
    return PerClass(config.counts, rows, config.seed)
