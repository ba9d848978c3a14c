"""One unit against its own index: what reading its end tells, and, deep, what reading all of it tells. Pure reading."""

import itertools
import json
from dataclasses import dataclass, field

import numpy as np

from synth.errors import InputError, StoreError
from synth.store.folder import StageFolder
from synth.store.framing import FRAMINGS, Entry, UnitIndex
from synth.store.samples import Sample
from synth.store.units import CHANGED, UnitReader

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
            check.wrong += index_problems(folder, number, reader)
            check.keys = np.fromiter((hash(e.key) & 0xFFFFFFFFFFFFFFFF for e in reader.index.samples), np.uint64)
            if deep and not check.wrong:
                for entry in reader.index.samples:
                    check.wrong += [f"sample {entry.key}: {w}" for w in _sample_problems(folder.framing, reader, entry, check.records)]
    except (InputError, StoreError) as e:
        check.wrong.append(str(e).removeprefix(f"{folder.unit_path(number)}: "))
    return check


def index_problems(folder: StageFolder, number: int, reader: UnitReader) -> list[str]:
    """Whether the index is that of this unit: its number and slots, each slot once, each file inside the unit."""
    index, unit = reader.index, folder.unit(number)
    if (index.unit, index.first, index.count) != (number, unit.start, len(unit)):
        mine = f"unit {index.unit}, slots {index.first}..{index.first + index.count - 1}"
        return [f"holds {mine}; this place is for slots {unit.start}..{unit.stop - 1}"]
    slots = [e.slot for e in index.samples]
    wrong = []
    if slots != sorted(set(slots)) or set(slots) & set(index.tombstones):
        wrong.append("a slot stands twice in its index")
    elif len(slots) + len(index.tombstones) != len(unit) or any(s not in range(unit.start, unit.stop) for s in (*slots, *index.tombstones)):
        wrong.append(f"holds {len(slots)} samples and {len(index.tombstones)} tombstones for {len(unit)} slots")
    end = 0
    for entry in index.samples:
        spans = sorted(entry.files.values())
        if not spans or spans[0][0] < end or any(a + n > b for (a, n), (b, _) in itertools.pairwise(spans)):
            wrong.append(f"sample {entry.key} overlaps another one")
            break
        end = spans[-1][0] + spans[-1][1]
    if end > reader.path.stat().st_size:
        wrong.append("names bytes behind its end")
    return wrong


def _sample_problems(framing: str, reader: UnitReader, entry: Entry, records: dict[int, dict]) -> list[str]:
    """Bytes as committed (digest, and the framing around them, which readers of tar rely on), JSON that parses, a picture that decodes."""
    files = {ext: reader.unchecked(entry, ext) for ext in entry.files}
    if not reader.verify(entry):
        return [CHANGED]
    raw, places = FRAMINGS[framing].sample(Sample(entry.slot, entry.key, files))
    start = min(offset for offset, _ in entry.files.values()) - min(offset for offset, _ in places.values())
    if reader.raw(start, len(raw)) != raw:
        return ["the frame around its bytes is damaged"]
    wrong = []
    if "json" in files:
        try:
            records[entry.slot] = json.loads(files["json"])
        except ValueError as e:
            wrong.append(f"its JSON does not parse ({e})")
    for ext in set(files) & set(IMAGES):
        wrong += decode_problems(files[ext], records.get(entry.slot, {}))
    return wrong


def decode_problems(data: bytes, record: dict) -> list[str]:
    """Whether a picture decodes to its last pixel, in the size that its record says."""
    import io

    from PIL import Image

    try:
        with Image.open(io.BytesIO(data)) as image:
            image.load()
            size = image.size
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as e:
        return [f"its picture does not decode ({e})"]
    recorded = (record.get("width", size[0]), record.get("height", size[1]))
    return [] if size == recorded else [f"its picture is {size[0]}x{size[1]}, its record says {recorded[0]}x{recorded[1]}"]
