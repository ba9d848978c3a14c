"""Stage kind `img2img` (noise-denoise): a picture from each picture of a source, by adding noise and taking it away.

slot = input * per_image + replica. A picture is a function of its input, its prompt, its seed and the config; the seed hangs
on the input's name in its source, so a subset gives the same pictures. int(steps * noise_strength) steps are run: where
that is 0 the output is the resized input, no model is loaded, and the metadata says so.
"""

import hashlib
from collections.abc import Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field

import numpy as np

from synth.captions.table import CaptionRow
from synth.images.config import Img2ImgConfig
from synth.images.decode import Decoded, decode
from synth.images.families import Embedded, family_class
from synth.images.painter import Picture as DrawnPicture
from synth.images.prompts import prompt_of
from synth.images.slots import Ranges
from synth.images.sources.listing import NAME, Listing
from synth.images.sources.read import ANOTHER, ListedSource, Picture, StageSource, read_bytes
from synth.images.stage import Drawn, Images, Task, UnitState
from synth.images.strength import steps_run, strength_for
from synth.run.ahead import Ahead, coming, forget
from synth.seeds import derive
from synth.store.files import write_atomic
from synth.store.samples import Unit
from synth.store.spec import canonical, digest
from synth.store.trees import naming

LEFT_OUT = "left_out.jsonl"
NO_CAPTION = "has no caption"


@dataclass(frozen=True)
class PictureTask(Task):
    """One picture to draw, and the input that it begins from."""

    picture: Picture


@dataclass(frozen=True)
class Facts:
    """What was seen of an input."""

    sha256: str
    width: int
    height: int


@dataclass(frozen=True)
class PictureState(UnitState):
    """inputs: number -> its decoding, begun some batches ahead; facts: slot -> what the metadata says of the input."""

    inputs: dict[int, Future] = field(default_factory=dict)
    decoded: dict[int, Decoded] = field(default_factory=dict)  # slot -> of the batch that is being drawn
    facts: dict[int, Facts] = field(default_factory=dict)


@dataclass(frozen=True)
class Untouched:
    """An input that is stored as it is, in the place of a drawn picture."""

    array: np.ndarray
    rows: int = 0  # nothing was computed
    refused: bool = False
    reason: str = ""  # there is a picture

    def pixels(self) -> np.ndarray:
        return self.array


class Img2Img(Images):
    config: Img2ImgConfig

    def __init__(self, folder):
        super().__init__(folder)
        self._source: ListedSource | StageSource | None = None
        self._ahead: Ahead | None = None
        self.run = steps_run(self.config.steps, self.config.noise_strength)

    def check(self) -> None:
        super().check()
        self.source.check()

    def open(self) -> None:
        super().open()
        self._ahead = Ahead("decode")

    def load(self, run: Mapping[str, object]) -> None:
        if self.run:
            super().load(run)

    def close(self) -> None:
        super().close()
        if self._ahead is not None:
            self._ahead.close()
            self._ahead = None

    # -- what a unit is a function of --------------------------------------------------------------------------------

    @property
    def source(self) -> ListedSource | StageSource:
        if self._source is None:
            config, upstream = self.config, self.folder.upstream("images")
            if upstream:
                subset = Ranges.parse(config.subset) if config.subset else None
                self._source = StageSource(upstream[0], subset)
            else:
                file = self.folder.input("source")
                names = {c.index: c.name for c in config.dataset.classes}
                listing = Listing(self.folder.path / NAME, file.identity)
                self._source = ListedSource(self.folder.input_path("source"), listing, config.source_classes, names)
        return self._source

    def unit_inputs(self, unit: Unit) -> str:
        tasks, reasons = self.gathered(unit)
        known = ((t.slot, t.picture, t.row) for t in tasks.values())
        rows = [[slot, p.key, p.size, p.mark, row.caption, list(row.labels)] for slot, p, row in known]
        return digest([rows, sorted(reasons.items())])

    def gather(self, unit: Unit) -> tuple[dict[int, Task], dict[int, str]]:
        n, seed, tasks, reasons = self.config.per_image, self.config.seed, {}, {}
        first = unit.start // n
        pictures = self.source.rows(first, -(-unit.stop // n))
        for slot in range(unit.start, unit.stop):
            picture, replica = pictures[slot // n - first], slot % n
            if picture.reason:
                reasons[slot] = f"{picture.key}: {picture.reason}"
                continue
            prompt = prompt_of(self.config.prompt, self.config.prompt_template, picture.names[0], picture.caption)
            if not prompt and self.config.prompt == "caption":
                reasons[slot] = f"{picture.key}: {NO_CAPTION}"
                continue
            n_th, labels, names = picture.number, picture.labels, picture.names
            row = CaptionRow(n_th, prompt, names[0], labels[0], labels, names, seed=0, slot=n_th, source=picture.key)
            tasks[slot] = PictureTask(slot, row, replica, derive(seed, "img2img", picture.key, replica), picture)
        return tasks, reasons

    # -- drawing -----------------------------------------------------------------------------------------------------

    def begin(self, unit: Unit) -> PictureState:
        tasks, reasons = self.gathered(unit)
        inputs: dict[int, Future] = {}
        self._decode_ahead(inputs, tasks, range(unit.start, unit.start))  # while texts are encoded
        if self.run:
            base = super().begin(unit)
            return PictureState(base.tasks, dict(base.reasons), base.texts, inputs)
        return PictureState(tasks, dict(reasons), {t.row.caption: Embedded(t.row.caption, {}) for t in tasks.values()}, inputs)

    def compute(self, state: PictureState, slots: range) -> list[Drawn]:
        self._decode_ahead(state.inputs, state.tasks, slots)
        state.decoded.clear()
        for slot in slots:
            if slot in state.reasons:
                continue
            picture = state.tasks[slot].picture
            sha256, decoded = state.inputs[picture.number].result()
            if decoded.reason:
                state.reasons[slot] = f"{picture.key}: {decoded.reason}"
            else:
                state.decoded[slot] = decoded
                state.facts[slot] = Facts(sha256, decoded.width, decoded.height)
        return super().compute(state, slots)

    def _decode_ahead(self, inputs: dict[int, Future], tasks: Mapping[int, PictureTask], slots: range) -> None:
        """Begin to read and decode the inputs of this batch and of the next ones; forget those of earlier batches."""
        forget(inputs, slots.start // self.config.per_image)
        for slot in coming(slots, self.batch):
            if slot in tasks:
                picture = tasks[slot].picture
                self._ahead.begin(inputs, picture.number, self._decode, picture)

    def _decode(self, picture: Picture) -> tuple[str, Decoded]:
        """(sha256 of the file's bytes, its pixels or why there are none)"""
        data, config = read_bytes(picture, self.source.root), self.config
        if isinstance(data, str):
            return "", Decoded(reason=data)
        sha256 = hashlib.sha256(data).hexdigest()
        if picture.is_another(sha256):
            return "", Decoded(reason=ANOTHER)
        with naming(f"{picture.path}: {picture.key}"):
            return sha256, decode(data, config.width, config.height, config.resize)

    def draw(self, state: PictureState, tasks: Sequence[PictureTask]) -> Sequence[DrawnPicture]:
        import torch

        inputs = [state.decoded[t.slot].pixels for t in tasks]
        if not self.run:
            return [Untouched(pixels) for pixels in inputs]
        start = torch.from_numpy(np.stack(inputs)).permute(0, 3, 1, 2)  # [n, 3, H, W] uint8, a quarter of what is drawn from
        start = start.to(self.painter.family.pipe.device, non_blocking=True).float() / 255
        strength = strength_for(self.config.steps, self.run, family_class(self.model.pipeline).floors_steps)
        return self.painter.draw([state.texts[t.row.caption] for t in tasks], [t.seed for t in tasks], start, strength)

    # -- storing -----------------------------------------------------------------------------------------------------

    def finish(self) -> None:
        """left_out.jsonl in the stage's folder: every input that gave no picture, and why."""
        lines = []
        for number in range(self.folder.spec.n_units):
            with self.folder.reader(number) as reader:
                left_out = sorted(reader.index.tombstones.items())
            lines += [canonical({"slot": slot, "reason": why}) + b"\n" for slot, why in left_out]
        write_atomic(self.folder.path / LEFT_OUT, b"".join(lines))

    def record(self, state: PictureState, task: PictureTask, picture: DrawnPicture) -> dict:
        config, facts = self.config, state.facts[task.slot]
        record = super().record(state, task, picture)
        del record["caption_row"], record["caption_seed"]
        return record | {
            "source": task.picture.key,
            "source_sha256": facts.sha256,
            "source_width": facts.width,
            "source_height": facts.height,
            "resize": config.resize,
            "noise_strength": config.noise_strength,
            "steps_run": self.run,  # 0: the resized input itself
        }
