"""Which point of a sweep is best, by the same test pictures, and whether that is more than noise. Pure.

Bootstrap of test pictures, the same draws for all points (paired), with the seeds drawn anew too, whose share is widened by S / (S - 1) as
in `numbers.intervals`. All pairs of points are compared at once:
a difference counts if it exceeds, in units of its standard error, what the largest of all of them reaches by chance in 95 % of the draws
(single-step max-T, Romano and Wolf 2005), and if enough test pictures are answered otherwise for a sign test. So neither looking at many
points nor picking the best one makes a winner of noise.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from synth.judge.numbers.intervals import wilson
from synth.seeds import generator

DRAWS, LEVEL = 2000, 0.95


@dataclass(frozen=True)
class Accuracy:
    value: float
    low: float
    high: float

    @property
    def half(self) -> float:
        """Half of the interval's width, for +-."""
        return (self.high - self.low) / 2


@dataclass(frozen=True)
class Choice:
    """accuracies: of each point. order: points from best to worst. tied: those that the best is not better than by more than the noise,
    itself first; a winner stands there alone."""

    accuracies: tuple[Accuracy, ...]
    order: tuple[int, ...]
    tied: tuple[int, ...]

    @property
    def winner(self) -> int | None:
        return self.tied[0] if len(self.tied) == 1 and len(self.order) > 1 else None


def choose(correct: Sequence[np.ndarray], draws: int = DRAWS, level: float = LEVEL) -> Choice:
    """correct: [S, M] bool of each point: whether the probe of a seed is right about a test picture; the same M pictures in all of them.

    Deterministic. ValueError for points that were tested on different numbers of pictures.
    """
    if len({c.shape[1] for c in correct}) > 1:
        raise ValueError("points that were tested on different pictures cannot be compared")
    values = np.array([c.mean() for c in correct])
    drawn = _drawn(correct, draws)  # [draws, points]
    tail = (1 - level) / 2
    low, high = np.quantile(drawn, [tail, 1 - tail], axis=0)
    accuracies = tuple(_accuracy(v, a, b, correct[0].shape[1]) for v, a, b in zip(values, low, high, strict=True))
    order = sorted(range(len(values)), key=lambda n: (-values[n], n))
    worse = {n for n in _worse(values, drawn, order[0], level) if not _few(correct[order[0]], correct[n], level)}
    tied = [order[0], *(n for n in order[1:] if n not in worse)]
    return Choice(accuracies, tuple(order), tuple(tied))


def _few(one: np.ndarray, other: np.ndarray, level: float) -> bool:
    """Whether two points answer too few pictures otherwise for any winner: were all of these for one, the sign test would still call it
    chance. A bootstrap of one picture has no spread, and is sure of all."""
    return bool(2 * 0.5 ** int((one.mean(0) != other.mean(0)).sum()) > 1 - level)


def _accuracy(value: float, low: float, high: float, n: int) -> Accuracy:
    if value in (0, 1):  # no draw is ever wrong, or right: Wilson's interval is not sure of all
        share = wilson(int(value) * n, n)
        low, high = share.low, share.high
    return Accuracy(float(value), float(max(0.0, min(low, value))), float(min(1.0, max(high, value))))


def _drawn(correct: Sequence[np.ndarray], draws: int) -> np.ndarray:
    """[draws, points]: accuracies of test pictures and seeds drawn with replacement; test pictures alike for all points."""
    m, random = correct[0].shape[1], generator(0)
    drawn = np.empty((draws, len(correct)))
    of_rows = np.stack([c.sum(0) for c in correct], 1)  # [M, points], whole numbers: their sums are exact in any order
    seeds = np.array([len(c) for c in correct])
    for at in range(draws):
        drawn[at] = np.bincount(random.integers(0, m, m), minlength=m) @ of_rows / (m * seeds)
    for at, c in enumerate(correct):
        if (count := len(c)) > 1:
            of_seeds = c.mean(1)
            off = of_seeds[random.integers(0, count, (draws, count))].mean(1) - of_seeds.mean()
            drawn[:, at] += off * np.sqrt(count / (count - 1))
    return drawn


def _worse(values: np.ndarray, drawn: np.ndarray, best: int, level: float) -> set[int]:
    """The points that the best one is better than by more than the noise."""
    first, second = np.triu_indices(len(values), 1)
    if not len(first):
        return set()
    differences = values[first] - values[second]
    off = np.abs(drawn[:, first] - drawn[:, second] - differences)
    errors = np.sqrt((off**2).mean(0))
    known = errors > 0  # points of the same answers, or always apart by the same, have no error
    most = np.where(known, off / np.where(known, errors, 1), 0).max(1)
    limit = np.quantile(most, level)
    apart = np.abs(differences) > limit * errors
    pairs = {(int(a), int(b)) for a, b in zip(first[apart], second[apart], strict=True)}
    return {a if b == best else b for a, b in pairs if best in (a, b)}
