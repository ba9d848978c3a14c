"""Stage kind `images`: a picture for each caption and replica, by a diffusers pipeline.

Which caption and replica a slot is: see synth.images.slots. A picture is a function of its caption, its seed and the
config: its noise comes from a CPU generator of its own, and its batch always has the same shape, whoever its neighbours are.
"""

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import astuple, dataclass, field, replace
from functools import cached_property

import numpy as np

from synth.captions.table import CaptionRow, rows_at
from synth.errors import InputError
from synth.host.gpu import free
from synth.images.attention import check_installed
from synth.images.config import ClassLora, ImagesConfig
from synth.images.earlier import EarlierPictures, Files, table_of
from synth.images.encode import encode_image, stored_size
from synth.images.external.painter import CommandPainter
from synth.images.families import Embedded, family_class
from synth.images.loras import BY_CLASS
from synth.images.model_folder import ModelFolder
from synth.images.models import ADAPTER, inspect_model, model_inputs
from synth.images.painter import MEMORY_ADVICE, Painter, Picture
from synth.images.preview import Preview
from synth.images.schedulers import class_of
from synth.images.slots import PerCaption, PerClass, Together, together
from synth.images.trained import ROLE as TRAINED
from synth.images.trained import Trained, with_trained
from synth.run.empty import AFTER, mostly
from synth.run.stage import Stage
from synth.seeds import derive
from synth.store.framing import shared
from synth.store.samples import Sample, Tombstone, Unit
from synth.store.spec import canonical, digest

# how a stage is worked on; not in its fingerprint. shapes: sizes of pictures in it, each of which would be compiled for
RUN: Mapping[str, object] = {"on_oom": "fail", "preview_every": 0.0, "text_offload": False, "shapes": 1, AFTER: 0}
NO_CAPTION = "no caption: the captions stage came out short"
REFUSED = "refused by the safety checker"
NOT_FINITE = "the model gave values that are not finite numbers (dtype overflow?)"
CAUSES = {  # beginnings of the reasons that are the model's own -> what they mostly come from
    shared(NOT_FINITE): "the weights are damaged, or overflow in this dtype: try model.dtype=float32 or bfloat16, or fetch the model again",
    "the command ": "see its log in the stage's folder",
}


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
    texts: dict[Hashable, Embedded]  # by Images._text
    earlier: Mapping[int, Files] = field(default_factory=dict, kw_only=True)  # slot -> its sample, where another run drew it
    early: dict[int, Picture] = field(default_factory=dict, kw_only=True)  # slot -> of a batch to come
    calls: Mapping[int, Sequence[int]] = field(default_factory=dict, kw_only=True)  # slot -> those of its call, where classes have LoRAs


@dataclass(frozen=True)
class Drawn:
    """One slot on its way to the encoder: a picture, one that another run drew, or the reason why there is none."""

    slot: int
    picture: Picture | None = None
    reason: str = ""
    earlier: Files | None = None


def sample_key(slot: int) -> str:
    return f"{slot:09d}"


class Images(Stage):
    config: ImagesConfig

    def __init__(self, folder):
        super().__init__(folder)
        self.batch = folder.spec.batch
        self.model: ModelFolder | None = None
        self.painter: Painter | CommandPainter | None = None
        self.prepared = None
        self.computed_on: Mapping[str, str] = {}  # device and dtype of what draws; {}: a command draws, and does not say
        self.preview = Preview(folder.preview_path, (RUN | folder.spec.settings)["preview_every"])
        self._table: PerCaption | PerClass | Together | None = None
        self._earlier: EarlierPictures | None = None
        self.taken_over = 0  # pictures that another run had drawn
        self._last: tuple[int, tuple[dict[int, Task], dict[int, str]]] | None = None

    def check(self) -> None:
        """That the model is there and whole: what a config asks of it was judged when the stage was planned."""
        check_installed(self.config.model.attention_backend)
        self.model = with_trained(inspect_model(model_inputs(self.folder), self.config.model), self.config.model, self.folder)
        family_class(self.model.pipeline).check_here(self.folder)

    def open(self) -> None:
        if self.model is None:
            self.check()
        run = RUN | self.folder.spec.settings
        family_class(self.model.pipeline).open(self, run)
        self.preview = Preview(self.folder.preview_path, run["preview_every"])
        upstream = self.folder.spec.upstream  # whose LoRAs were trained by another stage no record tells as a config would
        kin = upstream.get("captions") and TRAINED not in upstream
        self._earlier = EarlierPictures(self.folder, self._computed(run)) if kin else None

    def _computed(self, run: Mapping[str, object]) -> dict[str, object]:
        """How the pictures of others must have been computed to be this stage's own, as their records tell: on such a device, and all rows
        of a batch in one call, unless this stage splits its own. Of a command nobody knows."""
        on = {name: self.computed_on[name] for name in ("device", "dtype") if name in self.computed_on}
        return on | ({"computed_batch": self.batch} if on and run["on_oom"] != "split" else {})

    def load(self, run: Mapping[str, object]) -> None:
        """The model, ready to draw."""
        from synth.images.pipeline import open_family, out_of_memory
        from synth.images.speed import prepare
        from synth.versions import versions

        spec = self.folder.spec
        family = open_family(self.model, self.config, spec.numerics, self.batch)
        with out_of_memory(MEMORY_ADVICE):
            self.prepared = prepare(
                family, spec.numerics, slots=self.share() // run["shapes"], sizes=run["shapes"], versions=versions(),
                model_digest=digest({role: i.identity for role, i in spec.inputs.items()}), text_offload=run["text_offload"],
                shared=self.folder.path.parent,
            )  # fmt: skip
        self.computed_on = {"device": family.pipe.device.type, "dtype": str(family.pipe.dtype).removeprefix("torch.")}
        if not spec.numerics.get("deterministic", True):  # by the worker's share of the stage, so pictures of one stage may differ in it
            self.computed_on |= {"compiled": self.prepared.compiled}
        ready = self.prepared
        self.painter = Painter(family, self.batch, run["on_oom"], ready.intervals, ready.text_encoders, ready.shapes)

    def share(self) -> int:
        """Pictures that are left for this worker, if all that were started take as many."""
        there, spec = self.folder.committed(), self.folder.spec
        left = sum(len(self.folder.unit(n)) for n in range(spec.n_units) if n not in there)
        return left // min(self.workers, spec.n_units)

    def usage(self) -> Mapping[str, int]:
        return {"taken_over": self.taken_over} if self.taken_over else {}

    def close(self) -> None:
        self.preview.write()
        if self.painter is not None:
            self.painter.close()
        loaded, self.painter, self.prepared = self.prepared is not None, None, None
        if loaded:
            free()  # a stage that is opened anew would load a second model beside this one

    def warmed_up(self) -> bool:
        return self.prepared is not None and self.prepared.shapes.pop_new()

    @property
    def deterministic(self) -> bool:
        """Where batches may be split, a unit's bytes depend on the memory that was free; a command's bytes on what it promises."""
        own = family_class(self.config.model.pipeline).promises(self.config.model)
        return own and self.folder.spec.settings.get("on_oom") != "split"

    # -- what a unit is a function of --------------------------------------------------------------------------------

    def unit_inputs(self, unit: Unit) -> str:
        tasks, reasons = self.gathered(unit)
        # wherever a caption came from
        pictures = [[t.slot, t.replica, *astuple(replace(t.row, slot=0, source=""))] for t in tasks.values()]
        return digest([pictures, sorted(reasons.items()), *self._lora_digests])

    @cached_property
    def _lora_digests(self) -> list[str]:
        """Digests of the units that hold the LoRAs it draws with."""
        if TRAINED not in self.folder.spec.upstream:
            return []
        digests = []
        for up in self.folder.upstream(TRAINED):
            for number in range(up.spec.n_units):
                with up.reader(number) as reader:
                    digests.append(reader.digest)
        return digests

    def gathered(self, unit: Unit) -> tuple[dict[int, Task], dict[int, str]]:
        """`gather`, asked for twice a unit (inputs, begin) and done once."""
        if self._last is None or self._last[0] != unit.number:
            self._last = unit.number, self.gather(unit)
        return self._last[1]

    def gather(self, unit: Unit) -> tuple[dict[int, Task], dict[int, str]]:
        """(slot -> picture, slot -> why there is none) of a unit, from the rows of the upstream."""
        captions = self.folder.upstream("captions")[0]
        if self._table is None:
            self._table = table_of(self.config, captions, self.folder.spec.slots)
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
        tasks, reasons = self.gathered(unit)
        self.painter.begin_unit()
        earlier = self._earlier.pictures(tasks) if self._earlier is not None else {}
        self.taken_over += len(earlier)
        drawn = {slot: t for slot, t in tasks.items() if slot not in earlier}
        if self.config.model.of_classes:  # texts are encoded when their class is drawn
            calls = together({slot: self._adapter(t.row) for slot, t in drawn.items()}, self.batch)
            return UnitState(tasks, reasons, {}, earlier=earlier, calls=calls)
        wanted = [t.row.caption for t in drawn.values()]
        return UnitState(tasks, reasons, dict(self.painter.encode(wanted)) if wanted else {}, earlier=earlier)

    def compute(self, state: UnitState, slots: range) -> list[Drawn]:
        for slot in slots:
            if self._is_drawn(state, slot) and slot not in state.early:
                tasks = [state.tasks[s] for s in self._together(state, slots, slot)]
                drawn = zip((t.slot for t in tasks), self.draw(state, tasks), strict=True)
                state.early.update((s, picture) for s, picture in drawn if s >= slots.start)  # the others are stored already
        return [Drawn(s, state.early.pop(s, None), state.reasons.get(s, ""), state.earlier.get(s)) for s in slots]

    @staticmethod
    def _is_drawn(state: UnitState, slot: int) -> bool:
        return slot in state.tasks and slot not in state.reasons and slot not in state.earlier

    def _together(self, state: UnitState, slots: range, first: int) -> list[int]:
        """The slots of one call. Those of a batch are; where others drew some, the gaps are filled from the batches behind it, because a
        call takes as long for one picture as for all of its rows."""
        if state.calls:
            return list(state.calls[first])
        if not state.earlier:
            return [s for s in slots if self._is_drawn(state, s)]
        return [s for s in state.tasks if s >= first and self._is_drawn(state, s) and s not in state.early][: self.batch]

    def draw(self, state: UnitState, tasks: Sequence[Task]) -> Sequence[Picture]:
        """A picture of each task of a batch, on its way to the host."""
        if state.calls:
            self._with_adapter(state, tasks[0].row)
        texts = [state.texts[self._text(t.row)] for t in tasks]
        return self.painter.paint([sample_key(t.slot) for t in tasks], texts, [t.seed for t in tasks])

    def _adapter(self, row: CaptionRow) -> int | None:
        """The class whose LoRA draws a row; None: the model alone does."""
        lora = self._lora(row)
        return lora.index if lora.file else None

    def _lora(self, row: CaptionRow) -> ClassLora:
        if row.label not in self._loras:
            raise InputError(
                f"{BY_CLASS}: captions are of class {row.label} ({row.class_name!r}), which was not planned; plan the run again"
            )
        return self._loras[row.label]

    @cached_property
    def _loras(self) -> dict[int, ClassLora]:
        return {lora.index: lora for lora in self.config.model.of_classes}

    def _text(self, row: CaptionRow) -> Hashable:
        """What a unit keeps the embedding of a caption under: a LoRA may change text encoders, too."""
        return (self._adapter(row), row.caption) if self.config.model.of_classes else row.caption

    def _with_adapter(self, state: UnitState, row: CaptionRow) -> None:
        """Have the LoRA of a row in the weights, and the texts of all rows of it encoded."""
        which = self._adapter(row)
        self.painter.use(which)
        if self._text(row) not in state.texts:
            rows = [state.tasks[slot].row for slot in state.calls]
            encoded = self.painter.encode([r.caption for r in rows if self._adapter(r) == which])
            state.texts.update({(which, caption): text for caption, text in encoded.items()})

    def hopeless(self, reasons: Mapping[str, int], whole: bool = False) -> str:
        """No picture can be drawn at all: why, and what to do."""
        after = (RUN | self.folder.spec.settings)[AFTER]
        if not (commonest := mostly(reasons, CAUSES, min(after, self.folder.spec.slots))):
            return ""
        reason, n = commonest
        cause = next(c for r, c in CAUSES.items() if reason.startswith(r))
        what = f"model {self.config.model.id}: none of its first {n} pictures could be stored, mostly because of {reason!r}"
        return f"{what}: {cause}; images.{AFTER}=0 goes on all the same"

    # -- storing -----------------------------------------------------------------------------------------------------

    def encode(self, state: UnitState, item: Drawn) -> Sample | Tombstone:
        if item.earlier is not None:
            return Sample(item.slot, sample_key(item.slot), item.earlier)
        if reason := item.reason or item.picture.reason:
            return Tombstone(item.slot, reason)
        if (pixels := item.picture.pixels()) is None:
            return Tombstone(item.slot, NOT_FINITE)
        task, config, picture = state.tasks[item.slot], self.config, item.picture
        if picture.refused:
            if config.model.safety_checker == "drop":
                return Tombstone(item.slot, REFUSED)
            pixels = np.zeros_like(pixels)
        self.preview.add(pixels)
        image = encode_image(pixels, config.format, config.save_size)
        record = canonical(self.record(state, task, picture))
        return Sample(item.slot, sample_key(item.slot), {config.format: image, "json": record})

    def _adapted(self, row: CaptionRow) -> dict[str, object]:
        """What the metadata says of LoRAs of classes and of those that the run trained, where there are any."""
        model = self.config.model
        if not model.of_classes and not model.trained:
            return {}
        lora = self._lora(row) if model.of_classes else model.trained[0]
        if not lora.file:
            return {"adapter": None}
        trained = self.model.adapters[lora.index] if model.of_classes else self.model.loras[-1]
        digest = trained.sha256 if isinstance(trained, Trained) else self.folder.spec.inputs[f"{ADAPTER}{lora.index}"].identity
        return {"adapter": {"class": lora.name, "digest": digest, "weight": lora.weight}}

    def record(self, state: UnitState, task: Task, picture: Picture) -> dict:
        """The metadata beside a picture."""
        config, row, inputs = self.config, task.row, self.folder.spec.inputs
        width, height = stored_size(config.width, config.height, config.save_size)
        return {
            "caption": row.caption,
            "class": row.class_name,
            "label": row.label,
            "labels": list(row.labels),
            "label_names": list(row.label_names),
            "caption_row": row.row,
            "caption_seed": row.seed,
            "truncated": state.texts[self._text(row)].truncated,  # the caption has more tokens than the model takes
            "replica": task.replica,
            "seed": task.seed,
            "model": config.model.id,
            "model_digest": inputs["model"].identity if "model" in inputs else "",
            "model_parts": {r: f.identity for r, f in inputs.items() if r.startswith("model_") and not r.startswith(ADAPTER)},
            "scheduler": class_of(config.scheduler, self.model.scheduler),
            "steps": config.steps,
            "guidance_scale": config.guidance_scale,
            "guidance_interval": list(config.guidance_interval),
            "negative_prompt": config.negative_prompt if config.guidance_scale > 1 else "",  # without guidance nobody reads it
            "eta": config.eta,
            "safety_checker": config.model.safety_checker,  # off | blank | drop
            "blanked": picture.refused,  # the safety checker refused the picture: it is black
            "width": width,
            "height": height,
            "computed_batch": picture.rows,  # pictures that were computed together: fewer than the batch after a split
            "computed_width": config.width,
            "computed_height": config.height,
            "format": config.format,
            "numerics": self.folder.spec.numerics["name"],
            **self._adapted(row),
        } | self.computed_on
