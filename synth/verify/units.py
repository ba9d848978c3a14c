"""One unit against its own index: what reading its end tells, and, deep, what reading all of it tells. Pure reading."""

from dataclasses import dataclass, field

import numpy as np

from synth.errors import InputError, StoreError
from synth.store.folder import StageFolder
from synth.store.framing import FRAMINGS, Entry, UnitIndex, sample_digest
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
                for entry in reader.index.samples:
                    check.wrong += [f"sample {entry.key}: {w}" for w in _sample_problems(folder.framing, reader, entry, check.records)]
    except (InputError, StoreError) as e:
        check.wrong.append(str(e).removeprefix(f"{folder.unit_path(number)}: "))
    return check


def _sample_problems(framing: str, reader: UnitReader, entry: Entry, records: dict[int, dict]) -> list[str]:
    """Bytes as committed (digest, and the framing around them, which readers of tar rely on), JSON that parses, a picture that decodes."""
    files = {ext: reader.unchecked(entry, ext) for ext in entry.files}
    if sample_digest(files) != entry.sha256:
        return [CHANGED]
    try:
        raw, places = FRAMINGS[framing].sample(Sample(entry.slot, entry.key, files))
    except ValueError:  # a line of two, a name that no tar takes: nothing here frames such a sample
        return ["the frame around its bytes is damaged"]
    start = min(offset for offset, _ in entry.files.values()) - min(offset for offset, _ in places.values())
    if start < 0 or reader.raw(start, len(raw)) != raw:
        return ["the frame around its bytes is damaged"]
    wrong = []
    if "json" in files:
        try:
            records[entry.slot] = record_of(files["json"], "", FIX)
        except InputError as e:
            wrong.append(str(e).removeprefix(": "))
    for ext in set(files) & set(IMAGES):
        wrong += decode_problems(files[ext], records.get(entry.slot, {}))
    return wrong


def decode_problems(data: bytes, record: dict) -> list[str]:
    """Whether a picture decodes to its last pixel, in the size that its record says."""
    try:
        size = decoded(data).size
    except Undecodable as e:
        return [f"its picture does not decode ({e.why})"]
    recorded = (record.get("width", size[0]), record.get("height", size[1]))
    return [] if size == recorded else [f"its picture is {size[0]}x{size[1]}, its record says {recorded[0]}x{recorded[1]}"]
