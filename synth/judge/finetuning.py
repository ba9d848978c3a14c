"""Stage kind `finetune`: classifiers trained on what probes are trained on, by the pictures themselves, and asked about the test set.

A unit is one training, of a set and a seed; a slot of it is an epoch, {"json": {"trained_on", "seed", "epoch", "loss"}}. The last one also
holds what came of it: its accuracy and calibration error, and {"npy"} [M, 3] float32, one a test picture in slot order: its class, the
answer, the probability of that. Where there is nothing to learn every slot says why. Between epochs the model lies in the stage's folder
`training`; an epoch that is not there any more is trained again, to the same bytes.
"""

import io
import shutil
from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from synth import keys
from synth.errors import InputError
from synth.features.sources import Source, source_of
from synth.host.gpu import free
from synth.judge.config import FinetuneConfig
from synth.judge.finetune import Recipe, Training
from synth.judge.measuring import mean, rounded
from synth.judge.numbers import answers
from synth.judge.numbers.rows import Unmeasurable
from synth.judge.parts import REAL, ROLES, trained_sets
from synth.judge.sets import PictureSet, Sets, read_sets, training_rows
from synth.run.stage import Stage
from synth.store.folder import StageFolder
from synth.store.samples import Sample, Unit
from synth.store.spec import canonical

MODEL, PLACE = "model", "training"


class Files(Sequence[bytes]):
    """The files of rows of sets, read when they are asked for, by threads too. InputError for one that cannot be had any more."""

    def __init__(self, rows: Sequence[tuple[PictureSet, np.ndarray]]):
        self._at: list[tuple[Source, int]] = []  # a stage's pictures, its slot
        for pictures, chosen in rows:
            slots, sources = pictures.slots[chosen], [source_of(stage) for stage in pictures.stages]
            of_stage = np.searchsorted(pictures.firsts, slots, "right") - 1
            self._at += [(sources[n], int(slot) - pictures.firsts[n]) for n, slot in zip(of_stage, slots, strict=True)]
        self.labels = np.concatenate([pictures.labels[chosen] for pictures, chosen in rows])

    def __len__(self) -> int:
        return len(self._at)

    def __getitem__(self, row):
        source, slot = self._at[row]
        found = source.found(slot)
        if found.reason:
            raise InputError(f"picture {slot} ({found.name}) cannot be read any more ({found.reason}); put it back")
        return found.data


class Finetune(Stage):
    config: FinetuneConfig

    def check(self) -> None:
        keys.check(self.config, "finetune")
        spec = self.folder.spec
        if (spec.slots, spec.unit_size) != (len(self.trainings) * self.config.epochs, self.config.epochs):
            raise InputError(f"{self.folder.path}: its slots are not the epochs of its trainings; plan it again")

    @cached_property
    def trainings(self) -> tuple[tuple[str, int], ...]:
        """(what is trained on, seed) of each unit."""
        return tuple((what, seed) for what in trained_sets(ROLES[REAL] in self.folder.spec.upstream) for seed in self.config.seeds)

    @cached_property
    def sets(self) -> Sets:
        return read_sets(self.folder)

    @cached_property
    def test(self) -> Files:
        test = self.sets.test
        assert test is not None  # it is planned with a test set alone
        return Files([(test, np.flatnonzero(test.labels >= 0))])

    def open(self) -> None:
        self.sets  # noqa: B018 (sets without a class in common are told before anything is computed)

    def begin(self, unit: Unit) -> "Course":
        what, seed = self.trainings[unit.number]
        return Course(self, unit, what, seed)

    def resume(self, state: "Course", stop: int, stored: Sequence) -> None:
        state.go_to(stop - state.unit.start)

    def compute(self, state: "Course", slots: range) -> list[tuple[int, Mapping, np.ndarray | None]]:
        return [(slot, *state.epoch(slot - state.unit.start)) for slot in slots]

    def encode(self, state: "Course", item: tuple[int, Mapping, np.ndarray | None]) -> Sample:
        slot, facts, rows = item
        files = {"json": canonical(facts)}
        if rows is not None:
            out = io.BytesIO()
            np.save(out, rows, allow_pickle=False)
            files["npy"] = out.getvalue()
        return Sample(slot, f"{facts['trained_on']}-{facts['seed']}-{facts['epoch']:04d}", files)

    def finish(self) -> None:
        """Nothing of the models is needed any more."""
        shutil.rmtree(self.folder.path / PLACE, ignore_errors=True)

    def close(self) -> None:
        for name in ("sets", "test"):
            self.__dict__.pop(name, None)
        free()


def add_finetuned(facts: dict[str, Any], stage: StageFolder) -> None:
    """Add to judge.json what classifiers on pictures were worth, beside the probes of the same sets: the mean of the seeds."""
    right: dict[str, list[np.ndarray]] = {}
    errors: dict[str, list[float]] = {}
    for stored in stage.samples():
        told = stored.json()
        what = told["trained_on"]
        if "why" in told:
            facts["no_probes"][f"{what}, fine-tuned"] = told["why"]
        elif "accuracy" in told:
            rows = np.load(io.BytesIO(stored.read("npy")), allow_pickle=False)
            right.setdefault(what, []).append(rows[:, 0] == rows[:, 1])
            errors.setdefault(what, []).append(told["calibration_error"])
    for what, of_seeds in right.items():
        facts["probes"].get(what, {}).update(
            finetune=mean(lambda of_seeds=of_seeds: np.stack(of_seeds)),
            finetune_calibration_error={"value": rounded(float(np.mean(errors[what])))},
        )


class Course:
    """One training. why: of one that cannot be."""

    def __init__(self, stage: Finetune, unit: Unit, trained_on: str, seed: int):
        config, folder = stage.config, stage.folder
        self.stage, self.unit, self.epochs = stage, unit, config.epochs
        self.path, self.key = folder.path / PLACE / f"{unit.number:06d}.pt", f"{folder.spec.fingerprint}/{unit.number}"
        train = Files(training_rows(stage.sets, trained_on, config.per_class, seed))
        self.told = {"trained_on": trained_on, "seed": seed, "rows": len(train), "tested": len(stage.test)}
        self.training, self.why = None, "" if len(stage.test) else "the test set has no picture of a class that all sets have"
        model = folder.input_path(MODEL) if MODEL in folder.spec.inputs else None
        rate = {"epochs": config.epochs, "batch": config.batch_size, "learning_rate": config.learning_rate}
        try:
            if not self.why:
                self.training = self._begun(model, train, Recipe(**rate, side=config.side, seed=seed))
        except Unmeasurable as e:
            self.why = str(e)

    def _begun(self, model: Path | None, train: Files, recipe: Recipe) -> Training:
        return Training(model, train, train.labels, len(self.stage.sets.class_names), recipe, self.stage.folder.spec.numerics)

    def go_to(self, done: int) -> None:
        """As it was behind `done` epochs: by what was kept, else by training them again."""
        if self.training is not None and not self.training.load(self.path, self.key, done):
            while self.training.done < done:
                self.training.epoch()

    def epoch(self, number: int) -> tuple[dict[str, Any], np.ndarray | None]:
        """(what is told of it, the answers behind the last one)"""
        facts = self.told | {"epoch": number}
        if self.training is None:
            return facts | {"why": self.why}, None
        assert self.training.done == number
        facts["loss"] = rounded(self.training.epoch())
        if self.training.done < self.epochs:
            self.path.parent.mkdir(exist_ok=True)
            self.training.save(self.path, self.key)
            return facts, None
        truth, found = self.stage.test.labels, self.training.answers(self.stage.test)
        facts["accuracy"], facts["calibration_error"] = (rounded(f(found, truth)) for f in (answers.accuracy, answers.calibration_error))
        return facts, np.stack([truth, found.argmax(1), found.max(1)], 1).astype(np.float32)
