"""Stage kind `hdf5`: one HDF5 file merged from the partitions of an `hdf5_parts` stage, with card, classes and manifest beside it."""

import contextlib
from collections.abc import Iterator
from functools import cached_property
from pathlib import Path

from synth.errors import InputError
from synth.export.base import Export
from synth.export.config import KEYED, PIXELS, Hdf5Config
from synth.export.hdf5.items import items_of, n_datasets, n_recorded, reader_of
from synth.export.hdf5.merge import merge
from synth.export.hdf5.parts import Hdf5Parts, compare, partition
from synth.export.manifest import ManifestWriter
from synth.export.sources import Sources
from synth.kinds import config_of
from synth.reading.stage import ROLE, StageReader
from synth.run.findings import Check, Findings
from synth.store.damage import Damaged, mending
from synth.store.folder import StageFolder
from synth.store.out_folder import PART
from synth.store.samples import Sample
from synth.store.spec import canonical

NAME = "images.h5"
KEY = "merged"

KEYED_CARD = """- `images.h5`: a dataset a picture, called like its file and holding the file's bytes (uint8), \
as mmcv's hdf5 backend reads them:
  `io.BytesIO(numpy.array(h5py.File("images.h5")["{name}"]))`. Captions and labels are in `manifest.parquet`."""
BYTES_CARD = """- `images.h5`: `images` (uint8, the encoded files back to back; \
picture i is `images[offsets[i]:offsets[i+1]]`), `offsets`, `labels`,
  `captions`, `keys`; class names and their official indices are the attributes `class_names` and `class_indices`."""
PIXELS_CARD = """- `images.h5`: `images` (uint8 N, H, W, 3; a chunk a picture), `labels`, `captions`, `keys`; \
class names and their official indices are
  the attributes `class_names` and `class_indices`."""


class Hdf5(Export):
    config: Hdf5Config

    @cached_property
    def pictures(self) -> StageReader:
        return reader_of(self.folder.upstream(ROLE)[0])

    def lists(self) -> dict[str, bytes]:
        return super().lists() if self.classes else {}

    @property
    def parts(self) -> StageFolder:
        return self.folder.upstream("parts")[0]

    def compute(self, state, slots: range) -> list[dict]:
        """Merge; the file gets its name when it is whole."""
        return [self._merge()]

    def encode(self, state, item: dict) -> Sample:
        return Sample(0, KEY, {"json": canonical(item)})

    def _merge(self) -> dict:
        parts = self.parts
        self._mend(parts)
        paths = [partition(parts, number) for number in range(parts.spec.n_units)]
        if not paths:
            raise InputError(f"{parts.path}: has no partitions: there are no pictures to export")
        for number, partition_path in enumerate(paths):
            self._refuse_damaged(parts, number, partition_path)
        self.out.claim()
        path = Path(self.out.inside.path(NAME))
        facts = merge(paths, path, config_of(parts).layout, folder=Path(self.out.inside.folder(PART)))
        return {**facts, "file_name": NAME, "bytes": path.stat().st_size}

    def _refuse_damaged(self, parts: StageFolder, number: int, path: Path) -> None:
        """Damaged if a partition does not hold what its unit tells: digests of files, labels, captions and keys. Not pixels: of them the
        unit has no digest, and to know them one has to decode every picture once more, as verify --deep does."""
        from synth.export.hdf5.proof import problems

        unit = parts.unit(number)
        by_records = Check(path.parent, True, Findings(str(path), parts.spec.kind, True), alone=True)
        for wrong in problems(path, parts, unit.start, unit.stop, by_records):
            raise Damaged(f"{path}: {wrong}; {mending(parts.unit_path(number))}")

    def _mend(self, parts: StageFolder) -> None:
        """Partitions that vanished are written again, as they were: units say which pictures they hold."""
        missing = [n for n in range(parts.spec.n_units) if not partition(parts, n).exists()]
        if missing:
            with contextlib.closing(Hdf5Parts(parts)) as stage:
                for number in missing:
                    unit = parts.unit(number)
                    for _ in stage.write(range(unit.start, unit.stop)):
                        pass

    def file_of(self, name: str) -> str:
        return NAME

    def records(self, mend: bool = True) -> Iterator[dict]:
        if mend and not self.out.has(NAME, self.facts("bytes")["bytes"]):
            self._merge()
        keyed = config_of(self.parts).layout == KEYED
        for row, stored in enumerate(self.parts.samples()):
            record = stored.json()
            if original := record.get("original"):
                size = {k: record[k] for k in ("width", "height")}
                yield {
                    **original,
                    **size,
                    "slot": stored.slot,
                    "key": original["name"],
                    "file_name": f"{NAME}/{original['name']}",
                }
            yield {
                **record,
                "slot": stored.slot,
                "key": stored.key,
                "file_name": f"{NAME}/{record['name']}" if keyed else f"{NAME}/images/{row}",
            }

    def how_to_read(self) -> str:
        config = config_of(self.parts)
        if own := items_of(self.pictures).how_to_read:
            return own
        if config.layout == KEYED:
            for stored in self.parts.samples():
                return KEYED_CARD.format(name=stored.json()["name"])
            return KEYED_CARD.format(name="KEY.png")
        return PIXELS_CARD if config.content == PIXELS else BYTES_CARD

    def card(self, manifest: ManifestWriter) -> bytes:
        parts = self.parts
        datasets, samples = n_datasets(parts, 0, parts.spec.slots), sum(1 for _ in parts.samples())
        own = items_of(self.pictures).card(self.folder, datasets, samples, manifest.size, self.how_to_read())
        return own or super().card(manifest)

    def verify(self, check: Check) -> None:
        """The merged file is there, of its size, with a row or dataset a picture; deep: of the same bytes (or pixels), labels, captions."""
        from synth.export.hdf5.proof import problems

        self.look_alone(check)
        path, parts = check.out / NAME, self.parts
        if not path.exists() or path.stat().st_size != self.facts("bytes")["bytes"]:
            what = "missing" if not path.exists() else "not of the size that it was written with"
            check.found.add(path, f"{what}; --repair lets the next run of the same command write it again", file=NAME)
            return
        for wrong in problems(path, parts, 0, parts.spec.slots, check):
            check.wrong(NAME, wrong)
        compare(parts, Sources(check, lambda: self.pictures), 0, parts.spec.slots, NAME)
        slots = 0, parts.spec.slots
        self.verify_beside(check, n_recorded(parts, *slots) if check.alone else n_datasets(parts, *slots))
