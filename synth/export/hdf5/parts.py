"""Stage kind `hdf5_parts`: partitions of an HDF5 file, one a unit, written by as many jobs as there are.

A partition lies in `partitions/part_00003_of_00016.h5` of the stage folder; the unit holds the record of each of its pictures and is
committed when its partition is there, whole. Partitions have the same bytes whoever writes them, so two writers do no harm.

What a picture is called, and what lies beside it, depends on the kind of stage that made it.
"""

from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from functools import cached_property
from pathlib import Path

from synth.export.config import KEYED, Hdf5PartsConfig
from synth.export.hdf5.items import PictureItems, items_of, reader_of
from synth.export.hdf5.layouts import Item, Row, row_of, write_keyed, write_packed
from synth.export.sources import Sources
from synth.reading.sample import StageSample
from synth.reading.stage import GONE, ROLE, StageReader
from synth.run.findings import Check
from synth.run.stage import Stage
from synth.store.files import TEMP
from synth.store.folder import StageFolder
from synth.store.samples import Sample, Tombstone, Unit
from synth.store.spec import canonical

FOLDER = "partitions"


class Hdf5Parts(Stage):
    config: Hdf5PartsConfig

    @cached_property
    def pictures(self) -> StageReader:
        return reader_of(self.folder.upstream(ROLE)[0])

    @cached_property
    def _on_trust(self) -> StageReader:
        return reader_of(self.folder.upstream(ROLE)[0], check=False)

    @cached_property
    def _contents(self) -> PictureItems:
        return items_of(self.pictures)

    def check(self) -> None:
        self._contents  # noqa: B018 (what is wrong with the pictures is said now)

    def unit_inputs(self, unit: Unit) -> str:
        return self.folder.spec.fingerprint  # a unit that was linked from another stage would leave this one without its partition

    def compute(self, state, slots: range) -> Sequence[Sample | Tombstone]:
        """Write the partition, then tell its pictures. A batch is a unit."""
        reasons, samples = self.pictures.reasons(slots.start, slots.stop), {}
        contents, digests = deque[tuple[StageSample, Sequence[Item]]](), []
        for digest in self.write(slots, contents):
            (picture, items), digests = contents[0], [*digests, digest]
            if len(digests) < len(items):
                continue
            contents.popleft()
            *beside, own = ({"name": i.name, "bytes": i.size, "sha256": d} for i, d in zip(items, digests, strict=True))
            facts, digests = {**own, "row": len(samples)}, []
            if beside:
                (facts["original"],) = beside
            samples[picture.slot] = Sample(picture.slot, picture.key, {"json": canonical({**self._contents.record(picture), **facts})})
        return [samples.get(s) or Tombstone(s, reasons.get(s, GONE)) for s in slots]

    def encode(self, state, item: Sample | Tombstone) -> Sample | Tombstone:
        return item

    def finish(self) -> None:
        """Remove what workers left that were killed while they wrote."""
        for left in (self.folder.path / FOLDER).glob(f".*{TEMP}"):
            left.unlink(missing_ok=True)

    def verify(self, check: Check) -> None:
        """The partitions that are there (they may be removed when they are merged) hold the pictures of their units; deep: those units
        tell of the pictures as their stage holds them."""
        from synth.export.hdf5.proof import problems

        quiet = replace(check, progress=lambda slots: None)
        sources = Sources(check, lambda: self.pictures)
        for number in range(self.folder.spec.n_units):
            path, unit = partition(self.folder, number), self.folder.unit(number)
            if path.exists():
                for wrong in problems(path, self.folder, unit.start, unit.stop, quiet):
                    check.found.add(path, f"{wrong}; --repair lets the next run of the same command write it again", unit=number)
            compare(self.folder, sources, unit.start, unit.stop)

    def close(self) -> None:
        if "_contents" in self.__dict__:  # opened
            self._contents.close()

    def write(self, slots: range, contents: deque | None = None) -> Iterator[str]:
        """Write the partition of these slots; yields the sha256 of each picture's file. contents: takes what is being written."""
        path = partition(self.folder, slots.start // self.folder.spec.unit_size)
        items = self._items(self.pictures.ahead(self.pictures.samples(slots.start, slots.stop)), slots, contents)
        if self.config.layout == KEYED:
            return write_keyed(path, lambda: items)
        classes, content = self.pictures.classes, self.config.content
        return write_packed(path, lambda: items, classes, content, self.config.gzip, self._listed(slots))

    def _items(self, pictures: Iterable[StageSample], slots: range, contents: deque | None = None) -> Iterator[Item]:
        for picture, items in self._contents.of(pictures, slots):
            if contents is not None:
                contents.append((picture, items))
            yield from items

    def _listed(self, slots: range) -> list[Row]:
        """What stands in front of the pictures, by their records alone, on trust: write_packed compares it with the checked ones."""
        start, stop = slots.start, slots.stop
        try:
            return [row_of(item) for item in self._items(self._on_trust.samples(start, stop), slots)]
        except Exception:  # noqa: BLE001 (whatever is wrong with a record: a checked one tells whether it is damaged)
            return [row_of(item) for item in self._items(self.pictures.samples(start, stop), slots)]


def partition(folder: StageFolder, number: int) -> Path:
    """Where partition `number` of a stage lies."""
    return folder.path / FOLDER / f"part_{number:05d}_of_{folder.spec.n_units:05d}.h5"


def compare(parts: StageFolder, sources: Sources, start: int, stop: int, merged: str = "") -> None:
    """Compare what units of partitions tell of pictures with the pictures. merged: the file that is checked, if not the partitions."""
    for stored in parts.samples(start, stop) if sources else ():
        record, unit = stored.json(), None if merged else stored.unit
        sources.compare(stored.slot, record, record["name"], parts.unit_path(stored.unit), unit, merged)
