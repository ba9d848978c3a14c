"""What a keyed HDF5 file holds of tracking pairs: every variant under its name, and each original once, as it was.

The original lies in the partition of its variants, before the first of them that could be made; an image of which nothing could be
made is in no file. Its bytes come from where the pairs stage read them, and have to be those that it saw.
"""

import hashlib
from collections.abc import Iterable, Iterator, Mapping
from functools import cached_property, partial

import msgspec

from synth.errors import InputError
from synth.export.hdf5.layouts import Item
from synth.images.pictures import Picture
from synth.store.folder import StageFolder
from synth.tracking.listing import ROLE, AnnotatedListing
from synth.tracking.objects import base_name

LEFT = ("objects", "warp")  # of a record: the annotations export tells the objects


class Row(msgspec.Struct):
    """Of the listing."""

    path: str
    size: int


class PairItems:
    """The strategy of synth.export.hdf5.parts for a stage of pairs. Cheap to make; opens the source when the first original is read."""

    def __init__(self, stage: StageFolder):
        self._stage, self._variants = stage, stage.config.variants
        self._images = AnnotatedListing(stage.path, stage.input(ROLE).identity)
        self._row = msgspec.json.Decoder(Row).decode

    @cached_property
    def _source(self):
        from synth.tracking.sources import open_source

        return open_source(self._stage.input_path("images"))

    def of(self, pictures: Iterable[Picture], slots: range) -> Iterator[tuple[Picture, list[Item]]]:
        """Each picture with what the file holds of it: its original if it is the first one of that, and itself."""
        if slots.start % self._variants:
            raise InputError(
                f"{self._stage.path}: {self._variants} variants an image: slots {slots.start}.. begin within one; plan the export again"
            )
        rows, last = range(slots.start // self._variants, -(-slots.stop // self._variants)), -1
        listed = dict(zip(rows, map(self._row, self._images.lines(rows)), strict=True))
        for picture in pictures:
            record, number, items = picture.record(), picture.slot // self._variants, []
            if number != last:
                row, last = listed[number], number
                name = base_name(record["source"])
                items.append(Item(name, name, row.size, partial(self._original, row, record["source_sha256"])))
            yield (
                picture,
                [*items, Item(record["file_name"], picture.key, picture.stored.entry.files[picture.ext][1], picture.read)],
            )

    def record(self, picture: Picture) -> Mapping:
        return {k: v for k, v in picture.record().items() if k not in LEFT}

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
