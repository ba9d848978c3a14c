"""Sums over rows and of products of their columns, and the numbers that follow from them: in one pass, whatever the number of rows.

The sums are whole numbers (`rows`), so they do not depend on the order of rows, on blocks or threads, and those of parts add up.
"""

from dataclasses import dataclass

import numpy as np

from synth.judge.numbers.neighbours import distances, distances_within
from synth.judge.numbers.rows import BLOCK, UNIT, InputError, Unmeasurable, blocks, check, unit_length

BITS = 20  # of a number: a block's sums of products stay below 2**53, the sums of all below 2**63
MOST = 2**22  # rows
ROWS = 4096  # rows at once, at most: 2**12 products of 2**40

SIGMA, SCALE = 10.0, 1000.0  # of CMMD
DIRECT = 20_000  # rows of a set, up to which CMMD compares all with all
KERNEL_BITS = 34  # of a kernel's distance from 1: a row's sum stays a whole number below 2**53


@dataclass(frozen=True)
class Moments:
    """n rows of unit length: total [D], their sum, and products [D, D], the sum of x x^T; int64, in units of 2**-BITS and its square."""

    n: int
    total: np.ndarray
    products: np.ndarray

    def __add__(self, other: "Moments") -> "Moments":
        return _within_bounds(Moments(self.n + other.n, self.total + other.total, self.products + other.products))

    @property
    def mean(self) -> np.ndarray:
        """[D]"""
        return self.total / (self.n * 2**BITS)

    @property
    def second(self) -> np.ndarray:
        """[D, D] mean of x x^T"""
        return self.products / (self.n * 2 ** (2 * BITS))

    @property
    def covariance(self) -> np.ndarray:
        """[D, D], over n - 1"""
        return (self.second - np.outer(self.mean, self.mean)) * (self.n / (self.n - 1))


def moments(x: np.ndarray, name: str = "made", block: int = ROWS) -> Moments:
    """x [N, D] of unit length. N D^2 multiplications, memory for a block and two [D, D]."""
    check(**{name: x})
    width = x.shape[1]
    total, products = np.zeros(width, np.int64), np.zeros((width, width), np.int64)
    for rows in blocks(len(x), min(block, ROWS)):
        part = np.rint(unit_length(x[rows]) * 2**BITS)
        total += part.sum(0).astype(np.int64)
        products += (part.T @ part).astype(np.int64)
    return _within_bounds(Moments(len(x), total, products))


def _within_bounds(m: Moments) -> Moments:
    if m.n > MOST:
        raise InputError(f"{m.n:,} rows are more than can be summed ({MOST:,}): judge fewer pictures")
    return m


def frechet(real: np.ndarray, made: np.ndarray) -> float:
    """Frechet distance of two sets of features (Heusel et al., 1706.08500; of CLIP or DINOv2 features: Stein et al., 2306.04675)."""
    check(real=real, made=made)
    return frechet_of(moments(real, "real"), moments(made, "made"))


def frechet_of(real: Moments, made: Moments) -> float:
    """|m1 - m2|^2 + tr(C1 + C2 - 2 (C1 C2)^1/2).

    The trace of the last root is the nuclear norm of C1^1/2 C2^1/2, so that no root is taken of a matrix that is not symmetric.
    """
    for name, m in (("real", real), ("made", made)):
        if m.n < 2:
            raise Unmeasurable(f"{name}: a picture has no covariance; the Frechet distance needs 2, and says little below 10 a feature")
    one, other = real.covariance, made.covariance
    product = np.linalg.svd(_root(one) @ _root(other), compute_uv=False).sum()
    return max(0.0, float(np.square(real.mean - made.mean).sum() + np.trace(one) + np.trace(other) - 2 * product))


def _root(covariance: np.ndarray) -> np.ndarray:
    values, vectors = np.linalg.eigh(covariance)
    small = values < max(values[-1], 0) * len(values) * np.finfo(np.float64).eps  # rounding: of fewer rows than numbers a row
    return vectors * np.sqrt(np.where(small, 0, values)) @ vectors.T


def cmmd(real: np.ndarray, made: np.ndarray, block: int = BLOCK) -> float:
    """Squared maximum mean discrepancy, times 1000, with a Gaussian kernel of sigma 10 (Jayasumana et al., 2401.09603).

    As there, a row is compared with itself too. Up to DIRECT rows a set all are compared with all. Beyond that the kernel of
    rows of unit length, e^-.01 e^(.01 x.y), is taken by the first terms of its series: up to 0.0007 too low (`cmmd_of`).
    """
    check(real=real, made=made)
    if max(len(real), len(made)) > DIRECT:
        return cmmd_of(moments(real, "real"), moments(made, "made"))
    n, m = len(real), len(made)
    # with k = 1 - h: mean k of each set with itself - 2 mean k between = 2 mean h between - mean h of each; whole numbers until here
    between = 2 * n * m * sum(_kernel(squared) for _, _, squared in distances(real, made, block))
    return SCALE * ((between - m * m * _within(real, block) - n * n * _within(made, block)) / (n * n * m * m * 2**KERNEL_BITS))


def _within(x: np.ndarray, block: int) -> int:
    return sum(_kernel(squared) * (1 if rows == columns else 2) for rows, columns, squared in distances_within(x, block))


def _kernel(squared: np.ndarray) -> int:
    """The sum of 1 - k over a block, in units of 2**-KERNEL_BITS."""
    away = np.expm1(squared * (-1 / (2 * SIGMA**2 * UNIT)))
    return int(np.rint(away * -(2.0**KERNEL_BITS)).sum(1).astype(np.int64).sum())


def cmmd_of(real: Moments, made: Moments) -> float:
    """CMMD by the first two terms of the kernel's series: e^-a (a |m1 - m2|^2 + a^2/2 |S1 - S2|^2), a = 1/sigma^2, S the mean of x x^T.

    What is left out is not negative and at most 4 SCALE a^3 / 6 = 0.0007.
    """
    a = SIGMA**-2
    first, second = np.square(real.mean - made.mean).sum(), np.square(real.second - made.second).sum()
    return SCALE * np.exp(-a) * float(a * first + a * a / 2 * second)


def vendi(features: np.ndarray) -> float:
    """Vendi score (Friedman and Dieng, 2210.02410) with the cosine: e^entropy of the eigenvalues of the similarities over N.

    How many pictures that have nothing in common would be as diverse: 1 for one repeated picture, at most D.
    """
    return vendi_of(moments(features))


def vendi_of(m: Moments) -> float:
    values = np.linalg.eigvalsh(m.second)
    values = values[values > 0] / values[values > 0].sum()
    return float(np.exp(-(values * np.log(values)).sum()))


def mean_similarity(features: np.ndarray) -> float:
    """Mean cosine of two different rows, over all pairs; of a class it says how alike its pictures are."""
    return mean_similarity_of(moments(features))


def mean_similarity_of(m: Moments) -> float:
    if m.n < 2:
        raise Unmeasurable("a picture is not similar to itself alone: the mean similarity needs 2")
    own = int(np.trace(m.products))  # n, but for the rounding of the grid: so that equal pictures have exactly 1
    total = sum(v * v for v in m.total.tolist())
    return (total - own) / ((m.n - 1) * own)
