"""Squared distances of rows of unit length, a block at a time, and the nearest rows of each. All exact: see `rows`."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from synth.judge.numbers.rows import BLOCK, UNIT, Unmeasurable, blocks, on_grid


def distances(a: np.ndarray, b: np.ndarray, block: int = BLOCK) -> Iterator[tuple[slice, slice, np.ndarray]]:
    """(rows of a, rows of b, [R, C] squared distances on the grid) of all blocks: those of a row of blocks in order, row by row."""
    for rows in blocks(len(a), block):
        left = _left(on_grid(a[rows]))
        for columns in blocks(len(b), block):
            yield rows, columns, left @ _right(on_grid(b[columns])).T


def distances_within(x: np.ndarray, block: int = BLOCK) -> Iterator[tuple[slice, slice, np.ndarray]]:
    """The same of a set to itself, the upper half of it: blocks with columns >= rows."""
    for rows in blocks(len(x), block):
        left = _left(on_grid(x[rows]))
        for part in blocks(len(x) - rows.start, block):
            columns = slice(part.start + rows.start, part.stop + rows.start)
            yield rows, columns, left @ _right(on_grid(x[columns])).T


def distances_of(x: np.ndarray, some: slice, block: int = BLOCK) -> Iterator[tuple[slice, slice, np.ndarray]]:
    """The same of some rows of a set to all of it; a row to itself is infinitely far."""
    for part in blocks(some.stop - some.start, block):
        rows = slice(part.start + some.start, part.stop + some.start)
        left = _left(on_grid(x[rows]))
        for columns in blocks(len(x), block):
            squared = left @ _right(on_grid(x[columns])).T
            own = np.arange(max(rows.start, columns.start), min(rows.stop, columns.stop))
            squared[own - rows.start, own - columns.start] = np.inf
            yield rows, columns, squared


# [-2x, |x|^2, 1] . [y, 1, |y|^2] = |x - y|^2, without a pass over the result


def _left(x: np.ndarray) -> np.ndarray:
    return np.column_stack([-2 * x, np.square(x).sum(1), np.ones(len(x))])


def _right(y: np.ndarray) -> np.ndarray:
    return np.column_stack([y, np.ones(len(y)), np.square(y).sum(1)])


@dataclass(frozen=True)
class Nearest:
    """index [N, k] int64, squared [N, k] float64 on the grid: the k nearest of each row, nearest first, ties by the lower index."""

    index: np.ndarray
    squared: np.ndarray

    @property
    def similarity(self) -> np.ndarray:
        """[N, k] cosine."""
        return 1 - self.squared / (2 * UNIT)

    def take(self, rows: slice, columns: slice, squared: np.ndarray) -> None:
        """Consider a block of distances. For a row, blocks come in the order of their columns: so that ties fall to the lower index."""
        best = self.squared[rows]
        k = best.shape[1]
        nearer = squared < best[:, -1:]
        if np.count_nonzero(nearer) > 8 * k * len(best) and squared.shape[1] > k:  # too many to sort: the k best of the block will do
            bound = np.partition(squared, k - 1, axis=1)[:, k - 1 : k]
            ties = squared == bound
            nearer &= (squared < bound) | (ties & (np.cumsum(ties, axis=1, dtype=np.int32) <= k))
        row, column = np.nonzero(nearer)
        if not len(row):
            return
        touched = np.unique(row)
        of = np.concatenate([np.repeat(touched, k), row])
        index = np.concatenate([self.index[rows][touched].ravel(), column + columns.start])
        value = np.concatenate([best[touched].ravel(), squared[row, column]])
        order = np.lexsort((index, value, of))
        first = np.searchsorted(of[order], touched)
        keep = order[(first[:, None] + np.arange(k)).ravel()]
        self.index[rows.start + touched] = index[keep].reshape(-1, k)
        self.squared[rows.start + touched] = value[keep].reshape(-1, k)


def none(n: int, k: int) -> Nearest:
    """To begin with, before any block was considered."""
    return Nearest(np.full((n, k), -1, np.int64), np.full((n, k), np.inf))


def enough(n: int, k: int, name: str) -> None:
    """Unmeasurable where n rows have no k others each."""
    if n < k + 1:
        raise Unmeasurable(f"{name}: has {n} pictures; the {k} nearest others of each need {k + 1}")


def nearest(a: np.ndarray, b: np.ndarray, k: int, name: str = "the set", block: int = BLOCK) -> Nearest:
    """The k rows of b (the set called `name`) that are nearest to each row of a. N M D multiplications, memory for two blocks."""
    if len(b) < k:
        raise Unmeasurable(f"{name}: has {len(b)} pictures, and {k} nearest ones are asked for")
    found = none(len(a), k)
    for rows, columns, squared in distances(a, b, block):
        found.take(rows, columns, squared)
    return found


def nearest_within(x: np.ndarray, k: int, name: str = "the set", block: int = BLOCK) -> Nearest:
    """The k other rows of the same set that are nearest to each row. N^2 D / 2 multiplications."""
    enough(len(x), k, name)
    found = none(len(x), k)
    for rows, columns, squared in distances_within(x, block):
        if rows == columns:
            np.fill_diagonal(squared, np.inf)  # a row is no neighbour of itself
        else:
            found.take(columns, rows, squared.T)
        found.take(rows, columns, squared)
    return found
