"""Stage kind `images`: a picture for each caption and replica, by a diffusers pipeline.

Which caption and replica a slot is: see synth.images.slots. A picture is a function of its caption, its seed and the config: its noise comes
from a CPU generator of its own, and its batch always has the same shape, whoever its neighbours are.
"""

from collections.abc import Mapping, Sequence
from dataclasses import astuple, dataclass, replace
from typing import ClassVar

from synth.config import ImagesConfig
from synth.errors import InputError
from synth.export.captions_table import CaptionRow, labels_and_seeds, rows_at
from synth.images.embeddings import encode_unit
from synth.images.encode import check_format, encode_image, stored_size
from synth.images.families import Embedded, Family
from synth.images.model_folder import ModelFolder
from synth.images.models import judge, model_inputs
from synth.images.schedulers import class_of
from synth.images.slots import PerCaption, PerClass, per_class
from synth.seeds import derive, torch_generator
from synth.stages import Sample, Stage, Tombstone, Unit
from synth.store.spec import canonical, digest

MEMORY_ADVICE = "a batch does not fit on the device: lower images.batch_size"
NO_CAPTION = "no caption: the captions stage came out short"
REFUSED = "refused by the safety checker"
NOT_FINITE = "the model gave values that are not finite numbers (dtype overflow?)"


@dataclass(frozen=True)
class Task:
    """One picture to draw."""

    slot: int
    row: CaptionRow
    replica: int
    seed: int  # 64 bits


@dataclass(frozen=True)
class UnitState:
    """What the batches of a unit share: its pictures by slot, why other slots have none, and its captions' embeddings."""

    tasks: Mapping[int, Task]
    reasons: Mapping[int, str]
    texts: Mapping[str, Embedded]


@dataclass(frozen=True)
class Drawn:
    """One slot on its way to the encoder: pixels [H, W, 3] uint8, or the reason why there are none."""

    slot: int
    pixels: object = None
    reason: str = ""
    blanked: bool = False  # by the safety checker: the pixels are black


class Images(Stage):
    config: ImagesConfig
    at_least: ClassVar[Mapping[str, float]] = {"per_caption": 1}
    starts_from_pictures: ClassVar[bool] = False

    def __init__(self, folder):
        super().__init__(folder)
        self.config = folder.config
        self.batch = folder.spec.batch
        self.model: ModelFolder | None = None
        self.family: Family | None = None
        self._table: PerCaption | PerClass | None = None
        self._last: tuple[int, tuple[dict[int, Task], dict[int, str]]] | None = None

    def check(self) -> None:
        """Everything that can be known without loading the model."""
        config = self.config
        check_format(config.format)
        for key, low in (("steps", 1), ("save_size", 0), *self.at_least.items()):
            if (value := getattr(config, key)) < low:
                msg = f"{self.folder.spec.kind}.{key}={value}: must be at least {low}"
                raise InputError(msg)
        self.model = judge(model_inputs(self.folder), config, self.starts_from_pictures)

    def open(self) -> None:
        from synth.images.pipeline import open_family

        if self.model is None:
            self.check()
        self.family = open_family(self.model, self.config, self.folder.spec.numerics, self.batch)

    def close(self) -> None:
        self.family = None

    # -- what a unit is a function of --------------------------------------------------------------------------------

    def unit_inputs(self, unit: Unit) -> str:
        tasks, reasons = self.gathered(unit)
        pictures = [[t.slot, t.replica, *astuple(replace(t.row, slot=0, source=""))] for t in tasks.values()]  # wherever a caption came from
        return digest([pictures, sorted(reasons.items())])

    def gathered(self, unit: Unit) -> tuple[dict[int, Task], dict[int, str]]:
        """`gather`, asked for twice a unit (inputs, begin) and done once."""
        if self._last is None or self._last[0] != unit.number:
            self._last = unit.number, self.gather(unit)
        return self._last[1]

    def gather(self, unit: Unit) -> tuple[dict[int, Task], dict[int, str]]:
        """(slot -> picture, slot -> why there is none) of a unit, from the rows of the upstream."""
        captions = self.folder.upstream("captions")[0]
        if self._table is None:
            self._table = per_class(self.config, *labels_and_seeds(captions)) if self.config.counts else PerCaption(self.config)
        places = {slot: self._table.place(slot) for slot in range(unit.start, unit.stop)}
        rows = rows_at(captions, (p.row for p in places.values()))
        tasks, reasons = {}, {}
        for slot, place in places.items():
            if row := rows.get(place.row):
                tasks[slot] = Task(slot, row, place.replica, derive(self.config.seed, "images", row.seed, place.replica))
            else:
                reasons[slot] = place.reason or NO_CAPTION
        return tasks, reasons

    # -- drawing -----------------------------------------------------------------------------------------------------

    def begin(self, unit: Unit) -> UnitState:
        from synth.images.pipeline import out_of_memory

        tasks, reasons = self.gathered(unit)
        with out_of_memory(MEMORY_ADVICE):
            return UnitState(tasks, reasons, encode_unit(self.family, [t.row.caption for t in tasks.values()]))

    def compute(self, state: UnitState, slots: range) -> list[Drawn]:
        tasks = [state.tasks[s] for s in slots if s not in state.reasons]
        pixels = dict(zip((t.slot for t in tasks), self._draw(state, tasks) if tasks else (), strict=True))
        return [pixels[s] if s in pixels else Drawn(s, reason=state.reasons[s]) for s in slots]

    def start(self, state: UnitState, tasks: Sequence[Task]) -> Mapping[str, object]:
        """What a batch begins from: further arguments of the family's draw."""
        return {}

    def _draw(self, state: UnitState, tasks: Sequence[Task]) -> list[Drawn]:
        """Draw a batch; a short one is padded with repeats of its last picture, so that every call has the same shape."""
        import torch

        from synth.images.pipeline import out_of_memory

        padded = [*tasks, *[tasks[-1]] * (self.batch - len(tasks))]
        with torch.inference_mode(), out_of_memory(MEMORY_ADVICE):
            # a generator for each row, repeats too: two rows that share one would draw each other's noise
            texts = [state.texts[t.row.caption] for t in padded]
            values = self.family.draw(texts, [torch_generator(t.seed) for t in padded], **self.start(state, padded))  # [B, 3, H, W] in [0, 1]
            finite = values.flatten(1).isfinite().all(1).tolist()
            refused = self.family.flagged(values)
            pixels = values.float().mul(255).round().clamp(0, 255).to(torch.uint8).permute(0, 2, 3, 1).contiguous().cpu().numpy()
        return [self._drawn(t.slot, pixels[i], finite[i], refused[i]) for i, t in enumerate(tasks)]

    def _drawn(self, slot: int, pixels, finite: bool, refused: bool) -> Drawn:
        if not finite:
            return Drawn(slot, reason=NOT_FINITE)
        if not refused:
            return Drawn(slot, pixels)
        return Drawn(slot, reason=REFUSED) if self.config.model.safety_checker == "drop" else Drawn(slot, pixels * 0, blanked=True)

    # -- storing -----------------------------------------------------------------------------------------------------

    def encode(self, state: UnitState, item: Drawn) -> Sample | Tombstone:
        if item.reason:
            return Tombstone(item.slot, item.reason)
        task, config = state.tasks[item.slot], self.config
        image = encode_image(item.pixels, config.format, config.save_size)
        record = canonical(self.record(state, task, item.blanked))
        return Sample(item.slot, f"{item.slot:09d}", {config.format: image, "json": record})

    def record(self, state: UnitState, task: Task, blanked: bool = False) -> dict:
        """The metadata beside a picture."""
        config, row = self.config, task.row
        width, height = stored_size(config.width, config.height, config.save_size)
        return {
            "caption": row.caption,
            "class": row.class_name,
            "label": row.label,
            "labels": list(row.labels),
            "label_names": list(row.label_names),
            "caption_row": row.row,
            "caption_seed": row.seed,
            "truncated": state.texts[row.caption].truncated,  # the caption has more tokens than the model takes
            "replica": task.replica,
            "seed": task.seed,
            "model": config.model.id,
            "model_digest": self.folder.spec.inputs["model"].identity,
            "model_parts": {r: f.identity for r, f in self.folder.spec.inputs.items() if r.startswith("model_")},
            "scheduler": class_of(config.scheduler, self.model.scheduler),
            "steps": config.steps,
            "guidance_scale": config.guidance_scale,
            "negative_prompt": config.negative_prompt,
            "eta": config.eta,
            "safety_checker": config.model.safety_checker,  # off | blank | drop
            "blanked": blanked,  # the safety checker refused the picture: it is black
            "width": width,
            "height": height,
            "computed_width": config.width,
            "computed_height": config.height,
            "format": config.format,
            "numerics": self.folder.spec.numerics["name"],
        }
