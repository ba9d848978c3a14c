"""The sets that a judgement is about, in memory: features and classes of pictures, matched by the names of the classes."""

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np

from synth.errors import InputError
from synth.features.reading import FeatureSet, load, n_pictures, picture
from synth.judge.matching import Matching, matched
from synth.judge.parts import BOTH, MADE, REAL, ROLES, TEST
from synth.reading.stage import ROLE as IMAGES
from synth.reading.stage import StageReader
from synth.seeds import uniform
from synth.store.folder import StageFolder

if TYPE_CHECKING:
    from synth.judge.near import Near

FILTERED = "taken out by a filter"


@dataclass(frozen=True)
class PictureSet:
    """One set, rows in slot order. With several stages behind each other the slots of a later one follow those of the one before.

    labels: number of the class among those that all sets have, -1 for a picture of another or of none. own: among all of this set, -1 for
    a picture of none.
    """

    features: np.ndarray  # [N, D] float32, unit length
    slots: np.ndarray  # [N] int64
    labels: np.ndarray  # [N] int64
    own: np.ndarray  # [N] int64
    captions: np.ndarray | None  # [N, D], not a number where a picture has none
    class_texts: np.ndarray | None  # [C, D]
    left_out: Mapping[str, int]  # reason -> pictures
    stages: tuple[StageFolder, ...]
    firsts: tuple[int, ...]  # slot of each stage's first picture

    def __len__(self) -> int:
        return len(self.slots)

    def of_class(self, number: int) -> np.ndarray:
        """Rows [n] of a class."""
        return np.flatnonzero(self.labels == number)

    def rows_of(self, slots: range) -> slice:
        """The rows that are of some slots."""
        first, stop = np.searchsorted(self.slots, [slots.start, slots.stop])
        return slice(int(first), int(stop))

    def file(self, slot: int) -> bytes:
        """The bytes of a picture's file."""
        at = int(np.searchsorted(self.firsts, slot, "right")) - 1
        return picture(self.stages[at], slot - self.firsts[at])

    def counts(self, classes: int) -> np.ndarray:
        """Pictures [C] of each class."""
        return np.bincount(self.labels[self.labels >= 0], minlength=classes)

    def drawn(self, per_class: np.ndarray, seed: int) -> np.ndarray:
        """Rows [n], in slot order, of a draw of at most per_class[c] pictures of each class c, without replacement.

        A picture's lot hangs on its slot alone, so that sets which share slots draw alike.
        """
        lots = np.array([uniform(seed, "judge", int(slot)) for slot in self.slots])
        order = np.lexsort((lots, self.labels))
        starts = np.searchsorted(self.labels[order], np.arange(len(per_class)))
        place = np.arange(len(order)) - starts[np.maximum(self.labels[order], 0)] if len(per_class) else np.zeros(len(order), np.int64)
        taken = (self.labels[order] >= 0) & (place < (per_class[np.maximum(self.labels[order], 0)] if len(per_class) else 0))
        return np.sort(order[taken])


@dataclass(frozen=True)
class Sets:
    """All sets of a judgement. made: the judged one; class_names: those that all sets with classes have."""

    made: PictureSet
    real: PictureSet | None
    test: PictureSet | None
    matching: Matching
    near: "tuple[Near, Near] | None" = None  # what pictures of the judged set, of the real one, are near each other, where a part asks

    @property
    def class_names(self) -> tuple[str, ...]:
        return self.matching.classes

    @cached_property
    def named(self) -> dict[str, PictureSet]:
        """The sets that are there, by name."""
        return {name: pictures for name, pictures in ((MADE, self.made), (REAL, self.real), (TEST, self.test)) if pictures is not None}


def training_rows(sets: Sets, trained_on: str, per_class: int | None, seed: int) -> list[tuple[PictureSet, np.ndarray]]:
    """The rows [n] of each set that a classifier is trained on: as many judged as real pictures of each class, or both of them.

    The real set has the classes, too, that the judged one has no picture of, with as many as of a usual one: what lacks classes is no
    equal of real pictures, and takes none from them.
    """
    sides = [sets.made] if sets.real is None else [sets.made, sets.real]
    counts = [there.counts(len(sets.class_names)) for there in sides]
    most = np.min(counts, 0)
    if per_class is not None:
        most = np.minimum(most, per_class)
    of_real = most
    if most.any():
        of_real = np.where(counts[0] == 0, np.minimum(counts[-1], int(np.median(most[most > 0]))), most)
    made, real = (sets.made, most), (sets.real, of_real)
    wanted = {MADE: [made], REAL: [real], BOTH: [made, real]}[trained_on]
    return [(there, there.drawn(n, seed)) for there, n in wanted if there is not None]


def read_sets(judge: StageFolder) -> Sets:
    """The sets of a judge stage. InputError where there is nothing to judge, or no class is in all of them."""
    stages = {name: tuple(judge.upstream(role)) for name, role in ROLES.items() if role in judge.spec.upstream}
    loaded = {name: [load(stage) for stage in of_set] for name, of_set in stages.items()}
    classes = {name: _classes(name, sets) for name, sets in loaded.items()}
    matching = matched(classes if classes[MADE] else {})  # no class is judged of pictures that have none
    pictures = {name: _joined(sets, stages[name], matching.numbers.get(name)) for name, sets in loaded.items()}
    if IMAGES in judge.spec.upstream:
        pictures[MADE] = _chosen(pictures[MADE], StageReader(judge.upstream(IMAGES)[0]))
    for name, there in pictures.items():
        if not len(there):
            raise InputError(f"judge: the {name} set has no picture with features: {reasons(there.left_out)}")
    sides = {there.features.shape[1] for there in pictures.values()}
    if len(sides) > 1:
        raise InputError(f"judge: features of {sorted(sides)} numbers cannot be compared; plan all sets with one features.model")
    return Sets(pictures[MADE], pictures.get(REAL), pictures.get(TEST), matching)


def reasons(left_out: Mapping[str, int]) -> str:
    """The usual ones, why a set has no picture."""
    return "; ".join(f"{reason} ({n:,})" for reason, n in sorted(left_out.items(), key=lambda r: -r[1])[:3]) or "it is empty"


def _classes(name: str, sets: list[FeatureSet]) -> tuple[str, ...]:
    if len({s.classes for s in sets}) > 1:
        raise InputError(f"judge: the stages of the {name} set have other classes than each other; judge them apart")
    return sets[0].classes


def _joined(sets: list[FeatureSet], stages: tuple[StageFolder, ...], numbers: tuple[int, ...] | None) -> PictureSet:
    firsts = [0]
    for stage in stages[:-1]:
        firsts.append(firsts[-1] + n_pictures(stage))
    known = np.array([*(numbers or ()), -1])  # the last one: of pictures without a class
    left_out: Counter[str] = Counter()
    for s in sets:
        left_out.update(s.left_out)
    texts = sets[0].class_texts
    return PictureSet(
        np.concatenate([s.features for s in sets]),
        np.concatenate([s.slots + first for s, first in zip(sets, firsts, strict=True)]),
        known[np.concatenate([s.labels for s in sets])] if numbers else np.full(sum(len(s.slots) for s in sets), -1, np.int64),
        np.concatenate([s.labels for s in sets]),
        _captions(sets),
        None if texts is None or not numbers else texts[[n for n, number in enumerate(numbers) if number >= 0]],
        dict(left_out),
        stages,
        tuple(firsts),
    )


def _captions(sets: list[FeatureSet]) -> np.ndarray | None:
    """[N, D], not a number where a picture has no caption."""
    if all(s.captions is None for s in sets):
        return None
    return np.concatenate([np.full(s.features.shape, np.nan, np.float32) if s.captions is None else s.captions for s in sets])


def _chosen(pictures: PictureSet, kept: StageReader) -> PictureSet:
    """The pictures that the last filter left."""
    there = np.isin(pictures.slots, np.frombuffer(kept.sample_slots, np.int64)) if len(kept.sample_slots) else np.zeros(len(pictures), bool)
    left_out = {**pictures.left_out, **({FILTERED: int((~there).sum())} if not there.all() else {})}
    captions = None if pictures.captions is None else pictures.captions[there]
    return replace(
        pictures,
        features=pictures.features[there],
        slots=pictures.slots[there],
        labels=pictures.labels[there],
        own=pictures.own[there],
        captions=captions,
        left_out=left_out,
    )


def captions_of(made: PictureSet, slots: np.ndarray) -> Iterator[str]:
    """The captions of some pictures of a stage, those that have one."""
    for first, stage in zip(made.firsts, made.stages, strict=True):
        if IMAGES not in stage.spec.upstream:
            continue
        pictures = StageReader(stage.upstream(IMAGES)[0])
        mine = slots[(slots >= first) & (slots < first + pictures.slots)] - first
        for sample in pictures.picked(int(s) for s in mine):
            if caption := sample.metadata.get("caption"):
                yield str(caption)
