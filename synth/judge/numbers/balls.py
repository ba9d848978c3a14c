"""Which rows lie in the balls of which: precision, recall, density, coverage, and their clipped, calibrated kin. Exact: see `rows`.

The ball of a row reaches to its k-th nearest neighbour of its own set. As in the authors' code a row on the rim is outside, but a row that
equals the centre is always inside: so a picture that is there more than k times, whose ball has no size, is still near itself.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from synth.judge.numbers.neighbours import Nearest, distances, nearest_within
from synth.judge.numbers.rows import BLOCK, check


@dataclass(frozen=True)
class Balls:
    """Counts, for N real and M made rows. Every number below is a mean of them, so `intervals.interval` has its interval.

    around [M]: real balls that a made row is in. reached [N]: whether a real row is in a made ball. inside [N]: made rows in a real row's
    ball. clipped [M], clipped_real [N]: real balls of at most the median size, rim and all, that a made row, or another real row, is in.
    """

    k: int
    around: np.ndarray
    reached: np.ndarray
    inside: np.ndarray
    clipped: np.ndarray
    clipped_real: np.ndarray


@dataclass(frozen=True)
class Prdc:
    """Precision and recall of Kynkaanniemi et al. (1904.06991), density and coverage of Naeem et al. (2002.09797)."""

    precision: float  # share of made rows that lie in a real ball
    recall: float  # share of real rows that lie in a made ball
    density: float  # real balls around a made row / k; may exceed 1
    coverage: float  # share of real balls with a made row inside


def balls(real: np.ndarray, made: np.ndarray, k: int = 5, block: int = BLOCK) -> Balls:
    """real [N, D], made [M, D] of unit length. (N^2 / 2 + M^2 / 2 + N M) D multiplications, memory for two blocks.

    Unmeasurable where a set has no more than k rows.
    """
    check(real=real, made=made)
    own, made_radius = nearest_within(real, k, "real", block), nearest_within(made, k, "made", block).squared[:, -1]
    return joined(own, [counted(real, made, own.squared[:, -1], made_radius, block)])


@dataclass(frozen=True)
class Counted:
    """What some made rows [M] count among all real ones [N]: as in Balls."""

    around: np.ndarray
    clipped: np.ndarray
    inside: np.ndarray
    reached: np.ndarray


def counted(real: np.ndarray, made: np.ndarray, real_radius: np.ndarray, made_radius: np.ndarray, block: int = BLOCK) -> Counted:
    """real [N, D], some made rows [M, D]; the squared radii [N], [M] of their balls. N M D multiplications."""
    small = _small(real_radius)
    real_rim, made_rim = np.maximum(real_radius, 1), np.maximum(made_radius, 1)  # distances are whole numbers: below 1 is 0
    around, clipped = np.zeros(len(made), np.int64), np.zeros(len(made), np.int64)
    inside, reached = np.zeros(len(real), np.int64), np.zeros(len(real), bool)
    for rows, columns, squared in distances(made, real, block):
        within = squared < real_rim[columns]
        around[rows] += np.count_nonzero(within, axis=1)
        inside[columns] += np.count_nonzero(within, axis=0)
        clipped[rows] += np.count_nonzero(squared <= small[columns], axis=1)
        reached[columns] |= (squared < made_rim[rows, None]).any(axis=0)
    return Counted(around, clipped, inside, reached)


def joined(own: Nearest, parts: Sequence[Counted]) -> Balls:
    """The balls of which `parts` counted all made rows, in order. own: the k nearest real rows of each real one."""
    n, k = own.squared.shape
    near = own.index[own.squared <= _small(own.squared[:, -1])[:, None]]
    around, clipped = (np.concatenate([getattr(part, name) for part in parts]) for name in ("around", "clipped"))
    inside, reached = np.zeros(n, np.int64), np.zeros(n, bool)
    for part in parts:
        inside += part.inside
        reached |= part.reached
    return Balls(k, around, reached, inside, clipped, np.bincount(near, minlength=n))


def _small(radius: np.ndarray) -> np.ndarray:
    """Squared radii [N], those above the median cut down to it."""
    return np.minimum(radius, _median_radius(radius))


def _median_radius(squared: np.ndarray) -> float:
    """The square of the median of the roots: exact where it is that of one row."""
    low, high = np.sort(squared)[[(len(squared) - 1) // 2, len(squared) // 2]]
    return low if low == high else np.square((np.sqrt(low) + np.sqrt(high)) / 2)


def prdc(real: np.ndarray, made: np.ndarray, k: int = 5) -> Prdc:
    return prdc_of(balls(real, made, k))


def prdc_of(b: Balls) -> Prdc:
    return Prdc(
        float((b.around > 0).mean()), float(b.reached.mean()), float(b.around.sum() / (b.k * len(b.around))), float((b.inside > 0).mean())
    )


def clipped(real: np.ndarray, made: np.ndarray, k: int = 5) -> tuple[float, float]:
    """(clipped density, clipped coverage) of Salvy et al. (2507.01761): each about the share of made rows that are good."""
    return clipped_of(balls(real, made, k))


def clipped_of(b: Balls) -> tuple[float, float]:
    """Density with real balls of at most the median radius, at most 1 a made row, over what real rows get among themselves.

    Coverage counts up to k made rows a ball. Of m good rows it is expected to give f(m): its calibrated value is the m / M at which
    f(m) is what was counted.
    """
    density = np.minimum(b.clipped / b.k, 1).mean() / np.minimum(b.clipped_real / b.k, 1).mean()
    raw = np.minimum(b.inside, b.k).mean() / b.k
    expected = expected_coverage(len(b.inside), len(b.around), b.k)
    return float(min(density, 1)), float(np.interp(raw, expected, np.arange(len(expected)) / len(b.around)))


def expected_coverage(n: int, m: int, k: int) -> np.ndarray:
    """[m + 1] f(0..m): the mean share of k places of a ball of n real rows that 0..m rows of the same distribution fill.

    How many of i rows fall in a ball is beta-binomial(i, k, n - k), so f = 1 - sum over j < k of (k - j) P(j) / k.
    """
    log_factorial = np.concatenate([[0.0], np.cumsum(np.log(np.arange(1, n + m + 1)))])

    def log_beta(a, b):
        return log_factorial[a - 1] + log_factorial[b - 1] - log_factorial[a + b - 1]

    i, missing = np.arange(m + 1), np.zeros(m + 1)
    for j in range(min(k, m + 1)):
        some = i[j:]
        log_choose = log_factorial[some] - log_factorial[j] - log_factorial[some - j]
        missing[j:] += (k - j) / k * np.exp(log_choose + log_beta(k + j, n - k + some - j) - log_beta(k, n - k))
    return 1 - missing
