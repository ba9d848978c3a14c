"""What exports of layout labels have in common: whose pictures, no classes, a card, and a look at the labels themselves.

manifest.parquet  a row a picture (synth.export.manifest): where it is, its caption, size and digest
README.md         the dataset card
"""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import ClassVar

from synth.export.base import Export
from synth.export.manifest import ManifestWriter
from synth.export.sources import Sources
from synth.layout.exports.card import Counts, labels_card, reasons_of
from synth.layout.exports.config import LabelFilesConfig
from synth.layout.exports.reading import AS_IT_IS, KNOWN, Labelled, LabelReader
from synth.layout.judging import judge
from synth.layout.records import Record
from synth.reading.stage import GONE, ROLE
from synth.run.findings import Check
from synth.run.place import Files
from synth.store.files import storing
from synth.store.folder import StageFolder
from synth.store.samples import Sample, Tombstone, Unit
from synth.store.spec import canonical

TOLD = ("file_name", "bytes", "sha256", "files")  # of each picture, by the stage's own units
EDITED = "was edited or torn since it was written"
Chunks = Callable[[], Iterable[bytes]]  # the bytes of a file, made anew at each call


class OfLabels(Export):
    """An export whose upstream is a stage of layout labels."""

    form: ClassVar[str] = KNOWN  # what becomes of pictures: see synth.layout.exports.reading

    @cached_property
    def pictures(self) -> LabelReader:
        return LabelReader(self.folder.upstream(ROLE)[0], self.form)

    @property
    def classes(self) -> dict[int, str]:
        return {}

    def lists(self) -> dict[str, bytes]:
        return {}

    def look_alone(self, check: Check) -> None:
        """There is nothing that an export of labels holds in the place of its stage."""

    def written(self, records: Iterable[dict]) -> Iterator[dict]:
        """The same, counted."""
        counts = self.__dict__["counts"] = Counts()
        yield from super().written(_counted(records, counts, self.folder))

    @cached_property
    def counts(self) -> Counts:
        """Of all labels: as they were written, or by the units."""
        counts = Counts()
        for _ in _counted(self.records(mend=False), counts, self.folder):
            pass
        return counts

    def card(self, manifest: ManifestWriter) -> bytes:
        self.counts.left_out = reasons_of(self.folder)
        return labels_card(self.folder, self.counts, manifest.size, self.how_to_read(), self.front_matter())


class LabelFiles(OfLabels):
    """An export of files a picture, in its units' order, and of files of all pictures. Kinds say what: `files_of`, `whole`."""

    config: LabelFilesConfig

    @cached_property
    def pictures(self) -> LabelReader:
        return LabelReader(self.folder.upstream(ROLE)[0], self.form if self.config.pictures == "copy" else AS_IT_IS)

    def files_of(self, item: Labelled) -> tuple[str, dict[str, bytes]]:
        """(where the picture is: its file here, else its name in the source; name -> bytes of what is written of it)."""
        raise NotImplementedError

    def whole(self) -> dict[str, Chunks]:
        """The files that are of all pictures, by name."""
        return {}

    def begin(self, unit: Unit) -> dict[int, str]:
        """slot -> reason, for the slots that have no labels."""
        return self.pictures.reasons(unit.start, unit.stop)

    def compute(self, state: dict[int, str], slots: range) -> list[Labelled | Tombstone]:
        items = {item.slot: item for item in self.pictures.samples(slots.start, slots.stop)}
        return [items.get(s) or Tombstone(s, state.get(s, GONE)) for s in slots]

    def encode(self, state, item: Labelled | Tombstone) -> Sample | Tombstone:
        if isinstance(item, Tombstone):
            return item
        name, data = self.files_of(item)
        files: Files = {}
        for file in data:
            self.keep(files, file, data[file])
        facts = {"file_name": name, "bytes": item.size, "sha256": item.digest(), "files": files}
        return Sample(item.slot, item.key, {"json": canonical(item.metadata | facts)})

    # -- when the stage is whole -------------------------------------------------------------------------------------

    def records(self, mend: bool = True) -> Iterator[dict]:
        for stored in self.folder.samples():
            record = {**stored.json(*TOLD), "slot": stored.slot, "key": stored.key}
            if mend and not all(self.out.has(name, size) for name, (size, _) in record["files"].items()):
                self.encode(None, self.pictures[stored.slot])
            yield record

    def written(self, records: Iterable[dict]) -> Iterator[dict]:
        """Mend what is missing; behind the last one, what is of all pictures."""
        yield from super().written(records)
        for name, chunks in self.whole().items():
            temp = self.out.part(name)
            with storing(self.out.path), open(temp, "xb") as f:
                f.writelines(chunks())
            self.out.place(temp, name)

    def told(self) -> Iterator[tuple[Record, dict]]:
        """(record, facts of its files) of each picture, in slot order."""
        for record in self.records(mend=False):
            yield typed(record, self.folder), record

    # -- whether it is still as it was -------------------------------------------------------------------------------

    def verify(self, check: Check) -> None:
        """Every file is there, of its size (deep: byte by byte), and what is of all pictures is what the units say. The labels are right by
        themselves; deep: they and the pictures are those of the stage that they were made of."""
        sources = Sources(check, lambda: self.pictures)
        for stored, record in check.records(self.folder, *TOLD):
            for name, (size, sha256) in record["files"].items():
                check.file(name, size, sha256, EDITED)
            path, first = self.folder.unit_path(stored.unit), next(iter(record["files"]), "")
            sources.compare(stored.slot, record, record["file_name"], path, stored.unit, first)
            check.progress(1)
        if check.deep:
            judge(self.folder, replace(check, progress=lambda slots: None))
        for name, chunks in () if check.found.bad_units() else self.whole().items():
            if check.status(name) and not _holds(check.out / name, chunks):
                check.wrong(name, EDITED)
        self.verify_beside(check, self.n_samples())


def typed(record: dict, folder: StageFolder) -> Record:
    """The labels of an export's record of a picture, judged."""
    return Record.of_json(record, f"{folder.path}: sample {record['key']}")


def _counted(records: Iterable[dict], counts: Counts, folder: StageFolder) -> Iterator[dict]:
    for record in records:
        counts.add(typed(record, folder), record["sha256"] != record.get("source_sha256"))
        yield record


def _holds(path: Path, chunks: Chunks) -> bool:
    """Whether a file holds these bytes and no others."""
    with open(path, "rb") as f:
        return all(f.read(len(chunk)) == chunk for chunk in chunks()) and not f.read(1)
