"""Stage kind `lora`: LoRAs of the model that draws, each trained on a few real pictures of a class, or of all classes.

A unit is one LoRA; a slot of it is a leg of its training, {"json": {"lora", "step", "loss"}}. The last one also holds {"safetensors"}, the
file as diffusers saves it, and says of what it was made: the pictures, those that were left out and why; and the file's size and sha256.
Between legs the training lies in the stage's folder `training`; one that is not there any more is trained again, to the same bytes.

When all are there they lie in a folder of their own too, for people and for model.lora_by_class of other runs: `<class>.safetensors` each,
and loras.json, which says of what they were made. Who draws reads them from the units (synth.images.trained).
"""

import hashlib
import json
import shutil
from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from synth import keys
from synth.errors import InputError
from synth.features.sources import Source, source_of
from synth.host.gpu import free
from synth.images.decode import decode
from synth.images.loras import check_peft
from synth.images.models import inspect_model, model_inputs
from synth.images.prompts import prompt_of
from synth.images.trained import FILE
from synth.lora.config import ALL, LoraClass, LoraConfig
from synth.run.findings import Check
from synth.run.place import PlaceStage
from synth.seeds import derive
from synth.store.folder import StageFolder
from synth.store.names import folder_names
from synth.store.samples import Sample, Unit
from synth.store.spec import canonical
from synth.store.trees import naming
from synth.store.units import Stored

if TYPE_CHECKING:
    from synth.lora.training import Trainer, Training

PLACE, LISTING = "training", "loras.json"
KEY = "lora.real"


class Lora(PlaceStage):
    config: LoraConfig

    def __init__(self, folder: StageFolder):
        super().__init__(folder)
        self.trainer: Trainer | None = None

    def check(self) -> None:
        super().check()
        keys.check(self.config, "lora")
        spec, legs = self.folder.spec, len(self.config.legs)
        if (spec.slots, spec.unit_size) != (len(self.units) * legs, legs) or sum(self.config.legs) != self.config.steps:
            raise InputError(f"{self.folder.path}: its slots are not the steps of its LoRAs; plan it again")
        check_peft(KEY)
        self.model  # noqa: B018 (that the model is there and whole)
        self.source.check()

    @cached_property
    def units(self) -> tuple[tuple[LoraClass, ...], ...]:
        """The classes of each LoRA."""
        return (self.config.classes,) if self.config.scope == ALL else tuple((c,) for c in self.config.classes)

    @cached_property
    def names(self) -> tuple[str, ...]:
        """What each LoRA is called: its file, and in messages."""
        if self.config.scope == ALL:
            return (ALL,)
        names = folder_names({c.index: c.name for c in self.config.classes})
        return tuple(names[c.index] for c in self.config.classes)

    @cached_property
    def model(self):
        return inspect_model(model_inputs(self.folder), self.config.model)

    @cached_property
    def source(self) -> Source:
        return source_of(self.folder, self.config.pictures)

    @cached_property
    def candidates(self) -> Mapping[int, list[tuple[int, str]]]:
        """label in the source -> (slot, name) of its pictures, in the order in which they are tried: by lots that hang on their names."""
        found: dict[int, list[tuple[int, str]]] = {c.label: [] for c in self.config.classes}
        for slot, name, label in self.source.labelled():
            if label in found:
                found[label].append((slot, name))
        return {label: sorted(all_of, key=lambda one: (self._lot(one[1]), one)) for label, all_of in found.items()}

    def _lot(self, name: str) -> int:
        return derive(self.config.seed, "lora", "choice", name)

    def open(self) -> None:
        from synth.lora.training import Trainer

        self.trainer = Trainer(self.model, self.config, self.folder.spec.numerics)

    def close(self) -> None:
        loaded, self.trainer = self.trainer is not None, None
        self.__dict__.pop("candidates", None)
        if loaded:
            free()

    # -- training --------------------------------------------------------------------------------------------------------

    def begin(self, unit: Unit) -> "Course":
        return Course(self, unit)

    def resume(self, state: "Course", stop: int, stored: Sequence[Stored]) -> None:
        state.go_to(stop - state.unit.start)

    def compute(self, state: "Course", slots: range) -> list[tuple[int, Mapping[str, Any], bytes]]:
        return [(slot, *state.leg(slot - state.unit.start)) for slot in slots]

    def encode(self, state: "Course", item: tuple[int, Mapping[str, Any], bytes]) -> Sample:
        slot, facts, file = item
        files = {"json": canonical(facts)} | ({FILE: file} if file else {})
        return Sample(slot, f"{slot:09d}", files)

    def chosen(self, one: LoraClass, facts: "Facts") -> Iterator[np.ndarray]:
        """[S, S, 3] uint8 of the pictures of a class, one by one; facts: told of each. InputError where none of them can be read."""
        there, bad = 0, dict[str, str]()
        for slot, name in self.candidates[one.label]:
            if there == self.config.per_class:
                break
            pixels = self._pixels(slot, name)
            if isinstance(pixels, str):
                bad[name] = pixels
                continue
            there += 1
            facts.pictures.append(name)
            facts.prompts.append(prompt_of("template", self.config.prompt, one.said, ""))
            yield pixels
        facts.left_out += [{"picture": name, "reason": reason} for name, reason in bad.items()]
        if not there:
            first = next((f"{name}: {reason}" for name, reason in bad.items()), "there is none any more")
            why = f"none of the {len(bad)} pictures of class {one.name!r} can be read ({first})"
            raise InputError(f"{KEY}: {why}; mend them, or leave the class out (dataset.classes)")

    def _pixels(self, slot: int, name: str) -> np.ndarray | str:
        """A picture as it is trained on, or why it cannot be."""
        found = self.source.found(slot)
        if found.reason:
            return found.reason
        with naming(name):
            decoded = decode(found.data, self.config.size, self.config.size, "crop")
        return decoded.reason if decoded.pixels is None else decoded.pixels

    # -- the files that people read --------------------------------------------------------------------------------------

    def finish(self) -> None:
        """Nothing of the trainings is needed any more."""
        self.out.claim()
        for name, stored in self._whole():
            self.out.write(name, stored.read(FILE))
        self.out.write(LISTING, self._listing())
        self.out.complete()
        shutil.rmtree(self.folder.path / PLACE, ignore_errors=True)

    def _whole(self) -> Iterator[tuple[str, Stored]]:
        """(name of its file, the last slot) of each LoRA."""
        for number, name in enumerate(self.names):
            last = self.folder.unit(number).stop - 1
            for stored in self.folder.samples(last, last + 1):
                yield f"{name}.{FILE}", stored

    def _listing(self) -> bytes:
        facts = {name: stored.json("files") for name, stored in self._whole()}
        return json.dumps(facts, indent=1, sort_keys=True, ensure_ascii=False).encode("utf-8", "replace") + b"\n"

    def verify(self, check: Check) -> None:
        for stored, _ in check.records(self.folder, "lora"):
            if FILE in stored.exts:
                for name, (size, sha256) in stored.json("files")["files"].items():
                    check.file(name, size, sha256, "is not the LoRA of its unit")
            check.progress(1)
        if not check.found.bad_units():
            check.same(LISTING, self._listing())


class Facts:
    """Of the pictures of a LoRA: their names and prompts, and which were left out, each with a reason."""

    def __init__(self):
        self.pictures: list[str] = []
        self.prompts: list[str] = []
        self.left_out: list[dict[str, str]] = []


class Course:
    """The training of one unit."""

    def __init__(self, stage: Lora, unit: Unit):
        self.stage, self.unit, self.legs, self.name = stage, unit, stage.config.legs, stage.names[unit.number]
        self.path = stage.folder.path / PLACE / f"{unit.number:06d}.{FILE}"
        self.key = f"{stage.folder.spec.fingerprint}/{unit.number}"
        self.facts = facts = Facts()
        pictures = (pixels for one in stage.units[unit.number] for pixels in stage.chosen(one, facts))  # of many classes never all at once
        self.training: Training = stage.trainer.begin(self.name, pictures, facts.prompts)

    def go_to(self, legs: int) -> None:
        """As it was behind so many legs: by what was kept, else by training them again."""
        if not self.training.load(self.path, self.key, sum(self.legs[:legs])):
            self.training.restart()
            for steps in self.legs[:legs]:
                self.training.leg(steps)

    def leg(self, number: int) -> tuple[dict[str, Any], bytes]:
        """(what is told of it, the file behind the last one)"""
        assert self.training.done == sum(self.legs[:number])
        loss = self.training.leg(self.legs[number])
        facts: dict[str, Any] = {"lora": self.name, "step": self.training.done, "loss": round(loss, 6)}
        if number + 1 < len(self.legs):
            self.path.parent.mkdir(exist_ok=True)
            self.training.save(self.path, self.key)
            return facts, b""
        file = self.training.file()
        facts["files"] = {f"{self.name}.{FILE}": (len(file), hashlib.sha256(file).hexdigest())}
        return facts | {"pictures": self.facts.pictures, "left_out": self.facts.left_out}, file
