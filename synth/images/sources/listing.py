"""The listing of a source: one line of JSON an input, in gzip members of 1,024 lines, so that any slice is read alone.

It is made when a stage is planned and stored in the stage's folder: what is added to a source later changes no stage. Its
digest is of the lines, not of the compressed bytes, which another zlib packs in another way. `zcat` shows it.
"""

import hashlib
import json
from pathlib import Path

from synth import foreign
from synth.errors import InputError
from synth.images.sources.base import Input
from synth.store import blocks
from synth.store.identity import LISTED

NAME = "inputs.jsonl.gz"  # in the stage's folder
BLOCK = 1024  # inputs


class ListingWriter:
    """Takes inputs one by one; keeps only compressed bytes, and counts of what was taken.

    n: inputs; usable: those without a reason; captioned: those with a caption; by_name: usable ones that nothing tells but name and size;
    first: key and reason of the first that cannot be used.
    """

    def __init__(self):
        self._sha, self._members, self._lines = hashlib.sha256(), [], []
        self.n = self.usable = self.captioned = self.by_name = 0
        self.first = ""

    def add(self, item: Input) -> None:
        # ASCII only: a name may hold lone surrogates, which stand for bytes that are no UTF-8
        self._lines.append(json.dumps(item.to_list(), separators=(",", ":")).encode() + b"\n")
        self.n += 1
        self.usable += not item.reason
        self.captioned += bool(item.caption)
        self.by_name += not (item.sha256 or item.packed or item.reason)
        if item.reason and not self.first:
            self.first = f"{item.key}: {item.reason}"
        if len(self._lines) == BLOCK:
            self._flush()

    def _flush(self) -> None:
        if self._lines:
            block = b"".join(self._lines)
            self._sha.update(block)
            self._members.append(blocks.pack(block))
            self._lines = []

    def finish(self) -> tuple[bytes, str]:
        """(file bytes, identity of the source)"""
        self._flush()
        return b"".join(self._members), LISTED + self._sha.hexdigest()


class Listing:
    """A stored listing. Opening it reads and verifies it once, and notes where its blocks begin."""

    def __init__(self, path: Path, identity: str):
        self.path, self._places, sha = Path(path), [], hashlib.sha256()
        for offset, size, lines in blocks.members(self.path):
            sha.update(lines)
            self._places.append((offset, size))
        if LISTED + sha.hexdigest() != identity:
            raise InputError(f"{self.path}: is not the listing that was planned; remove the stage's folder and run the command again")

    def rows(self, start: int, stop: int) -> list[Input]:
        """Inputs [start, stop), as far as there are any."""
        lines: list[bytes] = []
        for number in range(start // BLOCK, min(len(self._places), -(-stop // BLOCK))):
            inside = blocks.member(self.path, *self._places[number]).splitlines()
            lines += inside[max(0, start - number * BLOCK) : stop - number * BLOCK]
        return [Input.from_list(foreign.parse(line, self.path, halves=True)) for line in lines]
