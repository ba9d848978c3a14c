"""One sample of a stage that is read, and the error of a slot that has none."""

import hashlib
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from synth.errors import InputError
from synth.store.damage import mending
from synth.store.framing import Entry
from synth.store.records import record_of
from synth.store.trees import Undecodable, decoded, is_picture
from synth.store.units import Files

if TYPE_CHECKING:
    from PIL.Image import Image

    from synth.reading.stage import StageReader


class NoSample(KeyError):
    """A slot without a sample: a tombstone. `reason` says why."""

    def __init__(self, message: str, slot: int = -1, reason: str = ""):
        super().__init__(message, slot, reason)
        self.slot, self.reason = slot, reason

    def __str__(self) -> str:
        return self.args[0]


class StageSample:
    """One sample of a stage. Holds no bytes and no open file: reads what it is asked for, at any time, in any process."""

    __slots__ = ("_digest", "_entry", "_files", "_metadata", "_stage", "slot", "source", "unit")

    def __init__(self, stage: "StageReader", slot: int, source: int, unit: int, entry: Entry):
        self._stage, self._entry = stage, entry
        self._metadata: dict | None = None
        self._files: Files | None = None  # while it is held, with the digest of its picture: see StageReader.ahead
        self._digest = ""
        self.slot = slot  # counted over all stages that are read
        self.source = source  # which of them
        self.unit = unit  # of that stage

    def __repr__(self) -> str:
        return f"<sample {self.key} ({', '.join(self.exts)}) in slot {self.slot} of {self._stage.stage.path.name}>"

    @property
    def key(self) -> str:
        """Its name, unique over all that is read: where several stages are, their number goes first."""
        return self._entry.key if len(self._stage.sources) == 1 else f"{self.source}-{self._entry.key}"

    @property
    def exts(self) -> tuple[str, ...]:
        """The extensions of its files."""
        return tuple(sorted(self._entry.files))

    @property
    def ext(self) -> str:
        """The extension of its picture; InputError if it has none but metadata, or one that no picture has: files are called by it."""
        for ext in self.exts:
            if ext == "json":
                continue
            if not is_picture(f".{ext}"):
                raise InputError(f"{self._where()}: has .{ext} for a picture; move the unit away, then run the command that made it again")
            return ext
        raise InputError(f"{self._where()}: holds no picture, only json")

    @property
    def size(self) -> int:
        """Bytes of its picture file."""
        return self._entry.files[self.ext][1]

    @property
    def sha256(self) -> str:
        """Digest of the bytes of all its files."""
        return self._entry.sha256

    def __getitem__(self, ext: str) -> bytes:
        """The bytes of its file of this extension, as they were stored."""
        if ext not in self._entry.files:
            raise KeyError(f"sample {self.key} has no {ext!r}; it has {', '.join(self.exts)}")
        return self._stage.read(self.source, self.unit, self._entry, ext) if self._files is None else self._files[ext]

    def hold(self) -> None:
        """Read all of its files, and the digest of its picture, and keep them until `drop`."""
        self._files = self._stage.files(self.source, self.unit, self._entry)
        self._digest = self.digest()

    def drop(self) -> None:
        self._files, self._digest = None, ""

    def digest(self) -> str:
        """sha256 of its picture file as it was committed: what `read` gives, or nothing."""
        if known := self._digest or self._entry.digest_of(self.ext):
            return known
        files = self._files or self._stage.files(self.source, self.unit, self._entry)
        return files.digests.get(self.ext) or hashlib.sha256(files[self.ext]).hexdigest()

    def made(self, record: Mapping) -> bool:
        """Whether the file that an export's record tells of was made of this picture."""
        return self.digest() == record["sha256"]

    def read(self) -> bytes:
        """The bytes of its picture file."""
        return self[self.ext]

    @property
    def metadata(self) -> dict:
        """Its json: caption, class, label, seeds, settings; {} if it has none. Read once."""
        if self._metadata is None:
            where, path = self._where(), self._stage.sources[self.source].unit_path(self.unit)
            self._metadata = record_of(self["json"], where, mending(path)) if "json" in self._entry.files else {}
        return self._metadata

    def fact(self, name: str) -> Any:
        """What its metadata says of a name; InputError if it says nothing."""
        if self.metadata.get(name) is None:
            raise InputError(f"{self._where()}: its json does not say {name!r}; give a stage of pictures of classes")
        return self.metadata[name]

    @property
    def label(self) -> int | None:
        """Official index of its class; None where samples of this kind have no class."""
        return self.metadata.get("label")

    @property
    def class_name(self) -> str | None:
        return self.metadata.get("class")

    def image(self) -> "Image":
        """Its picture, decoded, in RGB; InputError if it cannot be."""
        data = self.read()
        try:
            return decoded(data, "RGB")
        except Undecodable as e:
            raise InputError(f"{self._where()}: its {self.ext} does not decode ({e.why})") from e

    def _where(self) -> str:
        return f"{self._stage.sources[self.source].unit_path(self.unit)}: sample {self._entry.key}"
