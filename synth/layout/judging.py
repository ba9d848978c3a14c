"""Whether labels are right: their record against its schema, boxes inside of the picture, masks inside of their boxes, and all of them of
the picture that the source holds.
"""

import hashlib
import json
from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path

import numpy as np

from synth import foreign
from synth.errors import InputError, PictureGone, StoreError
from synth.export.rle import mask_of
from synth.export.sources import GonePictures
from synth.layout.records import Anno, Record
from synth.layout.source import PictureSource
from synth.run.findings import Check
from synth.schema import violations
from synth.store.folder import StageFolder
from synth.store.trees import open_picture

SCHEMA = "record.schema.json"  # beside this file: JSON Schema, draft 2020-12
MOST = 3  # complaints of one picture
ORIENTATION, TURNED = 0x0112, (5, 6, 7, 8)  # of EXIF, and its values that turn a picture on its side; others say nothing


@cache
def schema(name: str = SCHEMA) -> dict:
    """A schema that ships, by the name of its file."""
    return json.loads(schema_bytes(name))


def schema_bytes(name: str) -> bytes:
    """The file of a schema that ships."""
    return (Path(__file__).parent / name).read_bytes()


def judge(folder: StageFolder, check: Check, source: PictureSource | None = None) -> None:
    """Add what is wrong with the labels that the units of a stage or of an export tell of. Every mask is unpacked.

    source: where the pictures are, which are then read, too, as far as they are there; None: they are compared elsewhere.
    """
    lost = GonePictures(check.found)
    if source is not None and (why := source.gone()):
        lost.all(why)
        source = None
    for stored, record in check.records(folder):
        path = folder.unit_path(stored.unit)
        wrong = wrong_labels(record)
        for text in wrong:
            check.found.add(path, f"sample {stored.key}: {text}", stored.unit)
        if source is not None and not wrong:
            try:
                text = wrong_picture(record, *source.read(source.at(stored.slot)))
            except PictureGone as e:
                lost.one(e)
                text = ""
            except StoreError as e:
                text = f"its picture cannot be read: {e}"
            if text:
                check.found.add(path, f"sample {stored.key}: {record['image']!a}: {text}")
        check.progress(1)


def wrong_picture(record: Mapping, data: bytes, reason: str) -> str:
    """What is wrong between right labels and the picture in their place, by its header; "" if nothing is. reason: why it cannot be read."""
    if reason:
        return f"its picture is gone or changed: {reason}"
    if record.get("sha256", (digest := hashlib.sha256(data).hexdigest())) != digest:
        return "its picture is another one than the labelled one"
    try:
        with open_picture(data) as image:
            turned = image.getexif().get(ORIENTATION, 1) in TURNED
            width, height = reversed(image.size) if turned else image.size
    except Exception as e:  # noqa: BLE001 (Pillow raises whatever a broken file provokes)
        return f"its picture cannot be opened ({type(e).__name__})"
    return "" if (width, height) == (record["width"], record["height"]) else f"its picture has {width} x {height} pixels"


def wrong_labels(record: Mapping) -> list[str]:
    """What is wrong with the labels of a picture, as plain data, in words; the first few."""
    found = []
    for wrong in _wrong(record):
        found.append(wrong)
        if len(found) == MOST:
            break
    return found


def _wrong(record: Mapping) -> Iterator[str]:
    yield from violations(record, schema())
    try:
        typed = Record.of_json(record, "its record")
    except InputError as e:
        yield str(e)
        return
    tags = set(typed.tags)
    for number, anno in enumerate(typed.annos or ()):
        if anno.label not in tags:
            yield f"annos[{number}]: its label {foreign.seen(anno.label)} is none of the picture's tags"
        if wrong := wrong_mask(anno, typed):
            yield f"annos[{number}]: its mask {wrong}"


def wrong_mask(anno: Anno, record: Record) -> str:
    """What is wrong with the mask of an object; "" if nothing is, or if it has none."""
    if anno.mask is None:
        return ""
    mask = mask_of(anno.mask.counts, record.height, record.width)
    if isinstance(mask, str):
        return mask
    x, y, w, h = anno.bbox
    rows, columns = np.nonzero(mask.any(1))[0], np.nonzero(mask.any(0))[0]
    if not len(rows):
        return "has no pixel"
    if rows[0] < y or rows[-1] >= y + h or columns[0] < x or columns[-1] >= x + w:
        around = [int(v) for v in (columns[0], rows[0], columns[-1] - columns[0] + 1, rows[-1] - rows[0] + 1)]
        return f"reaches out of its box {list(anno.bbox)}: it fills {around}"
    return ""
