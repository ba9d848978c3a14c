"""Pictures in Parquet files: which column holds them, and how one row is read.

A reader of one row has to read its row group, so the groups that were read last are kept: pictures are mostly asked for in order.
"""

import os
import threading
from bisect import bisect_right
from collections import OrderedDict
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import accumulate
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from synth import foreign
from synth.errors import REFUSALS, InputError, not_trouble
from synth.images.sources.base import too_large
from synth.images.sources.image_folder import CAPTION_KEYS

MAX_GROUP = 2 << 30  # bytes of a row group, unpacked; Hugging Face writes 100 pictures
KEPT_BYTES = 256 << 20  # of row groups that are kept, but the last one in any case
KEPT_FILES = 16  # whose footers are kept
WANTED = "wanted: image, a struct of bytes and path, as Hugging Face writes pictures, beside it label, caption or text"
NO_BYTES = "has no bytes in the file, but names a file elsewhere"
IS_NULL = "is null"
SEEN = 16  # pictures at the beginning of a file that tell whether it holds any
TORN_FILE = "is a torn Parquet file, or none at all"
# of torn and hostile files; MemoryError is one of Arrow's too, and none about the file
BROKEN = (pa.ArrowException, OSError, ValueError, KeyError, TypeError, OverflowError)


@dataclass(frozen=True)
class Columns:
    """Which columns hold what; "" for none. names: of the classes, () where labels are the names or have none."""

    image: str
    has_path: bool
    label: str = ""
    names: tuple[str, ...] = ()
    caption: str = ""
    note: str = ""  # why there is no label

    @staticmethod
    def of(schema: pa.Schema, where: str) -> "Columns":
        """InputError for a file without pictures. where: the file, for errors."""
        features = _features(schema, where)
        image = _image_column(schema, features, where)
        label, note = _label_column(schema, features)
        caption = next((k for k in CAPTION_KEYS if k in schema.names and _is_text(schema.field(k).type)), "")
        has_path = any(f.name == "path" and _is_text(f.type) for f in schema.field(image).type)
        names = features.get(label, {}).get("names") if label else None
        if names is not None and not foreign.fits(names, [str]):
            raise InputError(f"{where}: the names of the classes of column {label!r} are {foreign.seen(names)}, expected a list of texts")
        return Columns(image, has_path, label, tuple(names or ()), caption, note)


def _features(schema: pa.Schema, where: str) -> dict[str, dict]:
    """What Hugging Face datasets notes of each column; {} if the file has no such note."""
    if (note := (schema.metadata or {}).get(b"huggingface")) is None:
        return {}
    info = foreign.parse(note, f"{where}: the note of Hugging Face in it", "write it anew by datasets' to_parquet")
    features = info.get("info", {}).get("features") if isinstance(info, dict) and isinstance(info.get("info", {}), dict) else None
    return {k: v for k, v in features.items() if isinstance(v, dict)} if isinstance(features, dict) else {}


def _image_column(schema: pa.Schema, features: dict[str, dict], where: str) -> str:
    holding = [f.name for f in schema if pa.types.is_struct(f.type) and any(c.name == "bytes" and _is_bytes(c.type) for c in f.type)]
    noted = [name for name in holding if features.get(name, {}).get("_type") == "Image"]
    for names in (noted, holding):
        if "image" in names or len(names) == 1:
            return "image" if "image" in names else names[0]
    shown = ", ".join(f"{f.name}: {f.type}" for f in list(schema)[:12])
    why = f"has several columns of pictures ({', '.join(holding)}), none called image" if holding else f"has the columns {shown[:600]}"
    raise InputError(f"{where}: {why}; {WANTED}")


def _label_column(schema: pa.Schema, features: dict[str, dict]) -> tuple[str, str]:
    """(column of the classes or "", why there is none that can be used)"""
    classes = [name for name in schema.names if features.get(name, {}).get("_type") == "ClassLabel"]
    if "label" not in schema.names and len(classes) > 1:
        return "", f"the columns {', '.join(classes)} hold classes, and none is called label: pictures have no class"
    label = "label" if "label" in schema.names else classes[0] if classes else ""
    if not label:
        return "", ""
    kind = schema.field(label).type
    if pa.types.is_integer(kind) or _is_text(kind) or (pa.types.is_dictionary(kind) and _is_text(kind.value_type)):
        return label, ""
    return "", f"the column {label} is of type {kind}, expected numbers or names of classes: pictures have no class"


def _is_bytes(kind: pa.DataType) -> bool:
    return pa.types.is_binary(kind) or pa.types.is_large_binary(kind)


def _is_text(kind: pa.DataType) -> bool:
    return pa.types.is_string(kind) or pa.types.is_large_string(kind)


@contextmanager
def opened(path: Path, key: str) -> Iterator[pq.ParquetFile]:
    """A Parquet file to be listed. InputError for one that is torn or none, also where that shows later; StoreError for trouble."""
    try:
        with foreign.open_file(path) as raw:
            if why := foreign.stand_in(raw.peek(100)):
                raise InputError(f"{key}: {path}: {why}")
            with pq.ParquetFile(raw) as parquet:
                yield parquet
    except MemoryError:
        raise
    except pa.ArrowNotImplementedError as e:
        raise InputError(
            f"{key}: {path}: is packed in a way that this pyarrow does not read ({_first_line(e)}); install a newer one"
        ) from e
    except BROKEN as e:
        not_trouble(path, e, REFUSALS)
        raise InputError(f"{key}: {path}: {TORN_FILE} ({_first_line(e)}); copy or make it again") from e


def judge(parquet: pq.ParquetFile, image: str, where: str) -> None:
    """InputError for row groups that are too large to be read as one, and for a file whose first pictures are not in it.

    Nothing is asked of the metadata of columns: where those are torn, pyarrow ends the process.
    """
    metadata = parquet.metadata
    for number in range(metadata.num_row_groups):
        size = metadata.row_group(number).total_byte_size
        if size > MAX_GROUP:
            why = f"row group {number} has {size:,} bytes, at most {MAX_GROUP:,} are read at once"
            raise InputError(f"{where}: {why}; write it anew with smaller ones (row_group_size=100)")
    if not metadata.num_row_groups:
        return
    first = next(parquet.iter_batches(SEEN, row_groups=[0], columns=[f"{image}.bytes"], use_threads=False), None)
    if first is not None and first.num_rows and all(row is None or row["bytes"] is None for row in first.column(0).to_pylist()):
        raise InputError(f"{where}: column {image!r} {NO_BYTES}; give the folder of those files, or pack them (datasets' push_to_hub does)")


class RowGroups:
    """The row groups that were read last."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._files: OrderedDict[tuple, tuple[str, list[int]]] = OrderedDict()  # -> column of pictures, rows up to each group's end
        self._groups: OrderedDict[tuple, pa.ChunkedArray] = OrderedDict()

    def read(self, path: Path, fd: int, row: int) -> bytes | str:
        """The bytes of the picture of a row, or why there are none. fd: of the file, open."""
        status = os.fstat(fd)
        file = (status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns)
        try:
            with self._lock:
                rows, at = self._rows(file, path, fd, row)
            picture = rows[at]
        except MemoryError:
            raise
        except pa.ArrowNotImplementedError as e:
            raise InputError(f"{path}: is packed in a way that this pyarrow does not read ({_first_line(e)}); install a newer one") from e
        except BROKEN as e:
            not_trouble(path, e, REFUSALS)
            return f"its row group is torn ({_first_line(e)})"
        if not picture.is_valid:
            return IS_NULL
        if (data := picture["bytes"].as_py()) is None:
            return NO_BYTES
        return too_large(len(data)) or data

    def _rows(self, file: tuple, path: Path, fd: int, row: int) -> tuple[pa.ChunkedArray, int]:
        """(pictures of the row group that a row is in, its place there)"""
        if file not in self._files:
            with _parquet(fd) as parquet:
                groups = (parquet.metadata.row_group(n).num_rows for n in range(parquet.metadata.num_row_groups))
                self._files[file] = Columns.of(parquet.schema_arrow, str(path)).image, list(accumulate(groups))
            while len(self._files) > KEPT_FILES:
                self._files.popitem(last=False)
        image, ends = self._files[file]
        number = bisect_right(ends, row)
        if number == len(ends):
            raise InputError(f"{path}: has no row {row}; remove the stage's folder, then plan it again")
        if (file, number) not in self._groups:
            with _parquet(fd) as parquet:
                self._groups[file, number] = _pictures(parquet, number, image, path)
            while len(self._groups) > 1 and sum(g.nbytes for g in self._groups.values()) > KEPT_BYTES:
                self._groups.popitem(last=False)
        self._groups.move_to_end((file, number))
        return self._groups[file, number], row - (ends[number - 1] if number else 0)


def _pictures(parquet: pq.ParquetFile, number: int, image: str, path: Path) -> pa.ChunkedArray:
    """The pictures of a row group. InputError where they need more memory than the file says: equal ones are in it once.

    ArrowInvalid where they are not as many as the footer says, which no checksum covers: rows would be others' or none.
    """
    parts, size = list[pa.Array](), 0
    for batch in parquet.iter_batches(SEEN, row_groups=[number], columns=[f"{image}.bytes"], use_threads=False):
        parts.append(batch.column(0))
        size += parts[-1].nbytes
        if size > MAX_GROUP:
            why = f"row group {number} needs more than {MAX_GROUP:,} bytes of memory"
            raise InputError(f"{path}: {why}; write it anew with smaller ones (row_group_size=100)")
    rows, said = sum(map(len, parts)), parquet.metadata.row_group(number).num_rows
    if rows != said:
        raise pa.ArrowInvalid(f"it has {rows} rows, and the footer says {said}")
    return pa.chunked_array(parts)


@contextmanager
def _parquet(fd: int) -> Iterator[pq.ParquetFile]:
    with os.fdopen(os.dup(fd), "rb") as raw, pq.ParquetFile(raw, page_checksum_verification=True) as parquet:
        yield parquet


def _first_line(error: BaseException) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0][:200]


_GROUPS = RowGroups()
read_row = _GROUPS.read
