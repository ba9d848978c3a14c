"""What a keyed HDF5 file holds of tracking pairs: every variant under its name, and each original once, as it was.

The original lies in the partition of its variants, before the first of them that could be made; an image of which nothing could be
made is in no file. Its bytes come from where the pairs stage read them, and have to be those that it saw.
"""

import hashlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import cached_property, partial

import msgspec

from synth.errors import InputError
from synth.export.hdf5.layouts import Item
from synth.kinds import config_of
from synth.reading.sample import StageSample
from synth.reading.stage import StageReader
from synth.store.folder import StageFolder
from synth.tracking.cards import pictures_card
from synth.tracking.listing import AnnotatedListing
from synth.tracking.objects import base_name

LEFT = ("objects", "warp")  # of a record: the annotations export tells the objects


class Row(msgspec.Struct):
    """Of the listing."""

    path: str
    size: int


READ = """- `images.h5`: a dataset an image, called like it and holding the bytes of its file (uint8), \
as mmcv's hdf5 backend reads them: originals under
  their names without folders, as they were, \
and variants as `<name>_v<number>.jpg`: `io.BytesIO(numpy.array(h5py.File("images.h5")[name]))`."""


class PairItems:
    """As synth.export.hdf5.items.PictureItems, of a stage of pairs. Cheap to make; opens the source when the first original is read."""

    how_to_read = READ
    keyed_only = "tracking pairs have names that annotations tell, and no label"

    @staticmethod
    def reader(stage: StageFolder, check: bool = True) -> StageReader:
        return StageReader(stage, check=check)

    def __init__(self, pairs: StageReader):
        self._stage = stage = pairs.stage
        self._variants = config_of(stage).variants
        self._images = AnnotatedListing.of(stage)
        self._row = msgspec.json.Decoder(Row).decode

    @cached_property
    def _source(self):
        from synth.tracking.sources import open_source

        return open_source(self._stage.input_path("images"))

    def of(self, pictures: Iterable[StageSample], slots: range) -> Iterator[tuple[StageSample, list[Item]]]:
        """Each picture with what the file holds of it: its original if it is the first one of that, and itself."""
        if slots.start % self._variants:
            raise InputError(
                f"{self._stage.path}: {self._variants} variants an image: slots {slots.start}.. begin within one; plan the export again"
            )
        rows, last = range(slots.start // self._variants, -(-slots.stop // self._variants)), -1
        listed = dict(zip(rows, map(self._row, self._images.lines(rows)), strict=True))
        for picture in pictures:
            record, number, items = picture.metadata, picture.slot // self._variants, []
            if number != last:
                row, last = listed[number], number
                name = base_name(record["source"])
                items.append(Item(name, name, row.size, partial(self._original, row, record["source_sha256"])))
            yield picture, [*items, Item(record["file_name"], picture.key, picture.size, picture.read, digest=picture.digest)]

    def record(self, picture: StageSample) -> Mapping:
        return {k: v for k, v in picture.metadata.items() if k not in LEFT}

    def n_datasets(self, slots: Sequence[int]) -> int:
        """One a sample, and each original once."""
        return len(slots) + len({slot // self._variants for slot in slots})

    def card(self, folder: StageFolder, datasets: int, samples: int, size: int, how_to_read: str) -> bytes:
        return pictures_card(folder, datasets - samples, samples, size, how_to_read)

    def close(self) -> None:
        if "_source" in self.__dict__:  # opened
            self.__dict__.pop("_source").close()

    def _original(self, row: Row, sha256: str) -> bytes:
        """The bytes of an original; InputError if they are gone or not those that its variants were made of."""
        data = self._source.read(row.path, row.size)
        why = data if isinstance(data, str) else "has changed" if hashlib.sha256(data).hexdigest() != sha256 else ""
        if why:
            raise InputError(
                f"{self._stage.input_path('images')}: {row.path}, of which variants were made, {why}; "
                "put the file back as it was and run the command again, or plan the pairs anew"
            )
        return data
