"""Stage kind `hdf5_parts`: partitions of an HDF5 file, one a unit, written by as many jobs as there are.

A partition lies in `partitions/part_00003_of_00016.h5` of the stage folder; the unit holds the record of each of its pictures and is
committed when its partition is there, whole. Partitions have the same bytes whoever writes them, so two writers do no harm.
"""

from collections.abc import Sequence
from pathlib import Path

from synth.config import Hdf5PartsConfig
from synth.errors import InputError
from synth.export.h5_file import TEMP
from synth.export.h5_layouts import Item, write_keyed, write_packed
from synth.export.hdf5_settings import KEYED, check_settings
from synth.export.names import classes_of
from synth.export.pictures import GONE, Picture, Pictures
from synth.stages import Sample, Stage, Tombstone, Unit
from synth.store.folder import StageFolder
from synth.store.spec import canonical

FOLDER = "partitions"


class Hdf5Parts(Stage):
    config: Hdf5PartsConfig

    def __init__(self, folder):
        super().__init__(folder)
        self.config = folder.config
        self.pictures: Pictures | None = None
        self.classes: dict[int, str] = {}

    def check(self) -> None:
        check_settings(self.config)
        self.pictures = Pictures(self.folder.upstream("images")[0])
        self.classes = classes_of(self.pictures.stage)

    def unit_inputs(self, unit: Unit) -> str:
        return self.folder.spec.fingerprint  # a unit that was linked from another stage would leave this one without its partition

    def compute(self, state, slots: range) -> Sequence[Sample | Tombstone]:
        """Write the partition, then tell its pictures. A batch is a unit."""
        digests = dict(zip((p.slot for p in self._pictures(slots)), self.write(slots), strict=True))
        reasons, found = self.pictures.reasons(slots.start, slots.stop), {}
        for row, picture in enumerate(self._pictures(slots)):
            name, size = self._name(picture), _size(picture)
            facts = {"name": name, "row": row, "bytes": size, "sha256": digests[picture.slot]}
            found[picture.slot] = Sample(picture.slot, picture.key, {"json": canonical({**picture.record(), **facts})})
        return [found.get(s) or Tombstone(s, reasons.get(s, GONE)) for s in slots]

    def encode(self, state, item: Sample | Tombstone) -> Sample | Tombstone:
        return item

    def finish(self) -> None:
        """Remove what workers left that were killed while they wrote."""
        for left in (self.folder.path / FOLDER).glob(f".*{TEMP}"):
            left.unlink(missing_ok=True)

    def write(self, slots: range):
        """Write the partition of these slots; yields the sha256 of each picture's file."""
        path = partition(self.folder, slots.start // self.folder.spec.unit_size)
        if self.config.layout == KEYED:
            return write_keyed(path, lambda: self._items(slots))
        return write_packed(path, lambda: self._items(slots), self.classes, self.config.content, self.config.gzip)

    def _pictures(self, slots: range):
        return self.pictures.samples(slots.start, slots.stop)

    def _items(self, slots: range):
        for picture in self._pictures(slots):
            record = picture.record()
            if record["label"] not in self.classes:
                msg = f"{self.pictures.stage.path}: picture {picture.key} has label {record['label']}, which is not a class of the dataset"
                raise InputError(msg)
            yield Item(self._name(picture), picture.key, _size(picture), picture.read, record["label"], record["caption"])

    def _name(self, picture: Picture) -> str:
        return f"{picture.key}.{picture.ext}"


def _size(picture: Picture) -> int:
    return picture.stored.entry.files[picture.ext][1]


def partition(folder: StageFolder, number: int) -> Path:
    """Where partition `number` of a stage lies."""
    return folder.path / FOLDER / f"part_{number:05d}_of_{folder.spec.n_units:05d}.h5"
