"""Reading committed units."""

import hashlib
import os
import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import BinaryIO, Protocol

from synth import foreign
from synth.errors import InputError
from synth.store.damage import Damaged, mending
from synth.store.files import pread, storing
from synth.store.framing import Entry, UnitIndex, read_index
from synth.store.records import record_of

CHANGED = "its bytes are not those that were committed"


class Files(dict[str, bytes]):
    """Files of a sample by extension. digests: sha256 of those whose own came out while the whole sample was proved: of the first."""

    def __init__(self) -> None:
        super().__init__()
        self.digests: dict[str, str] = {}

    def add(self, others: "Files") -> None:
        self.update(others)
        self.digests |= others.digests


_LAST = threading.local()  # .sample: (mark of its reader, entry, files), of the thread's last sample, whatever unit it is of


class UnitReader:
    """An open unit. Reading the index touches the end of the file only. What is read of a sample is checked against its digests."""

    def __init__(self, path: Path, framing: str):
        self.path, self._mark = Path(path), object()
        self._f = _opened(self.path)
        try:
            self.index: UnitIndex
            self.index, self.digest = read_index(self._f, framing, str(path))
            self._size = os.fstat(self._f.fileno()).st_size
        except BaseException:
            self._f.close()
            raise

    @cached_property
    def entries(self) -> dict[int, Entry]:
        """slot -> its sample."""
        return {e.slot: e for e in self.index.samples}

    def read(self, entry: Entry, ext: str) -> bytes:
        """Bytes of one file of one sample, as they were committed; Damaged if they are not.

        Where the unit has no digests of files, all of the sample is read, and Damaged if any of its bytes are not as committed.
        """
        return self._held(entry, (ext,))[ext]

    def files(self, entry: Entry) -> Files:
        """extension -> bytes, as they were committed; Damaged if any of them are not."""
        return self._held(entry, tuple(entry.files))

    def _held(self, entry: Entry, exts: Sequence[str]) -> Files:
        """These files, and maybe others. A thread keeps those of its last sample: whoever asks twice reads and hashes once."""
        mark, last, files = getattr(_LAST, "sample", (None, None, Files()))
        if mark is not self._mark or last is not entry:
            files = Files()
        if missing := [ext for ext in exts if ext not in files]:
            files.add(_checked(self._f, self._size, entry, missing))
            _LAST.sample = self._mark, entry, files
        return files

    def unchecked(self, entry: Entry, ext: str) -> bytes:
        """Bytes of one file of one sample as they are, whether or not they are those that were committed. Reads nothing else."""
        return _unchecked(self._f, self._size, entry, ext)

    def verify(self, entry: Entry) -> bool:
        """Whether the sample's bytes are those that were committed, as they are now."""
        try:
            _checked(self._f, self._size, entry, tuple(entry.files))
        except Damaged:
            return False
        return True

    def blocks(self, entry: Entry, ext: str, size: int) -> Iterator[bytes]:
        """The same in pieces of `size` bytes."""
        start, total = entry.files[ext]
        for at in range(0, total, size):
            yield _unchecked(self._f, self._size, entry._replace(files={ext: (start + at, min(size, total - at))}), ext)

    def damaged(self, entry: Entry) -> Damaged:
        """What is raised of a sample whose bytes are not those that were committed."""
        return _damaged(self._f, entry, CHANGED)

    def record(self, entry: Entry, *needs: str) -> dict:
        """The JSON of one sample, judged (synth.store.records); InputError names the unit and the sample."""
        return _record(self, entry, needs)

    def raw(self, offset: int, size: int) -> bytes:
        """Bytes of the unit file as they lie there, frames and all."""
        return pread(self._f.fileno(), size, offset)

    def close(self) -> None:
        self._f.close()

    def __del__(self) -> None:
        if "_f" in self.__dict__:
            self._f.close()

    def __enter__(self) -> "UnitReader":
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()


def _opened(path: Path) -> BinaryIO:
    try:
        with storing(path):
            return foreign.open_file(path)
    except OSError as e:
        raise InputError(f"{path}: cannot be read ({e.strerror}); run the command that made its stage again") from e


def sample_at(path: Path, entry: Entry) -> Files:
    """The files of a sample of a unit whose index was read before, as `UnitReader.files` gives them."""
    with _opened(path) as f:
        return _checked(f, os.fstat(f.fileno()).st_size, entry, tuple(entry.files))


def _checked(f: BinaryIO, end: int, entry: Entry, exts: Sequence[str]) -> Files:
    """These files of a sample, each by its own digest, or all of them by that of the sample where the unit tells no other."""
    if not entry.digests and len(entry.files) > 1:
        return _checked_whole(f, end, entry)
    files = Files()
    for ext in exts:
        files[ext] = _unchecked(f, end, entry, ext)
        if hashlib.sha256(files[ext]).hexdigest() != entry.digest_of(ext):
            raise _damaged(f, entry, CHANGED)
    return files


def _checked_whole(f: BinaryIO, end: int, entry: Entry) -> Files:
    files, sha, first = Files(), hashlib.sha256(), ""
    for ext in sorted(entry.files):
        files[ext] = _unchecked(f, end, entry, ext)
        sha.update(files[ext])
        if not first:
            first, files.digests[ext] = ext, sha.hexdigest()
    if sha.hexdigest() != entry.sha256:
        raise _damaged(f, entry, CHANGED)
    return files


def _unchecked(f: BinaryIO, end: int, entry: Entry, ext: str) -> bytes:
    offset, size = entry.files[ext]
    data = pread(f.fileno(), size, offset) if size <= end - offset else b""  # the file may have shrunk
    if len(data) != size:
        raise _damaged(f, entry, f"its {ext} is torn")
    return data


def _damaged(f: BinaryIO, entry: Entry, what: str) -> Damaged:
    return Damaged(f"{f.name}: sample {entry.key}: {what}; {mending(Path(f.name))}")


class Reads(Protocol):
    """What samples are read from: a committed unit, or one in the making."""

    path: Path

    def read(self, entry: Entry, ext: str) -> bytes: ...


@dataclass(frozen=True)
class Stored:
    """A stored sample, read on demand while its unit is open (that is, inside the loop that yielded it)."""

    slot: int
    key: str
    unit: int
    entry: Entry
    reader: "Reads"

    @property
    def exts(self) -> tuple[str, ...]:
        return tuple(sorted(self.entry.files))

    def read(self, ext: str) -> bytes:
        return self.reader.read(self.entry, ext)

    def json(self, *needs: str) -> dict:
        """Its record, as UnitReader.record gives it."""
        return _record(self.reader, self.entry, needs)


def _record(reader: Reads, entry: Entry, needs: Sequence[str]) -> dict:
    where = f"{reader.path}: sample {entry.key}"
    if "json" not in entry.files:
        raise InputError(f"{where}: has no json; {mending(reader.path)}")
    return record_of(reader.read(entry, "json"), where, mending(reader.path), needs)
