"""COCO's and LVIS's annotation files, read typed and fast: their images and annotations stay bytes until one is looked at.

`read` gives the lists of a file as msgspec.Raw, views of its bytes; `decoded` makes small records of them one at a time, so that a
million polygons never exist as Python floats at once. Whatever is not as it should be is an InputError that names the place.
"""

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, NoReturn, TypeVar

from synth import foreign
from synth.errors import InputError, not_trouble

try:
    import msgspec
    from msgspec import Meta, Raw, Struct
except ImportError as e:
    raise InputError(f"recipe=tracking needs msgspec ({e}): pip install synthset[tracking]") from e

FAR = 1e5  # pixels; a coordinate beyond it is none, and filling such a polygon would take all memory
Coordinate = Annotated[float, Meta(ge=-FAR, le=FAR)]
MAX_ID = (1 << 53) - 1  # larger numbers are others in the hands of readers that know floats alone; new ids count on behind the largest
Id = Annotated[int, Meta(ge=-MAX_ID, le=MAX_ID)]
T = TypeVar("T")

HALF = r"\\u[dD][89a-fA-F]"  # a character that is written as two may be torn in half
BOM = b"\xef\xbb\xbf"
BEGINNINGS = (  # of what is taken for JSON -> what it is, and what to do
    (b"\x1f\x8b", "is compressed by gzip: unpack it (gunzip)"),
    (b"PK\x03\x04", "is a zip archive: unpack it (unzip)"),
    (b"\x89HDF", "is an HDF5 file"),
    ((b"\xff\xfe", b"\xfe\xff"), "is text in UTF-16: save it in UTF-8"),
    *foreign.STAND_INS,
)


class Image(Struct, gc=False):
    id: Id
    width: int
    height: int
    file_name: str | None = None
    coco_url: str | None = None  # LVIS has this in the place of file_name

    @property
    def name(self) -> str:
        """file_name, or the last part of LVIS's coco_url; "" if there is neither."""
        return self.file_name if self.file_name is not None else (self.coco_url or "").rpartition("/")[2]


class Rle(Struct, gc=False):
    size: tuple[int, int]  # height, width
    counts: str | list[int]


class Annotation(Struct, gc=False):
    id: Id
    image_id: Id
    category_id: Id
    bbox: tuple[Coordinate, Coordinate, Coordinate, Coordinate]  # x, y, width, height
    area: float
    iscrowd: int | bool | None = 0  # tools write all three
    segmentation: list[list[Coordinate]] | Rle | None = None


class Category(Struct, gc=False):
    id: Id
    name: str
    frequency: str = ""  # of LVIS: f, c or r
    synset: str = ""


class Caption(Struct, gc=False):
    image_id: Id
    caption: str


class _Of(Struct, gc=False):
    """Whose an annotation is, where the rest of it cannot be read."""

    id: int | None = None
    image_id: int | None = None


class _File(Struct):
    images: list[Raw]
    annotations: list[Raw]
    categories: list[Raw]


class _Captions(Struct):
    annotations: list[Raw]


@dataclass(frozen=True)
class CocoFile:
    """The lists of an annotation file."""

    path: Path
    images: list[Raw]
    annotations: list[Raw]
    categories: list[Raw]
    data: bytes = field(repr=False)

    def rest(self) -> dict[str, Raw]:
        """What the file holds beside the three lists."""
        return {k: v for k, v in msgspec.json.decode(self.data, type=dict[str, Raw]).items() if k not in _File.__struct_fields__}


def read(path: Path, key: str = "dataset.annotations") -> CocoFile:
    """The file that `key` names. InputError for one that cannot be read, is torn, or lacks one of the lists."""
    lists, data = _parsed(path, key, _File, "a COCO or LVIS file with the lists images, annotations and categories")
    return CocoFile(path, lists.images, lists.annotations, lists.categories, data)


def captions_of(path: Path, key: str = "dataset.captions") -> Iterator[tuple[int, str]]:
    """(image id, caption) in the order of a COCO captions file, without the white space around; empty ones too."""
    file, _ = _parsed(path, key, _Captions, "a COCO captions file with the list annotations of {image_id, caption}")
    for caption in decoded(path, "annotations", file.annotations, Caption, f"mend it; {key} must be a COCO captions file"):
        yield caption.image_id, caption.caption.strip()


def decoded(path: Path, name: str, rows: Sequence[Raw], kind: type[T], fix: str = "mend it") -> Iterator[T]:
    """The rows of a list as records; the first that cannot be read is an InputError naming its place, its id and the fix."""
    decode = decoder(kind)
    for i, row in enumerate(rows):
        try:
            value = decode(row)
        except UNREADABLE as e:
            raise InputError(f"{path}: {named(name, i, row)}: {why(e, f'$.{name}[{i}]')}; {fix}") from e
        yield value


def decoder(kind: type[T]) -> Callable[[Raw], T]:
    """One decoder for many calls; it raises what `UNREADABLE` holds."""
    return msgspec.json.Decoder(kind).decode


UNREADABLE = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)


def named(name: str, number: int, row: Raw) -> str:
    """An entry of a list in words: "annotations[12] (id 77 of image 5)"."""
    try:
        ids = msgspec.json.decode(row, type=_Of)
    except UNREADABLE:
        return f"{name}[{number}]"
    of = f" of image {ids.image_id}" if ids.image_id is not None else ""
    return f"{name}[{number}] (id {ids.id}{of})" if ids.id is not None else f"{name}[{number}]"


def why(error: Exception, place: str) -> str:
    """What msgspec says, with the whole path inside the file in the place of its own."""
    if isinstance(error, UnicodeDecodeError):
        return f"holds bytes that are no UTF-8 (at {place})"
    if isinstance(error, RecursionError):
        return f"is nested too deeply (at {place})"
    text = str(error)
    if "at `$" in text:
        return text.replace("at `$", f"at `{place}")
    if not isinstance(error, msgspec.ValidationError):
        text = f"holds text that is not Unicode, or is torn ({text})"
    return f"{text} - at `{place}`"


def with_values(row: Raw | bytes, **values) -> bytes:
    """The JSON object `row` with some values set; all others stay as they are, byte by byte."""
    fields = msgspec.json.decode(row, type=dict[str, Raw])
    return msgspec.json.encode({**fields, **values})


def with_name(row: Raw | bytes, image: Image) -> bytes:
    """An image's JSON with a file_name: LVIS writes coco_url instead."""
    return bytes(row) if image.file_name is not None else with_values(row, file_name=image.name)


def on_one_line(row: Raw | bytes) -> bytes:
    """JSON without line breaks: outside of strings they mean nothing, inside there are none."""
    data = bytes(row)
    return data.translate(None, b"\r\n") if b"\n" in data or b"\r" in data else data


def _parsed(path: Path, key: str, kind: type[T], what: str) -> tuple[T, bytes]:
    try:
        data = foreign.read(path, foreign.TABLE).removeprefix(BOM)
    except OSError as e:
        not_trouble(path, e)
        raise InputError(f"{key}: {path} cannot be read ({e.strerror})") from e
    try:
        return msgspec.json.decode(data, type=kind), data
    except msgspec.ValidationError as e:
        raise InputError(f"{key}: {path} is not {what}: {e}") from e
    except UNREADABLE as e:
        _malformed(path, key, data, e, what)


def _malformed(path: Path, key: str, data: bytes, error: Exception, what: str) -> NoReturn:
    """Say where a file is torn, with what stands there: `NaN` and a half download look alike in msgspec's words."""
    at = re.search(r"byte (\d+)", str(error))
    start = data[:100].lstrip()
    if not start and not data.strip():
        problem = "is empty"
    elif known := next((what for begins, what in BEGINNINGS if start.startswith(begins)), ""):
        problem = known
    elif isinstance(error, RecursionError):
        problem = "is nested too deeply"
    elif at is None and re.search(HALF, data[-20:].decode("latin-1")):
        problem = f"holds half of a character in {data[-20:].decode('utf-8', 'replace')!r}, at its end: a lone surrogate is no text"
    elif at is None:
        problem = f"ends in the middle ({len(data):,} bytes): copy or fetch it again"
    else:
        place = int(at[1])
        near = data[max(0, place - 40) : place + 20].decode("utf-8", "replace")
        problem = f"is not JSON in UTF-8 at byte {place:,}: {' '.join(near.split())!r}"
        if re.search(r"NaN|Infinity", near):
            problem += " (NaN and Infinity are no JSON: whoever wrote the file must leave such annotations out)"
        elif re.search(HALF, near):
            problem += " (half of a character, a lone surrogate, is no text)"
    raise InputError(f"{key}: {path} {problem}; it must be {what}") from error
