"""Whose pictures a stage of features or of perceptual hashes reads: slot k is picture k of the stage in role "images", of what a filter
left of it, or of the listing of input "source"."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Protocol

from synth.errors import InputError
from synth.images.sources.listing import NAME, Listing
from synth.images.sources.pictures import Pictures
from synth.images.sources.read import CHANGED, ListedSource
from synth.reading.stage import GONE, ROLE, StageReader
from synth.store.folder import StageFolder
from synth.store.names import classes_of
from synth.store.trees import naming

SOURCE = "source"  # input: a folder, or a tar, whose listing lies in the stage's folder
KEY = "key"  # in the stage's settings: which of the config names it
ROWS = 1024  # of a listing that are looked at together
UNLABELLED = -1  # label of pictures without a class
KEPT = ("label", "class", "file")  # what features and hashes say of a picture's record


@dataclass(frozen=True)
class Found:
    """A picture's file, or the reason why there is none."""

    slot: int
    key: str = ""  # of its sample
    data: bytes = b""
    record: Mapping = field(default_factory=dict)  # label and class, where it has one; caption; file: its name in a listed source
    reason: str = ""

    @property
    def name(self) -> str:
        """What people call it."""
        return self.record.get("file") or self.key

    @property
    def facts(self) -> dict:
        """Of its record what is stored with what is computed of it."""
        return {k: self.record[k] for k in KEPT if k in self.record}


class Source(Protocol):
    """Threads may share one."""

    classes: Mapping[int, str]  # official index -> name; {} where pictures have no classes
    slots: int

    def check(self) -> None:
        """StoreError if pictures are not there at all; InputError if they are no longer those that were planned."""

    def found(self, slot: int) -> Found: ...

    def labelled(self) -> Iterator[tuple[int, str, int]]:
        """(slot, what it is called, official index of its class) of the pictures that have a class and may be used. Reads no picture."""


def source_of(folder: StageFolder, pictures: int | None = None) -> Source:
    """The pictures of a stage's slots. pictures: how many a listing has, where the stage's slots do not tell."""
    return StagePictures(folder) if ROLE in folder.spec.upstream else ListedPictures(folder, pictures)


class StagePictures:
    """Of a stage of pictures, or of those that a filter left."""

    def __init__(self, folder: StageFolder):
        self._reader = StageReader(folder.upstream(ROLE)[0])
        self.slots = self._reader.slots
        self.classes = self._reader.classes

    def check(self) -> None:
        """Its units are asked for as they are read: gates see to it that the stage is whole."""

    def found(self, slot: int) -> Found:
        for picture in self._reader.samples(slot, slot + 1):
            return Found(slot, picture.key, picture.read(), picture.metadata)
        return Found(slot, reason=self._reader.reasons(slot, slot + 1).get(slot, GONE))

    def labelled(self) -> Iterator[tuple[int, str, int]]:
        return labelled_in(self._reader)


def labelled_in(reader: StageReader) -> Iterator[tuple[int, str, int]]:
    """As Source.labelled, of a stage of pictures or of what a filter left."""
    return ((s.slot, s.key, label) for s in reader.samples() if type(label := s.metadata.get("label")) is int)


class ListedPictures:
    """Of a folder or tars, as the listing in the stage's folder has them."""

    def __init__(self, folder: StageFolder, pictures: int | None = None):
        config = folder.spec.config
        self.slots = folder.spec.slots - config.get("texts", 0) if pictures is None else pictures
        self.classes = classes_of(folder)
        key = folder.spec.settings.get(KEY, SOURCE)
        listing = Listing(folder.path / NAME, folder.input(SOURCE).identity)
        names = self.classes or {UNLABELLED: ""}
        source = ListedSource(folder.input_path(SOURCE), listing, config.get("source_classes", ()), names, key)
        self._pictures, self._key = Pictures(source, self.slots, key), key

    def check(self) -> None:
        self._pictures.check()

    def found(self, slot: int) -> Found:
        picture = self._pictures.at(slot)
        data, reason = self._pictures.read(picture)
        why = reason.removeprefix(f"{picture.key}: ")
        if why in CHANGED and not picture.reason:  # to leave it out would let pass what is like it
            raise InputError(
                f"{self._key}: {picture.path}: {picture.key}: {why}; put it back, or run the command again to plan it as it is"
            )
        if reason:
            return Found(slot, reason=f"{why} ({picture.key})")  # what is its own stands in brackets
        record: dict = {"file": picture.key}
        if picture.labels[0] != UNLABELLED:
            record |= {"label": picture.labels[0], "class": picture.names[0]}
        if picture.caption:
            record["caption"] = picture.caption
        return Found(slot, f"{slot:09d}", data, record)

    def labelled(self) -> Iterator[tuple[int, str, int]]:
        for start in range(0, self.slots, ROWS):
            for picture in self._pictures.rows(start, min(self.slots, start + ROWS)):
                if not picture.reason and picture.labels[0] != UNLABELLED:
                    yield picture.number, picture.key, picture.labels[0]


def decoded(item: Found):
    """PIL image of a picture as it is shown, or the reason why it cannot be read."""
    from PIL import Image

    with naming(item.name):
        from synth.images.decode import decode_whole  # numpy: planning needs none

        picture = decode_whole(item.data)
    if picture.reason:
        return f"{picture.reason} ({item.name})" if "file" in item.record else picture.reason
    return Image.fromarray(picture.pixels)
