"""Stage kind `pairs`: new images of annotated ones. The objects are warped and kept, the background is painted anew.

slot = image * variants + variant. A variant is a function of the image, its annotations and captions, the config and draws
of its own, which hang on the image's file name. Images without an object that is large enough are stored as they are.
"""

from collections.abc import Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np

from synth.captions.table import CaptionRow
from synth.errors import InputError
from synth.images.embeddings import encode_unit
from synth.images.families import Embedded, family_class
from synth.images.img2img import Untouched
from synth.images.painter import MEMORY_ADVICE, Painter
from synth.images.painter import Picture as DrawnPicture
from synth.images.stage import NOT_FINITE, REFUSED, Drawn, Images, Task, UnitState, sample_key
from synth.images.strength import steps_run, strength_for
from synth.run.ahead import Ahead, coming, forget
from synth.seeds import derive
from synth.store.samples import Sample, Tombstone, Unit
from synth.store.spec import canonical, digest
from synth.tracking.canvas import back
from synth.tracking.config import PairsConfig
from synth.tracking.listing import Annotated, AnnotatedListing
from synth.tracking.objects import objects_of, variant_name
from synth.tracking.opencv import coco_masks, cv2
from synth.tracking.preparing import Facts, Prepared, chosen, decoded, jpeg, prepared
from synth.tracking.repaint import Repaint

# of the record of a picture: what pairs have not
NO_PAIRS = "class", "label", "labels", "label_names", "caption_row", "caption_seed", "replica", "computed_width", "computed_height"
NO_OBJECT = "no object of it is kept: none is annotated, or all are crowds, too small or too large"


@dataclass(frozen=True)
class PairTask(Task):
    """One variant of an image. seed: of its noise; row.caption: the one that was drawn for it."""

    image: Annotated


@dataclass(frozen=True)
class PairState(UnitState):
    """decoded: image -> (sha256, pixels), shared by its variants; ready: slot -> its canvas, both begun some batches ahead.

    facts: slot -> what the metadata says of the original and the objects, from when the slot is drawn.
    """

    decoded: dict[int, Future] = field(default_factory=dict)
    ready: dict[int, Future] = field(default_factory=dict)
    facts: dict[int, Facts] = field(default_factory=dict)


class Pairs(Images):
    config: PairsConfig

    def __init__(self, folder):
        super().__init__(folder)
        self._ahead: Ahead | None = None
        self.run = steps_run(self.config.steps, self.config.noise_strength)

    def check(self) -> None:
        config = self.config
        cv2(), coco_masks()
        super().check()
        if self.listing.n * config.variants != self.folder.spec.slots:
            raise InputError(
                f"{self.folder.path}: {self.listing.n} images in {config.variants} variants are not its {self.folder.spec.slots} slots; "
                "plan it again"
            )
        if self.listing.n:  # a place that is gone, or that this machine cannot read, says so now
            self.source.check(self.listing.rows(0, 1)[0].path)

    def open(self) -> None:
        super().open()
        self._ahead = Ahead("warp")

    def load(self, run: Mapping[str, object]) -> None:
        super().load(run)
        plain = self.painter
        self.painter = Painter(Repaint(plain.family, self.config), self.batch, plain.on_oom, plain.intervals, shapes=self.prepared.shapes)

    def close(self) -> None:
        super().close()
        if self._ahead is not None:
            self._ahead.close()
            self._ahead = None
        if "source" in self.__dict__:  # opened
            self.__dict__.pop("source").close()

    @cached_property
    def listing(self) -> AnnotatedListing:
        return AnnotatedListing.of(self.folder)

    @cached_property
    def source(self):
        from synth.tracking.sources import open_source

        return open_source(self.folder.input_path("images"))

    # -- what a unit is a function of --------------------------------------------------------------------------------

    def unit_inputs(self, unit: Unit) -> str:
        tasks, _ = self.gathered(unit)
        images = ((t.slot, t.image) for t in tasks.values())
        rows = ([s, i.path, i.size, i.bucket, i.captions, i.image, i.annotations, *([i.sha256] if i.sha256 else [])] for s, i in images)
        return digest(list(rows))

    def gather(self, unit: Unit) -> tuple[dict[int, Task], dict[int, str]]:
        n, seed, tasks = self.config.variants, self.config.seed, {}
        first = unit.start // n
        images = self.listing.rows(first, -(-unit.stop // n))
        if len({i.bucket for i in images if i.bucket}) > 1:
            raise InputError(f"{self.folder.path}: unit {unit.number} holds images of several buckets; plan it again")
        for slot in range(unit.start, unit.stop):
            image, variant = images[slot // n - first], slot % n
            name = image.image["file_name"]
            caption = chosen(image.captions, derive(seed, "pairs", name, variant, "caption")) if image.bucket else ""
            row = CaptionRow(image.number, caption, "", 0, (), (), seed=0, slot=image.number, source=image.path)
            tasks[slot] = PairTask(slot, row, variant, derive(seed, "pairs", name, variant, "noise"), image)
        return tasks, {}

    # -- drawing -----------------------------------------------------------------------------------------------------

    def begin(self, unit: Unit) -> PairState:
        from synth.images.pipeline import out_of_memory

        tasks, reasons = self.gathered(unit)
        self.painter.begin_unit()
        captions = [t.row.caption for t in tasks.values() if t.image.bucket]
        texts = {"": Embedded("", {})}  # of images that are stored as they are
        state = PairState(tasks, dict(reasons), texts)
        self._prepare_ahead(state, range(unit.start, unit.start))  # while texts are encoded
        if captions:
            with out_of_memory(MEMORY_ADVICE), self.prepared.text_encoders.on_device():
                texts |= encode_unit(self.painter.family.family, captions, self.prepared.text_encoders.rest)
        return state

    def compute(self, state: PairState, slots: range) -> list[Drawn]:
        """The batch's pictures: those that change are drawn together, the others are already what they will be."""
        self._prepare_ahead(state, slots)
        drawn: dict[int, Drawn] = {}
        changing: list[tuple[PairTask, Prepared]] = []
        for slot in slots:
            task, ready = state.tasks[slot], state.ready.pop(slot).result()
            state.facts[slot] = ready.facts
            if ready.reason:
                drawn[slot] = Drawn(slot, reason=f"{task.image.image['file_name']}: {ready.reason}")
            elif task.image.bucket is None:
                drawn[slot] = Drawn(slot, Untouched(ready.canvas))
            else:
                changing.append((task, ready))
        if changing:
            pictures = self.draw(state, changing)
            drawn |= {t.slot: Drawn(t.slot, p) for (t, _), p in zip(changing, pictures, strict=True)}
        return [drawn[s] for s in slots]

    def draw(self, state: PairState, changing: Sequence[tuple[PairTask, Prepared]]) -> Sequence[DrawnPicture]:
        import torch

        start = torch.from_numpy(np.stack([ready.canvas for _, ready in changing])).permute(0, 3, 1, 2)  # [n, 4, H, W] uint8
        strength = strength_for(self.config.steps, self.run, family_class(self.model.pipeline).floors_steps)
        return self.painter.draw([state.texts[t.row.caption] for t, _ in changing], [t.seed for t, _ in changing], start, strength)

    def _prepare_ahead(self, state: PairState, slots: range) -> None:
        """Begin to decode and warp what this batch and the next ones begin from; forget what belongs to earlier batches."""
        forget(state.decoded, slots.start // self.config.variants)
        forget(state.ready, slots.start)
        for slot in coming(slots, self.batch):
            if slot not in state.tasks or slot in state.facts:
                continue
            image = state.tasks[slot].image
            original = self._ahead.begin(state.decoded, image.number, decoded, self.source, image)
            self._ahead.begin(state.ready, slot, self._prepared, state.tasks[slot], original)

    def _prepared(self, task: PairTask, original: Future) -> Prepared:
        sha256, picture = original.result()
        config, image = self.config, task.image
        if picture.reason:
            return Prepared(Facts(sha256), reason=picture.reason)
        if image.bucket is None:
            return Prepared(Facts(sha256), picture.pixels)
        seed = derive(config.seed, "pairs", image.image["file_name"], task.replica, "warp")
        return prepared(picture.pixels, sha256, image.bucket, objects_of(image.annotations, config.min_area, config.max_area), config, seed)

    # -- storing -----------------------------------------------------------------------------------------------------

    def encode(self, state: PairState, item: Drawn) -> Sample | Tombstone:
        if reason := item.reason or item.picture.reason:
            return Tombstone(item.slot, reason)
        if (pixels := item.picture.pixels()) is None:
            return Tombstone(item.slot, NOT_FINITE)
        task, facts, picture = state.tasks[item.slot], state.facts[item.slot], item.picture
        if picture.refused:
            return Tombstone(item.slot, REFUSED)
        if facts.drawn is not None:
            pixels = back(pixels, facts.drawn, task.image.image["width"], task.image.image["height"])
        self.preview.add(pixels)
        record = canonical(self.record(state, task, picture))
        return Sample(item.slot, sample_key(item.slot), {"jpg": jpeg(pixels, self.config.quality), "json": record})

    def record(self, state: PairState, task: PairTask, picture: DrawnPicture) -> dict:
        config, facts, image = self.config, state.facts[task.slot], task.image.image
        record = super().record(state, task, picture)
        for key in NO_PAIRS:
            del record[key]
        changed = facts.drawn is not None
        return record | {
            "file_name": variant_name(image["file_name"], task.replica),
            "image_id": image["id"],
            "source": image["file_name"],
            "source_sha256": facts.source_sha256,
            "variant": task.replica,
            "width": image["width"],
            "height": image["height"],
            "unchanged": not changed,
            "why": "" if changed else NO_OBJECT,
            "bucket": list(task.image.bucket) if changed else None,
            "drawn": list(facts.drawn) if changed else None,
            "warp": facts.warp,
            "objects": list(facts.objects),
            "noise_strength": config.noise_strength,
            "steps_run": self.run if changed else 0,
            "harmonize": config.harmonize,
            "format": "jpg",
        }
