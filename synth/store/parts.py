"""Work in progress: parts/<unit>.<worker>.<generation>.<suffix>, with one index line a finished batch beside it.

A part belongs to one worker and one lease generation and is never shared: whoever takes a unit over copies the batches
whose digest matches into a part of its own.
"""

import contextlib
import hashlib
import io
import os
from pathlib import Path

from synth import foreign
from synth.errors import InputError, StoreError
from synth.store import faults
from synth.store.files import make_folder, names_in, storing
from synth.store.framing import FRAMINGS, Batch, Entry, UnitIndex, digests_of, sample_digest, seal
from synth.store.index_rules import BadIndex, judge_rows
from synth.store.spec import canonical
from synth.store.units import Stored


class PartWriter:
    """Appends finished batches of one unit, then seals it. Owned by one thread at a time."""

    def __init__(self, path: Path, framing: str, n_batches: int = 0):
        """n_batches: how many the unit has, if known: the last one needs no line, because the unit is sealed right after it,
        so a unit of one batch needs no index file at all."""
        self.path, self.index_path, self.framing, self._last = Path(path), Path(f"{path}.idx"), framing, n_batches - 1
        self.offset = 0
        self.batches = 0  # finished ones, always the first n of the unit
        self.size = 0  # bytes of the sealed file
        self._entries: list[Entry] = []
        self._tombstones: dict[int, str] = {}
        self._idx: io.FileIO | None = None  # opened with the first line
        with storing(path):
            try:
                self._f = open(self.path, "xb", buffering=0)  # noqa: SIM115 (closed by close)
            except FileNotFoundError:
                make_folder(self.path.parent)
                self._f = open(self.path, "xb", buffering=0)  # noqa: SIM115

    def append(self, batch: Batch) -> None:
        """Write one batch, then the line that makes it adoptable."""
        with storing(self.path):
            faults.point("before_batch_write")
            _write_all(self._f, batch.data)
            faults.point("before_batch_line")
            if self.batches != self._last:
                self._write_line(batch)
        self._entries += [e.moved(self.offset) for e in batch.entries]
        self._tombstones |= dict(batch.tombstones)
        self.offset += len(batch.data)
        self.batches += 1
        faults.point("after_batch")

    def _write_line(self, batch: Batch) -> None:
        line = canonical(
            {
                "batch": self.batches,
                "offset": self.offset,
                "length": len(batch.data),
                "sha256": hashlib.sha256(batch.data).hexdigest(),
                "samples": [e.to_list() for e in batch.entries],
                "tombstones": [list(t) for t in batch.tombstones],
            }
        )
        if self._idx is None:
            self._idx = open(self.index_path, "xb", buffering=0)  # noqa: SIM115 (closed by close)
        _write_all(self._idx, line + b" " + _check(line) + b"\n")

    def seal(self, unit: int, first: int, count: int, inputs: str) -> str:
        """Write index and end record, make the file durable; the sha256 of its index, which stands for the whole unit."""
        index = UnitIndex(unit, first, count, tuple(self._entries), self._tombstones, inputs)
        filled = sorted([e.slot for e in index.samples] + list(index.tombstones))
        if filled != list(range(first, first + count)):
            raise ValueError(
                f"unit {unit}: its batches fill slots {filled[:3]}..{filled[-3:]}, not {first}..{first + count - 1}, once each"
            )
        keys = [e.key for e in index.samples]
        if len(set(keys)) != len(keys):
            raise ValueError(f"unit {unit}: two samples share a key")
        with storing(self.path):
            faults.point("before_index")
            end, sha256 = seal(self.framing, index, self.offset)
            _write_all(self._f, end)
            faults.point("after_index")
            os.fsync(self._f.fileno())
        self.size = self.offset + len(end)
        self.close()
        return sha256

    def stored(self, unit: int) -> list[Stored]:
        """The samples of the batches that are written so far, whoever made them."""
        return [Stored(e.slot, e.key, unit, e, self) for e in self._entries]

    def read(self, entry: Entry, ext: str) -> bytes:
        """Bytes of one file of one sample; StoreError if what comes back of the sample is not what was written a moment ago."""
        files = {}
        with storing(self.path), open(self.path, "rb") as f:
            for each, (offset, size) in entry.files.items():
                f.seek(offset)
                files[each] = f.read(size)
        if sample_digest(files) != entry.sha256:
            raise StoreError(f"{self.path}: sample {entry.key} is read back otherwise than it was written: the disk or the memory is bad")
        return files[ext]

    @property
    def n_samples(self) -> int:
        return len(self._entries)

    @property
    def n_tombstones(self) -> int:
        return len(self._tombstones)

    def close(self) -> None:
        self._f.close()
        if self._idx is not None:
            self._idx.close()

    def keep(self) -> None:
        """Leave the part for whoever goes on with the unit."""
        if not self._f.closed:
            with contextlib.suppress(OSError):
                if self._idx is not None:  # without a line nobody adopts anything
                    os.fsync(self._f.fileno())
                    os.fsync(self._idx.fileno())
        self.close()

    def clean(self) -> None:
        """The unit exists: take away the index lines, if there are any."""
        if self._idx is not None:
            with contextlib.suppress(OSError):
                self.index_path.unlink()


def part_files(folder: Path, unit: int, suffix: str) -> list[Path]:
    """The parts of a unit that anyone left, by name."""
    prefix = f"{unit:06d}."
    return sorted(Path(folder, name) for name in names_in(folder) if name.startswith(prefix) and name.endswith(suffix))


_FILES = foreign.Shape("places of files", lambda v: foreign.fits(v, {str: [foreign.COUNT]}) and all(len(at) == 2 for at in v.values()))
_ENTRY = foreign.Shape(
    "[slot, key, files, digest]",
    lambda v: type(v) is list and len(v) == 4 and all(map(foreign.fits, v, (foreign.COUNT, str, _FILES, str))),
)
_TOMBSTONE = foreign.Shape("[slot, reason]", lambda v: type(v) is list and len(v) == 2 and all(map(foreign.fits, v, (foreign.COUNT, str))))
_LINE = {
    **dict.fromkeys(("batch", "offset", "length"), foreign.COUNT),
    "sha256": str,
    "samples": [_ENTRY],
    "tombstones": [_TOMBSTONE],
}


def finished_batches(part: Path) -> list[tuple[dict, int]]:
    """The index lines of a part (parsed, number of slots filled), up to the first that is torn or out of order."""
    lines: list[tuple[dict, int]] = []
    end = 0
    try:
        index, size = foreign.read(f"{part}.idx", foreign.EVENTS), os.stat(part).st_size
    except (OSError, InputError):
        return []
    for raw in index.split(b"\n")[:-1]:  # what follows the last newline is a torn line
        text, _, check = raw.rpartition(b" ")
        if check != _check(text):
            break
        try:
            line = foreign.obj(foreign.parse(text, part), part, **_LINE)
        except InputError:
            break
        if line["batch"] != len(lines) or line["offset"] != end or not 0 <= line["length"] <= size - end:
            break
        end += line["length"]
        slots = len(line["samples"]) + len(line["tombstones"])
        lines.append((line, slots))
    return lines


def adopt(writer: PartWriter, others: list[Path], batch_slots: list[range]) -> list[Path]:
    """Copy into `writer` the leading batches of the best of `others` whose bytes still match their digests.

    batch_slots: the slots of each batch of the unit. Returns the parts that were looked at and may go once the unit exists.
    A page of zeros, a torn tail or a line about bytes that never reached the disk ends the adoption there.
    """
    others = [p for p in others if p != writer.path]
    for part in sorted(others, key=lambda p: -len(finished_batches(p))):
        try:
            f = foreign.open_file(part)
        except (OSError, InputError):
            continue
        with f:
            for line, _ in finished_batches(part)[writer.batches :]:
                try:
                    f.seek(line["offset"])
                    data = f.read(line["length"])
                except OSError:  # a bad block ends the adoption as a changed one does
                    break
                if writer.batches >= len(batch_slots) or not _fits(line, writer.framing, batch_slots[writer.batches]):
                    break
                if (batch := _batch_of(line, data)) is None:
                    break
                writer.append(batch)
    return others


def _batch_of(line: dict, data: bytes) -> Batch | None:
    """The batch that a line tells of; None if these are not its bytes. Digests of files are taken of them: no line tells those."""
    if len(data) != line["length"] or hashlib.sha256(data).hexdigest() != line["sha256"]:
        return None
    entries, view = [], memoryview(data)
    for entry in map(Entry.from_list, line["samples"]):
        sha256, digests = digests_of({ext: view[at : at + size] for ext, (at, size) in entry.files.items()})
        if sha256 != entry.sha256:
            return None
        entries.append(entry._replace(digests=digests))
    return Batch(data, tuple(entries), tuple((slot, reason) for slot, reason in line["tombstones"]))


def _fits(line: dict, framing: str, slots: range) -> bool:
    """Whether what a line says of a batch can be true, by the rules of a unit's index, and is of these slots."""
    samples, tombstones = line["samples"], line["tombstones"]
    try:
        judge_rows(samples, tombstones, FRAMINGS[framing].exts, line["length"], slots)
    except BadIndex:
        return False
    return len(samples) + len(tombstones) == len(slots)


def _check(line: bytes) -> bytes:
    return hashlib.sha256(line).hexdigest()[:16].encode()


def _write_all(f: io.FileIO, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[f.write(view) :]
