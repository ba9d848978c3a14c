"""How a source is read: inputs of a unit with their labels and captions, and their bytes from any thread."""

import hashlib
import os
import stat
from bisect import bisect_left
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path

from synth.errors import InputError, StoreError
from synth.images.slots import Ranges
from synth.images.sources.base import GONE, KEY, TORN, Input, Packed, too_large
from synth.images.sources.listing import Listing
from synth.store.damage import Damaged, mending
from synth.store.files import pread, storing
from synth.store.framing import Entry
from synth.store.names import classes_of
from synth.store.records import record_of
from synth.store.trees import holds_any
from synth.store.units import sample_at

NO_CLASS = "has no class"
ANOTHER, OTHER_SIZE = "changed since the stage was planned (its content did)", "changed since the stage was planned (its size did)"
CHANGED = (ANOTHER, OTHER_SIZE, TORN)  # what becomes of a file after it was listed
READERS, AHEAD = 4, 1024  # files that are read at once for their digests; inputs that are looked at together
LITTLE, FEW = 4 * 2**30, 500_000  # bytes, and pictures, that are read when a stage is planned: some seconds of a disk


@dataclass(frozen=True)
class Picture:
    """One input of a unit, ready to be read, or the reason why it cannot be."""

    number: int  # in its source
    key: str
    path: Path
    offset: int = -1
    size: int = 0
    labels: tuple[int, ...] = ()  # official indices, the main one first
    names: tuple[str, ...] = ()
    caption: str = ""
    mark: str = ""  # digest of the bytes or of what holds them, where it is known without reading them
    reason: str = ""
    stored: "StoredAs | None" = None  # of a picture of a stage
    packed: Packed | None = None  # of a picture in a Parquet or HDF5 file

    def is_another(self, sha256: str) -> bool:
        """Whether the listing knows another digest of its bytes. What a stage or a file of many holds is compared where it is read."""
        return bool(self.mark) and self.stored is None and self.packed is None and self.mark != sha256


@dataclass(frozen=True)
class StoredAs:
    """A picture of a stage: its sample, and the record that was read of it on trust."""

    entry: Entry
    ext: str
    record: bytes


class ListedSource:
    """A folder whose content stands in the stage's listing. classes: official index of each class number of the listing.

    key: of the config that names the folder, for errors.
    """

    def __init__(self, root: Path, listing: Listing, classes: Sequence[int], names: Mapping[int, str], key: str = KEY):
        self.root, self._listing, self._classes, self._names, self._key = Path(root), listing, classes, names, key

    def rows(self, start: int, stop: int) -> list[Picture]:
        """Inputs [start, stop)."""
        pictures = []
        for number, item in enumerate(self._listing.rows(start, stop), start):
            # a source without classes is one class
            labels = tuple(self._classes[n] for n in item.labels) if self._classes else tuple(self._names)
            names = tuple(self._names[i] for i in labels)
            reason = item.reason or ("" if labels else NO_CLASS)
            place, mark = (item.place(self.root), item.offset, item.size), item.packed.file if item.packed else item.sha256
            pictures.append(Picture(number, item.key, *place, labels, names, item.caption, mark, reason, packed=item.packed))
        return pictures

    def check(self) -> None:
        """StoreError if the source is not there at all: a folder that is not mounted is no reason to give up its pictures."""
        if not self.root.exists():
            raise StoreError(f"{self._key}: {self.root} is not there; mount it, or give its new place, and run the command again")
        not_empty(self.root, self._key)


class StageSource:
    """The pictures of a stage, all of its slots or those of a subset."""

    def __init__(self, folder, subset: Ranges | None):
        self.root, self._folder, self._subset = folder.path, folder, subset
        self._classes = classes_of(folder)

    def rows(self, start: int, stop: int) -> list[Picture]:
        slots = [n if self._subset is None else self._subset[n] for n in range(start, stop)]
        pictures: list[Picture] = []
        spec = self._folder.spec
        while len(pictures) < len(slots):
            unit = spec.unit_of(slots[len(pictures)])
            end = bisect_left(slots, spec.unit(unit).stop)
            with self._folder.reader(unit) as reader:
                for slot in slots[len(pictures) : end]:
                    pictures.append(self._picture(start + len(pictures), slot, reader, reader.entries.get(slot)))
        return pictures

    def _picture(self, number: int, slot: int, reader, entry) -> Picture:
        if entry is None:
            why = reader.index.tombstones.get(slot, "not in its unit")
            return Picture(number, f"{slot:09d}", reader.path, reason=f"has no picture: {why}")
        ext = next((e for e in sorted(entry.files) if e != "json"), "")
        if not ext or "json" not in entry.files:
            raise InputError(f"{reader.path}: sample {entry.key}: holds no picture with a record; give a stage of pictures of classes")
        # where a unit has no digests of files, to be sure of the record one has to read the picture: `read_bytes` does, when it is wanted
        data = reader.read(entry, "json") if entry.digest_of("json") else reader.unchecked(entry, "json")
        record = _record(data)
        if record is None or not record.get("caption"):  # this one may be left out, and its picture never be read
            data = reader.read(entry, "json")
            record = _record(data)
            if record is None:
                raise InputError(f"{reader.path}: sample {entry.key}: its record has no label; give a stage of pictures of classes")
        labels = tuple(record.get("labels") or (record["label"],))
        names = tuple(record.get("label_names") or (self._classes.get(i, str(i)) for i in labels))
        offset, size = entry.files[ext]
        stored = StoredAs(entry, ext, data)
        return Picture(number, entry.key, reader.path, offset, size, labels, names, record.get("caption", ""), entry.sha256, stored=stored)

    def check(self) -> None:
        if not self._folder.is_whole():
            raise InputError(f"{self._folder.path}: is not whole; complete it first, by the command that planned it")


def _record(data: bytes) -> Mapping | None:
    """The record of a picture; None if it is none or tells no label, and so is damaged or of no picture of a class."""
    try:
        record = record_of(data, "", "")
    except InputError:
        return None
    return record if record.get("labels") or record.get("label") is not None else None


def read_bytes(picture: Picture, root: Path, key: str = KEY) -> bytes | str:
    """The file bytes of a picture, or why there are none. A file system in trouble is a StoreError, which drains. key: that names `root`.

    A picture of a stage is checked with its whole sample; Damaged if that, or the record that was taken on trust, is not as committed.
    One in a Parquet or HDF5 file is checked with all of the file.
    """
    if stored := picture.stored:
        files = sample_at(picture.path, stored.entry)
        if files["json"] != stored.record:
            raise Damaged(f"{picture.path}: sample {picture.key}: its record was read in two ways; {mending(picture.path)}")
        return files[stored.ext]
    if picture.packed:
        from synth.images.sources.unpacking import read_packed  # pyarrow, zlib: most sources need none

        return read_packed(picture.path, picture.offset, picture.size, picture.packed, key)
    return read_file(picture.path, picture.size, root, picture.offset, key)


def digested(inputs: Iterable[Input], root: Path, key: str = KEY, whole: bool = False) -> Iterator[Input]:
    """Inputs with the digests of their bytes; one that cannot be read gets its reason.

    Of a source that is too large to be read when a stage is planned only those have one that name and size do not tell from others
    (`known_by_name` says so), unless `whole` asks for all.
    """
    inputs = (replace(item, to_read=True) for item in inputs) if whole else _marked(iter(inputs))
    with ThreadPoolExecutor(READERS) as pool:
        while part := list(islice(inputs, AHEAD)):
            # to ask threads of the others costs more than the answer
            unknown = any(item.to_read and not (item.reason or item.packed) for item in part)
            yield from pool.map(lambda item: _digested(item, root, key), part) if unknown else part


def is_little(n: int, size: int) -> bool:
    """Whether `n` pictures of `size` bytes together are read when a stage is planned, so that every byte of them counts."""
    return n <= FEW and size <= LITTLE


def _marked(inputs: Iterator[Input]) -> Iterator[Input]:
    """Inputs that are all to be read, if they are little together; else as they came."""
    held, size = [], 0
    for item in inputs:
        held.append(item)
        size += item.size
        if not is_little(len(held), size):
            yield from held
            yield from inputs
            return
    yield from (replace(item, to_read=True) for item in held)


def known_by_name(n: int, key: str) -> list[str]:
    """What to say of `n` pictures of a source that have no digest."""
    why = f"more than {LITTLE // 2**30} GiB or {FEW:,} pictures are not read when a run is planned"
    said = f"{key}: {n:,} pictures are known by name and size ({why}); one that another of its size replaces is not noticed"
    return [f"{said}: give a set that changed another path"] if n else []


def _digested(item: Input, root: Path, key: str) -> Input:
    if not item.to_read or item.reason or item.packed:
        return item
    data = read_file(item.place(root), item.size, root, item.offset, key)
    return replace(item, reason=data) if isinstance(data, str) else replace(item, sha256=hashlib.sha256(data).hexdigest())


def not_empty(root: Path, key: str) -> None:
    """StoreError if nothing is in a folder of pictures any more: a place that nothing is mounted at says nothing about its pictures."""
    if root.is_dir() and not holds_any(root, key):
        raise StoreError(f"{key}: {root} is empty now; mount what was there and run the command again")


def read_file(path: Path, size: int | None, root: Path, offset: int = -1, key: str = KEY) -> bytes | str:
    """`size` bytes of a file from `offset` on (-1: all of it, which must be as long), or why there are none. key: that names `root`.

    size: None takes all of a file of any size that is read.
    """
    try:
        fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK)  # a pipe of this name must not hold up the worker
    except OSError as e:
        if e.errno not in GONE:
            with storing(path):
                raise
        if not root.exists():
            raise StoreError(f"{key}: {root} is not there any more; mount it and run the command again") from e
        not_empty(root, key)
        return GONE[e.errno]
    try:
        with storing(path):
            status = os.fstat(fd)
            if not stat.S_ISREG(status.st_mode):
                return "is not a regular file"
            if size is None and (why := too_large(size := status.st_size)):
                return why
            if offset < 0 and status.st_size != size:
                return OTHER_SIZE
            data = pread(fd, size, max(0, offset))
    finally:
        os.close(fd)
    return data if len(data) == size else TORN
