"""What the stages of layout labels share: where records and pictures come from, pictures made ready beside the device, and how a slot ends.

A subclass says two things: `prepare`, what a picture becomes for its model, in threads, and `label`, the records of a batch. Slots without
a picture that can be used are tombstones from the first stage on, with the reason of the first.
"""

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field, replace
from typing import Any

from synth.errors import InputError
from synth.images.decode import decode_whole
from synth.images.sources.read import ANOTHER, Picture
from synth.layout.judging import judge
from synth.layout.records import Record
from synth.layout.source import KEY, PUT_BACK, ROLE, PictureSource
from synth.run.ahead import Ahead, coming, forget
from synth.run.empty import mostly
from synth.run.findings import Check
from synth.run.stage import Stage
from synth.store.damage import mending
from synth.store.folder import StageFolder
from synth.store.samples import Sample, Tombstone, Unit
from synth.store.spec import digest
from synth.store.trees import naming

FIRST = 100  # pictures without labels, all because of a model's numbers, after which a worker stops
CAUSE = "the weights are damaged, or overflow in this dtype: try numerics=exact, or fetch the model again"


@dataclass(frozen=True)
class Item:
    """A slot of a batch. record: what is known so far; ready: what `prepare` made of the picture, () of one that
    nothing is to be seen in; reason: why there is neither."""

    slot: int
    record: Record | None = None
    ready: Any = None
    reason: str = ""


@dataclass(frozen=True)
class LayoutState:
    """pictures: of the unit's slots; known: their records, or reasons, of the stage before (the first stage has none); ready: slot -> Item,
    begun some batches ahead."""

    unit: Unit
    pictures: Mapping[int, Picture]
    known: Mapping[int, Record | str]
    ready: dict[int, Future] = field(default_factory=dict)


class LayoutStage(Stage):
    def __init__(self, folder: StageFolder):
        super().__init__(folder)
        self.batch = folder.spec.batch
        self._source: PictureSource | None = None
        self._ahead: Ahead | None = None

    # -- a subclass's own --------------------------------------------------------------------------------------------

    def broken(self) -> Sequence[str]:
        """The reasons of pictures for which a model's numbers are not finite."""
        return ()

    def needs(self, record: Record) -> bool:
        """Whether the model has anything to see in a picture; one that it has not is not read, and comes to `label` without it."""
        return True

    def prepare(self, record: Record, image: Any) -> Any:
        """What the model takes of a picture (PIL, RGB, turned as EXIF asks); in a thread beside the device."""
        return image

    def label(self, items: Sequence[Item]) -> Sequence[Record | str]:
        """The records of a batch's slots that have a picture, one an item, in order; in the place of one the reason why there is none."""
        raise NotImplementedError

    # -- the worker's ------------------------------------------------------------------------------------------------

    @property
    def source(self) -> PictureSource:
        if self._source is None:
            self._source = PictureSource(self.folder)
        return self._source

    def check(self) -> None:
        super().check()
        self.source.check()

    def open(self) -> None:
        super().open()
        self._ahead = Ahead("decode")

    def close(self) -> None:
        super().close()
        if self._ahead is not None:
            self._ahead.close()
            self._ahead = None

    def unit_inputs(self, unit: Unit) -> str:
        """The pictures, as far as the source tells them apart, and the records of the stage before."""
        pictures = [[p.key, p.size, p.mark, p.reason, p.caption] for p in self.source.rows(unit.start, unit.stop)]
        known = [record if isinstance(record, str) else record.to_json() for _, record in self._known(unit)]
        return digest([pictures, known])

    def begin(self, unit: Unit) -> LayoutState:
        pictures = dict(enumerate(self.source.rows(unit.start, unit.stop), unit.start))
        return LayoutState(unit, pictures, dict(self._known(unit)))

    def compute(self, state: LayoutState, slots: range) -> list[Item]:
        assert self._ahead is not None  # `open` made it
        forget(state.ready, slots.start)
        for slot in coming(slots, self.batch):
            if slot < state.unit.stop:
                self._ahead.begin(state.ready, slot, self._item, slot, state)
        items = [state.ready.pop(slot).result() for slot in slots]
        good = [item for item in items if not item.reason]
        records = self.label(good) if good else []
        done = {item.slot: _labelled(item, record) for item, record in zip(good, records, strict=True)}
        return [done.get(item.slot, item) for item in items]

    def encode(self, state: LayoutState, item: Item) -> Sample | Tombstone:
        if item.record is None:
            return Tombstone(item.slot, item.reason)
        return Sample(item.slot, f"{item.slot:09d}", {"json": item.record.to_bytes()})

    def hopeless(self, reasons: Mapping[str, int], whole: bool = False) -> str:
        """No picture gets labels at all, because of a model's numbers: why, and what to do."""
        if not (commonest := mostly(reasons, self.broken(), min(FIRST, self.folder.spec.slots))):
            return ""
        reason, n = commonest
        return f"none of the first {n} pictures could be labelled: {reason}: {CAUSE}"

    def verify(self, check: Check) -> None:
        """Deep: the labels are right by themselves, and of the pictures that the source holds."""
        if check.deep:
            judge(self.folder, replace(check, progress=lambda slots: None), self.source)

    # -- records and pictures ----------------------------------------------------------------------------------------

    def _known(self, unit: Unit) -> Iterator[tuple[int, Record | str]]:
        """(slot, record or the reason why there is none) of the stage before this one; nothing in the chain's first stage."""
        for stage in self.folder.upstream(ROLE):
            yield from records_of(stage, unit.start, unit.stop)

    def _item(self, slot: int, state: LayoutState) -> Item:
        """A slot made ready: its picture read, decoded and prepared. In a thread.

        What is wrong with a picture is a tombstone in the first stage. A later one has the record of what the first could read: InputError,
        or a file that another program is just writing would be left out for ever.
        """
        known = state.known.get(slot)
        if isinstance(known, str):
            return Item(slot, reason=known)
        picture = state.pictures[slot]
        if known is not None and not self.needs(known):
            return Item(slot, known, ())
        data, reason = self.source.read(picture)
        sha256 = hashlib.sha256(data).hexdigest()
        if known is not None and (reason or known.sha256 != sha256):
            raise InputError(f"{KEY}: {picture.path}: {reason or f'{picture.key}: {ANOTHER}'}; {PUT_BACK}")
        if reason:
            return Item(slot, reason=reason)
        with naming(f"{picture.path}: {picture.key}"):
            decoded = decode_whole(data)
        if decoded.pixels is None and known is None:
            return Item(slot, reason=f"{picture.key}: {decoded.reason}")
        record = known or Record(picture.key, decoded.width, decoded.height, picture.caption, sha256=sha256)
        if (record.width, record.height) != (decoded.width, decoded.height):
            here = decoded.reason or f"is {decoded.width} x {decoded.height} pixels here"
            raise InputError(
                f"{picture.path}: {picture.key}: {here}, and {record.width} x {record.height} where the stage before this one read it: "
                "another decoder; use one environment for all stages"
            )
        from PIL import Image

        return Item(slot, record, self.prepare(record, Image.fromarray(decoded.pixels)))


def _labelled(item: Item, record: Record | str) -> Item:
    """An item behind `label`."""
    if isinstance(record, str):
        return Item(item.slot, reason=f"{record} ({item.record.image if item.record else item.slot})")  # what is its own stands in brackets
    return Item(item.slot, record)


def records_of(stage: StageFolder, start: int, stop: int) -> Iterator[tuple[int, Record | str]]:
    """(slot, its record, or the reason why there is none) of a stage of layout labels, in slot order.

    InputError, naming the unit and sample, for what is no record; Damaged for bytes that are not those that were committed.
    """
    for number in stage.spec.units_of(start, stop):
        with stage.reader(number) as reader:
            unit = stage.unit(number)
            for slot in range(max(start, unit.start), min(stop, unit.stop)):
                entry = reader.entries.get(slot)
                if entry is None:
                    yield slot, reader.index.tombstones.get(slot, "not in its unit")
                    continue
                where = f"{reader.path}: sample {entry.key}"
                yield slot, Record.of_bytes(reader.read(entry, "json"), where, mending(reader.path))
