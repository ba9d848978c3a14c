"""What made pictures lack, by real ones: how much each class, and within it each mode of captions, is in need of more. Pure.

Each real picture has a need: that a probe, trained on the made pictures, is wrong about it; how unsure that is of it; or that no made
picture is near it. The need of a class is the mean of its real pictures. Within a class the need of a real picture goes to the mode of
the made picture of its class that is nearest to it: that one comes closest to showing what is missing.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from synth.judge.config import COVERAGE, ENTROPY, ERROR
from synth.judge.numbers import balls
from synth.judge.numbers.answers import per_class
from synth.judge.numbers.neighbours import nearest
from synth.judge.numbers.rows import Unmeasurable
from synth.judge.probes import fit
from synth.judge.scores import entropies


@dataclass(frozen=True)
class Pictures:
    """features [N, D] of unit length; labels [N], numbers of classes; modes [N], numbers of modes of captions (of made pictures)."""

    features: np.ndarray
    labels: np.ndarray
    modes: np.ndarray | None = None


@dataclass(frozen=True)
class Needs:
    """of_class [C], not a number for a class of which it cannot be told; by_mode [C, M], the need of its real pictures by the nearest mode;
    accuracy: of the probe, on the real pictures; why: number of a class -> why its need is not known."""

    of_class: np.ndarray
    by_mode: np.ndarray
    accuracy: float | None
    why: Mapping[int, str]


def needs(by: str, made: Pictures, real: Pictures, n_classes: int, n_modes: int, k: int) -> Needs:
    """k: neighbours of coverage. Unmeasurable where no probe can be trained, which error and entropy need."""
    of_row, accuracy, why = np.full(len(real.labels), np.nan), None, dict[int, str]()
    try:
        probe = fit(made.features, made.labels, n_classes)
    except Unmeasurable:
        if by != COVERAGE:
            raise
    else:
        p = probe(real.features)
        wrong = p.argmax(1) != real.labels
        accuracy = float(1 - wrong.mean()) if len(wrong) else None
        if by == ERROR:
            of_row = wrong.astype(np.float64)
        elif by == ENTROPY:
            of_row = entropies(p, len(probe.there))
    if by == COVERAGE:
        of_row, why = _uncovered(made, real, n_classes, k)
    counts = np.bincount(real.labels, minlength=n_classes)
    why = {int(n): "has no real picture" for n in np.flatnonzero(counts == 0)} | why
    known = ~np.isnan(of_row)
    of_class = per_class(of_row[known], real.labels[known], n_classes)
    return Needs(of_class, _by_mode(of_row, made, real, n_classes, n_modes), accuracy, why)


def _uncovered(made: Pictures, real: Pictures, n_classes: int, k: int) -> tuple[np.ndarray, dict[int, str]]:
    """([n] 1 for a real picture without a made one of its class among its k nearest real ones, 0 for others; class -> why it has none)."""
    of_row, why = np.full(len(real.labels), np.nan), {}
    for number in range(n_classes):
        theirs = np.flatnonzero(real.labels == number)
        ours = made.features[made.labels == number]
        if not len(theirs):
            continue
        if len(ours) <= k:  # too few for balls of their own, which coverage does not ask: it is the real ones that have balls
            ours = np.repeat(ours, k + 1, axis=0)
        if not len(ours):
            of_row[theirs] = 1.0
            continue
        try:
            of_row[theirs] = balls.balls(real.features[theirs], ours, k).inside == 0
        except Unmeasurable as e:
            why[number] = str(e)
    return of_row, why


def _by_mode(of_row: np.ndarray, made: Pictures, real: Pictures, n_classes: int, n_modes: int) -> np.ndarray:
    """[C, M] sums of the needs of real pictures, by the mode of the made picture of their class that is nearest."""
    table = np.zeros((n_classes, n_modes))
    for number in range(n_classes):
        theirs = np.flatnonzero((real.labels == number) & ~np.isnan(of_row))
        ours = np.flatnonzero(made.labels == number)
        if made.modes is not None and len(theirs) and len(ours):
            modes = made.modes[ours[nearest(real.features[theirs], made.features[ours], 1).index[:, 0]]]
            np.add.at(table[number], modes, of_row[theirs])
    return table


def filled(of_class: np.ndarray) -> list[float]:
    """The needs, with the mean of the known ones where one is not known; alike where none is.

    >>> filled(np.array([0.5, np.nan, 0.1]))
    [0.5, 0.3, 0.1]
    """
    known = of_class[~np.isnan(of_class)]
    usual = float(known.mean()) if len(known) else 1.0
    return [usual if np.isnan(need) else float(need) for need in of_class]


def mixed(needed: Sequence[float], there: Sequence[int], floor: float) -> list[float]:
    """Shares of modes within a class: `floor` of what the captions have of each, and the rest by need, which is not 0 of all.

    >>> mixed([3, 1], [1, 1], 0.5)
    [0.625, 0.375]
    """
    return [floor * n / sum(there) + (1 - floor) * need / sum(needed) for n, need in zip(there, needed, strict=True)]
