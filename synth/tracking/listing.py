"""The annotated images of a pairs stage in the order of its slots: a line of JSON an image, as the annotation file has it.

Three files in the stage's folder: `annotated.jsonl.gz`, gzip members of BLOCK lines, so that any slice is read alone;
`annotated.index.json`, where each member begins, the digest of its lines, and the place of each image in the annotation file; and
`annotated.head.json`, what the file says beside images and annotations. The input's identity is the digest of all those
digests. `zcat annotated.jsonl.gz` shows the lines:

    {"path": .., "size": .., "bucket": [w, h] or null, "captions": [..], "image": {..}, "annotations": [{..}, ..]}

`image` and `annotations` are the objects of the annotation file, byte by byte; all annotations of the image, crowds too. path: of the image
below its source, or its dataset in an HDF5 file; size: of its file in bytes; sha256: of its bytes, where they were read.
bucket: the size in pixels that its pairs are drawn at; null where no object is kept.
"""

import hashlib
import json
from collections import OrderedDict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from synth import foreign
from synth.errors import InputError
from synth.foreign import COUNT
from synth.store import blocks
from synth.store.blocks import torn
from synth.store.folder import StageFolder
from synth.store.identity import LISTED
from synth.store.spec import canonical

NAME, INDEX, HEAD = "annotated.jsonl.gz", "annotated.index.json", "annotated.head.json"
ROLE = "annotations"  # of the input
BLOCK = 256  # images
PACKERS, AHEAD = 2, 4  # threads; blocks that wait for them
OPEN = 40  # blocks that are held while images are read in the order of the file: more than there are buckets


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
    sha256: str = ""  # of its bytes, where they were read when the stage was planned


@dataclass(frozen=True)
class Head:
    """What an annotation file says of all its images. Numbers are of what is listed: what was left out does not count."""

    categories: tuple[Mapping, ...]  # as the file has them, in its order (of base classes: numbered anew)
    max_image_id: int
    max_annotation_id: int
    tracks: int  # annotations that are no crowds


def head_file(categories: Sequence[Mapping], max_image_id: int, max_annotation_id: int, tracks: int) -> bytes:
    """The bytes of annotated.head.json, for ListingWriter.finish. Categories keep all their fields and their order."""
    head = Head(tuple(categories), max_image_id, max_annotation_id, tracks)
    return json.dumps(vars(head), ensure_ascii=False, indent=1).encode("utf-8", "surrogatepass") + b"\n"


class ListingWriter:
    """Takes lines (bytes of JSON without newline) one by one; keeps only compressed bytes."""

    def __init__(self):
        self._lines: list[bytes] = []
        self._packed: list[Future[tuple[bytes, str]]] = []
        self._pool = ThreadPoolExecutor(PACKERS, thread_name_prefix="pack")  # packing is half of the work, and needs no interpreter
        self._order: list[int] = []
        self.n = 0

    def add(self, line: bytes, order: int | None = None) -> None:
        """order: the image's place in the annotation file, from 0; None: images come in the file's order."""
        self._lines.append(line)
        self._order.append(self.n if order is None else order)
        self.n += 1
        if len(self._lines) == BLOCK:
            self._flush()

    def _flush(self) -> None:
        if self._lines:
            self._packed.append(self._pool.submit(_pack, b"\n".join(self._lines) + b"\n"))
            self._lines = []
            if len(self._packed) > AHEAD:
                self._packed[-AHEAD - 1].result()

    def finish(self, head: bytes = b"{}") -> tuple[dict[str, bytes], str]:
        """(files of the stage's folder, identity of the input). head: of `head_file`."""
        self._flush()
        members, places, offset = [], [], 0
        for packed in self._packed:
            member, sha256 = packed.result()
            members.append(member)
            places.append({"offset": offset, "size": len(member), "sha256": sha256})
            offset += len(member)
        self._packed = []
        self._pool.shutdown()
        if sorted(self._order) != list(range(self.n)):
            raise ValueError(f"{self.n} images whose places in the file are not 0..{self.n - 1}")
        index = {"images": self.n, "blocks": places, "order": self._order}
        return {NAME: b"".join(members), INDEX: canonical(index), HEAD: head}, identity(index, head)


def _pack(block: bytes) -> tuple[bytes, str]:
    """(gzip member, digest) of the lines of a block."""
    return blocks.pack(block, level=1), hashlib.sha256(block).hexdigest()


def identity(index: Mapping, head: bytes) -> str:
    parts = [index["images"], [b["sha256"] for b in index["blocks"]], index["order"], hashlib.sha256(head).hexdigest()]
    return LISTED + hashlib.sha256(canonical(parts)).hexdigest()


def pairs_behind(folder: StageFolder) -> StageFolder:
    """The stage of pairs that an export reads; another kind of stage is an InputError."""
    pairs = folder.upstream("images")[0]
    if pairs.spec.kind != "pairs":
        raise InputError(f"{pairs.path}: is of kind {pairs.spec.kind}; {folder.spec.kind} are made of a stage of tracking pairs")
    return pairs


class AnnotatedListing:
    """The stored listing of a stage of pairs. Opening it reads the index; a block is verified when it is read."""

    @staticmethod
    def of(pairs: StageFolder) -> "AnnotatedListing":
        return AnnotatedListing(pairs.path, pairs.input(ROLE).identity)

    def __init__(self, folder: Path, expected: str):
        self.path, index = Path(folder) / NAME, Path(folder) / INDEX
        try:
            raw = foreign.read_json(index, foreign.TABLE)
            self._head = foreign.read(Path(folder, HEAD), foreign.STAGE)
        except (OSError, InputError) as e:
            raise torn(index, e) from e
        listing = foreign.obj(raw, index, images=COUNT, blocks=[dict], order=[COUNT])
        self.n, self._order = listing["images"], listing["order"]
        self._blocks = [foreign.obj(b, index, offset=COUNT, size=COUNT, sha256=str) for b in listing["blocks"]]
        actual = identity(raw, self._head)
        if actual != expected:
            raise torn(index, "another listing was planned")

    def head(self) -> Head:
        fields = foreign.parse(self._head, self.path.with_name(HEAD))  # its identity is part of what was planned
        return Head(**fields | {"categories": tuple(fields["categories"])})

    def file_order(self) -> list[int]:
        """Numbers in the listing, in the order of the annotation file."""
        numbers = [0] * self.n
        for number, place in enumerate(self._order):
            numbers[place] = number
        return numbers

    def lines(self, numbers: Iterable[int]) -> Iterator[bytes]:
        """Lines of any images. Blocks are held in between: a bucket's images are listed in the file's order, so whoever reads in that
        order reads at as many places as there are buckets."""
        held: OrderedDict[int, list[bytes]] = OrderedDict()
        for number in numbers:
            block = number // BLOCK
            if block not in held:
                held[block] = self._block(block)
                if len(held) > OPEN:
                    held.popitem(last=False)
            held.move_to_end(block)
            yield held[block][number % BLOCK]

    def rows(self, start: int, stop: int) -> list[Annotated]:
        """Images [start, stop)."""
        lines: list[bytes] = []
        first = start // BLOCK
        for number in range(first, min(len(self._blocks), -(-stop // BLOCK))):
            lines += self._block(number)
        begin = first * BLOCK
        decoded = [json.loads(line) for line in lines[start - begin : stop - begin]]
        return [_annotated(start + i, row) for i, row in enumerate(decoded)]

    def _block(self, number: int) -> list[bytes]:
        entry = self._blocks[number]
        block = blocks.member(self.path, entry["offset"], entry["size"])
        if hashlib.sha256(block).hexdigest() != entry["sha256"]:
            raise torn(self.path, f"block {number} is not what was planned")
        return block.split(b"\n")[:-1]


def _annotated(number: int, row: dict) -> Annotated:
    bucket = tuple(row["bucket"]) if row["bucket"] else None
    return Annotated(
        number, row["path"], row["size"], bucket, tuple(row["captions"]), row["image"], tuple(row["annotations"]), row.get("sha256", "")
    )
