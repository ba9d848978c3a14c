"""A text as a story stage has it: chapters of prompts, as they were split when the stage was planned, and which slot is what.

slot = (prompts before it in the whole book) * styles + style. It lies in the stage's folder:
prompts.jsonl.gz, a line a chapter.
"""

import bisect
import hashlib
import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from synth import foreign
from synth.errors import InputError
from synth.store import blocks
from synth.store.identity import LISTED
from synth.store.spec import canonical

NAME = "prompts.jsonl.gz"
ROLE = "source"  # of the input that it stands for


@dataclass(frozen=True)
class Chapter:
    number: int  # in the source, from 1
    title: str
    prompts: tuple[str, ...]


@dataclass(frozen=True)
class Place:
    """What a slot is. chapter: index in the book; prompt: index in its chapter; style: index."""

    chapter: int
    prompt: int
    style: int


@dataclass(frozen=True)
class Book:
    chapters: tuple[Chapter, ...]

    @property
    def n_prompts(self) -> int:
        return self._first[-1]

    @cached_property
    def _first(self) -> list[int]:
        """Prompts before each chapter, and all."""
        return [0, *itertools.accumulate(len(c.prompts) for c in self.chapters)]

    def place(self, slot: int, n_styles: int) -> Place:
        prompt, style = divmod(slot, n_styles)
        chapter = bisect.bisect_right(self._first, prompt) - 1
        return Place(chapter, prompt - self._first[chapter], style)

    def slots(self, chapter: int, n_styles: int) -> range:
        """The slots of a chapter (index)."""
        return range(self._first[chapter] * n_styles, self._first[chapter + 1] * n_styles)

    def ends(self, n_styles: int) -> tuple[int, ...]:
        """The slot behind each chapter."""
        return tuple(n * n_styles for n in self._first[1:])

    # -- as bytes ----------------------------------------------------------------------------------------------------

    def to_bytes(self) -> tuple[bytes, str]:
        """(file bytes, identity); the identity is of the lines, which another zlib packs in another way."""
        lines = b"".join(canonical([c.number, c.title, list(c.prompts)]) + b"\n" for c in self.chapters)
        return blocks.pack(lines), LISTED + hashlib.sha256(lines).hexdigest()

    @staticmethod
    def read(path: Path, identity: str) -> "Book":
        """The book of a planned stage. A missing, torn or edited file is an InputError."""
        lines = b"".join(lines for _, _, lines in blocks.members(path))
        if LISTED + hashlib.sha256(lines).hexdigest() != identity:
            raise InputError(f"{path}: is not the text that was planned; remove the stage's folder and run the command again")
        return Book.of(foreign.parse(line, path) for line in lines.splitlines())

    @staticmethod
    def of(rows: Sequence) -> "Book":
        """From (number, title, prompts) a chapter."""
        return Book(tuple(Chapter(number, title, tuple(prompts)) for number, title, prompts in rows))


def book_of(folder) -> Book:
    """The book of a story stage (a StageFolder)."""
    return Book.read(folder.path / NAME, folder.spec.inputs[ROLE].identity)
