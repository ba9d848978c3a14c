"""Classifiers on features: trained on one set, asked about another. They tell whether a set trains, in seconds, without a training run.

Both give the same bytes for any number of threads, on the same versions: see `numbers.products` and `numbers.rows`.
"""

from dataclasses import dataclass

import numpy as np

from synth import seeds
from synth.errors import InputError
from synth.judge.numbers.answers import softmax
from synth.judge.numbers.neighbours import nearest
from synth.judge.numbers.products import product
from synth.judge.numbers.rows import Unmeasurable, blocks, check, check_labels

TEMPERATURE = 0.07  # of kNN's votes: Wu et al. 1805.01978, and DINO
L2 = 1e-3  # of the linear probe, the same for all sets: docs/judge_numbers.md has what another one changes
BLOCK = 4096  # rows at once
ROUNDS, MEMORY, SMALL = 500, 10, 1e-5  # of L-BFGS: iterations at most; pairs kept; largest slope at the end


def knn(train: np.ndarray, labels: np.ndarray, test: np.ndarray, n_classes: int, k: int = 20) -> np.ndarray:
    """[M, C] probabilities: the k nearest training rows vote, with weights e^(cosine / TEMPERATURE).

    train [N, D] and test [M, D] of unit length, labels [N]. Unmeasurable for fewer than k training rows.
    """
    check(train=train, test=test)
    check_labels(labels, len(train), n_classes, "train")
    found = nearest(test, train, k, "train")
    weights = np.exp((found.similarity - found.similarity[:, :1]) / TEMPERATURE)
    votes = np.zeros((len(test), n_classes))
    np.add.at(votes, (np.arange(len(test))[:, None], labels[found.index]), weights)
    return votes / votes.sum(1, keepdims=True)


def equal_counts(labels: np.ndarray, per_class: int, seed: int) -> np.ndarray:
    """Rows, in order, that are `per_class` of each class that is there, drawn without replacement; all of a class that has fewer.

    A class's rows have an order of their own by the seed, so a smaller count draws a part of what a larger one does.
    """
    drawn = []
    for label in np.unique(labels):
        rows = np.flatnonzero(labels == label)
        drawn.append(seeds.generator(seeds.derive(seed, "equal counts", int(label))).permutation(rows)[:per_class])
    return np.sort(np.concatenate(drawn)) if drawn else np.zeros(0, np.int64)


def linear_probe(train: np.ndarray, labels: np.ndarray, test: np.ndarray, n_classes: int, l2: float = L2) -> np.ndarray:
    """[M, C] probabilities of a multinomial logistic regression; 0 for a class without a training row.

    train [N, D] and test [M, D] of unit length, labels [N]. It minimises mean cross entropy + l2 |W|^2 / 2 over all rows by L-BFGS from 0,
    on features from which the training mean is taken and that are scaled to a mean square of 1 a number. That problem has one solution,
    so there is no seed: seeds choose the rows (`equal_counts`). InputError where it does not get there.
    """
    check(train=train, test=test)
    return fit(train, labels, n_classes, l2)(test)


@dataclass(frozen=True)
class Probe:
    """A trained linear probe."""

    weights: np.ndarray  # [D + 1, K]
    scaling: "Scaling"
    there: np.ndarray  # [K] the classes that have a training row
    n_classes: int

    def __call__(self, x: np.ndarray) -> np.ndarray:
        """[M, C] probabilities of rows [M, D] of unit length, BLOCK rows at once; 0 for a class without a training row."""
        answers = np.zeros((len(x), self.n_classes))
        for rows in blocks(len(x), BLOCK):
            answers[rows, self.there] = softmax(product(self.scaling(x[rows]), self.weights))
        return answers


def fit(train: np.ndarray, labels: np.ndarray, n_classes: int, l2: float = L2) -> Probe:
    """The probe of `linear_probe`. Unmeasurable unless rows of two classes are there."""
    check(train=train)
    check_labels(labels, len(train), n_classes, "train")
    there, target = np.unique(labels, return_inverse=True)
    if len(there) < 2:
        raise Unmeasurable(f"train: all pictures are of one class ({int(there[0])}), so there is nothing to tell apart")
    scaling = Scaling.of(train)
    return Probe(minimise(_Loss(train, target, len(there), scaling, l2)), scaling, there, n_classes)


@dataclass(frozen=True)
class Scaling:
    """(x - mean) * factor, with a 1 behind it for the bias."""

    mean: np.ndarray  # [D]
    factor: float

    @classmethod
    def of(cls, x: np.ndarray) -> "Scaling":
        total, squares = np.zeros(x.shape[1]), 0.0
        for rows in blocks(len(x), BLOCK):
            total += x[rows].sum(0, dtype=np.float64)
        mean = total / len(x)
        for rows in blocks(len(x), BLOCK):
            squares += float(np.square(x[rows] - mean).sum())
        if squares <= 1e-10 * len(x):
            raise Unmeasurable("train: all pictures have the same features")
        return cls(mean, float(np.sqrt(x.size / squares)))

    def __call__(self, x: np.ndarray) -> np.ndarray:
        """[N, D] -> [N, D + 1] float64"""
        return np.column_stack([(x - self.mean) * self.factor, np.ones(len(x))])


@dataclass(frozen=True)
class _Loss:
    """Value and slope at weights [D + 1, C]; the last row, the bias, is not pulled to 0."""

    train: np.ndarray
    target: np.ndarray
    n_classes: int
    scaling: Scaling
    l2: float

    @property
    def shape(self) -> tuple[int, int]:
        return self.train.shape[1] + 1, self.n_classes

    def __call__(self, weights: np.ndarray) -> tuple[float, np.ndarray]:
        loss, slope = 0.0, np.zeros_like(weights)
        for rows in blocks(len(self.train), BLOCK):
            x, target = self.scaling(self.train[rows]), self.target[rows]
            p = softmax(product(x, weights))
            at = np.arange(len(x)), target
            loss -= float(np.log(np.maximum(p[at], 1e-300)).sum())
            p[at] -= 1
            slope += product(x.T, p)
        n, pulled = len(self.train), weights.copy()
        pulled[-1] = 0
        return loss / n + self.l2 / 2 * float(np.square(pulled).sum()), slope / n + self.l2 * pulled


def minimise(function, rounds: int = ROUNDS, small: float = SMALL) -> np.ndarray:
    """Where a convex function is least, from 0: L-BFGS (Nocedal 1980) with halved steps until it falls enough (Armijo).

    Sums are numpy's own, never BLAS's, whose order depends on threads. InputError if no slope of the end is as small as asked.
    """
    x = np.zeros(function.shape)
    value, slope = function(x)
    pairs: list[tuple[np.ndarray, np.ndarray]] = []
    for _ in range(rounds):
        if np.abs(slope).max() <= small:
            return x
        step = _direction(slope, pairs)
        fall, scale = float((step * slope).sum()), 1.0
        while True:
            after, new_slope = function(x + scale * step)
            if after <= value + 1e-4 * scale * fall:
                break
            scale /= 2
            if scale < 1e-10:
                return _ended(x, slope, small)
        moved, turned = scale * step, new_slope - slope
        if float((moved * turned).sum()) > 1e-12 * float(np.square(turned).sum()):
            pairs = [*pairs[1 - MEMORY :], (moved, turned)]
        x, value, slope = x + moved, after, new_slope
    return _ended(x, slope, small)


def _direction(slope: np.ndarray, pairs: list[tuple[np.ndarray, np.ndarray]]) -> np.ndarray:
    """The two loops over the pairs (moved, turned) of the last steps."""
    q, shares = slope.copy(), []
    for moved, turned in reversed(pairs):
        share = float((moved * q).sum() / (moved * turned).sum())
        q -= share * turned
        shares.append(share)
    if pairs:
        moved, turned = pairs[-1]
        q *= float((moved * turned).sum() / np.square(turned).sum())
    for (moved, turned), share in zip(pairs, reversed(shares), strict=True):
        q += (share - float((turned * q).sum() / (moved * turned).sum())) * moved
    return -q


def _ended(x: np.ndarray, slope: np.ndarray, small: float) -> np.ndarray:
    """Rounding ends the search a little before the goal: that is as good; anything else is not an answer."""
    if np.abs(slope).max() > 100 * small:
        raise InputError(
            f"the linear probe does not settle (slope {np.abs(slope).max():.1e}): its features are badly scaled, or l2 is too small"
        )
    return x
