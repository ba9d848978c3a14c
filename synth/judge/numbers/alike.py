"""Pictures that are alike by the cosine of their features: duplicates in a set, and those that are in the test set too."""

from dataclasses import dataclass
from typing import Any

import numpy as np

from synth.judge.numbers.neighbours import distances_within, nearest
from synth.judge.numbers.rows import BLOCK, UNIT, check, check_labels

EXAMPLES = 20


@dataclass(frozen=True)
class Duplicates:
    """Pairs with at least a similarity, of one class (within) and of two (between).

    repeats_within, repeats: rows that are like an earlier one of their class, of any. examples: (earlier row, later row, similarity), the
    most alike first.
    """

    within: int
    between: int
    repeats_within: int
    repeats: int
    examples_within: list[tuple[int, int, float]]
    examples_between: list[tuple[int, int, float]]


@dataclass(frozen=True)
class Leaks:
    """nearest [N] int64: the most similar test row of each made row; similarity [N]: its cosine; share of rows that reach the threshold."""

    nearest: np.ndarray
    similarity: np.ndarray
    share: float


class Alike:
    """Counts pairs of rows at least that alike, blocks of distances given in any order, each pair once, by its later row."""

    def __init__(self, labels: np.ndarray, threshold: float, examples: int = EXAMPLES):
        self._labels, self._limit, self._most = labels, squared_of(threshold), examples
        self._pairs = {True: 0, False: 0}
        self._repeats, self._repeats_within = np.zeros(len(labels), bool), np.zeros(len(labels), bool)
        self.best = {True: _NO_PAIRS, False: _NO_PAIRS}  # of one class, of two: [3, P] squared distance, earlier row, later row

    def take(self, later: slice, earlier: slice, squared: np.ndarray) -> None:
        """Consider the pairs of a block [L, E] whose row of `earlier` is the earlier one."""
        if earlier.start >= later.stop:
            return
        alike = squared <= self._limit
        if earlier.stop > later.start:
            alike &= np.arange(earlier.start, earlier.stop) < np.arange(later.start, later.stop)[:, None]
        row, column = np.nonzero(alike)
        value, row, column = squared[row, column], row + later.start, column + earlier.start
        same = self._labels[row] == self._labels[column]
        self._repeats[row] = True
        self._repeats_within[row[same]] = True
        for kind in (True, False):
            mine = same == kind
            self._pairs[kind] += int(np.count_nonzero(mine))
            self.best[kind] = best_of(self.best[kind], np.array([value[mine], column[mine], row[mine]]), self._most)

    def found(self) -> Duplicates:
        told = {kind: [(int(i), int(j), float(cosine(v))) for v, i, j in self.best[kind].T] for kind in self.best}
        counts = self._pairs[True], self._pairs[False], int(self._repeats_within.sum()), int(self._repeats.sum())
        return Duplicates(*counts, told[True], told[False])


_NO_PAIRS = np.zeros((3, 0))


def best_of(one: np.ndarray, other: np.ndarray, most: int) -> np.ndarray:
    """The nearest pairs of two lists, [3, P] of (squared distance, earlier row, later row); ties by these."""
    both = np.concatenate([one, other], axis=1)
    return both[:, np.lexsort((both[2], both[1], both[0]))[:most]]


def duplicates(features: np.ndarray, labels: np.ndarray, threshold: float, examples: int = EXAMPLES, block: int = BLOCK) -> Duplicates:
    """features [N, D] of unit length, labels [N]. N^2 D / 2 multiplications, memory for two blocks. Exact, whatever the block."""
    check(made=features)
    check_labels(labels, len(features), int(labels.max(initial=0)) + 1, "made")
    alike = Alike(labels, threshold, examples)
    for earlier, later, squared in distances_within(features, block):
        alike.take(later, earlier, squared.T)
    return alike.found()


def leaks(made: np.ndarray, test: np.ndarray, threshold: float, block: int = BLOCK) -> Leaks:
    """made [N, D], test [M, D] of unit length. N M D multiplications."""
    check(made=made, test=test)
    found = nearest(made, test, 1, "test", block)
    reach = found.squared[:, 0] <= squared_of(threshold)
    return Leaks(found.index[:, 0], found.similarity[:, 0], float(reach.mean()))


def squared_of(similarity: float) -> float:
    """The squared distance on the grid of rows with a cosine."""
    return 2 * (1 - similarity) * UNIT


def cosine(squared: Any) -> Any:
    """Of a squared distance on the grid, or of an array of them."""
    return 1 - squared / (2 * UNIT)
