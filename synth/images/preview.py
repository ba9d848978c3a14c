"""A small grid of the newest pictures, rewritten now and then beside the device: <stage>/preview.png. No part of any unit.

Workers of a stage share the one file, and whoever is first after `every` seconds writes it: a look at what is being made,
nothing more. It is replaced in one go, so that a viewer never meets half of it.
"""

import contextlib
import os
import threading
import time
from pathlib import Path

import numpy as np

from synth.images.encode import png

COLUMNS, ROWS = 6, 4
TILE = 128  # pixels of a tile's longer side at most
GAP = 2  # pixels between tiles


class Preview:
    """Takes pictures from any encoder's thread. every: seconds between two grids, 0 = none.

    Only the pictures of a grid that is due cost anything: a millisecond each.
    """

    def __init__(self, path: Path, every: float, clock=time.monotonic):
        self.path, self.every, self._clock = Path(path), every, clock
        self._tiles: list[np.ndarray] = []
        self._written = float("-inf")
        self._lock = threading.Lock()

    def add(self, pixels: np.ndarray) -> None:
        """One more picture [H, W, 3] uint8. The grid is written once it is due and full."""
        if not self.every or self._clock() - self._written < self.every:
            return
        tile = shrink(pixels)
        with self._lock:
            self._tiles.append(tile)
            full = len(self._tiles) == COLUMNS * ROWS
        if full:
            self.write()

    def write(self) -> None:
        """The grid of what was collected, if there is anything. One that is not full replaces none."""
        with self._lock:
            tiles, self._tiles, self._written = self._tiles, [], self._clock()
        temp = self.path.with_name(f".{self.path.name}.{os.getpid()}")
        try:
            # another worker's may be fresh; one from the future is another clock's, and says nothing
            fresh = self.path.exists() and 0 <= time.time() - self.path.stat().st_mtime < 0.9 * self.every
            if tiles and not fresh and (len(tiles) == COLUMNS * ROWS or not self.path.exists()):
                temp.write_bytes(png(grid(tiles)))
                temp.replace(self.path)
        except OSError:  # a full or read-only disk: the units will say so
            with contextlib.suppress(OSError):
                temp.unlink(missing_ok=True)


def shrink(pixels: np.ndarray) -> np.ndarray:
    """A copy with a longer side of TILE or less, by the mean of square blocks: cheap, and good enough to look at."""
    step = -(-max(pixels.shape[:2]) // TILE)
    height, width = (n // step * step for n in pixels.shape[:2])
    if step == 1 or not height or not width:
        return pixels[::step, ::step].copy()
    blocks = pixels[:height, :width].reshape(height // step, step, width // step, step, 3)
    return blocks.mean(axis=(1, 3)).astype(np.uint8)


def grid(tiles: list[np.ndarray]) -> np.ndarray:
    """[H, W, 3] uint8: the newest tile last, rows of COLUMNS, on white."""
    height, width = (max(t.shape[i] for t in tiles) + GAP for i in (0, 1))
    rows, columns = -(-len(tiles) // COLUMNS), min(COLUMNS, len(tiles))
    sheet = np.full((rows * height + GAP, columns * width + GAP, 3), 255, np.uint8)
    for n, tile in enumerate(tiles):
        y, x = GAP + n // COLUMNS * height, GAP + n % COLUMNS * width
        sheet[y : y + tile.shape[0], x : x + tile.shape[1]] = tile
    return sheet
