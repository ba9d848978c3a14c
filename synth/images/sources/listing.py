"""The listing of a source: one line of JSON an input, in gzip members of 1,024 lines, so that any slice is read alone.

It is made when a stage is planned and stored in the stage's folder: what is added to a source later changes no stage. Its
digest is of the lines, not of the compressed bytes, which another zlib packs in another way. `zcat` shows it.
"""

import gzip
import hashlib
import json
import os
import zlib
from pathlib import Path

from synth.errors import InputError
from synth.images.sources.base import Input
from synth.store.identity import LISTED

NAME = "inputs.jsonl.gz"  # in the stage's folder
BLOCK = 1024  # inputs


class ListingWriter:
    """Takes inputs one by one; keeps only compressed bytes."""

    def __init__(self):
        self._sha, self._members, self._lines, self.n = hashlib.sha256(), [], [], 0

    def add(self, item: Input) -> None:
        # ASCII only: a name may hold lone surrogates, which stand for bytes that are no UTF-8
        self._lines.append(json.dumps(item.to_list(), separators=(",", ":")).encode() + b"\n")
        self.n += 1
        if len(self._lines) == BLOCK:
            self._flush()

    def _flush(self) -> None:
        if self._lines:
            block = b"".join(self._lines)
            self._sha.update(block)
            self._members.append(gzip.compress(block, compresslevel=6, mtime=0))
            self._lines = []

    def finish(self) -> tuple[bytes, str]:
        """(file bytes, identity of the source)"""
        self._flush()
        return b"".join(self._members), LISTED + self._sha.hexdigest()


class Listing:
    """A stored listing. Opening it reads and verifies it once, and notes where its blocks begin."""

    def __init__(self, path: Path, identity: str):
        self.path, self._blocks = Path(path), []
        sha = hashlib.sha256()
        try:
            data = self.path.read_bytes()
            at = 0
            while at < len(data):
                unpacker = zlib.decompressobj(wbits=31)
                sha.update(unpacker.decompress(memoryview(data)[at:]))
                if not unpacker.eof:
                    raise EOFError("torn")
                size = len(data) - at - len(unpacker.unused_data)
                self._blocks.append((at, size))
                at += size
        except (OSError, EOFError, zlib.error) as e:
            raise InputError(f"{self.path}: cannot be read ({e}); remove the stage's folder and run the command again") from e
        if LISTED + sha.hexdigest() != identity:
            raise InputError(f"{self.path}: is not the listing that was planned; remove the stage's folder and run the command again")

    def rows(self, start: int, stop: int) -> list[Input]:
        """Inputs [start, stop), as far as there are any."""
        found: list[Input] = []
        with open(self.path, "rb") as f:
            for number in range(start // BLOCK, min(len(self._blocks), -(-stop // BLOCK))):
                offset, size = self._blocks[number]
                lines = gzip.decompress(os.pread(f.fileno(), size, offset)).splitlines()
                found += lines[max(0, start - number * BLOCK) : stop - number * BLOCK]
        return [Input.from_list(json.loads(line)) for line in found]
