"""How samples lie in a unit file: tar (any WebDataset reader takes it) or jsonl. Pure functions of bytes; nothing in a
unit names a time, host, worker, job, path or library version.

    unit := batch bytes ... | digests | index | end record (512 bytes) | tail
The index is the last member (tar: `__unit__/index`, jsonl: the last line but one). The end record says where the index
begins, how long it is and its sha256, so counting or verifying reads one block from the end and no picture.

The digests are a member of their own (`__unit__/digests`): sha256 of each file of the samples that have several, 32 bytes each, in the
order of samples and of extensions; the end record tells of them as of the index. So one pass over a file proves it and yields its digest.
Units without any such sample have none, nor have those that were made before there were any: there a file is proved by the digest of its
whole sample, which is in the index. The index is the same bytes either way, and so is all that is made of it.
"""

import hashlib
import json
import tarfile
from collections.abc import Mapping
from dataclasses import dataclass, replace
from itertools import accumulate
from pathlib import Path
from types import MappingProxyType
from typing import BinaryIO, NamedTuple, Protocol

from synth.errors import InputError, not_trouble
from synth.store import index_rules
from synth.store.damage import Damaged, mending
from synth.store.index_rules import BadIndex, misnamed
from synth.store.samples import Sample, Tombstone
from synth.store.spec import canonical

BLOCK = 512
MAGIC = "synthset-unit-1"
MOST_INDEX = 1 << 30  # bytes: a file with holes may say any size
STATED = frozenset({"unit", "first", "count", "samples", "tombstones", "inputs"})  # in an index
INDEX_NAME, DIGESTS_NAME = "__unit__/index", "__unit__/digests"
DIGEST = hashlib.sha256().digest_size  # bytes


class Entry(NamedTuple):
    """One sample in a unit. `files`: extension -> (offset in the unit file, size in bytes). `sha256` of all its bytes.

    digests: sha256 of each of several files, in the order of their extensions; empty where the unit does not tell them.
    """

    slot: int
    key: str
    files: dict[str, tuple[int, int]]
    sha256: str
    digests: bytes = b""

    def moved(self, delta: int) -> "Entry":
        """The same sample `delta` bytes further on."""
        return self._replace(files={e: (o + delta, n) for e, (o, n) in self.files.items()})

    def digest_of(self, ext: str) -> str:
        """sha256 of one of its files; "" where the unit tells only that of all of them."""
        if len(self.files) == 1:
            return self.sha256
        at = DIGEST * sorted(self.files).index(ext)
        return self.digests[at : at + DIGEST].hex()

    def to_list(self) -> list:
        """As it stands in an index: without digests of files."""
        return [self.slot, self.key, {e: list(at) for e, at in self.files.items()}, self.sha256]

    @staticmethod
    def from_list(data: list) -> "Entry":
        """data: as `to_list` gives it, and judged (synth.store.index_rules)."""
        slot, key, files, sha = data
        return Entry(slot, key, {e: (o, n) for e, (o, n) in files.items()}, sha)


@dataclass(frozen=True)
class Batch:
    """The bytes of one finished batch and what is in them; offsets count from the first byte of `data`."""

    data: bytes
    entries: tuple[Entry, ...]
    tombstones: tuple[tuple[int, str], ...]


def sample_digest(files: Mapping[str, bytes]) -> str:
    """sha256 of the bytes of all files of a sample, in the order of their extensions."""
    sha = hashlib.sha256()
    for ext in sorted(files):
        sha.update(files[ext])
    return sha.hexdigest()


def digests_of(files: Mapping[str, bytes | memoryview]) -> tuple[str, bytes]:
    """(`sample_digest`, what `Entry.digests` holds) of the files of a sample."""
    whole, own = hashlib.sha256(), list[bytes]()
    for ext in sorted(files):
        whole.update(files[ext])
        own.append(hashlib.sha256(files[ext]).digest() if own else whole.digest())  # of the first they are the same
    return whole.hexdigest(), b"".join(own) if len(own) > 1 else b""


def shared(reason: str) -> str:
    """A tombstone's reason without what is its sample's own, which stands in brackets at the end: what can be counted.

    >>> shared("clip_score: its class score is below 0.2 (0.1834)")
    'clip_score: its class score is below 0.2'
    >>> shared("empty file (cat/copy (2).png)")
    'empty file'
    """
    depth = 0
    for at in range(len(reason) - 1 if reason.endswith(")") else 0, 0, -1):
        depth += (reason[at] == ")") - (reason[at] == "(")
        if not depth:
            return reason[: at - 1] if reason[at - 1] == " " else reason
    return reason.rpartition(" (")[0] or reason if reason.endswith(")") else reason


@dataclass(frozen=True)
class UnitIndex:
    unit: int
    first: int  # slot
    count: int  # slots
    samples: tuple[Entry, ...]
    tombstones: dict[int, str]
    inputs: str  # digest of the upstream rows that the unit is a function of

    def to_bytes(self) -> bytes:
        return canonical(
            {
                "unit": self.unit,
                "first": self.first,
                "count": self.count,
                "samples": [e.to_list() for e in self.samples],
                "tombstones": sorted([slot, reason] for slot, reason in self.tombstones.items()),
                "inputs": self.inputs,
            }
        )

    @staticmethod
    def from_bytes(data: bytes, framing: str, end: int) -> "UnitIndex":
        """Judged: BadIndex names the item that cannot be. end: bytes of the unit file in front of the index."""
        raw = json.loads(data)
        if isinstance(raw, dict) and (unknown := sorted(raw.keys() - STATED)):
            raise AnotherVersion(f"its index has {unknown[0]!r}")
        index_rules.judge(raw, FRAMINGS[framing].exts, end)
        return UnitIndex(
            raw["unit"],
            raw["first"],
            raw["count"],
            tuple(Entry.from_list(e) for e in raw["samples"]),
            {slot: reason for slot, reason in raw["tombstones"]},  # noqa: C416 (dict() would take a JSON object too)
            raw["inputs"],
        )

    def with_digests(self, digests: bytes) -> "UnitIndex":
        """With what stands in front of the index. BadIndex unless there is one for each file of the samples that have several."""
        sizes = [DIGEST * len(e.files) if len(e.files) > 1 else 0 for e in self.samples]
        if len(digests) != sum(sizes):
            raise BadIndex(f"its digests are {len(digests)} bytes, where {sum(sizes)} are for the files of its samples")
        parts = (digests[stop - size : stop] for size, stop in zip(sizes, accumulate(sizes), strict=True))
        return replace(self, samples=tuple(e._replace(digests=d) for e, d in zip(self.samples, parts, strict=True)))


class AnotherVersion(Exception):
    """A whole unit that this version cannot read: it may mean something else."""


class Framing(Protocol):
    """How one format stores samples and the index."""

    suffix: str
    tail: bytes  # behind the end record
    exts: frozenset[str] | None  # what a sample's files are called, where the format fixes that

    def sample(self, sample: Sample) -> tuple[bytes, dict[str, tuple[int, int]]]:
        """Its bytes, and extension -> (offset in them, size)."""

    def index(self, payload: bytes, offset: int, digests: bytes = b"") -> tuple[bytes, str]:
        """What follows the last batch, which ends at `offset`, and the sha256 of the index. digests: of files, if samples have several."""

    def payload(self, member: bytes) -> bytes:
        """What was given to `index`, from the bytes that the end record tells of."""


class Jsonl:
    """One line of JSON a sample."""

    suffix = ".jsonl"
    tail = b""
    exts: frozenset[str] | None = frozenset({"json"})

    def sample(self, sample: Sample) -> tuple[bytes, dict[str, tuple[int, int]]]:
        if set(sample.files) != {"json"} or b"\n" in sample.files["json"]:
            raise ValueError(f"slot {sample.slot}: a .jsonl unit takes one 'json' file of one line a sample, got {sorted(sample.files)}")
        _named(sample)
        data = sample.files["json"]
        return data + b"\n", {"json": (0, len(data))}

    def index(self, payload: bytes, offset: int, digests: bytes = b"") -> tuple[bytes, str]:
        line = b'{"__unit__":' + payload + b"}\n"
        sha = hashlib.sha256(line).hexdigest()
        return line + _end_record(offset, len(line), sha), sha

    def payload(self, member: bytes) -> bytes:
        return member[len(b'{"__unit__":') : -2]


class Tar:
    """`key.ext` members, ustar, mtime, uid and gid 0."""

    suffix = ".tar"
    tail = bytes(2 * BLOCK)
    exts: frozenset[str] | None = None

    def sample(self, sample: Sample) -> tuple[bytes, dict[str, tuple[int, int]]]:
        _named(sample)
        chunks, files, at = [], {}, 0
        for ext in sorted(sample.files):
            data = bytes(sample.files[ext])
            chunks += [_header(f"{sample.key}.{ext}", len(data)), data, bytes(-len(data) % BLOCK)]
            files[ext] = (at + BLOCK, len(data))
            at += BLOCK + len(data) + (-len(data) % BLOCK)
        return b"".join(chunks), files

    def index(self, payload: bytes, offset: int, digests: bytes = b"") -> tuple[bytes, str]:
        before, told = b"", dict[str, object]()
        if digests:
            before = _header(DIGESTS_NAME, len(digests)) + digests + bytes(-len(digests) % BLOCK)
            told["digests"] = [offset + BLOCK, len(digests), hashlib.sha256(digests).hexdigest()]
        text = payload + b" " * ((-len(payload) - 1) % BLOCK) + b"\n"
        sha = hashlib.sha256(text).hexdigest()
        end = _end_record(offset + len(before) + BLOCK, len(text), sha, told)
        return before + _header(INDEX_NAME, len(text) + BLOCK) + text + end + self.tail, sha

    def payload(self, member: bytes) -> bytes:
        return member


def _named(sample: Sample) -> None:
    """ValueError unless it may be called so: the rules that reading keeps."""
    if why := misnamed(sample.key, sample.files) or ("" if sample.files else "it has no files"):
        raise ValueError(f"slot {sample.slot}: {why}")


_REST = (b"0" + bytes(100) + b"ustar\x0000").ljust(BLOCK - 156, b"\0")  # behind the checksum
_REST_SUM = sum(_REST) + 8 * ord(" ")  # a checksum is taken with blanks in its own place
FRAMINGS: Mapping[str, Framing] = {"tar": Tar(), "jsonl": Jsonl()}


def _header(name: str, size: int) -> bytes:
    """A ustar header, the same bytes as tarfile's, in a tenth of its time; names that do not fit are tarfile's business."""
    encoded = name.encode()
    if len(encoded) > 100 or size >= 8**11:
        info = tarfile.TarInfo(name)
        info.size, info.mode = size, 0o644
        return info.tobuf(tarfile.USTAR_FORMAT)
    head = encoded.ljust(100, b"\0") + b"0000644\0" + b"0000000\0" * 2 + b"%011o\0" % size + b"00000000000\0"
    total = sum(head) + _REST_SUM
    return head + b"%06o\0 " % total + _REST


def _end_record(offset: int, size: int, sha256: str, more: Mapping[str, object] = MappingProxyType({})) -> bytes:
    record = canonical({"magic": MAGIC, "offset": offset, "size": size, "sha256": sha256, **more})
    return record + b" " * (BLOCK - 1 - len(record)) + b"\n"


def frame(framing: str, results: list[Sample | Tombstone]) -> Batch:
    """The bytes of a batch, in slot order."""
    how, chunks, entries, tombstones, at = FRAMINGS[framing], [], [], [], 0
    for result in results:
        if isinstance(result, Tombstone):
            tombstones.append((result.slot, result.reason))
            continue
        data, files = how.sample(result)
        entries.append(Entry(result.slot, result.key, files, *digests_of(result.files)).moved(at))
        chunks.append(data)
        at += len(data)
    return Batch(b"".join(chunks), tuple(entries), tuple(tombstones))


def seal(framing: str, index: UnitIndex, offset: int) -> tuple[bytes, str]:
    """What follows the last batch of a unit (digests, index, end record, tail), and the sha256 of the index, which stands for the unit."""
    return FRAMINGS[framing].index(index.to_bytes(), offset, b"".join(e.digests for e in index.samples))


def _told(f: BinaryIO, offset: int, size: int, sha256: str) -> bytes:
    """What an end record tells of; ValueError if it is not as it was written."""
    f.seek(offset)
    data = f.read(size)
    if hashlib.sha256(data).hexdigest() != sha256:
        raise ValueError("its end record does not fit its bytes")
    return data


def read_index(f: BinaryIO, framing: str, where: str) -> tuple[UnitIndex, str]:
    """Index and its sha256 from an open unit file, judged. A torn or foreign file is an InputError that names it, and what in its index is
    wrong."""
    how = FRAMINGS[framing]
    try:
        f.seek(0, 2)
        size = f.tell()
        f.seek(size - len(how.tail) - BLOCK)
        record = json.loads(f.read(BLOCK))
        fits = record["offset"] + record["size"] + BLOCK + len(how.tail) == size
        if record["magic"] != MAGIC and str(record["magic"]).startswith(MAGIC.rpartition("-")[0]):
            raise AnotherVersion(f"it is a {record['magic']}, this version reads {MAGIC}")
        if record["magic"] == MAGIC and 0 <= record["size"] <= MOST_INDEX and fits:
            member, before = _told(f, record["offset"], record["size"], record["sha256"]), record["offset"]
            if "digests" not in record:
                return UnitIndex.from_bytes(how.payload(member), framing, before), record["sha256"]
            before, size, sha256 = record["digests"]
            if not (0 <= before <= before + size <= record["offset"] and size <= MOST_INDEX):
                raise ValueError("its digests lie elsewhere")
            index = UnitIndex.from_bytes(how.payload(member), framing, before)
            return index.with_digests(_told(f, before, size, sha256)), record["sha256"]
        reason = "its end record does not fit its bytes"
    except BadIndex as e:
        raise Damaged(f"{where}: {e}; nothing here writes such a unit: {mending(Path(where))}") from e
    except AnotherVersion as e:
        raise InputError(f"{where}: was made by another version of synthset ({e}): use that one, or make the stage anew") from e
    except (OSError, ValueError, KeyError, TypeError, AttributeError, OverflowError, RecursionError) as e:
        not_trouble(where, e)
        reason = f"{type(e).__name__}: {e}"
    raise Damaged(f"{where}: not a whole unit ({reason}); {mending(Path(where))}")
