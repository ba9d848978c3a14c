"""COCO's run-length code of masks, as arrays: runs of pixels down the columns, 0 first. No pycocotools, which unpacks whatever a string
claims into the memory of the mask. Masks are [H, W].
"""

import re
from collections.abc import Iterable
from itertools import accumulate

import numpy as np

# a run is 5 bits a character from "0" on; the 6th bit says that more follow
_RUN = re.compile(r"[P-o]*[0-O]")
_LONGEST = 12  # characters a run: 60 bits


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


def mask_of(counts: str, height: int, width: int) -> np.ndarray | str:
    """[height, width] uint8 0/1 of a compressed code, or why it is none of a picture of this size."""
    runs = unpacked(counts)
    if runs is None:
        return "is torn, or not of pycocotools' form"
    if runs and min(runs) < 0:
        return f"has a run of {min(runs)} pixels"
    if sum(runs) != height * width:
        return f"has {sum(runs):,} pixels, its picture {height * width:,}"
    return np.repeat(np.arange(len(runs), dtype=np.uint8) % 2, runs).reshape(width, height).T


def packed(runs: Iterable[int]) -> str:
    """The compressed code of runs of pixels down the columns, the first one of 0; the same text as pycocotools writes.

    >>> packed([0, 2, 2, 2, 5])
    '02203'
    """
    steps = np.array([*runs], np.int64)
    steps[3:] -= steps[1:-2].copy()
    return "".join(_WORDS[step] if step in _WORDS else _word(step) for step in steps.tolist())


def area_of(counts: str) -> int:
    """Pixels of the mask of a code that is whole."""
    return sum((unpacked(counts) or [])[1::2])


def _value(word: str) -> int:
    value = 0
    for i, char in enumerate(word):
        value |= (ord(char) - 48 & 31) << 5 * i
    return value - (1 << 5 * len(word)) if ord(word[-1]) - 48 & 16 else value


def _word(value: int) -> str:
    """A run, or a difference of runs, in characters: the inverse of `_value`."""
    word = ""
    while True:
        low, value = value & 31, value >> 5
        more = value != (-1 if low & 16 else 0)
        word += chr(48 + low + (32 if more else 0))
        if not more:
            return word


_CHARS = [chr(48 + n) for n in range(64)]
_VALUES = {w: _value(w) for w in [*_CHARS[:32], *(a + b for a in _CHARS[32:] for b in _CHARS[:32])]}  # nearly all that occur
_WORDS = {n: _word(n) for n in range(-512, 512)}
