"""Rows of features: checked, and put on a grid of whole numbers on which sums of products are exact.

A matrix product of floats depends, in its last digits, on how many threads computed it, on the size of the blocks and on the library.
Whole numbers below 2**53 are exact in float64 and so are their sums, in any order. Features of unit length are therefore rounded to
multiples of 2**-25 for distances, and of 2**-20 for sums over rows. That is finer than the half precision that they are mostly computed in,
costs nothing, gives the same bytes on any machine, and makes the distance of two equal rows 0.
"""

from collections.abc import Iterator

import numpy as np

from synth.errors import InputError

BLOCK = 2048  # rows at once: two blocks and their distances take 64 MB with 768 numbers a row
BITS = 25  # of a number: |x|^2 + |y|^2 - 2xy of rows of unit length stays below 2**53, as do all its partial sums
UNIT = float(2 ** (2 * BITS))  # what a squared distance of 1 is on the grid
OFF = 0.01  # how far from 1 the length of a row may be: half precision's rounding, and no more


class Unmeasurable(Exception):
    """A number that these rows do not have: the message is the reason, which stands in the number's place."""


def check(**sets: np.ndarray) -> None:
    """InputError unless each set is [N, D] with one D, its rows finite and of unit length; Unmeasurable where a set has no row."""
    widths = {}
    for name, x in sets.items():
        if x.ndim != 2:
            raise InputError(f"{name}: features are rows of numbers, [N, D]; this array has the shape {list(x.shape)}")
        if not len(x):
            raise Unmeasurable(f"{name}: there are no pictures")
        widths[name] = x.shape[1]
        for rows in blocks(len(x), BLOCK):
            _check_rows(x[rows], name, rows.start)
    if len(set(widths.values())) > 1:
        told = ", ".join(f"{name} {n}" for name, n in widths.items())
        raise InputError(f"features have different sizes ({told}): compute all of them by the same model")


def _check_rows(x: np.ndarray, name: str, first: int) -> None:
    length = np.sqrt(np.square(x, dtype=np.float64).sum(1))
    wrong = ~(np.abs(length - 1) <= OFF)  # so that NaN is wrong
    if wrong.any():
        row = int(wrong.argmax())
        why = f"is of length {length[row]:.3g}, not 1: normalise it" if np.isfinite(length[row]) else "is not finite: leave it out"
        raise InputError(f"{name}: the feature in row {first + row} {why}")


def check_labels(labels: np.ndarray, n: int, n_classes: int, name: str) -> None:
    """InputError unless there is a label in 0..n_classes - 1 for each of n rows."""
    if labels.shape != (n,):
        raise InputError(f"{name}: {n} rows and labels of the shape {list(labels.shape)}; give one label a row")
    wrong = (labels < 0) | (labels >= n_classes)
    if wrong.any():
        row = int(wrong.argmax())
        raise InputError(f"{name}: row {row} has the label {int(labels[row])}; there are classes 0..{n_classes - 1}")


def blocks(n: int, size: int) -> Iterator[slice]:
    for start in range(0, n, size):
        yield slice(start, min(start + size, n))


def unit_length(x: np.ndarray) -> np.ndarray:
    """[N, D] float64, each row divided by its length."""
    x = np.array(x, np.float64, order="C")
    x /= np.sqrt(np.square(x).sum(1, keepdims=True))
    return x


def on_grid(x: np.ndarray) -> np.ndarray:
    """[N, D] whole numbers as float64: rows of unit length in units of 2**-BITS."""
    return np.rint(unit_length(x) * 2**BITS)
