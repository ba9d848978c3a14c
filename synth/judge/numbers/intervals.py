"""Intervals of what was measured on a sample, and the size of the sample that a narrower one needs."""

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np

from synth import seeds
from synth.errors import InputError
from synth.judge.numbers.rows import Unmeasurable

AT_ONCE = 2**20  # rows that are drawn at once


@dataclass(frozen=True)
class Interval:
    """A value measured on n things, and the interval low..high that holds the true one with the probability `level`."""

    value: float
    low: float
    high: float
    n: int
    level: float = 0.95

    @property
    def half(self) -> float:
        """Half of its width: the +- of a text."""
        return (self.high - self.low) / 2


def interval(
    values: np.ndarray, seed: int, n: int = 1000, level: float = 0.95, statistic: Callable[[np.ndarray], float] | None = None
) -> Interval:
    """The interval of the mean of values: [N], one a thing, or [S, N], the same things measured with S seeds.

    Of right or wrong ([N] bool) it is Wilson's (1927): a bootstrap of 10 right ones out of 10 would be sure of all. So it is where all
    seeds have them all right, or none. Else it is the percentile bootstrap (Efron 1979) of n draws. With S seeds both things and seeds are
    drawn, and what seeds add to the variance is widened by S / (S - 1), so that two seeds do not look surer than they are. statistic: of
    resampled rows [N, ...], where the value is no mean; InputError if it is not finite for a draw. Unmeasurable below 2 things, where a
    mean has no spread.
    """
    if not 0 < level < 1 or n < 1:
        raise InputError(f"an interval needs a level between 0 and 1 and draws, not {level} and {n}")
    things = values.shape[1] if values.ndim == 2 and statistic is None else len(values)
    if things < 2:
        raise Unmeasurable(f"an interval needs 2 pictures; there are {things}")
    if not np.isfinite(values).all():
        raise InputError("values that are not finite have no interval: leave them out and say so")
    if statistic is not None:
        return _of_statistic(values, statistic, seed, n, level)
    if values.ndim == 1 and values.dtype == bool:
        return wilson(int(values.sum()), len(values), level)
    if values.dtype == bool and (values.all() or not values.any()):  # of all seeds: no draw is ever otherwise
        return wilson(things if values.all() else 0, things, level)
    drawn = _of_means(values.mean(0) if values.ndim == 2 else values, seed, n)
    if values.ndim == 2:
        drawn += _of_seeds(values.mean(1, dtype=np.float64), seed, n)
    low, high = np.quantile(drawn, [(1 - level) / 2, (1 + level) / 2])
    return Interval(float(values.mean(dtype=np.float64)), float(low), float(high), things, level)


def difference(one: np.ndarray, other: np.ndarray, seed: int, n: int = 1000, level: float = 0.95) -> Interval:
    """The interval of mean(one) - mean(other), both measured on the same things ([N] or [S, N]): paired, so that what is hard for both
    does not count. One that holds 0 tells no winner."""
    if one.shape != other.shape:
        raise InputError(f"what is compared was measured on different things: {list(one.shape)} and {list(other.shape)}")
    return interval(one.astype(np.float64) - other.astype(np.float64), seed, n, level)


def wilson(right: int, n: int, level: float = 0.95) -> Interval:
    """Wilson's score interval of a share."""
    z, p = _z(level), right / n
    middle, spread = (p + z * z / (2 * n)) / (1 + z * z / n), z / (1 + z * z / n) * math.sqrt(p * (1 - p) / n + z * z / (4 * n * n))
    return Interval(p, max(0.0, middle - spread), min(1.0, middle + spread), n, level)


def needed(found: Interval, within: float) -> int:
    """How many things an interval of +- within needs, if they spread as those that were measured: the width goes with 1 / sqrt(n)."""
    if within <= 0:
        raise InputError(f"+- {within}: the width of an interval is above 0")
    return math.ceil(found.n * (found.half / within) ** 2)


def needed_of_share(share: float, within: float, level: float = 0.95) -> int:
    """How many things the interval of a share needs to be +- within, before any is measured.

    >>> needed_of_share(0.5, 0.01)
    9604
    """
    return math.ceil(_z(level) ** 2 * share * (1 - share) / within**2)


def _z(level: float) -> float:
    return NormalDist().inv_cdf((1 + level) / 2)


def _of_means(values: np.ndarray, seed: int, n: int) -> np.ndarray:
    """[n] means of draws with replacement."""
    values = values.astype(np.float64)
    return np.concatenate([values[rows].mean(1) for rows in _draws(len(values), seed, n)])


def _of_seeds(means: np.ndarray, seed: int, n: int) -> np.ndarray:
    """[n] deviations from the mean of all seeds."""
    count = len(means)
    if count < 2:
        return np.zeros(n)
    rows = seeds.generator(seeds.derive(seed, "interval", "seeds")).integers(0, count, (n, count))
    return (means[rows].mean(1) - means.mean()) * math.sqrt(count / (count - 1))


def _of_statistic(values: np.ndarray, statistic: Callable[[np.ndarray], float], seed: int, n: int, level: float) -> Interval:
    drawn = np.array([statistic(values[draw]) for rows in _draws(len(values), seed, n) for draw in rows], np.float64)
    if not np.isfinite(drawn).all():
        raise InputError("the statistic is not finite for some draws: measure more things, or leave the interval out")
    low, high = np.quantile(drawn, [(1 - level) / 2, (1 + level) / 2])
    return Interval(float(statistic(values)), float(low), float(high), len(values), level)


def _draws(count: int, seed: int, n: int) -> Iterator[np.ndarray]:
    """n draws of `count` of as many rows, with replacement: [some, count] at a time, how many depends on count alone."""
    rng, some = seeds.generator(seeds.derive(seed, "interval", "rows")), max(1, AT_ONCE // count)
    for start in range(0, n, some):
        yield rng.integers(0, count, (min(some, n - start), count))
