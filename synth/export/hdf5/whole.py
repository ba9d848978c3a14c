"""Stage kind `hdf5`: one HDF5 file merged from the partitions of an `hdf5_parts` stage, with card, classes and manifest beside it."""

import contextlib
from collections.abc import Iterator
from pathlib import Path

from synth.errors import InputError
from synth.export.base import Export
from synth.export.config import KEYED, PIXELS, Hdf5Config
from synth.export.hdf5.items import items_of, n_datasets
from synth.export.hdf5.merge import merge
from synth.export.hdf5.parts import Hdf5Parts, partition
from synth.export.manifest import ManifestWriter
from synth.kinds import config_of
from synth.run.findings import Check
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

    @property
    def parts(self) -> StageFolder:
        return self.folder.upstream("parts")[0]

    def compute(self, state, slots: range) -> list[dict]:
        """Merge; the file gets its name when it is whole."""
        return [self._merge()]

    def encode(self, state, item: dict) -> Sample:
        return Sample(0, KEY, {"json": canonical(item)})

    def _merge(self) -> dict:
        parts, path = self.parts, Path(self.out.inside.path(NAME))
        self._mend(parts)
        paths = [partition(parts, number) for number in range(parts.spec.n_units)]
        if not paths:
            raise InputError(f"{parts.path}: has no partitions: there are no pictures to export")
        self.out.claim()
        facts = merge(paths, path, config_of(parts).layout, folder=Path(self.out.inside.folder(PART)))
        return {**facts, "file_name": NAME, "bytes": path.stat().st_size}

    def _mend(self, parts: StageFolder) -> None:
        """Partitions that vanished are written again, as they were: units say which pictures they hold."""
        missing = [n for n in range(parts.spec.n_units) if not partition(parts, n).exists()]
        if missing:
            with contextlib.closing(Hdf5Parts(parts)) as stage:
                for number in missing:
                    unit = parts.unit(number)
                    for _ in stage.write(range(unit.start, unit.stop)):
                        pass

    def records(self, mend: bool = True) -> Iterator[dict]:
        if mend and not self.out.has(NAME, self.facts()["bytes"]):
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

        path, parts = check.out / NAME, self.parts
        if not path.exists() or path.stat().st_size != self.facts()["bytes"]:
            what = "missing" if not path.exists() else "not of the size that it was written with"
            check.found.add(path, f"{what}; --repair lets the next run of the same command write it again", file=NAME)
            return
        for wrong in problems(path, parts, 0, parts.spec.slots, check.deep, check.progress):
            check.wrong(NAME, wrong)
        self.verify_beside(check, n_datasets(parts, 0, parts.spec.slots))
