"""Stage kind `judge`: how good a set of pictures is, beside a real one, and whether a classifier that is trained on it works on a test set.

A slot and a unit is a part of the judgement (synth.judge.parts): what is said of the whole set, of a block of its classes, of a probe that
was trained on one draw of it. A sample is {"json": what was found} and of a probe {"npy": its answers}, as synth.judge.measuring says.
"""

import io
from dataclasses import replace
from functools import cached_property

import numpy as np

from synth import keys
from synth.errors import InputError
from synth.judge.config import JudgeConfig
from synth.judge.measuring import Measured, measure
from synth.judge.near import REAL_ROLE, ROLE, read_near
from synth.judge.parts import Part
from synth.judge.sets import Sets, read_sets
from synth.judge.summary import parts_of
from synth.run.stage import Stage
from synth.store.samples import Sample
from synth.store.spec import canonical


class Judge(Stage):
    config: JudgeConfig

    def check(self) -> None:
        keys.check(self.config, "judge")
        if len(self.parts) != self.folder.spec.slots:
            raise InputError(f"{self.folder.path}: has {self.folder.spec.slots} slots for {len(self.parts)} parts; plan it again")

    @cached_property
    def parts(self) -> tuple[Part, ...]:
        return parts_of(self.folder)

    @cached_property
    def sets(self) -> Sets:
        """All features, in memory: 4 bytes a number."""
        sets = read_sets(self.folder)
        if sets.real is None:
            return sets
        made, real = (read_near(self.folder.upstream(role)[0]) for role in (ROLE, REAL_ROLE))
        return replace(sets, near=(made, real))

    def open(self) -> None:
        self.sets  # noqa: B018 (sets without a class in common are told before anything is computed)

    def compute(self, state: None, slots: range) -> list[tuple[int, Measured]]:
        return [(slot, measure(self.parts[slot], self.sets, self.config)) for slot in slots]

    def encode(self, state: None, item: tuple[int, Measured]) -> Sample:
        slot, measured = item
        files = {"json": canonical(measured.facts)}
        if measured.rows is not None:
            out = io.BytesIO()
            np.save(out, measured.rows, allow_pickle=False)
            files["npy"] = out.getvalue()
        return Sample(slot, self.parts[slot].key, files)

    def close(self) -> None:
        self.__dict__.pop("sets", None)
