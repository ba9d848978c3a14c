"""What one input is, and what every reader shares."""

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from errno import EISDIR, ELOOP, ENAMETOOLONG, ENOENT, ENOTDIR
from pathlib import Path

from synth import foreign
from synth.errors import InputError
from synth.store.identity import file_identity
from synth.store.trees import Unread

KEY = "img2img.source"
PLAINLY = "img2img.layout=image_folder"  # how its pictures below the folders at the top are asked for
MANIFEST = "manifest.parquet"  # of an export, beside its pictures
STATS = re.compile(r"\d+_stats\.json")  # what img2dataset leaves beside each shard
MAX_BYTES = 1 << 28  # of a picture's file; larger ones are refused unread
MAX_PIXELS = 100_000_000  # of a picture; a file of a few kilobytes can claim any size
GONE = {  # what says something of one file. One that may not be read here may be read elsewhere
    ENOENT: "is not there any more",
    ENOTDIR: "is not there any more",
    EISDIR: "is a folder now",
    ELOOP: "is a link to itself",
    ENAMETOOLONG: "has a name that is too long here",
}
TORN = "is torn"


@dataclass(frozen=True)
class Packed:
    """How a picture lies in a Parquet or HDF5 file, which holds many."""

    file: str  # content identity of the file
    form: str  # ROW: its offset is a row | BYTES: its file | "pixels WxH", "deflated WxH": RGB values of 8 bits, row by row


ROW, BYTES, PIXELS, DEFLATED = "row", "bytes", "pixels", "deflated"
FORM = re.compile(rf"{ROW}|{BYTES}|(?:{PIXELS}|{DEFLATED}) (\d{{1,6}})x(\d{{1,6}})", re.ASCII)


@dataclass(frozen=True)
class Input:
    """One picture of a source, or what should have been one."""

    key: str  # its name in the source, whatever the folder is called: random numbers and metadata hang on it
    path: str  # of its file, below the root of the source; bytes that are no UTF-8 as lone surrogates
    size: int = 0  # bytes; 0 of a row of a Parquet file: nobody knows before it is read
    offset: int = -1  # of its first byte, in a tar or HDF5 file; its row, in a Parquet file; -1: the whole file
    labels: tuple[int, ...] = ()  # class numbers of the reader, the main one first
    caption: str = ""
    reason: str = ""  # why it cannot be used, where that was seen without reading it
    sha256: str = ""  # of its bytes, where they are read when the stage is planned
    to_read: bool = False  # whether they are: where name and size do not tell them from others', or where all are; not stored
    packed: Packed | None = None  # of a picture in a Parquet or HDF5 file

    def to_list(self) -> list:
        """Its line of a listing: without what can be told from the rest."""
        path = "" if self.path == self.key else self.path
        line = [self.key, path, self.size, self.offset, list(self.labels), self.caption, self.reason]
        if self.packed:
            return [*line, self.sha256, self.packed.file, self.packed.form]
        return [*line, self.sha256] if self.sha256 else line

    def place(self, root: Path) -> Path:
        """Its file, of a source that is a folder or one tar."""
        return root if root.is_file() else root / self.path

    @staticmethod
    def from_list(data: list) -> "Input":
        """From its line; InputError where it is none."""
        if type(data) is not list or len(data) not in _LENGTHS or not all(map(foreign.fits, data, _LINE)):
            raise InputError(f"a listing holds {foreign.seen(data)}, no picture of a source; remove the stage's folder, then plan it again")
        key, path, size, offset, labels, caption, reason, *more = data
        packed = Packed(*more[1:]) if more[1:] else None
        return Input(key, path or key, size, offset, tuple(labels), caption, reason, more[0] if more else "", packed=packed)


_PACKED_FORM = foreign.Shape("how a picture is packed", lambda v: type(v) is str and FORM.fullmatch(v) is not None)
_LINE = (str, str, foreign.COUNT, foreign.whole(-1, 1 << 62), [foreign.COUNT], str, str, str, str, _PACKED_FORM)
_LENGTHS = (7, 8, 10)  # with a digest; with what a file of many pictures is and how this one lies in it


@dataclass(frozen=True)
class SourceClass:
    """A class as the source has it. `index`: its label there; None where the source names classes and does not number them."""

    index: int | None
    name: str


class Reader:
    """A listing of one source. `classes`, `unread` and `notes` are complete when the iteration is through; class numbers count the entries
    of `classes`."""

    def __init__(self, root: Path, captions: bool, key: str = KEY):
        """captions: whether the source's own are wanted; key: of the config that names the root, for errors."""
        self.root, self.captions, self.key, self.unread = Path(root), captions, key, Unread()
        self.notes: list[str] = []  # what people should know of how the folder was understood
        self.identify: Callable[[Path], str] = file_identity  # of files that hold many pictures
        self.classes: list[SourceClass] = []
        self._numbers: dict[SourceClass, int] = {}

    def __iter__(self) -> Iterator[Input]:
        raise NotImplementedError

    def plainly(self, what: str, otherwise: str) -> str:
        """What the key that says how a folder is understood does; `otherwise` for a source that has no such key."""
        return f"{PLAINLY} {what}" if self.key == KEY else otherwise

    def number(self, source_class: SourceClass) -> int:
        """The number of a class, which it gets when it is first seen."""
        if source_class not in self._numbers:
            self._numbers[source_class] = len(self.classes)
            self.classes.append(source_class)
        return self._numbers[source_class]


def too_large(size: int) -> str:
    """The reason for a file that is refused unread; "" if its size is fine."""
    if size == 0:
        return "empty file"
    return f"too large: {size} bytes, {MAX_BYTES} at most" if size > MAX_BYTES else ""


def encodable(text: str) -> str:
    """Text without lone surrogates: JSON can hold them, UTF-8 cannot."""
    return text.encode("utf-8", "replace").decode()
