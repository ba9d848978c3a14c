"""One unit against its own index: what reading its end tells, and, deep, what reading all of it tells. Pure reading."""

from dataclasses import dataclass, field

import numpy as np

from synth.errors import InputError, StoreError
from synth.store.folder import StageFolder
from synth.store.framing import FRAMINGS, Entry, UnitIndex, digests_of, seal
from synth.store.records import record_of
from synth.store.samples import Sample
from synth.store.trees import Undecodable, decoded
from synth.store.units import CHANGED, UnitReader

FIX = "--repair sets the unit aside"
IMAGES = ("png", "jpg", "jpeg", "webp")


@dataclass
class UnitCheck:
    """What one unit showed. `wrong`: texts; `keys`: 64-bit marks of its samples' keys, of this process only."""

    number: int
    wrong: list[str] = field(default_factory=list)
    index: UnitIndex | None = None
    digest: str = ""
    keys: np.ndarray = field(default_factory=lambda: np.empty(0, np.uint64))
    records: dict[int, dict] = field(default_factory=dict)  # slot -> its JSON; deep only


def check_unit(folder: StageFolder, number: int, deep: bool) -> UnitCheck:
    """A unit that exists, by its end record and index; deep: every byte of every sample, and that pictures decode."""
    check = UnitCheck(number)
    try:
        with folder.reader(number) as reader:
            check.index, check.digest = reader.index, reader.digest
            check.keys = np.fromiter((hash(e.key) & 0xFFFFFFFFFFFFFFFF for e in reader.index.samples), np.uint64)
            if deep:
                check.wrong += _all_problems(folder.framing, reader, check.records)
    except (InputError, StoreError) as e:
        check.wrong.append(str(e).removeprefix(f"{folder.unit_path(number)}: "))
    return check


def _all_problems(framing: str, reader: UnitReader, records: dict[int, dict]) -> list[str]:
    """What is wrong with the bytes of a unit: its samples stand one behind the other, then its index, as they are written, and no more."""
    wrong, at = [], 0
    for entry in reader.index.samples:
        size, problems = _sample_problems(framing, reader, entry, at, records)
        wrong += [f"sample {entry.key}: {w}" for w in problems]
        at += size
    end, _ = seal(framing, reader.index, at)
    if not wrong and (reader.raw(at, len(end) + 1) != end):
        wrong.append("the frame of its index is damaged")
    return wrong


def _sample_problems(framing: str, reader: UnitReader, entry: Entry, at: int, records: dict[int, dict]) -> tuple[int, list[str]]:
    """(bytes of a sample with its frame, what is wrong with it). Its bytes are as committed: their digest, and the frame around them, which
    begins at byte `at` and on which readers of tar rely. Its JSON parses, its picture decodes."""
    files = {ext: reader.unchecked(entry, ext) for ext in entry.files}
    sha256, digests = digests_of(files)
    changed = sha256 != entry.sha256 or (entry.digests and digests != entry.digests)
    try:
        raw, places = FRAMINGS[framing].sample(Sample(entry.slot, entry.key, files))
    except ValueError:  # a line of two, a name that no tar takes: nothing here frames such a sample
        size = max(offset + size for offset, size in entry.files.values()) - at
        return size, [CHANGED if changed else "the frame around its bytes is damaged"]
    if changed:
        return len(raw), [CHANGED]
    moved = {ext: (at + offset, size) for ext, (offset, size) in places.items()}
    if moved != entry.files or reader.raw(at, len(raw)) != raw:
        return len(raw), ["the frame around its bytes is damaged"]
    wrong = []
    if "json" in files:
        try:
            records[entry.slot] = record_of(files["json"], "", FIX)
        except InputError as e:
            wrong.append(str(e).removeprefix(": "))
    for ext in set(files) & set(IMAGES):
        wrong += decode_problems(files[ext], records.get(entry.slot, {}))
    return len(raw), wrong


def decode_problems(data: bytes, record: dict) -> list[str]:
    """Whether a picture decodes to its last pixel, in the size that its record says."""
    try:
        size = decoded(data).size
    except Undecodable as e:
        return [f"its picture does not decode ({e.why})"]
    recorded = (record.get("width", size[0]), record.get("height", size[1]))
    return [] if size == recorded else [f"its picture is {size[0]}x{size[1]}, its record says {recorded[0]}x{recorded[1]}"]
