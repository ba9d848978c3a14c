"""A look at a story while it is made: growing.html and preview.png in the stage's folder. No part of any unit.

All workers of a stage put their pictures into growing/ and whoever is first after EVERY seconds writes page and preview
anew from what lies there; so a page is never older than the last picture by more than that, whoever was killed.
"""

import contextlib
import os
import re
import threading
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from synth.errors import InputError, StoreError
from synth.export.html import Cell, Row, page
from synth.images.encode import png
from synth.images.preview import grid, shrink
from synth.store.files import write_atomic
from synth.store.trees import decoded
from synth.story.book import Book

PAGE, FOLDER = "growing.html", "growing"
EVERY = 2.0  # seconds
REFRESH = 5  # seconds after which a browser reads the page anew
_NAME = re.compile(r"(\d+)-(\d+)-(\d+)\.(png|webp|jpg)")


class Growing:
    """Takes the files of pictures from any encoder's thread. most: newest pictures in preview.png."""

    def __init__(self, stage: Path, book: Book, tags: Sequence[str], most: int, clock=time.monotonic):
        self.stage, self.book, self.tags, self.most, self._clock = Path(stage), book, tags, most, clock
        self._due, self._lock = float("-inf"), threading.Lock()
        with contextlib.suppress(OSError, StoreError):  # a full or read-only disk: the units will say so
            (self.stage / FOLDER).mkdir(exist_ok=True)

    def add(self, chapter: int, prompt: int, lane: int, data: bytes, ext: str) -> None:
        """One more picture; chapter and prompt are counted from 1."""
        with contextlib.suppress(OSError, StoreError, InputError):  # something in the way, too
            write_atomic(self.stage / FOLDER / f"{chapter:02d}-{prompt:03d}-{lane}.{ext}", data, sync=False)
        if self._clock() >= self._due and self._lock.acquire(blocking=False):
            try:
                self.write()
            finally:
                self._lock.release()

    def close(self) -> None:
        with self._lock:
            self.write()

    def write(self) -> None:
        """Page and preview of what is there now; the next time after EVERY seconds, or ten times as long as this took."""
        begun = self._clock()
        with contextlib.suppress(OSError, StoreError, InputError):  # as above; a picture that does not decode
            self._write()
        self._due = self._clock() + max(EVERY, 10 * (self._clock() - begun))

    def _write(self) -> None:
        pictures = {tuple(map(int, m.groups()[:3])): m[0] for name in os.listdir(self.stage / FOLDER) if (m := _NAME.fullmatch(name))}
        if not pictures:
            return
        write_atomic(self.stage / PAGE, self.html(pictures).encode(), sync=False)
        newest = sorted(pictures.values(), key=lambda n: (self.stage / FOLDER / n).stat().st_mtime_ns)[-self.most :]
        write_atomic(self.stage / "preview.png", png(grid([_tile(self.stage / FOLDER / n) for n in newest])), sync=False)

    def html(self, pictures: dict[tuple[int, int, int], str]) -> str:
        rows = []
        for chapter in self.book.chapters:
            for n, text in enumerate(chapter.prompts, start=1):
                cells = [
                    Cell(f"{FOLDER}/{pictures[at]}", tag)
                    for lane, tag in enumerate(self.tags)
                    if (at := (chapter.number, n, lane)) in pictures
                ]
                if cells:
                    rows.append(Row(chapter.number, chapter.title, n, text, tuple(cells)))
        done, total = len(pictures), self.book.n_prompts * len(self.tags)
        return page(f"{done:,} of {total:,} pictures", rows, refresh=0 if done >= total else REFRESH)


def _tile(path: Path) -> np.ndarray:
    return shrink(np.array(decoded(path.read_bytes(), "RGB")))
