"""What the page and the contact sheet of tracking pairs show, as plain data: rows of an original and its variants."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from synth.errors import InputError
from synth.export.outlines import svg_path
from synth.tracking.masks import mask_of

OUTLINE = 320  # pixels: masks of larger pictures are traced coarser, or a page of photographs would hold megabytes of outlines


@dataclass(frozen=True)
class Object:
    """One object of a frame. colour: its track's in this row, index into the palette once around."""

    id: int
    name: str
    colour: int
    box: tuple[float, float, float, float]  # x, y, w, h; all zero where it left the frame
    area: float
    outline: str = ""  # SVG path

    @property
    def gone(self) -> bool:
        return not self.area


@dataclass(frozen=True)
class Frame:
    """An original or a variant. file: of its picture beside the page; why: there is none, or it is stored as it was."""

    label: str
    file: str = ""
    why: str = ""
    caption: str = ""
    warp: str = ""
    objects: tuple[Object, ...] = ()


@dataclass(frozen=True)
class Row:
    file_name: str
    image_id: int | str
    width: int
    height: int
    frames: tuple[Frame, ...]  # the original, then its variants

    @property
    def empty(self) -> bool:
        """Whether no object of it is kept."""
        return not self.frames[0].objects


@dataclass
class Totals:
    """Of all pairs, shown or not."""

    images: int = 0
    shown: int = 0
    pairs: int = 0
    as_they_were: int = 0  # images without an object that is kept
    objects: int = 0  # in the variants
    gone: int = 0
    tombstones: dict[str, int] = field(default_factory=dict)  # reason -> variants

    def count(self, record: Mapping) -> None:
        self.pairs += not record["unchanged"]
        self.as_they_were += record["unchanged"] and record["variant"] == 0
        self.objects += len(record["objects"])
        self.gone += sum(not o["area"] for o in record["objects"])


def spread(n: int, most: int) -> list[int]:
    """At most `most` of the numbers below n, evenly, the first one always.

    >>> spread(10, 4)
    [0, 2, 5, 7]
    """
    return [k * n // most for k in range(most)] if most < n else list(range(n))


def objects_shown(
    annotations: Sequence[Mapping], names: Mapping[int, str], colours: Mapping[int, int], width: int, height: int
) -> tuple[Object, ...]:
    """Annotations, or objects of a record, with their outlines. colours: id -> colour of the track."""
    shown = []
    for a in annotations:
        name = names.get(a["category_id"], f"category {a['category_id']}")
        outline = outline_of(a["segmentation"], width, height) if a["area"] else ""
        shown.append(Object(a["id"], name, colours.get(a["id"], len(colours)), tuple(a["bbox"]), a["area"], outline))
    return tuple(shown)


def outline_of(segmentation: object, width: int, height: int) -> str:
    """The path around a mask; "" of a segmentation that nobody can read, whose variant is a tombstone that says so."""
    try:
        mask = mask_of(segmentation, height, width)
    except InputError:
        return ""
    scale = max(1, -(-max(width, height) // OUTLINE))
    return svg_path(np.ascontiguousarray(mask[::scale, ::scale]) > 0, scale)


def warp_words(warp: Mapping | None, width: int, height: int) -> str:
    """What a homography does at the middle of the picture, in words, and the change of colours."""
    if warp is None:
        return ""
    h = np.asarray(warp["homography"], float).reshape(3, 3)
    x, y, w = h @ (width / 2, height / 2, 1)
    jacobian = (h[:2, :2] - np.outer((x / w, y / w), h[2, :2])) / w
    if warp["flip"]:
        jacobian = np.diag((-1.0, 1.0)) @ jacobian
    turned = math.degrees(math.atan2(jacobian[1, 0] - jacobian[0, 1], jacobian[0, 0] + jacobian[1, 1]))
    scaled = math.sqrt(abs(np.linalg.det(jacobian)))
    words = [f"scaled {scaled:.2f}"] if abs(scaled - 1) >= 0.005 else []
    words += [f"turned {turned:.0f}\u00b0"] if abs(turned) >= 0.5 else []
    words += ["mirrored"] if warp["flip"] else []
    words += [f"{k} {warp[k]:+.2f}" for k in ("brightness", "contrast") if abs(warp[k]) >= 0.005]
    return ", ".join(words) or "not warped"
