"""Pictures with their records, as exports take them: the sample of a labels stage whose picture is the one of the source.

A record's pixels are those of the picture as it is shown. Readers of exports do not turn pictures as EXIF asks, so one that is stored
turned is written upright anew, and so is one in a format that few of them know; all others keep their bytes.
"""

import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property

from synth.errors import InputError
from synth.images.decode import decode_whole
from synth.images.encode import encode_image
from synth.layout.records import Record
from synth.layout.source import KEY, PUT_BACK, PictureSource
from synth.reading.sample import StageSample
from synth.reading.stage import StageReader
from synth.store.damage import mending
from synth.store.folder import StageFolder
from synth.store.framing import Entry
from synth.store.trees import naming, open_picture

AS_IT_IS, KNOWN, JPEG = "as it is", "known", "jpeg"  # what becomes of a picture: its bytes; in a format that readers know; always JPEG
FORMATS = {"JPEG": "jpg", "PNG": "png", "WEBP": "webp"}  # that all readers know -> extension
ORIENTATION = 0x0112  # of EXIF
ANOTHER = "is not the picture that was labelled"


@dataclass(frozen=True)
class PictureFile:
    """The file of a picture in an export. sha256: of data; source_sha256: of the source's file, the same unless it was encoded anew."""

    ext: str
    data: bytes
    sha256: str
    source_sha256: str

    @property
    def anew(self) -> bool:
        return self.sha256 != self.source_sha256


def picture_file(data: bytes, record: Record, form: str, where: str) -> PictureFile:
    """What becomes of the file bytes of a picture. InputError if they are not those that the record is of. where: names it."""
    source = hashlib.sha256(data).hexdigest()
    if record.sha256 and source != record.sha256:
        raise InputError(f"{where}: {ANOTHER}; put that back and run the command again, or plan the labels anew")
    if form == AS_IT_IS or (ext := _fits(data, (record.width, record.height), form)):
        return PictureFile("" if form == AS_IT_IS else ext, data, source, source)
    with naming(where):
        decoded = decode_whole(data)
    if decoded.pixels is None or (decoded.width, decoded.height) != (record.width, record.height):
        here, there = f"{decoded.width} x {decoded.height}", f"{record.width} x {record.height}"
        why = decoded.reason or f"has {here} pixels here, {there} where it was labelled"
        raise InputError(f"{where}: {why}; use the environment of the stages that labelled it")
    ext = "jpg" if form == JPEG or data.startswith(b"\xff\xd8") else "png"
    encoded = encode_image(decoded.pixels, ext)
    return PictureFile(ext, encoded, hashlib.sha256(encoded).hexdigest(), source)


def _fits(data: bytes, size: tuple[int, int], form: str) -> str:
    """The extension of a picture that readers show as its record has it, by its header; "" of one that has to be encoded anew."""
    try:
        with open_picture(data) as image:
            upright = image.getexif().get(ORIENTATION, 1) == 1 and image.size == size
            ext = FORMATS.get(image.format or "", "")
    except Exception:  # noqa: BLE001 (Pillow raises whatever a broken file provokes: decoding it tells why)
        return ""
    return ext if upright and (form == KNOWN or ext == "jpg") else ""


class Labelled(StageSample):
    """A record with its picture. Reads what it is asked for, and keeps the picture until `drop`."""

    __slots__ = ("_file", "_labels", "_record")

    def __init__(self, labels: "LabelReader", slot: int, source: int, unit: int, entry: Entry):
        super().__init__(labels, slot, source, unit, entry)
        self._labels = labels
        self._record: Record | None = None
        self._file: PictureFile | None = None

    @property
    def record(self) -> Record:
        """Judged; InputError where it is none."""
        if self._record is None:
            path = self._labels.sources[self.source].unit_path(self.unit)
            self._record = Record.of_bytes(self["json"], f"{path}: sample {self.key}", mending(path))
        return self._record

    @property
    def file(self) -> PictureFile:
        """The file of its picture, as the export wants it."""
        if self._file is None:
            self._file = self._labels.picture_of(self.slot, self.record)
        return self._file

    @property
    def ext(self) -> str:
        return self.file.ext

    @property
    def size(self) -> int:
        return len(self.file.data)

    def hold(self) -> None:
        self.file  # noqa: B018 (read now, in a thread)

    def drop(self) -> None:
        self._file = None

    def digest(self) -> str:
        return self.file.sha256

    def made(self, record: Mapping) -> bool:
        """By the picture in the source: one that was encoded anew need not come out the same elsewhere."""
        return self.file.source_sha256 == record.get("source_sha256")

    def read(self) -> bytes:
        return self.file.data

    @property
    def metadata(self) -> dict:
        """Its record as plain data, and what tells the picture of the source."""
        plain = self.record.to_json()
        return plain | {"sha256": self.file.sha256, "source_sha256": self.file.source_sha256}


class LabelReader(StageReader):
    """The pictures of a stage of layout labels. form: AS_IT_IS, KNOWN or JPEG."""

    def __init__(self, stage: StageFolder, form: str = KNOWN, max_open: int | None = None):
        super().__init__(stage, max_open)
        self.form = form

    @cached_property
    def source(self) -> PictureSource:
        return PictureSource(self.stage)

    @property
    def classes(self) -> dict[int, str]:
        """None: labels are words."""
        return {}

    def gone(self) -> str:
        return self.source.gone()

    def get(self, slot: int) -> Labelled | None:
        source, own = self.at(slot)
        number, unit = self._unit(self.sources[source], own)
        return Labelled(self, slot, source, number, unit.entries[own]) if own in unit.entries else None

    def samples(self, start: int = 0, stop: int | None = None) -> Iterator[Labelled]:
        return (Labelled(self, *found) for found in self._found(start, self.slots if stop is None else stop))

    def picture_of(self, slot: int, record: Record, form: str = "") -> PictureFile:
        """The file of a picture. InputError where the source does not have it any more, or has another one.

        form: another than the reader's.
        """
        picture = self.source.at(slot)
        data, reason = self.source.read(picture)
        if reason:
            raise InputError(f"{KEY}: {reason}; {PUT_BACK}")
        return picture_file(data, record, form or self.form, f"{picture.path}: {picture.key}")
