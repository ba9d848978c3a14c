"""LVIS's classes without the rare ones: which remain, their new numbers, and what that means for images and annotations. Pure."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import msgspec

from synth.errors import InputError
from synth.tracking.coco import Category, Raw, with_values

RARE = "r"  # frequency of the classes that open-vocabulary work holds back
LISTS = ("neg_category_ids", "not_exhaustive_category_ids")  # of an image


@dataclass(frozen=True)
class Numbers:
    """category id -> its new id, None for classes that are left out."""

    new: dict[int, int | None]

    @property
    def change(self) -> bool:
        return any(old != new for old, new in self.new.items())

    def categories(self, rows: Sequence[Raw]) -> list[bytes]:
        return [with_values(row, id=n) for row in rows if (n := self._id(row, "id")) is not None]

    def image(self, row: Raw | bytes, where: str) -> bytes:
        """An image with the classes that its lists name numbered anew; those that are left out are left out there too."""
        found = msgspec.json.decode(row, type=dict[str, Raw])
        for key in LISTS:
            if key in found:
                try:
                    old = msgspec.json.decode(found[key], type=list[int])
                    found[key] = msgspec.json.encode([n for i in old if (n := self.new[i]) is not None])
                    found[key] = Raw(found[key])
                except (msgspec.DecodeError, KeyError) as e:
                    what = f"names category {e}, which is none" if isinstance(e, KeyError) else f"is no list of category ids ({e})"
                    msg = f"{where}: {key} {what}; mend it"
                    raise InputError(msg) from e
        return msgspec.json.encode(found)

    def annotation(self, row: Raw | bytes) -> bytes:
        """An annotation of a class that remains."""
        return with_values(row, category_id=self._id(row, "category_id"))

    def _id(self, row: Raw | bytes, key: str) -> int | None:
        return self.new[msgspec.json.decode(msgspec.json.decode(row, type=dict[str, Raw])[key])]


def all_numbers(categories: Sequence[Category]) -> Numbers:
    """Every class as it is."""
    return Numbers({c.id: c.id for c in categories})


def base_numbers(categories: Sequence[Category], path: Path) -> Numbers:
    """The classes that are not rare, from 1 on in the file's order. InputError if a class does not say how frequent it is."""
    for c in categories:
        if c.frequency not in ("f", "c", RARE):
            msg = f"{path}: category {c.id} ({c.name!r}) has the frequency {c.frequency!r}, not f, c or r; base classes are LVIS's"
            raise InputError(msg)
    kept = [c.id for c in categories if c.frequency != RARE]
    if not kept:
        msg = f"{path}: all of its {len(categories)} classes are rare; use dataset.base_classes=false"
        raise InputError(msg)
    return Numbers({c.id: None for c in categories} | {old: new for new, old in enumerate(kept, 1)})
