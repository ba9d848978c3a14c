"""A file of a committed sample that is too large to be read whole whenever a part of it is wanted: a captions table has gigabytes.

The sample is read once in a process and compared with its digest; what the file held then is remembered as a digest a block, with which
every later read is compared.
"""

import hashlib
import io
import os
import threading
from pathlib import Path
from typing import Any

from synth.store.damage import Damaged, mending
from synth.store.files import pread, storing
from synth.store.framing import Entry
from synth.store.units import UnitReader

BLOCK = 1 << 16  # bytes
KEPT = 8  # files of which digests are kept: 32 bytes a block
_KNOWN: dict[tuple[Path, str, str], list[bytes]] = {}  # (unit, digest of the sample, extension) -> digests of the file's blocks
_LOCK = threading.Lock()


class LargeFile(io.RawIOBase):
    """Read-only bytes of one file of a sample. Damaged where they are not those that were committed; StoreError if they cannot be read."""

    def __init__(self, reader: UnitReader, entry: Entry, ext: str):
        super().__init__()
        self._path, (self._offset, self._size) = reader.path, entry.files[ext]
        self._digests = _digests(reader, entry, ext)
        self._fd, self._at, self._held = os.open(reader.path, os.O_RDONLY), 0, (-1, b"")

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        self._at = max(0, offset + {os.SEEK_SET: 0, os.SEEK_CUR: self._at, os.SEEK_END: self._size}[whence])
        return self._at

    def tell(self) -> int:
        return self._at

    def readinto(self, buffer: Any) -> int:
        view, done = memoryview(buffer).cast("B"), 0
        while done < len(view) and self._at < self._size:
            number, start = divmod(self._at, BLOCK)
            piece = self._block(number)[start : start + len(view) - done]
            view[done : done + len(piece)] = piece
            done, self._at = done + len(piece), self._at + len(piece)
        return done

    def _block(self, number: int) -> bytes:
        if self._held[0] != number:
            with storing(self._path):
                data = pread(self._fd, min(BLOCK, self._size - number * BLOCK), self._offset + number * BLOCK)
            if hashlib.sha256(data).digest() != self._digests[number]:
                raise Damaged(f"{self._path}: changed since it was read before; {mending(self._path)}")
            self._held = number, data
        return self._held[1]

    def close(self) -> None:
        if not self.closed:
            os.close(self._fd)
        super().close()


def _digests(reader: UnitReader, entry: Entry, ext: str) -> list[bytes]:
    """sha256 of each block of a file, whose whole sample is as committed."""
    key = reader.path, entry.sha256, ext
    if (known := _KNOWN.get(key)) is not None:
        return known
    of_sample, blocks = hashlib.sha256(), []
    for each in sorted(entry.files):
        for block in reader.blocks(entry, each, BLOCK):
            of_sample.update(block)
            if each == ext:
                blocks.append(hashlib.sha256(block).digest())
    if of_sample.hexdigest() != entry.sha256:
        raise reader.damaged(entry)
    with _LOCK:  # threads share it
        while len(_KNOWN) >= KEPT:
            del _KNOWN[next(iter(_KNOWN))]
        _KNOWN[key] = blocks
    return blocks
