"""Filters: which pictures of a stage stay. A slot that stays is a sample with its score; one that goes is a tombstone with the reason.

All of the stage is judged at once (a share of a class needs the whole class), by each worker anew from the stored scores: that takes
seconds, and gives all of them the same answer. What is held is a few numbers a picture, never its record; embeddings of a million
pictures take 2 to 3 GB while they are compared. A reason names its kind first and what is this picture's own in brackets at the end.
"""

import json
from array import array
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import islice

import numpy as np

from synth.errors import InputError
from synth.filters import rules
from synth.filters.scoring import labelled, scores_of
from synth.reading.sample import StageSample
from synth.reading.stage import GONE, ROLE, StageReader
from synth.run.stage import Stage
from synth.store.folder import StageFolder
from synth.store.samples import Sample, Tombstone
from synth.store.spec import canonical

THREADS, AHEAD = 4, 64  # that read pictures for their labels, and how many pictures ahead


@dataclass(frozen=True)
class There:
    """The pictures that are still there, in slot order: all that filters look at beside scores. 16 bytes a picture."""

    slots: np.ndarray  # [N] int64
    labels: np.ndarray  # [N] int64, -1 where a picture has none


@dataclass(frozen=True)
class Verdicts:
    """What becomes of the pictures that are there. `say`: place in them -> (facts of the sample, reason of the tombstone), on demand."""

    kept: np.ndarray  # [N] bool
    say: Callable[[int], tuple[dict, str]]


class Selection(Stage):
    """What the filters share. A kind says in `judge` what becomes of each picture that is still there."""

    def __init__(self, folder: StageFolder):
        super().__init__(folder)
        self.pictures: StageReader | None = None
        self._there: There | None = None
        self._verdicts: Verdicts | None = None

    def check(self) -> None:
        roles = self.folder.upstream(ROLE)
        if len(roles) == 1:
            self.pictures = StageReader(roles[0])
        if self.folder.spec.slots != sum(r.spec.slots for r in roles):
            raise InputError(
                f"{self.folder.path}: has {self.folder.spec.slots} slots, its images {sum(r.spec.slots for r in roles)}; plan it again"
            )

    def open(self) -> None:
        self.check()
        slots, labels = array("q"), array("q")
        for slot, label in self.there():
            slots.append(slot)
            labels.append(label)
        self._there = There(np.frombuffer(slots, np.int64), np.frombuffer(labels, np.int64))
        self._verdicts = self.judge(self._there)

    def there(self) -> Iterator[tuple[int, int]]:
        """(slot, label) of the pictures that are still there, -1 for one that was not scored.

        Labels are taken from the scores, which are small: in units without digests of files no record is sure without its picture.
        """
        return labelled(self.pictures.sample_slots, self.folder.upstream("scores")[0])

    def judge(self, there: There) -> Verdicts:
        raise NotImplementedError

    def begin(self, unit) -> dict[int, str]:
        return self.pictures.reasons(unit.start, unit.stop)

    def compute(self, state: dict[int, str], slots: range) -> list[tuple[int, bool, dict, str]]:
        rows = []
        for slot in slots:
            at = int(np.searchsorted(self._there.slots, slot))
            if at < len(self._there.slots) and self._there.slots[at] == slot:
                rows.append((slot, bool(self._verdicts.kept[at]), *self._verdicts.say(at)))
            else:
                rows.append((slot, False, {}, state.get(slot, GONE)))
        return rows

    def encode(self, state, item) -> Sample | Tombstone:
        slot, kept, facts, reason = item
        return Sample(slot, f"{slot:09d}", {"json": canonical(facts)}) if kept else Tombstone(slot, reason)

    def numbers(self, slots: np.ndarray, *names: str) -> tuple[np.ndarray, ...]:
        """[N] of each number of the scores of these slots; not a number where it is missing."""
        columns = tuple(np.full(len(slots), np.nan) for _ in names)
        for at, facts, _ in self.scored("scores", slots):
            for column, name in zip(columns, names, strict=True):
                column[at] = facts.get(name, np.nan)
        return columns

    def scored(self, role: str, slots: np.ndarray) -> Iterator[tuple[int, Mapping, StageSample]]:
        """(place among the slots, facts, sample) of those that a scoring stage has a sample of."""
        for slot, facts, sample in scores_of(self.folder.upstream(role)[0]):
            at = int(np.searchsorted(slots, slot))
            if at < len(slots) and slots[at] == slot:
                yield at, facts, sample


class ClipScore(Selection):
    """The best by similarity to their caption or class: at least `min_score`, the top share and the top count of each class."""

    def judge(self, there):
        config, name = self.config, f"{self.config.score}_score"
        (scores,) = self.numbers(there.slots, name)
        counts = {int(k): v for k, v in config.counts.items()} or None
        enough = rules.at_least(scores, config.min_score)
        kept = enough.copy()
        kept[enough] = rules.top_of_class(scores[enough], there.labels[enough], there.slots[enough], config.top_share, counts)

        def say(at: int) -> tuple[dict, str]:
            if np.isnan(scores[at]):
                return {}, f"clip_score: has no {config.score} score"
            why = (
                f"is not among the best of its class by {config.score} score"
                if enough[at]
                else f"its {config.score} score is below {config.min_score:g}"
            )
            return {name: float(scores[at])}, f"clip_score: {why} ({scores[at]:.4f})"

        return Verdicts(kept, say)


class LabelAgreement(Selection):
    """What zero-shot CLIP takes for the class that it was made for, or misses by less than `margin`."""

    def judge(self, there):
        names = ("best_label", "best_score", "class_score")
        best, best_score, class_score = columns = self.numbers(there.slots, *names)
        with np.errstate(invalid="ignore"):
            kept = (best == there.labels) | (best_score - class_score < self.config.margin)

        def say(at: int) -> tuple[dict, str]:
            facts = {n: float(c[at]) for n, c in zip(names, columns, strict=True) if not np.isnan(c[at])}
            if "best_label" not in facts:
                return {}, "label_agreement: has no score"
            facts["best_label"] = int(facts["best_label"])
            return (
                facts,
                f"label_agreement: looks like another class (like {facts['best_label']}, was made for {there.labels[at]})",
            )

        return Verdicts(kept, say)


class Balance(Selection):
    """So many pictures of each class, drawn by the pictures' own seeds; too few of a class is an error unless allowed."""

    def there(self):
        """The labels in the pictures' records: no score tells them, so every picture's record is read, some threads ahead."""
        pictures = iter(self.pictures)
        with ThreadPoolExecutor(THREADS) as pool:
            while some := list(islice(pictures, AHEAD)):
                yield from pool.map(lambda p: (p.slot, p.metadata.get("label", -1)), some)

    def judge(self, there):
        config = self.config
        counts = {int(k): v for k, v in config.counts.items()}
        refuse_shortage(self.folder, there.labels, counts, config.allow_short)
        kept = rules.random_of_class(there.labels, there.slots, counts, config.seed)
        return Verdicts(kept, lambda at: ({}, "balance: its class has as many as were asked for"))


def refuse_shortage(folder: StageFolder, labels: np.ndarray, counts: Mapping[int, int], allowed: bool) -> None:
    """InputError that names the classes with fewer pictures than are asked for."""
    short = rules.missing_counts(labels, counts)
    if short and not allowed:
        names = json.dumps({str(k): v for k, v in sorted(short.items())[:10]})
        raise InputError(
            f"{folder.spec.name}: {sum(short.values())} pictures are wanting in {len(short)} classes (label: how many: {names}"
            f"{' ...' if len(short) > 10 else ''}); make more images, lower the counts, or set filter.{folder.spec.name}.allow_short=true"
        )


def unit_length(features: np.ndarray) -> np.ndarray:
    """Rows of length one again, after their storage in half precision."""
    return features / np.maximum(np.linalg.norm(features, axis=1, keepdims=True), 1e-12)
