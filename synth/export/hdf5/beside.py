"""What HDF5 files hold beside the bytes of their pictures: attributes, groups, single values.

Where the files that become one agree, it is carried as it is. Where they do not, or where it would mean something else in another file,
it is refused by name; whoever merges may say what is left out.
"""

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from h5py import h5a, h5d, h5s, h5t

from synth.errors import InputError
from synth.store.hdf5 import TORN, Refused

SLAB = 64 << 20  # bytes read at once
SHOWN = 4096  # values that are kept to be shown, of a place
LEAVE_OUT = "or leave it out: --leave-out"
REFERS = "refers to other things in its file, and would refer to nothing in the merged one"
MERGED = b"merged_from"  # attribute of a merged file, by which the same merge is known


class LeftOut:
    """What is left out, by patterns such as `notes`, `meta/*`, `@created` (of the file) and `*@unit`; counts the places."""

    def __init__(self, patterns: Sequence[str] = ()):
        self._places: dict[str, set[int]] = {p: set() for p in patterns}  # pattern -> hashes of the places that it met

    def __call__(self, name: bytes, attribute: bytes | None = None) -> bool:
        """Whether a thing of this name, or an attribute of it, is left out."""
        hit = next((p for p in self._places if fnmatchcase(told(name, attribute), p)), None)
        if hit is not None:
            self._places[hit].add(hash((name, attribute)))
        return hit is not None

    def check(self) -> None:
        """InputError for a pattern that nothing met."""
        if idle := [p for p, met in self._places.items() if not met]:
            raise InputError(f"--leave-out {idle[0]}: nothing in the files is called so")

    def note(self) -> str:
        """What to say of it at the end."""
        return "; left out: " + ", ".join(f"{len(met):,} of {p}" for p, met in sorted(self._places.items())) if self._places else ""


def told(name: bytes, attribute: bytes | None = None) -> str:
    """A place as messages and --leave-out have it.

    >>> told(b"a/x"), told(b"a", b"unit"), told(b"", b"class_names")
    ('a/x', 'a@unit', '@class_names')
    """
    return name.decode("utf-8", "surrogateescape") + ("" if attribute is None else "@" + attribute.decode("utf-8", "surrogateescape"))


@dataclass(frozen=True)
class Value:
    """What stands at one place of a file. digest: of shape and values; shown: some of them, for messages."""

    type: h5t.TypeID
    digest: bytes
    shown: list | None = None


class Agreed:
    """What several files say, place by place. The first file that has a place says it; InputError by another that differs."""

    def __init__(self):
        self._told: dict[str, tuple[Path, Value]] = {}
        self._attributes: dict[bytes, tuple[Path, set[bytes]]] = {}

    def value(self, path: Path, place: str, value: Value) -> None:
        first, before = self._told.setdefault(place, (path, value))
        if value.type != before.type or value.digest != before.digest:
            raise InputError(f"{place!r} {_difference(first, before, path, value)}; mend one of them, {LEAVE_OUT} '{place}'")

    def attributes(self, path: Path, at: Any, name: bytes, leave: LeftOut) -> None:
        """All attributes of an open thing: those that the first file with this name has, and no others."""
        here = {a for a in attributes_of(at) if not leave(name, a)}
        first, there = self._attributes.setdefault(name, (path, here))
        if odd := sorted(here ^ there):
            place, (has, lacks) = told(name, odd[0]), (path, first) if odd[0] in here else (first, path)
            raise InputError(f"{place!r} is an attribute in {has} and not in {lacks}; mend one of them, {LEAVE_OUT} '{place}'")
        for attribute in sorted(here):
            self.value(path, told(name, attribute), _of_attribute(path, at, name, attribute))

    def item(self, path: Path, item: Any, name: bytes, leave: LeftOut) -> None:
        """A dataset's type, shape and values, or a type that has a name; and its attributes."""
        dataset = isinstance(item, h5d.DatasetID)
        if refers(item.get_type() if dataset else item):
            raise Refused(path, name, refusal(name))
        self.value(path, told(name), _of_dataset(item) if dataset else Value(own_type(item), b""))
        self.attributes(path, item, name, leave)


def _difference(first: Path, before: Value, path: Path, value: Value) -> str:
    if before.type != value.type:
        return f"is of another type in {first} than in {path}"
    a, b = before.shown, value.shown
    if a and b and len(a) == len(b) and a != b:
        at = next(n for n, pair in enumerate(zip(a, b, strict=True)) if pair[0] != pair[1])
        return f"is {_short(a[at])} in {first} and {_short(b[at])} in {path}" + (f" (entry {at})" if len(a) > 1 else "")
    return f"is not the same in {first} and in {path}"


def _short(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}.."


# -- attributes ---------------------------------------------------------------------------------------------------------


def attributes_of(at: Any) -> list[bytes]:
    """Names of the attributes of an open thing, less the mark of an earlier merge."""
    names: list[bytes] = []
    h5a.iterate(at, names.append)
    return [name for name in names if name != MERGED]


def copy_attributes(path: Path, source: Any, target: Any, name: bytes, leave: LeftOut) -> None:
    """Give an open thing the attributes of another one in `path` that is called `name`, types and all."""
    for attribute in attributes_of(source):
        if leave(name, attribute):
            continue
        old = h5a.open(source, attribute)
        value, memory = _read(path, old, name, attribute)
        new = h5a.create(target, attribute, rebuilt(old.get_type()), old.get_space())
        if value is not None and value.size:
            new.write(value, memory)


def _of_attribute(path: Path, at: Any, name: bytes, attribute: bytes) -> Value:
    opened = h5a.open(at, attribute)
    value, _ = _read(path, opened, name, attribute)
    sha = hashlib.sha256(repr(None if value is None else value.shape).encode() + b"\0")
    if value is not None:
        sha.update(_bytes(value))
    return Value(own_type(opened.get_type()), sha.digest(), _listed(value))


def _read(path: Path, attribute: h5a.AttrID, name: bytes, called: bytes) -> tuple[np.ndarray | None, h5t.TypeID | None]:
    """(value, None where it has no extent; its type in memory). Refused for references, and for what nothing here reads."""
    if refers(attribute.get_type()):
        raise _refused(path, name, called, REFERS)
    if attribute.get_space().get_simple_extent_type() == h5s.NULL:
        return None, None
    try:
        dtype = attribute.dtype
        memory = h5t.py_create(dtype)
        base, inner = dtype.subdtype or (dtype, ())
        value = np.zeros(attribute.shape + inner, base)  # bytes between the fields of a row are compared too
        attribute.read(value, memory)
    except TORN as e:
        raise _refused(path, name, called, f"cannot be read here ({type(e).__name__})") from e
    return value, memory


def _refused(path: Path, name: bytes, attribute: bytes, why: str) -> Refused:
    place = told(name, attribute)
    return Refused(path, place.encode("utf-8", "surrogateescape"), f"{why}: mend it, {LEAVE_OUT} '{place}'")


# -- types and values ---------------------------------------------------------------------------------------------------


def refusal(name: bytes) -> str:
    """Why a dataset that refers to others is not copied."""
    return f"{REFERS}: take it out, {LEAVE_OUT} '{told(name)}'"


def refers(tp: h5t.TypeID) -> bool:
    """Whether a type is a reference to things in its file, or holds one."""
    if tp.get_class() == h5t.REFERENCE:
        return True
    if isinstance(tp, h5t.TypeCompoundID):
        return any(refers(tp.get_member_type(n)) for n in range(tp.get_nmembers()))
    return tp.get_class() in (h5t.VLEN, h5t.ARRAY) and refers(tp.get_super())


def rebuilt(tp: h5t.TypeID) -> h5t.TypeID:
    """The same type as this library writes it: of what a newer one wrote, it refuses the version."""
    kind = tp.get_class()
    if kind == h5t.COMPOUND:
        new = h5t.create(h5t.COMPOUND, tp.get_size())
        for n in range(tp.get_nmembers()):
            new.insert(tp.get_member_name(n), tp.get_member_offset(n), rebuilt(tp.get_member_type(n)))
        return new
    if kind == h5t.ENUM:
        new = h5t.enum_create(rebuilt(tp.get_super()))
        for n in range(tp.get_nmembers()):
            new.enum_insert(tp.get_member_name(n), tp.get_member_value(n))
        return new
    if kind == h5t.ARRAY:
        return h5t.array_create(rebuilt(tp.get_super()), tp.get_array_dims())
    return h5t.vlen_create(rebuilt(tp.get_super())) if kind == h5t.VLEN else tp.copy()


def own_type(tp: h5t.TypeID) -> h5t.TypeID:
    """A type that holds no file open."""
    return h5t.decode(tp.encode())


def _of_dataset(dataset: h5d.DatasetID) -> Value:
    d = h5py.Dataset(dataset)
    sha = hashlib.sha256(repr(d.shape).encode() + b"\0")
    for slab in slabs(d):
        sha.update(_bytes(slab))
    shown = _listed(np.asarray(d[()])) if d.shape is not None and d.size <= SHOWN else None
    return Value(own_type(dataset.get_type()), sha.digest(), shown)


def slabs(d: h5py.Dataset) -> Iterator[np.ndarray]:
    """A dataset's values, some rows at a time; those of a single value at once."""
    if d.shape is None:
        return
    if not d.shape:
        yield np.asarray(d[()])
        return
    row = max(1, d.dtype.itemsize * int(np.prod(d.shape[1:], dtype=np.int64)))
    step = max(1, min(SLAB // row, 65536))
    for at in range(0, len(d), step):
        yield d[at : at + step]


def _bytes(value: np.ndarray) -> bytes:
    return repr(value.tolist()).encode("utf-8", "surrogateescape") if value.dtype.hasobject else value.tobytes()


def _listed(value: np.ndarray | None) -> list | None:
    if value is None or value.size > SHOWN:
        return None
    flat = value.ravel().tolist()
    return [v.decode("utf-8", "replace") if isinstance(v, bytes) else v for v in flat]
