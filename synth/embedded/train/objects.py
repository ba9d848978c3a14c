"""The scenes of scene_data.py as detector, segmenter and captioner learn from them: pictures, and the boxes, masks and classes in them."""

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from synth.embedded.pictures.render import tight_box
from synth.embedded.train.augment import recoloured
from synth.embedded.train.scene_data import LONG

HELD = 1024  # scenes at the end that are for the printed figures
LEAST = 12  # pixels of an object, else it is not asked for


@dataclass(frozen=True)
class Objects:
    """What is in one picture. owner: of each pixel, from 1 (0: none), whatever is too small being left out."""

    owner: np.ndarray  # int64 [LONG, LONG]
    boxes: np.ndarray  # float32 [N, 4]: left, top, right, bottom in pixels
    classes: np.ndarray  # int64 [N]


class Scenes:
    def __init__(self, folder: Path):
        self.pictures, self.owners = (np.load(folder / f"{name}.npy", mmap_mode="r") for name in ("pictures", "owners"))
        self.labels = np.load(folder / "labels.npy").astype(np.int64)
        self.captions = json.loads((folder / "captions.json").read_text())

    def __len__(self) -> int:
        return len(self.pictures)

    @property
    def held(self) -> np.ndarray:
        """Numbers of the scenes that are not trained on."""
        return np.arange(len(self) - HELD, len(self))

    def drawn(self, rng: np.random.Generator, count: int) -> np.ndarray:
        return rng.integers(0, len(self) - HELD, count)

    def pixels(self, index: np.ndarray, rng: np.random.Generator | None = None, beyond: float = -1.0) -> torch.Tensor:
        """float32 [B, 3, LONG, LONG] in -1..1; rng: pictures are recoloured; beyond: what stands beside a picture, as its stage has it."""
        x = torch.from_numpy(np.stack([self.pictures[i] for i in index]).astype(np.float32)).permute(0, 3, 1, 2) / 127.5 - 1
        inside = torch.zeros(len(index), 1, LONG, LONG, dtype=torch.bool)
        for row, i in enumerate(index):
            inside[row, :, : self.labels[i, 0], : self.labels[i, 1]] = True
        return torch.where(inside, x if rng is None else recoloured(x, rng), torch.tensor(beyond))

    def objects(self, i: int) -> Objects:
        owner = np.asarray(self.owners[i])
        classes = self.labels[i, 3:]
        kept = [n for n in range(1, 1 + int((classes >= 0).sum())) if (owner == n).sum() >= LEAST]
        numbers = np.zeros(1 + len(classes), np.int64)
        numbers[kept] = np.arange(1, 1 + len(kept))
        boxes = [tight_box(owner == n) for n in kept]
        corners = np.array([(x, y, x + w, y + h) for x, y, w, h in boxes], np.float32).reshape(-1, 4)
        return Objects(numbers[owner], corners, classes[[n - 1 for n in kept]])
