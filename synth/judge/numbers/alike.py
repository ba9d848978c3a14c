"""Pictures that are alike by the cosine of their features: duplicates in a set, and those that are in the test set too."""

from dataclasses import dataclass

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


def duplicates(features: np.ndarray, labels: np.ndarray, threshold: float, examples: int = EXAMPLES, block: int = BLOCK) -> Duplicates:
    """features [N, D] of unit length, labels [N]. N^2 D / 2 multiplications, memory for two blocks. Exact, whatever the block."""
    check(made=features)
    check_labels(labels, len(features), int(labels.max(initial=0)) + 1, "made")
    limit, pairs = _squared(threshold), {True: 0, False: 0}
    best = {True: _NO_PAIRS, False: _NO_PAIRS}
    repeats, repeats_within = np.zeros(len(features), bool), np.zeros(len(features), bool)
    for rows, columns, squared in distances_within(features, block):
        alike = squared <= limit
        if rows == columns:
            alike = np.triu(alike, 1)
        row, column = np.nonzero(alike)
        value, row, column = squared[row, column], row + rows.start, column + columns.start
        same = labels[row] == labels[column]
        repeats[column] = True
        repeats_within[column[same]] = True
        for kind in (True, False):
            mine = same == kind
            pairs[kind] += int(np.count_nonzero(mine))
            best[kind] = _best(best[kind], np.array([value[mine], row[mine], column[mine]]), examples)
    told = {kind: [(int(i), int(j), _cosine(v)) for v, i, j in best[kind].T] for kind in best}
    return Duplicates(pairs[True], pairs[False], int(repeats_within.sum()), int(repeats.sum()), told[True], told[False])


_NO_PAIRS = np.zeros((3, 0))


def _best(one: np.ndarray, other: np.ndarray, most: int) -> np.ndarray:
    """The nearest pairs of two lists, [3, P] of (squared distance, row, column); ties by row, then column."""
    both = np.concatenate([one, other], axis=1)
    return both[:, np.lexsort((both[2], both[1], both[0]))[:most]]


def leaks(made: np.ndarray, test: np.ndarray, threshold: float, block: int = BLOCK) -> Leaks:
    """made [N, D], test [M, D] of unit length. N M D multiplications."""
    check(made=made, test=test)
    found = nearest(made, test, 1, "test", block)
    reach = found.squared[:, 0] <= _squared(threshold)
    return Leaks(found.index[:, 0], found.similarity[:, 0], float(reach.mean()))


def _squared(similarity: float) -> float:
    """The squared distance on the grid of rows with a cosine."""
    return 2 * (1 - similarity) * UNIT


def _cosine(squared: float) -> float:
    return float(1 - squared / (2 * UNIT))
