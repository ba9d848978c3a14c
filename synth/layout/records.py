"""The record of a picture: what is known of it and of its objects. Each stage of the chain writes the one of the stage before it with more
in it, so that the last stage's unit alone holds all that an export needs, but for the picture's bytes.

    {"image": "00000/000000012.jpg", "sha256": "9f..", "width": 640, "height": 480, "caption": "a dog on a sofa", "tags": ["dog", "sofa"],
     "annos": [{"bbox": [x, y, w, h], "score": 0.8712, "label": "dog", "mask": {"size": [480, 640], "counts": ".."}, "iou": 0.9421,
                "caption": "a brown dog that sleeps"}],
     "dropped": {"nms": 3}}

Pixels are those of the picture as it is shown, turned as EXIF asks. What is read is judged: it may come from anywhere.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from synth import foreign
from synth.errors import InputError
from synth.images.sources.base import MAX_PIXELS
from synth.store.records import record_of
from synth.store.spec import canonical

DIGITS = 4  # behind the point, of what models say: the last bits of a float are those of a machine
SHARE = foreign.Shape("a number, 0 to 1", lambda v: foreign.fits(v, float) and 0 <= v <= 1)
COSINE = foreign.Shape("a number, -1 to 1", lambda v: foreign.fits(v, float) and -1 <= v <= 1)
_SIDE = foreign.whole(1, MAX_PIXELS)
_BOX = foreign.Shape("[x, y, width, height], whole numbers", lambda v: foreign.fits(v, [int]) and len(v) == 4)
_SIZE = foreign.Shape("[height, width], whole numbers", lambda v: foreign.fits(v, [_SIDE]) and len(v) == 2)
_CODE = foreign.Shape("ASCII text", lambda v: type(v) is str and v.isascii() and v != "")


@dataclass(frozen=True)
class Mask:
    """size: (height, width) of the picture; counts: compressed RLE as pycocotools has it, as text."""

    size: tuple[int, int]
    counts: str


@dataclass(frozen=True)
class Anno:
    """An object. bbox: x, y, width, height in pixels, inside of the picture, never empty; label: the tag that it was found by."""

    bbox: tuple[int, int, int, int]
    score: float
    label: str
    mask: Mask | None = None
    iou: float | None = None  # of the mask, as its model foretells it
    caption: str | None = None
    crop_score: float | None = None  # cosine similarity of its crop to its caption or label, by CLIP

    @property
    def area(self) -> int:
        """Pixels of the box."""
        return self.bbox[2] * self.bbox[3]

    def to_json(self) -> dict[str, Any]:
        """Plain data, with only what is known."""
        mask = None if self.mask is None else {"size": list(self.mask.size), "counts": self.mask.counts}
        said = {"bbox": list(self.bbox), "score": self.score, "label": self.label, "mask": mask, "iou": self.iou}
        said |= {"caption": self.caption, "crop_score": self.crop_score}
        return {name: value for name, value in said.items() if value is not None}


@dataclass(frozen=True)
class Record:
    """A picture. annos: None before boxes were looked for, () where there is no object. dropped: why -> how many boxes."""

    image: str  # its name in the source: a path below it with /, or the key of a sample
    width: int
    height: int
    caption: str = ""  # the alt text
    tags: tuple[str, ...] = ()  # in order, each once
    annos: tuple[Anno, ...] | None = None
    dropped: Mapping[str, int] = field(default_factory=dict)
    sha256: str = ""  # of the picture's file

    def to_json(self) -> dict[str, Any]:
        """Plain data, with only what is known."""
        said: dict[str, Any] = {"image": self.image, "width": self.width, "height": self.height, "caption": self.caption}
        said |= {"tags": list(self.tags)} | ({"sha256": self.sha256} if self.sha256 else {})
        if self.annos is not None:
            said["annos"] = [anno.to_json() for anno in self.annos]
        dropped = {why: n for why, n in self.dropped.items() if n}
        return said | ({"dropped": dropped} if dropped else {})

    def to_bytes(self) -> bytes:
        """Its line of a unit."""
        return canonical(self.to_json())

    @staticmethod
    def of_bytes(data: bytes, where: str, fix: str = "") -> "Record":
        """From its line; InputError where it is none. where: names the unit and the sample; fix: ends the message."""
        return Record.of_json(record_of(data, where, fix), where, fix)

    @staticmethod
    def of_json(raw: Any, where: str, fix: str = "") -> "Record":
        """From parsed JSON; InputError where it is no record, or a box or a mask lies outside of the picture."""
        fields = foreign.obj(raw, where, fix, **_RECORD)
        if len(set(fields["tags"])) < len(fields["tags"]):
            raise InputError(f"{where}: a tag stands twice{_end(fix)}")
        annos, size = fields["annos"], (fields["width"], fields["height"])
        if size[0] * size[1] > MAX_PIXELS:  # of which nobody reads a picture, and masks of it would fill the memory
            raise InputError(f"{where}: is of {size[0]} x {size[1]} pixels, {MAX_PIXELS} at most{_end(fix)}")
        if annos is not None:
            annos = tuple(_anno(a, size, f"{where}: annos[{n}]", fix) for n, a in enumerate(annos))
        return Record(**(fields | {"tags": tuple(fields["tags"]), "annos": annos}))


_RECORD = {
    "image": str,
    "width": _SIDE,
    "height": _SIDE,
    "caption": str,
    "tags": [str],
    "annos": foreign.Maybe([dict]),
    "dropped": foreign.Maybe({str: foreign.COUNT}, {}),
    "sha256": foreign.Maybe(str, ""),
}
_ANNO = {
    "bbox": _BOX,
    "score": SHARE,
    "label": str,
    "mask": foreign.Maybe(dict),
    "iou": foreign.Maybe(SHARE),
    "caption": foreign.Maybe(str),
    "crop_score": foreign.Maybe(COSINE),
}


def _anno(raw: Mapping, size: tuple[int, int], where: str, fix: str) -> Anno:
    """size: (width, height) of the picture."""
    fields = foreign.obj(raw, where, fix, **_ANNO)
    if not inside(fields["bbox"], *size):
        raise InputError(f"{where}: its box {fields['bbox']} is empty, or not inside of {size[0]} x {size[1]} pixels{_end(fix)}")
    if (mask := fields["mask"]) is not None:
        code = foreign.obj(mask, f"{where}: mask", fix, size=_SIZE, counts=_CODE)
        if (code["size"][1], code["size"][0]) != size:
            raise InputError(f"{where}: its mask is of {code['size']}, the picture has [{size[1]}, {size[0]}]{_end(fix)}")
        mask = Mask((code["size"][0], code["size"][1]), code["counts"])
    return Anno(**(fields | {"bbox": tuple(fields["bbox"]), "mask": mask}))


def inside(bbox: Sequence[int], width: int, height: int) -> bool:
    """Whether a box holds a pixel, and none outside of the picture.

    >>> inside([0, 0, 4, 4], 4, 4), inside([1, 0, 4, 4], 4, 4), inside([1, 1, 0, 2], 4, 4)
    (True, False, False)
    """
    x, y, w, h = bbox
    return w > 0 and h > 0 and x >= 0 and y >= 0 and x + w <= width and y + h <= height


def rounded(value: float) -> float:
    """A share that a model says, as it is stored.

    >>> rounded(0.123456), rounded(1.0000001)
    (0.1235, 1.0)
    """
    return round(min(1.0, max(0.0, float(value))), DIGITS)


def _end(fix: str) -> str:
    return f"; {fix}" if fix else ""
