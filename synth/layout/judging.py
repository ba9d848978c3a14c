"""Whether labels are right by themselves: their record against its schema, boxes inside of the picture, masks inside of their boxes."""

import json
from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path

import numpy as np

from synth import foreign
from synth.errors import InputError
from synth.export.rle import mask_of
from synth.layout.records import Anno, Record
from synth.layout.schema import violations

SCHEMA = "record.schema.json"  # beside this file: JSON Schema, draft 2020-12
MOST = 3  # complaints of one picture


@cache
def schema(name: str = SCHEMA) -> dict:
    """A schema that ships, by the name of its file."""
    return json.loads((Path(__file__).parent / name).read_text(encoding="utf-8"))


def wrong_labels(record: Mapping, deep: bool = True) -> list[str]:
    """What is wrong with the labels of a picture, as plain data, in words; the first few. deep: masks are unpacked."""
    found = []
    for wrong in _wrong(record, deep):
        found.append(wrong)
        if len(found) == MOST:
            break
    return found


def _wrong(record: Mapping, deep: bool) -> Iterator[str]:
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
        if deep and (wrong := wrong_mask(anno, typed)):
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
