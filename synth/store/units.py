"""Reading committed units."""

import hashlib
import os
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Protocol

from synth.errors import InputError
from synth.store.files import pread, storing
from synth.store.framing import Entry, UnitIndex, read_index
from synth.store.records import FIX, record_of


class UnitReader:
    """An open unit. Reading the index touches the end of the file only."""

    def __init__(self, path: Path, framing: str):
        self.path = Path(path)
        try:
            with storing(path):
                self._f = open(path, "rb")  # noqa: SIM115 (closed by close)
        except OSError as e:
            raise InputError(f"{path}: cannot be read ({e.strerror}); run the command that made its stage again") from e
        try:
            self.index: UnitIndex
            self.index, self.digest = read_index(self._f, framing, str(path))
        except BaseException:
            self._f.close()
            raise

    @cached_property
    def entries(self) -> dict[int, Entry]:
        """slot -> its sample."""
        return {e.slot: e for e in self.index.samples}

    def read(self, entry: Entry, ext: str) -> bytes:
        """Bytes of one file of one sample, not verified (see `verify`); InputError if they are not there."""
        offset, size = entry.files[ext]
        data = self.raw(offset, size)
        if len(data) != size:
            raise InputError(f"{self.path}: sample {entry.key}: its {ext} is torn; move the unit away and run the same command again")
        return data

    def raw(self, offset: int, size: int) -> bytes:
        """Bytes of the unit file as they lie there, frames and all."""
        return pread(self._f.fileno(), size, offset)

    def verify(self, entry: Entry) -> bool:
        """Whether the sample's bytes are those that were committed."""
        sha = hashlib.sha256()
        for ext in sorted(entry.files):
            sha.update(self.read(entry, ext))
        return sha.hexdigest() == entry.sha256

    def close(self) -> None:
        self._f.close()

    def __del__(self) -> None:
        if "_f" in self.__dict__:
            self._f.close()

    def __enter__(self) -> "UnitReader":
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()


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
        """Its record, judged; needs: facts that it must say. InputError names its unit."""
        where = f"{self.reader.path}: sample {self.key}"
        if "json" not in self.entry.files:
            raise InputError(f"{where}: has no json; {FIX}")
        return record_of(self.read("json"), where, *needs)
