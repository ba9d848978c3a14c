"""Stage kind `story`: a picture of each prompt in each style; it may start from another style's or prompt's last one.

A unit is a chain: serial in prompts, parallel in styles. Lanes that run equally many steps are one call of the
model, always of the same rows. A picture starts from the *stored* pixels of its parent, so that a chain that goes on from
the finished batches of a worker that died gives the same bytes as one that was never interrupted.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from synth.captions.table import CaptionRow
from synth.errors import InputError
from synth.images.families import Embedded, family_class
from synth.images.img2img import Untouched
from synth.images.painter import Painter, Picture
from synth.images.stage import Drawn, Images, Task, UnitState, sample_key
from synth.images.strength import strength_for
from synth.seeds import derive
from synth.store.samples import Sample, Tombstone, Unit
from synth.store.trees import decoded
from synth.store.units import Stored
from synth.story.book import Book, book_of
from synth.story.chain import Last, Rules, last_after
from synth.story.config import StoryConfig
from synth.story.growing import Growing

PROMPTS_AHEAD = 16  # prompts whose texts are encoded together: a book's embeddings would fill the memory


@dataclass(frozen=True)
class StoryTask(Task):
    """One picture to draw. chapter, prompt: numbers from 1; style: whose text it is drawn with."""

    chapter: int
    prompt: int
    style: int
    prompt_text: str


@dataclass(frozen=True)
class Made:
    """A lane's last picture as it is stored: its slot and its pixels [H, W, 3] uint8."""

    slot: int
    pixels: np.ndarray


@dataclass(frozen=True)
class StoryState(UnitState):
    """What the batches of a chain share. texts: embeddings of prompts that are near; of earlier ones whether they were cut."""

    unit: Unit
    last: Last
    drawn: dict[int, Picture] = field(default_factory=dict)  # slot -> of the prompt before
    starts: dict[int, tuple[int | None, int]] = field(default_factory=dict)  # slot -> (slot of its parent, steps run), for the metadata
    near: dict[int, set[str]] = field(default_factory=dict)  # first slot of the prompts that are near -> their captions


class StoryStage(Images):
    config: StoryConfig

    def __init__(self, folder):
        super().__init__(folder)
        config = self.config
        self.rules = Rules(config.progressive, config.interleave, config.cycle_styles, config.steps, tuple(s.weight for s in config.styles))
        self.batch = min(config.rows, folder.spec.batch)
        self._painters: dict[int, Painter] = {}  # rows a call -> what draws so many
        self._book: Book | None = None
        self.growing: Growing | None = None

    def check(self) -> None:
        super().check()
        if tuple(len(c.prompts) for c in self.book.chapters) != self.config.prompts:
            raise InputError(f"{self.folder.path}: its prompts are not those of its config; plan it again")

    def open(self) -> None:
        super().open()
        self._painters = {self.batch: self.painter}
        if most := self.folder.spec.settings.get("growing"):
            self.growing = Growing(self.folder.path, self.book, [c.name for c in self.config.dataset.classes], most)

    def close(self) -> None:
        self._painters = {}  # first: they hold the model
        super().close()
        if self.growing is not None:
            self.growing.close()
            self.growing = None

    @property
    def book(self) -> Book:
        if self._book is None:
            self._book = book_of(self.folder)
        return self._book

    # -- what a unit is a function of --------------------------------------------------------------------------------

    def gather(self, unit: Unit) -> tuple[dict[int, StoryTask], dict[int, str]]:
        lanes, tasks, names = self.rules.lanes, {}, self.config.dataset.classes
        for slot in range(unit.start, unit.stop):
            place = self.book.place(slot, lanes)
            chapter, lane = self.book.chapters[place.chapter], place.style
            style, tag, text = self.rules.text((slot - unit.start) // lanes, lane), names[lane], chapter.prompts[place.prompt]
            caption = " ".join(f"{text} {self.config.styles[style].text}".split())
            row = CaptionRow(slot, caption, tag.name, tag.index, (tag.index,), (tag.name,), 0, slot, "")
            seed = derive(self.config.seed, "story", chapter.number, place.prompt + 1, lane)
            tasks[slot] = StoryTask(slot, row, 0, seed, chapter.number, place.prompt + 1, style, text)
        return tasks, {}

    # -- drawing -----------------------------------------------------------------------------------------------------

    def begin(self, unit: Unit) -> StoryState:
        tasks, reasons = self.gathered(unit)
        for painter in self._painters.values():
            painter.begin_unit()
        return StoryState(tasks, reasons, {}, unit, Last(self.rules))

    def resume(self, state: StoryState, stop: int, stored: Sequence[Stored]) -> None:
        """The last pictures of the lanes, read back from the finished batches."""
        if self.config.progressive:
            last = last_after(self.rules, state.unit.start, stop, {s.slot: s for s in stored})
            state.last.of = tuple(None if s is None else Made(s.slot, self._stored_pixels(s)) for s in last)

    def compute(self, state: StoryState, slots: range) -> list[Drawn]:
        self._embed(state, slots)
        tasks = [state.tasks[s] for s in slots]
        if not self.config.progressive:
            state.starts.update(dict.fromkeys(slots, (None, self.config.steps)))
            return [Drawn(t.slot, p) for t, p in zip(tasks, self.draw(state, tasks), strict=True)]
        self._settle(state, slots.start - self.rules.lanes)
        starts = self.rules.starts(state.last.of)
        for run, lanes in self.rules.groups(starts).items():
            some = [tasks[lane] for lane in lanes]
            state.drawn.update(
                zip((t.slot for t in some), self._draw_from(state, some, [starts[lane] for lane in lanes], run), strict=True)
            )
        return [Drawn(s, state.drawn[s]) for s in slots]

    def _draw_from(
        self, state: StoryState, tasks: Sequence[StoryTask], parents: Sequence[Made | None], run: int | None
    ) -> Sequence[Picture]:
        """One call: pictures from noise (run None), or of `run` steps from their parents."""
        import torch

        steps = self.config.steps if run is None else run
        state.starts.update({t.slot: (None if p is None else p.slot, steps) for t, p in zip(tasks, parents, strict=True)})
        if run == 0:
            return [Untouched(p.pixels) for p in parents]
        start, strength = None, 1.0
        if run is not None:
            start = torch.from_numpy(np.stack([p.pixels for p in parents])).permute(0, 3, 1, 2).float() / 255  # [n, 3, H, W]
            strength = strength_for(self.config.steps, run, family_class(self.model.pipeline).floors_steps)
        rows = min(len(tasks), self.batch)
        if rows not in self._painters:
            plain = self.painter
            self._painters[rows] = Painter(plain.family, rows, plain.on_oom, plain.intervals, shapes=self.prepared.shapes)
        return self._painters[rows].draw([state.texts[t.row.caption] for t in tasks], [t.seed for t in tasks], start, strength)

    def _settle(self, state: StoryState, first: int) -> None:
        """The pictures of the prompt before, whose slots begin at `first`, become the last ones of their lanes."""
        if state.drawn:
            row = [(slot, self._pixels_of(state.drawn[slot])) for slot in range(first, first + self.rules.lanes)]
            state.drawn.clear()
            state.last.add([None if pixels is None else Made(slot, pixels) for slot, pixels in row])

    def _pixels_of(self, picture: Picture) -> np.ndarray | None:
        """What will be stored of a picture; None: a tombstone."""
        pixels = picture.pixels()
        if pixels is not None and picture.refused:
            return None if self.config.model.safety_checker == "drop" else np.zeros_like(pixels)
        return pixels

    def _stored_pixels(self, stored: Stored) -> np.ndarray:
        return np.array(decoded(stored.read(self.config.format), "RGB"))

    def _embed(self, state: StoryState, slots: range) -> None:
        """The embeddings of PROMPTS_AHEAD prompts at once, counted from the chain's first, so that their batches are fixed."""
        size = max(PROMPTS_AHEAD * self.rules.lanes // self.folder.spec.batch, 1) * self.folder.spec.batch
        first = state.unit.start + (slots.start - state.unit.start) // size * size
        if first in state.near:
            return
        wanted = [state.tasks[s].row.caption for s in range(first, min(first + size, state.unit.stop))]
        embedded = self.painter.encode(wanted)
        for caption in {c for captions in state.near.values() for c in captions}:
            state.texts[caption] = Embedded(caption, {}, state.texts[caption].truncated)
        state.near.clear()
        state.near[first] = set(embedded)
        state.texts.update(embedded)

    # -- storing -----------------------------------------------------------------------------------------------------

    def encode(self, state: StoryState, item: Drawn) -> Sample | Tombstone:
        sample = super().encode(state, item)
        if self.growing is not None and isinstance(sample, Sample):
            task = state.tasks[item.slot]
            self.growing.add(task.chapter, task.prompt, task.row.label, sample.files[self.config.format], self.config.format)
        return sample

    def record(self, state: StoryState, task: StoryTask, picture: Picture) -> dict:
        config = self.config
        parent, run = state.starts[task.slot]
        record = super().record(state, task, picture)
        del record["caption_row"], record["caption_seed"], record["replica"]
        return record | {
            "chapter": task.chapter,
            "prompt": task.prompt,
            "prompt_text": task.prompt_text,
            "style": config.styles[task.style].text,
            "weight": config.styles[task.row.label].weight,
            "parent": None if parent is None else sample_key(parent),  # key of the picture that it starts from
            "steps_run": run,  # 0: the parent itself, without a call of the model
        }
