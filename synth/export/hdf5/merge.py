"""Several HDF5 files of pictures become one, without decoding, inflating or encoding anything.

Rows of packed files follow each other in the order of the files: chunks are moved as they are stored, and what lies in one piece is
copied by the kernel. So are the datasets of keyed files, once all of them are made.
"""

import itertools
import math
from array import array
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import h5py
import numpy as np
from h5py import h5a, h5d, h5o, h5p, h5s, h5t

from synth.errors import InputError
from synth.export.config import KEYED, PACKED
from synth.export.hdf5.file import UINT8, NewFile, copy_bytes, new_file, place, plain
from synth.store.hdf5 import Hdf5File, reading

SLAB = 64 << 20  # bytes read at once where chunks cannot be moved as they are
NAMES = 5  # told in a message


def merge(paths: Sequence[Path], out: Path, layout: str = "", attrs: dict | None = None, folder: Path | None = None) -> dict:
    """Write `out` from files in order; {"layout", "datasets" or "rows"}. layout: keyed, packed, or "" to look.

    InputError names torn files, duplicates and files that do not fit together, all before anything is written. `out` appears whole.
    """
    check(paths)
    layout = layout or layout_of(paths)
    merged = _packed if layout == PACKED else _keyed
    plan = _fitting(paths) if layout == PACKED else _unique(paths)
    with new_file(Path(out), folder) as new:
        facts = merged(paths, new, plan, attrs or {})
    return {"layout": layout, **facts}


def check(paths: Sequence[Path]) -> None:
    """InputError that names every file that cannot be opened."""
    bad = []
    for path in paths:
        try:
            Hdf5File(path).close()
        except InputError as e:
            bad.append(str(e))
    if bad or not paths:
        raise InputError("\n".join(bad) or "no HDF5 files to merge")


def layout_of(paths: Sequence[Path]) -> str:
    """packed if every file says so, or holds an array `images`."""

    def packed(path: Path) -> bool:
        with Hdf5File(path) as f:
            says, images = f.attributes().get("layout"), f.dataset("images")
            return (isinstance(says, str) and says == PACKED) or (images is not None and images.rank > 0)

    return PACKED if all(map(packed, paths)) else KEYED


# -- keyed -----------------------------------------------------------------------------------------------------------


def _unique(paths: Sequence[Path]) -> None:
    """InputError if two files hold a dataset of one name. Keeps 8 bytes a name, then looks at those that agree."""
    marks = []
    for path in paths:
        with Hdf5File(path) as f:
            marks.append(np.array([hash(n) for n in f.names()], np.int64))
    values, counts = np.unique(np.concatenate([np.unique(m) for m in marks]), return_counts=True)
    suspects = set(values[counts > 1].tolist())
    first: dict[bytes, Path] = {}
    twice: list[str] = []
    for path in paths if suspects else ():
        with Hdf5File(path) as f:
            for name in f.names():
                if hash(name) in suspects:
                    if name in first:
                        twice.append(f"{name.decode(errors='replace')!r} in {first[name]} and {path}")
                    first.setdefault(name, path)
    if twice:
        more = f"\nand {len(twice) - NAMES} more" if twice[NAMES:] else ""
        raise InputError("names that are there twice:\n" + "\n".join(twice[:NAMES]) + more)


def _keyed(paths: Sequence[Path], new: NewFile, plan: None, attrs: dict) -> dict:
    """Make all datasets, then let the kernel copy what is in them."""
    count, f = 0, new.h5
    f.attrs.update(attrs)
    links = h5p.create(h5p.LINK_CREATE)
    links.set_create_intermediate_group(True)
    properties, pieces = plain(), [Pieces() for _ in paths]
    for path, of_file in zip(paths, pieces, strict=True):
        with Hdf5File(path) as source, reading(path):
            for name, item in source.items():
                if not (isinstance(item, h5d.DatasetID) and _as_bytes(item, name, f.id, properties, links, of_file)):
                    h5o.copy(item, b".", f.id, name, lcpl=links)
                new.check()
                count += 1
    new.close_h5()
    for path, of_file in zip(paths, pieces, strict=True):
        with open(path, "rb", buffering=0) as source:
            for at, to, size in of_file:
                copy_bytes(source.fileno(), at, new.fd, to, size)
    return {"datasets": count}


class Pieces:
    """(offset in a source, offset in ours, bytes) of many datasets; 24 bytes each."""

    def __init__(self):
        self._at, self._to, self._size = array("Q"), array("Q"), array("Q")

    def add(self, at: int, to: int, size: int) -> None:
        self._at.append(at)
        self._to.append(to)
        self._size.append(size)

    def __iter__(self) -> Iterator[tuple[int, int, int]]:
        return zip(self._at, self._to, self._size, strict=True)


def _as_bytes(dataset: h5d.DatasetID, name: bytes, target, properties: h5p.PropDCID, links: h5p.PropLCID, pieces: Pieces) -> bool:
    """Make a dataset uint8 [bytes] for one of these, or for a scalar of fixed-length text (bytes of a picture in NumPy's clothes, which
    lose trailing zeros when read). Its bytes are noted to be copied, or copied where they do not lie in one piece. False for others."""
    tp, rank = dataset.get_type(), dataset.rank
    text = isinstance(tp, h5t.TypeStringID) and not tp.is_variable_str() and rank == 0
    if not text and (rank != 1 or tp != UINT8 or h5a.get_num_attrs(dataset)):
        return False
    size = tp.get_size() if text else dataset.shape[0]
    at = dataset.get_offset()
    if not text and at is None:
        return False
    new = h5d.create(target, name, UINT8, h5s.create_simple((size,)), properties, links)
    if not size:
        return True
    if at is not None and (to := new.get_offset()) is not None:
        pieces.add(at, to, size)
        return True
    data = np.empty((), f"V{size}")
    dataset.read(h5s.ALL, h5s.ALL, data, tp)
    new.write(h5s.ALL, h5s.ALL, np.frombuffer(data.tobytes(), np.uint8))
    return True


# -- packed ----------------------------------------------------------------------------------------------------------


def _fitting(paths: Sequence[Path]) -> dict[str, list[int]]:
    """dataset -> its length in each file; InputError if the files do not hold the same columns."""
    lengths: dict[str, list[int]] = {}
    first: dict[str, tuple] = {}
    for k, path in enumerate(paths):
        with Hdf5File(path) as f, reading(path):
            columns = f.columns()
            rows = {name: d.shape[0] for name, d in columns.items()}
            ragged = "offsets" in rows
            whole = rows.get("labels", rows.get("keys", max(rows.values(), default=0)))
            for name in sorted(set(rows) | set(lengths)):
                if name not in rows or (k and name not in lengths):
                    raise InputError(f"{path}: {'has no' if name not in rows else 'alone has a'} dataset {name!r}, unlike {paths[0]}")
                expected = whole + 1 if name == "offsets" else whole
                if rows[name] != expected and not (ragged and name == "images"):
                    raise InputError(f"{path}: {name!r} has {rows[name]} rows, others {expected}")
                lengths.setdefault(name, []).append(rows[name])
                if rows[name] and not (ragged and name == "images"):
                    shape = (columns[name].shape[1:], columns[name].dtype.str)
                    if first.setdefault(name, shape) != shape:
                        raise InputError(f"{path}: a row of {name!r} is {shape}, in the files before {first[name]}")
            if ragged and (end := int(columns["offsets"][-1])) != rows["images"]:
                raise InputError(f"{path}: its offsets end at {end}, its images at {rows['images']}")
    return lengths


def _packed(paths: Sequence[Path], new: NewFile, lengths: dict[str, list[int]], attrs: dict) -> dict:
    pieces: list[tuple[Path, int, int, int]] = []  # file, offset in it, offset in ours, bytes
    ragged, f = "offsets" in lengths, new.h5
    with Hdf5File(paths[0]) as model, reading(paths[0]):
        f.attrs.update(model.attributes())
    f.attrs.update(attrs)
    columns: dict[str, h5py.Dataset] = {}
    for name, rows in sorted(lengths.items()):
        with Hdf5File(paths[next((k for k, n in enumerate(rows) if n), 0)]) as model:
            total = sum(rows) - (len(rows) - 1 if ragged and name == "offsets" else 0)
            columns[name] = _column(f, name, model.columns()[name], total, own_piece=ragged and name == "images")
    at, shift = dict.fromkeys(columns, 0), 0
    for k, path in enumerate(paths):
        with Hdf5File(path) as source, reading(path):
            theirs = source.columns()
            for name, column in columns.items():
                n, to = lengths[name][k], at[name]
                at[name] += n
                if ragged and name == "offsets":
                    column[to : to + n] = theirs[name][...] + np.uint64(shift)
                    at[name] -= 1  # the next file's first offset is this one's last
                elif not n:
                    continue
                elif piece := _piece(theirs[name], column, to):
                    pieces.append((path, *piece))
                elif not _chunks(theirs[name], column, to, new.check):
                    _slabs(theirs[name], column, to, new.check)
            shift += lengths["images"][k] if ragged else 0
        new.check()
    columns.clear()
    column = None  # an open dataset keeps the file open
    new.close_h5()
    for path, at, to, size in pieces:
        with open(path, "rb", buffering=0) as source:
            copy_bytes(source.fileno(), at, new.fd, to, size)
    return {"rows": (sum(lengths["labels"]) if "labels" in lengths else max(map(sum, lengths.values()), default=0))}


def _column(f: h5py.File, name: str, model: h5py.Dataset, rows: int, own_piece: bool) -> h5py.Dataset:
    """An empty dataset with the type, the chunks and the filters of another one."""
    if own_piece or (model.chunks is None and not model.dtype.hasobject):
        properties = plain()
    else:
        properties = h5p.create(h5p.DATASET_CREATE)  # not the model's own properties: a newer library's have a version that ours refuses
        properties.set_obj_track_times(False)
        if model.chunks is not None:
            properties.set_chunk(model.chunks)
            for code, flags, values in _filters(model):
                properties.set_filter(code, flags, values)
    space = h5s.create_simple((rows, *model.shape[1:]))
    return h5py.Dataset(h5d.create(f.id, name.encode("utf-8", "surrogateescape"), model.id.get_type(), space, properties))


def _piece(source: h5py.Dataset, new: h5py.Dataset, first: int) -> tuple[int, int, int] | None:
    """(offset in the source's file, offset in ours, bytes) of all rows, if they lie in one piece in both."""
    if source.dtype.hasobject or source.id.get_type() != new.id.get_type():
        return None
    at, to = place(source.id), place(new.id)
    if at is None or to is None:
        return None
    row = source.dtype.itemsize * int(np.prod(source.shape[1:], dtype=np.int64))
    return at, to + first * row, row * source.shape[0]


def _chunks(source: h5py.Dataset, new: h5py.Dataset, first: int, check: Callable[[], None]) -> bool:
    """Move chunks as they are stored, filters and checksums included; False where they do not fall on chunks of the new dataset."""
    size = source.chunks
    same = size is not None and size == new.chunks and source.id.get_type() == new.id.get_type() and not source.dtype.hasobject
    if not same or first % size[0] or _filters(source) != _filters(new) or (source.shape[0] % size[0] and first + len(source) != len(new)):
        return False
    corners = math.prod(-(-n // c) for n, c in zip(source.shape, size, strict=True))
    if source.id.get_num_chunks() != corners:  # some were never written, and stand for the fill value
        return False
    for corner in itertools.product(*(range(0, n, c) for n, c in zip(source.shape, size, strict=True))):
        mask, data = source.id.read_direct_chunk(corner)
        new.id.write_direct_chunk((first + corner[0], *corner[1:]), data, mask)
        check()
    return True


def _filters(dataset: h5py.Dataset) -> list[tuple]:
    properties = dataset.id.get_create_plist()
    return [properties.get_filter(i)[:3] for i in range(properties.get_nfilters())]


def _slabs(source: h5py.Dataset, new: h5py.Dataset, first: int, check: Callable[[], None]) -> None:
    row = max(1, source.dtype.itemsize * int(np.prod(source.shape[1:], dtype=np.int64)))
    step = max(1, min(SLAB // row, 65536))
    for at in range(0, len(source), step):
        values = source[at : at + step]
        new[first + at : first + at + len(values)] = values
        check()
