"""Whether a segmentation can become a mask: polygons and both forms of COCO's run-length code. Pure, no pixels."""

from synth.export.rle import unpacked
from synth.tracking.coco import Rle


def wrong(segmentation: list[list[float]] | Rle, width: int, height: int) -> str:
    """What is wrong with it, for an image of this size; "" if nothing is."""
    if isinstance(segmentation, Rle):
        return _wrong_rle(segmentation, width, height)
    if not segmentation:
        return "its segmentation is an empty list; a polygon or a run-length code is needed"
    for number, polygon in enumerate(segmentation):
        if len(polygon) < 6 or len(polygon) & 1:
            what = f"has {len(polygon)} numbers, an odd count" if len(polygon) & 1 else f"has {len(polygon) // 2} points"
            return f"polygon {number} of its segmentation {what}; x, y of three points at least are needed"
    return ""


def _wrong_rle(rle: Rle, width: int, height: int) -> str:
    if tuple(rle.size) != (height, width):
        h, w = rle.size
        return f"its run-length code is of size {[h, w]} (height, width), its image {[height, width]}"
    runs = runs_of(rle)
    if runs is None:
        return "its compressed run-length code is torn, or not of pycocotools' form"
    if runs and min(runs) < 0:
        return f"its run-length code has a run of {min(runs)} pixels"
    if sum(runs) != height * width:
        return f"the runs of its run-length code add up to {sum(runs):,} pixels, its image has {height * width:,}"
    return ""


def runs_of(rle: Rle) -> list[int] | None:
    """Its runs of pixels down the columns, the first one of 0; None of a compressed code that is torn."""
    return unpacked(rle.counts) if isinstance(rle.counts, str) else rle.counts
