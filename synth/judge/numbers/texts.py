"""Captions as such: how long they are, how much they repeat each other, how evenly they are spread over the classes."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from synth.captions.words import tokens
from synth.errors import InputError
from synth.judge.numbers.rows import Unmeasurable

MOST_N = 3


@dataclass(frozen=True)
class CaptionStatistics:
    """Of all captions. distinct: different n-grams / n-grams, n = 1, 2, 3 (Li et al., 1510.03055); None where no caption is so long.

    It falls as captions are added: compare sets of one size.
    """

    captions: int
    words: float  # mean of a caption
    shortest: int
    longest: int
    repeats: int  # captions that an earlier one has word for word
    distinct: tuple[float | None, ...]


@dataclass(frozen=True)
class ClassBalance:
    """smallest, largest: pictures of a class, 0 for one that has none; evenness: e^entropy / classes, 1 where all have as many."""

    classes: int
    smallest: int
    largest: int
    evenness: float


def caption_statistics(captions: Sequence[str]) -> CaptionStatistics:
    """Keeps the different n-grams in memory: about 100 bytes each."""
    if not captions:
        raise Unmeasurable("there are no captions")
    length = np.zeros(len(captions), np.int64)
    whole: set[tuple[str, ...]] = set()
    grams: list[set[tuple[str, ...]]] = [set() for _ in range(MOST_N)]
    for row, caption in enumerate(captions):
        words = tokens(caption)
        length[row] = len(words)
        whole.add(tuple(words))
        for n, seen in enumerate(grams, 1):
            seen.update(tuple(words[i : i + n]) for i in range(len(words) - n + 1))
    distinct = []
    for n, seen in enumerate(grams, 1):
        total = int(np.maximum(length - n + 1, 0).sum())
        distinct.append(len(seen) / total if total else None)
    return CaptionStatistics(
        len(captions), float(length.mean()), int(length.min()), int(length.max()), len(captions) - len(whole), tuple(distinct)
    )


def class_balance(labels: np.ndarray, n_classes: int) -> ClassBalance:
    """labels [N]; those outside of 0..n_classes - 1 are an InputError."""
    if not len(labels):
        raise Unmeasurable("there are no pictures")
    if labels.min() < 0 or labels.max() >= n_classes:
        raise InputError(f"labels go from {labels.min()} to {labels.max()}; there are classes 0..{n_classes - 1}")
    of_class = Counter(labels.tolist())
    share = np.array([of_class[c] for c in sorted(of_class)]) / len(labels)
    counts = [of_class[c] for c in range(n_classes)]
    return ClassBalance(n_classes, min(counts), max(counts), float(np.exp(-(share * np.log(share)).sum()) / n_classes))
