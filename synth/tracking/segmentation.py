"""Whether a segmentation can become a mask: polygons and both forms of COCO's run-length code. Pure, no pixels."""

import re
from itertools import accumulate

from synth.tracking.coco import Rle

# a run is 5 bits a character from "0" on; the 6th bit says that more follow
_RUN = re.compile(r"[P-o]*[0-O]")
_LONGEST = 12  # characters a run: 60 bits


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


def unpacked(counts: str) -> list[int] | None:
    """The runs of a compressed code, None if it is torn.

    >>> unpacked("02203"), unpacked("P")
    ([0, 2, 2, 2, 5], None)
    """
    words = _RUN.findall(counts)
    if sum(map(len, words)) != len(counts):
        return None
    if len(words) < len(counts) and max(map(len, words)) > _LONGEST:
        return None
    steps = [_VALUES[w] if w in _VALUES else _value(w) for w in words]
    # from the fourth on, a run is told as the difference to the run two before
    runs = steps[:1] + [0] * (len(steps) - 1)
    runs[1::2] = accumulate(steps[1::2])
    runs[2::2] = accumulate(steps[2::2])
    return runs


def _value(word: str) -> int:
    value = 0
    for i, char in enumerate(word):
        value |= (ord(char) - 48 & 31) << 5 * i
    return value - (1 << 5 * len(word)) if ord(word[-1]) - 48 & 16 else value


_CHARS = [chr(48 + n) for n in range(64)]
_VALUES = {w: _value(w) for w in [*_CHARS[:32], *(a + b for a in _CHARS[32:] for b in _CHARS[:32])]}  # nearly all that occur
