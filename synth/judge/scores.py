"""Stage kind `judge_scores`: what filter `judge` goes by, of each picture, computed once, by as many jobs as there are. Without thresholds.

Upstream roles: "features" of the pictures; "real" and "test", features of given sets, either may lack. Slot k is picture k: a sample
{"json"} with `label` and, where they can be had, the numbers below; a tombstone where it has no feature.

With "real", of a picture whose class has real pictures there:
    margin    -1..1, probability of its class less that of the likeliest other one, by a linear probe that was trained on the real pictures
    entropy   0..1, of all its probabilities: 1 where the probe finds every class as likely
    outlier   0..1, share of the real pictures of its class that lie nearer to their nearest other one than it does to its nearest one
With "test":
    leak      cosine of the most similar test picture
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from synth.errors import InputError
from synth.features.reading import FeatureSet, feature_of, load, n_pictures
from synth.judge.config import JudgeScoresConfig
from synth.judge.matching import matched
from synth.judge.numbers.neighbours import nearest, nearest_within
from synth.judge.numbers.rows import Unmeasurable, check
from synth.judge.parts import MADE, REAL, ROLES, TEST
from synth.judge.probes import Probe, equal_counts, fit
from synth.judge.sets import reasons
from synth.reading.sample import StageSample
from synth.reading.stage import StageReader
from synth.run.stage import Stage
from synth.store.folder import StageFolder
from synth.store.names import classes_of
from synth.store.samples import Sample, Tombstone, Unit
from synth.store.spec import canonical

MARGIN, ENTROPY, OUTLIER, LEAK = NUMBERS = ("margin", "entropy", "outlier", "leak")
DIGITS = 6  # behind the point, of what comes from probabilities
GONE = "has no feature"


class JudgeScores(Stage):
    config: JudgeScoresConfig

    def __init__(self, folder: StageFolder):
        super().__init__(folder)
        self._beside: Beside | None = None

    def check(self) -> None:
        pictures = n_pictures(self._features)
        if pictures != self.folder.spec.slots:
            raise InputError(f"{self.folder.path}: has {self.folder.spec.slots} slots for {pictures} pictures; plan it again")

    @property
    def _features(self) -> StageFolder:
        return self.folder.upstream(ROLES[MADE])[0]

    def open(self) -> None:
        """The given sets are in memory: 4 bytes a number. Of the pictures it is one batch."""
        self._reader = StageReader(self._features)
        self._beside = read_beside(self.folder, self.config.per_class)

    def begin(self, unit: Unit) -> dict[int, str]:
        return self._reader.reasons(unit.start, unit.stop)

    def compute(self, state: dict[int, str], slots: range) -> list[tuple[int, Mapping[str, Any] | str]]:
        assert self._beside is not None  # open was called
        samples = {sample.slot: sample for sample in self._reader.samples(slots.start, slots.stop)}
        scored = dict(zip(samples, self._beside.scored(samples.values()), strict=True))
        return [(slot, scored[slot] if slot in scored else state.get(slot, GONE)) for slot in slots]

    def encode(self, state: Any, item: tuple[int, Mapping[str, Any] | str]) -> Sample | Tombstone:
        slot, facts = item
        return Tombstone(slot, facts) if isinstance(facts, str) else Sample(slot, f"{slot:09d}", {"json": canonical(facts)})

    def close(self) -> None:
        self._beside = None


@dataclass(frozen=True)
class Real:
    """Real pictures of the classes that both sets have. numbers: official index of a class of the judged set -> its number among them."""

    numbers: Mapping[int, int]
    features: np.ndarray  # [N, D] of unit length
    labels: np.ndarray  # [N] numbers
    probe: Probe
    own: Mapping[int, np.ndarray]  # number -> [n] squared distances of its pictures to their nearest other one, sorted

    @classmethod
    def of(cls, features: np.ndarray, labels: np.ndarray, numbers: Mapping[int, int], per_class: int | None) -> "Real":
        """Unmeasurable where real pictures of fewer than two classes are left."""
        n_classes = len(set(numbers.values()))
        rows = np.arange(len(labels)) if per_class is None else equal_counts(labels, per_class, seed=0)
        probe = fit(features[rows], labels[rows], n_classes)
        own = {}
        for number in range(n_classes):
            mine = features[labels == number]
            if len(mine) > 1:
                own[number] = np.sort(nearest_within(mine, 1).squared[:, 0])
        return cls(numbers, features, labels, probe, own)

    def scores(self, x: np.ndarray, labels: np.ndarray) -> dict[str, np.ndarray]:
        """[n] of each number of pictures [n, D] of these numbers of classes; not a number where it cannot be had."""
        known = np.flatnonzero(np.isin(labels, self.probe.there))
        found = {name: np.full(len(x), np.nan) for name in (MARGIN, ENTROPY, OUTLIER)}
        if not len(known):
            return found
        p = self.probe(x[known])
        found[MARGIN][known], found[ENTROPY][known] = margins(p, labels[known]), entropies(p, len(self.probe.there))
        for number in np.unique(labels[known]):
            if (own := self.own.get(int(number))) is not None:
                rows = np.flatnonzero(labels == number)
                squared = nearest(x[rows], self.features[self.labels == number], 1).squared[:, 0]
                found[OUTLIER][rows] = np.searchsorted(own, squared, "left") / len(own)
        return found


@dataclass(frozen=True)
class Beside:
    """What pictures are held against."""

    real: Real | None
    test: np.ndarray | None  # [M, D] of unit length

    def scored(self, samples: Any) -> Iterator[Mapping[str, Any]]:
        """Facts of each sample of a stage of features. All are scored at once: a batch, which the plan fixes."""
        samples = list(samples)
        if not samples:
            return
        x = np.stack([_unit(sample) for sample in samples])
        columns: dict[str, np.ndarray] = {}
        if self.real is not None:
            columns |= self.real.scores(x, np.array([self.real.numbers.get(_label(s), -1) for s in samples], np.int64))
        if self.test is not None:
            columns[LEAK] = nearest(x, self.test, 1).similarity[:, 0]
        for at, sample in enumerate(samples):
            numbers = {name: float(column[at]) for name, column in columns.items() if not np.isnan(column[at])}
            yield ({"label": _label(sample)} if _label(sample) >= 0 else {}) | numbers


def margins(p: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """[n] probability of the label less that of the likeliest other class. p [n, C], labels [n].

    >>> margins(np.array([[0.7, 0.2, 0.1], [0.7, 0.2, 0.1]]), np.array([0, 2])).tolist()
    [0.5, -0.6]
    """
    at = np.arange(len(p)), labels
    others = p.copy()
    others[at] = -np.inf
    return np.round(p[at] - others.max(1), DIGITS)


def entropies(p: np.ndarray, n_classes: int) -> np.ndarray:
    """[n] entropy of each row of p [n, C] as a share of that of n_classes which are all as likely.

    >>> entropies(np.array([[0.5, 0.5, 0], [1, 0, 0]]), 2).tolist()
    [1.0, 0.0]
    """
    return np.abs(np.round((p * np.log(np.maximum(p, 1e-300))).sum(1) / np.log(n_classes), DIGITS))


def read_beside(folder: StageFolder, per_class: int | None) -> Beside:
    """The given sets of a stage of scores, trained on. InputError where one of them has nothing to compare with."""
    given = {name: load(folder.upstream(ROLES[name])[0]) for name in (REAL, TEST) if ROLES[name] in folder.spec.upstream}
    for name, there in given.items():
        if not len(there):
            raise InputError(f"filter.judge.{name}: has no picture with features: {reasons(there.left_out)}")
        check(**{name: there.features})
    return Beside(_real(folder, given[REAL], per_class) if REAL in given else None, given[TEST].features if TEST in given else None)


def _real(folder: StageFolder, real: FeatureSet, per_class: int | None) -> Real:
    made = classes_of(folder)
    matching = matched({MADE: [made[index] for index in sorted(made)], REAL: real.classes})
    numbers = {index: number for index, number in zip(sorted(made), matching.numbers[MADE], strict=True) if number >= 0}
    labels = np.array([*matching.numbers[REAL], -1])[real.labels]  # the last one: of pictures without a class
    rows = labels >= 0
    try:
        return Real.of(real.features[rows], labels[rows], numbers, per_class)
    except Unmeasurable as e:
        raise InputError(f"filter.judge.real: no probe can be trained on it: {e}; give real pictures of two classes at least") from e


def _label(sample: StageSample) -> int:
    return sample.metadata.get("label", -1)


def _unit(sample: StageSample) -> np.ndarray:
    """[D] the feature of a picture, of length one again after its storage in half precision."""
    row = feature_of(sample)
    length = float(np.linalg.norm(row))
    if not 0 < length < np.inf:
        raise InputError(f"filter.judge: the feature of picture {sample.slot} is not finite, or 0; see to features.model")
    return row / length
