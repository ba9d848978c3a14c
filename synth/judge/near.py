"""Stage kind `neighbours`: which pictures of a set are nearest to each one of it, a block of pictures at a time.

All are compared with all, which is what costs most of a judgement: so a slot and a unit is a block (synth.judge.parts), many jobs share
them, and the points of a sweep share those of the real set. Upstream roles: "features"; "images", the last filter, and "test", either may
lack. A sample is {"json": pairs that are alike, "npy": [R, 2 k + 2] float64}, a row a picture: the squared distances to its k nearest other
ones, their rows, and the same of the nearest test picture (infinite without a test set). Squared distances are whole numbers on the grid of
synth.judge.numbers.rows.
"""

import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from synth import keys
from synth.errors import InputError
from synth.features.reading import n_pictures
from synth.judge.config import NeighboursConfig
from synth.judge.numbers import alike
from synth.judge.numbers.neighbours import Nearest, distances_of, enough, nearest, none
from synth.judge.numbers.rows import check
from synth.judge.parts import MADE, ROLES, blocks
from synth.judge.sets import PictureSet, Sets, read_sets
from synth.kinds import config_of
from synth.run.stage import Stage
from synth.store.damage import mending
from synth.store.folder import StageFolder
from synth.store.samples import Sample
from synth.store.spec import canonical

ROLE, REAL_ROLE = "neighbours", "real_neighbours"  # in the judge: of the judged set, of the real one
EXAMPLES = 12  # pairs of duplicates and leaks that are kept
WITHIN, BETWEEN = "within", "between"


class Neighbours(Stage):
    config: NeighboursConfig

    def check(self) -> None:
        keys.check(self.config, ROLE)
        if len(self.blocks) != self.folder.spec.slots:
            raise InputError(f"{self.folder.path}: has {self.folder.spec.slots} slots for {len(self.blocks)} blocks; plan it again")

    @cached_property
    def blocks(self) -> tuple[range, ...]:
        return blocks(sum(map(n_pictures, self.folder.upstream(ROLES[MADE]))))

    @cached_property
    def sets(self) -> Sets:
        """All features, in memory: 4 bytes a number."""
        sets = read_sets(self.folder)
        check(**{name: there.features for name, there in sets.named.items()})
        return sets

    @cached_property
    def labels(self) -> np.ndarray:
        """[N] of all pictures: classes that no other set has are classes, too."""
        own = self.sets.made.own
        return np.where(own < 0, own.max(initial=0) + 1, own)

    def open(self) -> None:
        self.sets  # noqa: B018 (sets without a class in common are told before anything is computed)

    def compute(self, state: None, slots: range) -> list[tuple[int, dict[str, Any], np.ndarray]]:
        return [(slot, *self._block(self.blocks[slot])) for slot in slots]

    def _block(self, slots: range) -> tuple[dict[str, Any], np.ndarray]:
        there, test, duplicate = self.sets.made, self.sets.test, self.config.duplicate
        rows = there.rows_of(slots)
        found = none(rows.stop - rows.start, self.config.neighbours)
        pairs = None if duplicate is None else alike.Alike(self.labels, duplicate, EXAMPLES)
        for some, columns, squared in distances_of(there.features, rows):
            found.take(slice(some.start - rows.start, some.stop - rows.start), columns, squared)
            if pairs is not None:
                pairs.take(some, columns, squared)
        leaks = none(len(found.squared), 1) if test is None else nearest(there.features[rows], test.features, 1, "test")
        arrays = np.concatenate([found.squared, found.index, leaks.squared, leaks.index], 1)
        return {} if pairs is None else _told(pairs, there), arrays

    def encode(self, state: None, item: tuple[int, dict[str, Any], np.ndarray]) -> Sample:
        slot, facts, rows = item
        out = io.BytesIO()
        np.save(out, rows, allow_pickle=False)
        return Sample(slot, str(self.blocks[slot].start), {"json": canonical(facts), "npy": out.getvalue()})

    def close(self) -> None:
        for name in ("sets", "labels"):
            self.__dict__.pop(name, None)


def _told(pairs: alike.Alike, made: PictureSet) -> dict[str, Any]:
    """What a block counts. examples: [squared distance, earlier slot, later slot], exact: those of all blocks are put in order."""
    found = pairs.found()
    best = {WITHIN: pairs.best[True], BETWEEN: pairs.best[False]}
    examples = {name: [[float(v), *(int(made.slots[int(row)]) for row in two)] for v, *two in rows.T] for name, rows in best.items()}
    return {WITHIN: found.within, BETWEEN: found.between, "repeats": found.repeats, "examples": examples}


# -- as it is read ---------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Near:
    """What a whole stage found. facts: of its blocks, in order; arrays: of all of them."""

    config: NeighboursConfig
    facts: Sequence[Mapping[str, Any]]
    arrays: np.ndarray

    def own(self, name: str) -> Nearest:
        """The k nearest other ones of each picture of the set called `name`. Unmeasurable where there are not so many."""
        k = self.config.neighbours
        enough(len(self.arrays), k, name)
        return Nearest(self.arrays[:, k : 2 * k].astype(np.int64), self.arrays[:, :k])

    def duplicates(self) -> dict[str, Any]:
        """Pairs of judged pictures that are alike: counts, and examples of two slots and their cosine, the most alike first."""
        counts = {name: sum(f[name] for f in self.facts) for name in (WITHIN, BETWEEN, "repeats")}
        examples = {name: self._examples(name) for name in (WITHIN, BETWEEN)}
        return counts | {"of": len(self.arrays), "from": self.config.duplicate, "examples": examples}

    def _examples(self, name: str) -> list[list[float]]:
        best = np.zeros((3, 0))
        for facts in self.facts:
            best = alike.best_of(best, np.array(facts["examples"][name], np.float64).reshape(-1, 3).T, EXAMPLES)
        return [[int(a), int(b), float(alike.cosine(v))] for v, a, b in best.T]

    @property
    def test(self) -> Nearest:
        """The nearest test picture of each judged one."""
        return Nearest(self.arrays[:, -1:].astype(np.int64), self.arrays[:, -2:-1])


def read_near(stage: StageFolder) -> Near:
    """A whole stage of neighbours; InputError for a unit that holds something else."""
    facts, arrays = [], []
    for stored in stage.samples():
        facts.append(stored.json())
        arrays.append(rows_in(stored.read("npy"), stage, stored.slot))
    return Near(config_of(stage), facts, np.concatenate(arrays))


def rows_in(data: bytes, stage: StageFolder, slot: int) -> np.ndarray:
    """The array of a slot; InputError for what is none."""
    try:
        return np.load(io.BytesIO(data), allow_pickle=False)
    except ValueError as e:
        path = stage.unit_path(stage.spec.unit_of(slot))
        raise InputError(f"{path}: holds no array ({e}); {mending(path)}") from e
