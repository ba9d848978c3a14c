"""Reading committed units."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from synth.errors import InputError
from synth.store.files import storing
from synth.store.framing import Entry, UnitIndex, read_index


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

    def read(self, entry: Entry, ext: str) -> bytes:
        """Bytes of one file of one sample, not verified (see `verify`)."""
        offset, size = entry.files[ext]
        self._f.seek(offset)
        return self._f.read(size)

    def raw(self, offset: int, size: int) -> bytes:
        """Bytes of the unit file as they lie there, frames and all."""
        self._f.seek(offset)
        return self._f.read(size)

    def verify(self, entry: Entry) -> bool:
        """Whether the sample's bytes are those that were committed."""
        sha = hashlib.sha256()
        for ext in sorted(entry.files):
            sha.update(self.read(entry, ext))
        return sha.hexdigest() == entry.sha256

    def close(self) -> None:
        self._f.close()

    def __enter__(self) -> "UnitReader":
        return self

    def __exit__(self, *exc) -> None:
        self.close()


class Reads(Protocol):
    """What samples are read from: a committed unit, or one in the making."""

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

    def json(self) -> Mapping:
        return json.loads(self.read("json"))
