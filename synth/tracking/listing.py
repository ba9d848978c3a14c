"""The annotated images of a pairs stage in the order of its slots: a line of JSON an image, as the annotation file has it.

Two files in the stage's folder: `annotated.jsonl.gz`, gzip members of BLOCK lines, so that any slice is read alone, and
`annotated.index.json`, where each member begins and the digest of its lines. The input's identity is the digest of those
digests. `zcat annotated.jsonl.gz` shows the lines:

    {"path": .., "size": .., "bucket": [w, h] or null, "captions": [..], "image": {..}, "annotations": [{..}, ..]}

`image` and `annotations` are the objects of the annotation file, byte by byte; all annotations of the image, crowds too. path: of the image
below its source, or its dataset in an HDF5 file; size: of its file in bytes. bucket: the size in pixels that its pairs are drawn
at; null where no object is kept.
"""

import gzip
import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from synth.errors import InputError
from synth.store.spec import canonical
from synth.store.identity import LISTED

NAME, INDEX = "annotated.jsonl.gz", "annotated.index.json"
ROLE = "annotations"  # of the input
BLOCK = 256  # images


@dataclass(frozen=True)
class Annotated:
    """One annotated image."""

    number: int  # in the listing
    path: str
    size: int
    bucket: tuple[int, int] | None
    captions: tuple[str, ...]
    image: Mapping  # id, file_name, width, height, and whatever else the file has
    annotations: tuple[Mapping, ...]


class ListingWriter:
    """Takes lines (bytes of JSON without newline) one by one; keeps only compressed bytes."""

    def __init__(self):
        self._lines: list[bytes] = []
        self._members: list[bytes] = []
        self._blocks: list[dict] = []
        self.n = 0

    def add(self, line: bytes) -> None:
        self._lines.append(line)
        self.n += 1
        if len(self._lines) == BLOCK:
            self._flush()

    def _flush(self) -> None:
        if self._lines:
            block = b"\n".join(self._lines) + b"\n"
            member = gzip.compress(block, compresslevel=1, mtime=0)
            offset = self._blocks[-1]["offset"] + self._blocks[-1]["size"] if self._blocks else 0
            self._blocks.append({"offset": offset, "size": len(member), "sha256": hashlib.sha256(block).hexdigest()})
            self._members.append(member)
            self._lines = []

    def finish(self) -> tuple[dict[str, bytes], str]:
        """(files of the stage's folder, identity of the input)"""
        self._flush()
        return {NAME: b"".join(self._members), INDEX: canonical({"images": self.n, "blocks": self._blocks})}, identity(self._blocks, self.n)


def identity(blocks: list[dict], n: int) -> str:
    return LISTED + hashlib.sha256(canonical([n, [b["sha256"] for b in blocks]])).hexdigest()


class AnnotatedListing:
    """A stored listing. Opening it reads the index; a block is verified when it is read."""

    def __init__(self, folder: Path, expected: str):
        self.path, index = Path(folder) / NAME, Path(folder) / INDEX
        try:
            said = json.loads(index.read_bytes())
            self.n, self._blocks = said["images"], said["blocks"]
            found = identity(self._blocks, self.n)
        except (OSError, ValueError, KeyError, TypeError) as e:
            raise InputError(_torn(index, str(e))) from e
        if found != expected:
            raise InputError(_torn(index, "another listing was planned"))

    def rows(self, start: int, stop: int) -> list[Annotated]:
        """Images [start, stop)."""
        lines: list[bytes] = []
        first = start // BLOCK
        for number in range(first, min(len(self._blocks), -(-stop // BLOCK))):
            lines += self._block(number)
        begin = first * BLOCK
        found = [json.loads(line) for line in lines[start - begin : stop - begin]]
        return [_annotated(start + i, row) for i, row in enumerate(found)]

    def _block(self, number: int) -> list[bytes]:
        said = self._blocks[number]
        try:
            with open(self.path, "rb") as f:
                f.seek(said["offset"])
                block = gzip.decompress(f.read(said["size"]))
        except (OSError, EOFError, ValueError) as e:
            raise InputError(_torn(self.path, str(e))) from e
        if hashlib.sha256(block).hexdigest() != said["sha256"]:
            raise InputError(_torn(self.path, f"block {number} is not what was planned"))
        return block.splitlines()


def _annotated(number: int, row: dict) -> Annotated:
    bucket = tuple(row["bucket"]) if row["bucket"] else None
    return Annotated(number, row["path"], row["size"], bucket, tuple(row["captions"]), row["image"], tuple(row["annotations"]))


def _torn(path: Path, why: str) -> str:
    return f"{path}: cannot be read ({why}); remove the stage's folder and run the command again"
