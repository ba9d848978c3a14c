"""Whether boxes, masks and images agree: what is wrong, and of which kind, so that a whole file of one mistake is told as that. Pure.

A box is x, y, width, height in pixels; COCO's and LVIS's are those of their masks.
"""

from collections.abc import Sequence

from synth.images.heads import Head
from synth.tracking.coco import Rle
from synth.tracking.segmentation import runs_of

SLACK = 2.0  # pixels that rounding may move an edge
SAME = 0.5  # overlap (IoU) from which a box may be that of a mask, drawn by another hand
CORNERS = "boxes that are x1, y1, x2, y2"
OUTSIDE = "boxes outside of their image"
MASK_OUTSIDE = "segmentations outside of their image"
APART = "boxes that contradict their segmentation"
EMPTY = "segmentations without a pixel"
ANOTHER_SIZE = "images of another size"
TURNED = "images that EXIF turns in an unclear way"

Box = Sequence[float]
Wrong = tuple[str, str]  # (kind, what is wrong); ("", "") if nothing is


def wrong_box(box: Box, width: int, height: int) -> Wrong:
    """Of a box in an image of this size."""
    x, y, w, h = box
    if _inside((x, y, x + w, y + h), width, height):
        return "", ""
    said = f"its bbox {_said(box)} (x, y, width, height) leaves the image, which is {width} x {height}"
    if 0 <= x < w and 0 <= y < h and _inside(box, width, height):
        return CORNERS, f"{said}; as x1, y1, x2, y2 it would not"
    return OUTSIDE, said


def wrong_mask(box: Box, segmentation: list[list[float]] | Rle, width: int, height: int) -> Wrong:
    """Of a box and a segmentation that is whole, in an image of this size."""
    around = extent(segmentation)
    if around is None:
        return EMPTY, "its segmentation has no pixel"
    if not _inside(around, width, height):
        return MASK_OUTSIDE, f"its segmentation reaches from {_said(around[:2])} to {_said(around[2:])}, its image is {width} x {height}"
    x, y, w, h = box
    corners = (x, y, x + w, y + h)
    if _near(corners, around):
        return "", ""
    said = f"its bbox {_said(box)} (x, y, width, height) is not that of its segmentation, {_said(_as_box(around))}"
    if _near(box, around):
        return CORNERS, f"{said}; as x1, y1, x2, y2 it is"
    return ("", "") if _overlap(corners, around) >= SAME else (APART, said)


def wrong_size(head: Head, width: int, height: int) -> Wrong:
    """Of an image whose annotations are for this size: as it is stored, or as EXIF turns it, and only one of both."""
    declared = (width, height)
    if declared not in (head.stored, head.shown):
        return ANOTHER_SIZE, f"is {head.width} x {head.height} pixels, but {width} x {height} by the annotation file"
    if head.orientation != 1 and head.stored == head.shown:
        return TURNED, f"is turned by EXIF (orientation {head.orientation}), and its size does not tell whether its annotations are, too"
    return "", ""


def extent(segmentation: list[list[float]] | Rle) -> tuple[float, float, float, float] | None:
    """(left, top, right, bottom) of a segmentation; None of a run-length code without a pixel."""
    if isinstance(segmentation, Rle):
        return _extent_of_runs(runs_of(segmentation) or [], segmentation.size[0])
    xs = [x for polygon in segmentation for x in polygon[::2]]
    ys = [y for polygon in segmentation for y in polygon[1::2]]
    return min(xs), min(ys), max(xs), max(ys)


def _extent_of_runs(runs: list[int], height: int) -> tuple[float, float, float, float] | None:
    left = top = right = bottom = None
    at = 0
    for n, run in enumerate(runs):
        if n & 1 and run:
            (first, upper), (last, lower) = divmod(at, height), divmod(at + run - 1, height)
            if first < last:  # over the end of a column
                upper, lower = 0, height - 1
            left = first if left is None else left
            right = last
            top = upper if top is None else min(top, upper)
            bottom = lower if bottom is None else max(bottom, lower)
        at += run
    return None if left is None else (left, top, right + 1, bottom + 1)


def _inside(corners: Box, width: int, height: int) -> bool:
    left, top, right, bottom = corners
    return left >= -SLACK and top >= -SLACK and right <= width + SLACK and bottom <= height + SLACK


def _near(one: Box, other: Box) -> bool:
    return all(abs(a - b) <= SLACK for a, b in zip(one, other, strict=True))


def _overlap(one: Box, other: Box) -> float:
    """IoU of two boxes by their corners."""
    w = min(one[2], other[2]) - max(one[0], other[0])
    h = min(one[3], other[3]) - max(one[1], other[1])
    both = max(0.0, w) * max(0.0, h)
    either = sum((b[2] - b[0]) * (b[3] - b[1]) for b in (one, other)) - both
    return both / either if either > 0 else 0.0


def _as_box(corners: Box) -> Box:
    left, top, right, bottom = corners
    return left, top, right - left, bottom - top


def _said(numbers: Box) -> str:
    return "[" + ", ".join(f"{n:g}" for n in numbers) + "]"
