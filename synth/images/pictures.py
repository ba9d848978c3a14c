"""The pictures that an export or a filter reads: those of an images stage, or what a filter left of one or of several.

A filter has the slots of its images, one stage behind the other; a slot that it took out is a tombstone with the reason. So whatever
reads a filter reads pictures by slot, as from an images stage, and never copies them in between.
"""

import bisect
import itertools
from collections import OrderedDict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

from synth.errors import InputError
from synth.kinds import PICTURES, kind_of
from synth.store.folder import StageFolder
from synth.store.framing import Entry
from synth.store.units import Stored, UnitReader

ROLE = "images"
CHUNK = 4096  # slots whose filter is read at once
OPEN = 64  # units that `picked` holds open
GONE = "no picture in the images stage"


@dataclass(frozen=True)
class Picture:
    """One picture, read on demand inside the loop that yielded it. `slot` counts over all stages that are read."""

    slot: int
    key: str
    stored: Stored
    source: int  # which of the images stages

    @property
    def ext(self) -> str:
        return next(e for e in self.stored.exts if e != "json")

    def read(self) -> bytes:
        """The bytes of the picture file."""
        return self.stored.read(self.ext)

    def record(self) -> Mapping:
        return self.stored.json()


def made_of(kind: str) -> bool:
    """Whether the samples of a kind of stage are pictures of classes that it made, and no choice among those of others."""
    return PICTURES in kind_of(kind).makes and not kind_of(kind).chooses


class Pictures:
    """What lies behind an upstream in role "images". Cheap to make; opens units as they are read."""

    def __init__(self, stage: StageFolder):
        self.stage = stage
        self.filters: list[StageFolder] = []  # from the last to the first
        below = [stage]
        while len(below) == 1 and kind_of(below[0].spec.kind).chooses:
            self.filters.append(below[0])
            below = below[0].upstream(ROLE)
        self.sources = tuple(below)
        if any(kind_of(s.spec.kind).chooses for s in self.sources):
            raise InputError(
                f"{self.filters[-1].path}: reads several stages of which one is a filter; give it the images stages themselves"
            )
        self._first = [0, *itertools.accumulate(s.spec.slots for s in self.sources)]

    @property
    def slots(self) -> int:
        return self._first[-1]

    def key(self, source: int, key: str) -> str:
        """A picture's key, unique over all sources: with several of them it tells which."""
        return key if len(self.sources) == 1 else f"{source}-{key}"

    def at(self, slot: int) -> tuple[int, int]:
        """(source, slot in it).

        With stages of 10 and 5 slots: slot 12 is (1, 2).
        """
        source = bisect.bisect_right(self._first, slot) - 1
        return source, slot - self._first[source]

    def unit_of(self, slot: int) -> int:
        """The unit of its images stage that holds a slot."""
        source, own = self.at(slot)
        return self.sources[source].spec.unit_of(own)

    def samples(self, start: int = 0, stop: int | None = None) -> Iterator[Picture]:
        """The pictures of slots [start, stop) that no filter took out, in slot order."""
        stop = self.slots if stop is None else min(stop, self.slots)
        for begin in range(start, stop, CHUNK):
            yield from self._chunk(begin, min(stop, begin + CHUNK))

    def _chunk(self, start: int, stop: int) -> Iterator[Picture]:
        kept = {s.slot for s in self.filters[0].samples(start, stop)} if self.filters else None
        for source, folder in enumerate(self.sources):
            first = self._first[source]
            for stored in folder.samples(max(0, start - first), min(folder.spec.slots, stop - first)):
                if kept is None or first + stored.slot in kept:
                    yield Picture(first + stored.slot, self.key(source, stored.key), stored, source)

    def picked(self, slots: Iterable[int]) -> Iterator[Picture]:
        """The pictures of any slots, in the order given; those that are not there are left out. Units stay open in between."""
        kept = _Open(OPEN)
        try:
            for slot in slots:
                source, own = self.at(slot)
                if self.filters and kept.entry(self.filters[0], slot) is None:
                    continue
                if (found := kept.entry(self.sources[source], own)) is not None:
                    reader, entry, number = found
                    yield Picture(slot, self.key(source, entry.key), Stored(own, entry.key, number, entry, reader), source)
        finally:
            kept.close()

    def reasons(self, start: int, stop: int) -> dict[int, str]:
        """slot -> why it has no picture, for slots [start, stop): a filter's tombstone, or that of the images stage."""
        found: dict[int, str] = {}
        for source, folder in enumerate(self.sources):
            first = self._first[source]
            found |= {first + s: r for s, r in tombstones(folder, max(0, start - first), min(folder.spec.slots, stop - first)).items()}
        for folder in reversed(self.filters):
            found = tombstones(folder, start, stop) | found
        return found


class _Open:
    """The units last read, open, with their entries by slot."""

    def __init__(self, most: int):
        self._most = most
        self._units: OrderedDict[tuple[StageFolder, int], tuple[UnitReader, dict[int, Entry]]] = OrderedDict()

    def entry(self, folder: StageFolder, slot: int) -> tuple[UnitReader, Entry, int] | None:
        """(reader, entry, unit) of a slot, None where it has no sample."""
        number = folder.spec.unit_of(slot)
        key = (folder, number)
        if key not in self._units:
            reader = folder.reader(number)
            self._units[key] = reader, {e.slot: e for e in reader.index.samples}
            if len(self._units) > self._most:
                self._units.popitem(last=False)[1][0].close()
        self._units.move_to_end(key)
        reader, entries = self._units[key]
        return (reader, entries[slot], number) if slot in entries else None

    def close(self) -> None:
        for reader, _ in self._units.values():
            reader.close()
        self._units.clear()


def tombstones(folder: StageFolder, start: int, stop: int) -> dict[int, str]:
    """slot -> reason of the tombstones in slots [start, stop)."""
    found: dict[int, str] = {}
    for number in folder.spec.units_of(start, stop):
        with folder.reader(number) as reader:
            found |= {s: r for s, r in reader.index.tombstones.items() if start <= s < stop}
    return found
