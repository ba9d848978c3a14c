"""Stage kind `images`: a picture for each caption and replica, by a diffusers pipeline.

slot = caption row * per_caption + replica. A picture is a function of its caption, its seed and the config: its noise comes
from a CPU generator of its own, and its batch always has the same shape, whoever its neighbours are.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from synth.config import ImagesConfig
from synth.errors import InputError
from synth.export.captions_table import CaptionRow, rows
from synth.images.embeddings import encode_unit
from synth.images.encode import check_format, encode_image, stored_size
from synth.images.families import Embedded, Family
from synth.images.model_folder import ModelFolder
from synth.images.models import judge, model_inputs
from synth.images.schedulers import class_of
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
    """What the batches of a unit share: its pictures by slot (none where captions ran out) and its captions' embeddings."""

    tasks: Mapping[int, Task]
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

    def __init__(self, folder):
        super().__init__(folder)
        self.config = folder.config
        self.batch = folder.spec.batch
        self.model: ModelFolder | None = None
        self.family: Family | None = None
        self._captions = None
        self._last: tuple[int, list[CaptionRow]] | None = None

    def check(self) -> None:
        """Everything that can be known without loading the model."""
        config = self.config
        check_format(config.format)
        for key, value, low in (("steps", config.steps, 1), ("per_caption", config.per_caption, 1), ("save_size", config.save_size, 0)):
            if value < low:
                msg = f"images.{key}={value}: must be at least {low}"
                raise InputError(msg)
        self.model = judge(model_inputs(self.folder), config)

    def open(self) -> None:
        from synth.images.pipeline import open_family

        if self.model is None:
            self.check()
        self.family = open_family(self.model, self.config, self.folder.spec.numerics, self.batch)

    def close(self) -> None:
        self.family = None

    # -- what a unit is a function of --------------------------------------------------------------------------------

    def unit_inputs(self, unit: Unit) -> str:
        found = self._rows(unit)
        return digest([[r.row, r.caption, r.class_name, r.label, list(r.labels), list(r.label_names), r.seed] for r in found])

    def _rows(self, unit: Unit) -> list[CaptionRow]:
        """The caption rows that cover a unit; asked for twice a unit (inputs, begin), read once."""
        if self._last is None or self._last[0] != unit.number:
            if self._captions is None:
                self._captions = self.folder.upstream("captions")[0]
            n = self.config.per_caption
            self._last = unit.number, rows(self._captions, unit.start // n, -(-unit.stop // n))
        return self._last[1]

    def tasks(self, unit: Unit) -> dict[int, Task]:
        """slot -> picture, for the slots of a unit that have a caption."""
        n, by_row, found = self.config.per_caption, {r.row: r for r in self._rows(unit)}, {}
        for slot in range(unit.start, unit.stop):
            if row := by_row.get(slot // n):
                found[slot] = Task(slot, row, slot % n, derive(self.config.seed, "images", row.seed, slot % n))
        return found

    # -- drawing -----------------------------------------------------------------------------------------------------

    def begin(self, unit: Unit) -> UnitState:
        from synth.images.pipeline import out_of_memory

        tasks = self.tasks(unit)
        with out_of_memory(MEMORY_ADVICE):
            return UnitState(tasks, encode_unit(self.family, [t.row.caption for t in tasks.values()]))

    def compute(self, state: UnitState, slots: range) -> list[Drawn]:
        tasks = [state.tasks[s] for s in slots if s in state.tasks]
        pixels = dict(zip((t.slot for t in tasks), self._draw(state, tasks) if tasks else (), strict=True))
        return [pixels[s] if s in pixels else Drawn(s, reason=NO_CAPTION) for s in slots]

    def _draw(self, state: UnitState, tasks: Sequence[Task]) -> list[Drawn]:
        """Draw a batch; a short one is padded with repeats of its last picture, so that every call has the same shape."""
        import torch

        from synth.images.pipeline import out_of_memory

        padded = [*tasks, *[tasks[-1]] * (self.batch - len(tasks))]
        with torch.inference_mode(), out_of_memory(MEMORY_ADVICE):
            # a generator for each row, repeats too: two rows that share one would draw each other's noise
            texts = [state.texts[t.row.caption] for t in padded]
            values = self.family.draw(texts, [torch_generator(t.seed) for t in padded])  # [B, 3, H, W] in [0, 1]
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
        record = canonical(self.record(task, state.texts[task.row.caption].truncated, item.blanked))
        return Sample(item.slot, f"{item.slot:09d}", {config.format: image, "json": record})

    def record(self, task: Task, truncated: bool, blanked: bool) -> dict:
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
            "truncated": truncated,  # the caption has more tokens than the model takes
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
