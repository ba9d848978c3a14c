"""Several HDF5 files of pictures become one, without decoding, inflating or encoding anything.

Rows of packed files follow each other in the order of the files: chunks are moved as they are stored, and what lies in one piece is
copied by the kernel. So are the datasets of keyed files, once all of them are made. What the files hold beside: synth.export.hdf5.beside.
"""

import os
from array import array
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from h5py import h5a, h5d, h5g, h5p, h5s, h5t

from synth.errors import InputError, StoreError
from synth.export.config import KEYED, PACKED
from synth.export.hdf5 import beside
from synth.export.hdf5.beside import Agreed, LeftOut
from synth.export.hdf5.copying import chunks_moved, copy_item, properties_like, slabs_copied, with_groups
from synth.export.hdf5.file import UINT8, NewFile, copy_bytes, new_file, plain
from synth.store.hdf5 import Hdf5File, Refused, place, reading

NAMES = 5  # told in a message


def merge(
    paths: Sequence[Path], out: Path, layout: str = "", attrs: dict | None = None, folder: Path | None = None, leave: LeftOut | None = None
) -> dict:
    """Write `out` from files in order; {"layout", "datasets" or "rows"}. layout: keyed, packed, or "" to look. attrs: more of the file.

    InputError names torn files, duplicates and files that do not fit together, before anything is written, and what lies in other files
    or refers to something, before `out` appears. StoreError if a file changes meanwhile. `out` appears whole.
    """
    check(paths)
    before = _states(paths)
    leave = leave or LeftOut()
    layout = layout or layout_of(paths, leave)
    merged = _packed if layout == PACKED else _keyed
    plan = _fitting(paths, leave) if layout == PACKED else _unique(paths, leave)
    with new_file(Path(out), folder) as new:
        facts = merged(paths, new, plan, attrs or {}, leave)
        leave.check()
        if changed := [str(p) for p, a, b in zip(paths, before, _states(paths), strict=True) if a != b]:
            raise StoreError(f"{changed[0]}: changed while it was merged; run the same command again when nobody writes it any more")
    return {"layout": layout, **facts}


def _states(paths: Sequence[Path]) -> list[tuple[int, int, int]]:
    """Inode, size and time of files, by which a file that changes is known."""
    return [(s.st_ino, s.st_size, s.st_mtime_ns) for s in map(os.stat, paths)]


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


def layout_of(paths: Sequence[Path], leave: LeftOut) -> str:
    """packed if every file says so, or holds an array `images`."""

    def packed(path: Path) -> bool:
        with Hdf5File(path) as f:
            says, images = f.attributes().get("layout"), None if leave(b"images") else f.dataset("images")
            return (isinstance(says, str) and says == PACKED) or (images is not None and images.rank > 0)

    return PACKED if all(map(packed, paths)) else KEYED


# -- keyed -----------------------------------------------------------------------------------------------------------


def _unique(paths: Sequence[Path], leave: LeftOut) -> None:
    """InputError if two files hold a dataset of one name, or say different things of a group. Keeps 8 bytes a name, then looks at those
    that agree."""
    marks, agreed, groups = [], Agreed(), dict[bytes, Path]()
    for path in paths:
        with Hdf5File(path, skip=leave) as f, reading(path):
            for name, group in f.groups():
                groups.setdefault(name, path)
                agreed.attributes(path, group, name, leave)
    for path in paths:
        with Hdf5File(path, skip=leave) as f:
            names = list(f.names())
        if odd := next((n for n in names if n in groups), None):
            raise InputError(f"{odd.decode(errors='replace')!r} is a group in {groups[odd]} and none in {path}; rename one of them")
        marks.append(np.array([hash(n) for n in names], np.int64))
    values, counts = np.unique(np.concatenate([np.unique(m) for m in marks]), return_counts=True)
    suspects = set(values[counts > 1].tolist())
    first: dict[bytes, Path] = {}
    twice: list[str] = []
    for path in paths if suspects else ():
        with Hdf5File(path, skip=leave) as f:
            for name in f.names():
                if hash(name) in suspects:
                    if name in first:
                        twice.append(f"{name.decode(errors='replace')!r} in {first[name]} and {path}")
                    first.setdefault(name, path)
    if twice:
        more = f"\nand {len(twice) - NAMES} more" if twice[NAMES:] else ""
        raise InputError("names that are there twice:\n" + "\n".join(twice[:NAMES]) + more)


def _keyed(paths: Sequence[Path], new: NewFile, plan: None, attrs: dict, leave: LeftOut) -> dict:
    """Make all datasets, then let the kernel copy what is in them."""
    count, f = 0, new.h5
    links = with_groups()
    properties, pieces, made = plain(), [Pieces() for _ in paths], set[bytes]()
    for path, of_file in zip(paths, pieces, strict=True):
        with Hdf5File(path, skip=leave) as source, reading(path):
            _groups(source, f, leave, links, made)
            for name, item in source.items():
                if not (isinstance(item, h5d.DatasetID) and _as_bytes(item, name, f.id, properties, links, of_file)):
                    copy_item(path, item, name, f.id, leave, new.check)
                new.check()
                count += 1
    f.attrs.update(attrs)
    new.close_h5()
    for path, of_file in zip(paths, pieces, strict=True):
        with open(path, "rb", buffering=0) as source:
            for at, to, size in of_file:
                copy_bytes(source.fileno(), at, new.fd, to, size)
    return {"datasets": count}


def _groups(source: Hdf5File, target: h5py.File, leave: LeftOut, links: h5p.PropLCID, made: set[bytes]) -> None:
    """Make the groups of a file, empty ones too, with their attributes. Those in `made` are there, and say the same."""
    for name, group in source.groups():
        if name not in made:
            made.add(name)
            new = h5g.create(target.id, name, links) if name else h5g.open(target.id, b"/")
            beside.copy_attributes(source.path, group, new, name, leave)


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
    """Make an empty twin of a picture's dataset, uint8 [bytes] or one text of fixed length (bytes in NumPy's clothes), and note its bytes,
    to be copied. False for others, those with attributes, and those that do not lie in one piece."""
    tp, rank = dataset.get_type(), dataset.rank
    text = isinstance(tp, h5t.TypeStringID) and not tp.is_variable_str() and rank == 0
    if (not text and (rank != 1 or tp != UINT8)) or h5a.get_num_attrs(dataset):
        return False
    space = dataset.get_space()
    if space.get_simple_extent_type() == h5s.NULL or (at := dataset.get_offset()) is None or place(dataset) is None:
        return False
    size = tp.get_size() * space.get_simple_extent_npoints()
    new = h5d.create(target, name, tp, h5s.create_simple(dataset.shape) if rank else h5s.create(h5s.SCALAR), properties, links)
    if size and (to := new.get_offset()) is not None:
        pieces.add(at, to, size)
    return True


# -- packed ----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Columns:
    """lengths: column -> its rows in each file; beside: names of what the first file holds beside, the same in all."""

    lengths: dict[str, list[int]]
    beside: list[bytes]


def _fitting(paths: Sequence[Path], leave: LeftOut) -> Columns:
    """InputError if the files do not hold the same columns, or differ in what they hold beside."""
    lengths: dict[str, list[int]] = {}
    first: dict[str, tuple] = {}
    agreed, there = Agreed(), list[bytes]()
    for k, path in enumerate(paths):
        with Hdf5File(path, skip=leave) as f, reading(path):
            here = _look_beside(f, agreed, leave)
            there = there if k else here
            if odd := sorted(set(here) ^ set(there)):
                name, (has, lacks) = beside.told(odd[0]), (path, paths[0]) if odd[0] in here else (paths[0], path)
                raise InputError(f"{name!r} is in {has} and not in {lacks}; mend one of them, {beside.LEAVE_OUT} '{name}'")
            columns = f.columns()
            rows = {name: d.shape[0] for name, d in columns.items()}
            ragged = "offsets" in rows
            whole = rows.get("labels", rows.get("keys", max(rows.values(), default=0)))
            for name in sorted(set(rows) | set(lengths)):
                if name not in rows or (k and name not in lengths):
                    raise InputError(f"{path}: {'has no' if name not in rows else 'alone has a'} dataset {name!r}, unlike {paths[0]}")
                expected = whole + 1 if name == "offsets" else whole
                if rows[name] != expected and not (ragged and name == "images"):
                    raise InputError(f"{path}: {name!r} has {rows[name]} rows, others {expected}; {beside.LEAVE_OUT[3:]} '{name}'")
                lengths.setdefault(name, []).append(rows[name])
                if rows[name] and not (ragged and name == "images"):
                    _same_rows(path, columns[name], name, first)
            if ragged:
                _proper_offsets(path, columns["offsets"], rows.get("images", -1), sum(lengths.get("images", [])))
    return Columns(lengths, there)


def _look_beside(f: Hdf5File, agreed: Agreed, leave: LeftOut) -> list[bytes]:
    """Hold all but the rows of the columns against what other files say; the names of what is neither a column nor left out."""
    names = []
    for name, group in f.groups():
        agreed.attributes(f.path, group, name, leave)
        names += [name] if name else []
    for name, item in f.items():
        if _is_column(name, item):
            if beside.refers(item.get_type()):
                raise Refused(f.path, name, beside.refusal(name))
            agreed.attributes(f.path, item, name, leave)
        else:
            agreed.item(f.path, item, name, leave)
            names.append(name)
    return names


def _is_column(name: bytes, item: Any) -> bool:
    return b"/" not in name and isinstance(item, h5d.DatasetID) and item.rank > 0


def _same_rows(path: Path, column: h5py.Dataset, name: str, first: dict[str, tuple]) -> None:
    """InputError unless a row has the shape and the type, names of values and characters too, that it has in the files before."""
    tp = beside.own_type(column.id.get_type())
    shape, before = first.setdefault(name, (column.shape[1:], tp))
    if column.shape[1:] != shape:
        raise InputError(f"{path}: a row of {name!r} has the shape {column.shape[1:]}, in the files before {shape}")
    if tp != before:
        what = f"is {tp.dtype.str}" if tp.dtype.str != before.dtype.str else "has other names of values, or other characters,"
        raise InputError(f"{path}: a row of {name!r} {what}, in the files before {before.dtype.str}; write all of them with one type")


def _proper_offsets(path: Path, offsets: h5py.Dataset, size: int, total: int) -> None:
    """InputError unless they lead from 0 to the end of the images, and their type reaches the end of those of all files."""
    if offsets.dtype.kind not in "iu" or total > np.iinfo(offsets.dtype).max:
        raise InputError(f"{path}: its offsets are {offsets.dtype}, which does not reach {total:,} bytes; write them as uint64")
    values = offsets[...]
    if int(values[-1]) != size:
        raise InputError(f"{path}: its offsets end at {int(values[-1])}, its images at {size}")
    if int(values[0]) or (values[1:] < values[:-1]).any():
        raise InputError(f"{path}: its offsets begin at {int(values[0])} or go back; they must lead from 0 to the end of the images")


def _packed(paths: Sequence[Path], new: NewFile, plan: Columns, attrs: dict, leave: LeftOut) -> dict:
    pieces: list[tuple[Path, int, int, int]] = []  # file, offset in it, offset in ours, bytes
    lengths, f = plan.lengths, new.h5
    ragged = "offsets" in lengths
    with Hdf5File(paths[0]) as model, reading(paths[0]):
        beside.copy_attributes(model.path, model.root, f.id, b"", leave)
    f.attrs.update(attrs)
    columns: dict[str, h5py.Dataset] = {}
    for name, rows in sorted(lengths.items()):
        with Hdf5File(paths[next((k for k, n in enumerate(rows) if n), 0)], skip=leave) as model:
            total = sum(rows) - (len(rows) - 1 if ragged and name == "offsets" else 0)
            theirs = model.columns()[name]
            columns[name] = _column(f, name, theirs, total, own_piece=ragged and name == "images")
            beside.copy_attributes(model.path, theirs.id, columns[name].id, name.encode("utf-8", "surrogateescape"), leave)
    at, shift = dict.fromkeys(columns, 0), 0
    for k, path in enumerate(paths):
        with Hdf5File(path, skip=leave) as source, reading(path):
            theirs = source.columns()
            for name, column in columns.items():
                n, to = lengths[name][k], at[name]
                at[name] += n
                if ragged and name == "offsets":
                    column[to : to + n] = theirs[name][...] + column.dtype.type(shift)
                    at[name] -= 1  # the next file's first offset is this one's last
                elif not n:
                    continue
                elif piece := _piece(theirs[name], column, to):
                    pieces.append((path, *piece))
                elif not chunks_moved(theirs[name], column, to, new.check):
                    slabs_copied(theirs[name], column, to, new.check)
            shift += lengths["images"][k] if ragged else 0
        new.check()
    _carried(paths[0], new, plan.beside, leave)
    columns.clear()
    theirs = column = None  # an open dataset keeps the file open
    new.close_h5()
    for path, at, to, size in pieces:
        with open(path, "rb", buffering=0) as source:
            copy_bytes(source.fileno(), at, new.fd, to, size)
    return {"rows": (sum(lengths["labels"]) if "labels" in lengths else max(map(sum, lengths.values()), default=0))}


def _carried(path: Path, new: NewFile, names: list[bytes], leave: LeftOut) -> None:
    """Copy what the files hold beside their columns from the first of them."""
    wanted = set(names)
    with Hdf5File(path, skip=leave) as source, reading(path):
        _groups(source, new.h5, leave, with_groups(), {b""})
        for name, item in source.items():
            if name in wanted:
                copy_item(path, item, name, new.h5.id, leave, new.check)


def _column(f: h5py.File, name: str, model: h5py.Dataset, rows: int, own_piece: bool) -> h5py.Dataset:
    """An empty dataset with the type, the chunks and the filters of another one, that can be made longer if that can."""
    properties = plain() if own_piece else properties_like(model)
    grows = model.chunks is not None and model.maxshape != model.shape
    space = h5s.create_simple((rows, *model.shape[1:]), (h5s.UNLIMITED, *model.shape[1:]) if grows else None)
    where = name.encode("utf-8", "surrogateescape")
    return h5py.Dataset(h5d.create(f.id, where, beside.rebuilt(model.id.get_type()), space, properties))


def _piece(source: h5py.Dataset, new: h5py.Dataset, first: int) -> tuple[int, int, int] | None:
    """(offset in the source's file, offset in ours, bytes) of all rows, if they lie in one piece in both."""
    if source.dtype.hasobject or source.id.get_type() != new.id.get_type():
        return None
    at, to = place(source.id), place(new.id)
    if at is None or to is None:
        return None
    row = source.dtype.itemsize * int(np.prod(source.shape[1:], dtype=np.int64))
    return at, to + first * row, row * source.shape[0]
