"""Stage kind `story_pages`: a story as people look at it.

    <tag>/<chapter>-<prompt>.png      each picture, copied byte by byte (individual)
    <tag>/grid-<chapter>.png          all of a style and chapter; or of all chapters so far, as the original script had it
    <tag>/animation-<chapter>.webp    one after the other
    story.json                        prompt, style, seed, strength and parent of each
    index.html                        all of it, to scroll through
A slot is a chapter. The stage's own units hold what story.json says of it, and names, sizes and digests of its files.
"""

import json
from collections.abc import Iterator
from functools import cached_property
from pathlib import PurePosixPath

from synth.export.html import Cell, Row, page
from synth.export.sources import Sources
from synth.kinds import config_of
from synth.reading.sample import StageSample
from synth.reading.stage import ROLE, StageReader
from synth.run.findings import Check
from synth.run.place import Pages
from synth.store.folder import StageFolder
from synth.store.names import folder_names
from synth.story.book import Book, book_of
from synth.story.config import StoryPagesConfig
from synth.story.sheets import SMALL, animation, grid

STORY, INDEX = "story.json", "index.html"


class StoryPages(Pages):
    config: StoryPagesConfig

    @cached_property
    def story(self) -> StageFolder:
        return self.folder.upstream(ROLE)[0]

    @cached_property
    def pictures(self) -> StageReader:
        return StageReader(self.story)

    @cached_property
    def book(self) -> Book:
        return book_of(self.story)

    @cached_property
    def folders(self) -> tuple[str, ...]:
        """Of the styles."""
        return style_folders({c.index: c.name for c in config_of(self.story).dataset.classes})

    @cached_property
    def titles(self) -> tuple[str, ...]:
        """Of the styles, as the page shows them: their tags; where two have one tag, their folders."""
        tags = [c.name for c in config_of(self.story).dataset.classes]
        return tuple(f if tags.count(tag) > 1 else tag for tag, f in zip(tags, self.folders, strict=True))

    def check(self) -> None:
        super().check()
        self.book, self.folders  # noqa: B018 (what is wrong with the story is said now)

    # -- a chapter ---------------------------------------------------------------------------------------------------

    def make(self, chapter: int) -> dict:
        """Put the files of a chapter (index) into their places; its part of story.json, and `files`: name -> (size, sha256)."""
        slots, lanes = self.book.slots(chapter, len(self.folders)), len(self.folders)
        number, files, pictures = self.book.chapters[chapter].number, {}, []
        for sample in self.pictures.samples(slots.start, slots.stop):
            name = self.name_of(sample.slot)
            if self.config.individual:
                self.keep(files, name, sample.read())
            pictures.append(self._said(sample, sample.metadata, name))
        for lane, folder in enumerate(self.folders):
            here = sum(p["slot"] % lanes == lane for p in pictures)
            if self.config.grid != "none":
                first = slots.start if self.config.grid == "chapter" else 0
                if n := here if first == slots.start else self._count(lane, slots.stop):
                    self.keep(files, f"{folder}/grid-{number:02d}.png", grid(self._data(first, slots.stop, lane), n))
            if self.config.animation != "none" and here:
                data = animation(self._data(slots.start, slots.stop, lane), self.config.animation, self.config.frame_ms)
                self.keep(files, f"{folder}/animation-{number:02d}.{self.config.animation}", data)
        return {"files": files, "pictures": pictures}

    def _count(self, lane: int, stop: int) -> int:
        return sum(s.slot % len(self.folders) == lane for s in self.pictures.samples(0, stop))

    def _data(self, start: int, stop: int, lane: int) -> Iterator[bytes]:
        """The files of a style's pictures, in order."""
        for sample in self.pictures.samples(start, stop):
            if sample.slot % len(self.folders) == lane:
                yield sample.read()

    def name_of(self, slot: int) -> str:
        """The file of a picture: <tag>/<chapter>-<prompt>.<ext>, counted from 1."""
        place = self.book.place(slot, len(self.folders))
        number = self.book.chapters[place.chapter].number
        return f"{self.folders[place.style]}/{number:02d}-{place.prompt + 1:03d}.{config_of(self.story).format}"

    def _said(self, sample: StageSample, record: dict, name: str) -> dict:
        parent = record["parent"]
        return {
            "slot": sample.slot,
            "key": sample.key,
            "file": name if self.config.individual else None,
            "prompt": record["prompt"],
            "tag": record["class"],
            "style": record["style"],
            "caption": record["caption"],
            "seed": str(record["seed"]),  # 64 bits; some readers of JSON take 53
            "strength": None if parent is None else record["weight"],  # None: from noise
            "steps_run": record["steps_run"],
            "parent": parent,  # key of the picture that it started from
            "parent_file": self.name_of(int(parent)) if parent is not None and self.config.individual else None,
            "sha256": sample.sha256,
        }

    # -- when the stage is whole -------------------------------------------------------------------------------------

    def verify(self, check: Check) -> None:
        """As of any pages; deep: pictures are those of the story, which are as they were committed."""
        super().verify(check)
        if not (sources := Sources(check, lambda: self.pictures)):
            return
        for stored in self.folder.samples():
            facts = stored.json()
            for p in facts["pictures"]:
                if p["file"]:
                    told = {"sha256": facts["files"][p["file"]][1]}
                    sources.compare(p["slot"], told, p["file"], self.folder.unit_path(stored.unit), stored.unit, p["file"])
        if not self.config.individual:
            sources.all_whole()

    def whole(self) -> dict[str, bytes]:
        """story.json and index.html, from the stage's units."""
        chapters, rows = [], []
        for stored in self.folder.samples():
            facts, chapter = stored.json(), self.book.chapters[stored.slot]
            chapters.append(
                {
                    "number": chapter.number,
                    "title": chapter.title,
                    "prompts": list(chapter.prompts),
                    "pictures": facts["pictures"],
                }
            )
            rows += self._rows(stored.slot, facts)
        large = min(config_of(self.story).height, config_of(self.story).width) >= SMALL
        return {
            STORY: json.dumps(self._story(chapters), indent=1, ensure_ascii=False).encode("utf-8", "surrogatepass") + b"\n",
            INDEX: page(self.config.title, rows, large=large).encode("utf-8"),
        }

    def _story(self, chapters: list[dict]) -> dict:
        config = config_of(self.story)
        lanes = zip(config.styles, config.dataset.classes, self.folders, strict=True)
        return {
            "title": self.config.title,
            "model": config.model.id,
            "steps": config.steps,
            "guidance_scale": config.guidance_scale,
            "progressive": config.progressive,
            "interleave": config.interleave,
            "cycle_styles": config.cycle_styles,
            "carry": config.carry,
            "styles": [{"style": s.text, "tag": c.name, "weight": s.weight, "folder": f} for s, c, f in lanes],
            "chapters": chapters,
        }

    def _rows(self, chapter: int, facts: dict) -> Iterator[Row]:
        """A row a prompt, then the animations and grids of the chapter."""
        about = self.book.chapters[chapter]
        if self.config.individual:
            of: dict[int, list[Cell]] = {}
            for p in facts["pictures"]:
                of.setdefault(p["prompt"], []).append(Cell(p["file"], self.titles[p["slot"] % len(self.folders)], _facts(p)))
            for n, text in enumerate(about.prompts, start=1):
                yield Row(about.number, about.title, n, text, tuple(of.get(n, ())))
        for what in ("animation", "grid"):
            of_folder = {n.partition("/")[0]: n for n in facts["files"] if PurePosixPath(n).name.startswith(f"{what}-")}
            cells = tuple(Cell(of_folder[f], title) for f, title in zip(self.folders, self.titles, strict=True) if f in of_folder)
            if cells:  # in the order of the pictures above them
                yield Row(about.number, about.title, 0, f"{what}s", cells)


def style_folders(tags: dict[int, str]) -> tuple[str, ...]:
    """A folder name for each style: safe, unlike each other, and unlike the files beside them."""
    names = folder_names(tags)
    return tuple(f"{n}~{i}" if n.casefold() in (STORY, INDEX) else n for i, n in sorted(names.items()))


def _facts(picture: dict) -> str:
    start = f"from {picture['parent_file']}, strength {picture['strength']:g}" if picture["parent"] else "from noise"
    return f"{picture['caption']} \u00b7 {start} \u00b7 {picture['steps_run']} steps \u00b7 seed {picture['seed']}"
