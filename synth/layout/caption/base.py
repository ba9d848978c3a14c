"""What every captioner of boxes is: a model that says in a sentence what is in a crop. The crops of a batch's boxes stand in one list, in
the order of slots and boxes, and are captioned in windows of it: so many at once, whatever pictures they are of."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import numpy as np

from synth.features.model_folder import ModelFolder


@dataclass(frozen=True)
class Settings:
    """How a captioner is asked."""

    prompt: str = ""
    max_tokens: int = 30  # of a caption
    crop_pixels: int = 224**2  # of a crop, where the model takes any size
    rows: int = 16  # crops that are captioned at once


class BoxCaptioner(ABC):
    """A model of transformers from a local folder; `check` judges the folder without torch, `open` loads it."""

    def __init__(self, folder: ModelFolder, settings: Settings):
        self.folder, self.settings = folder, settings

    types: ClassVar[tuple[str, ...]]  # model_type in config.json

    @classmethod
    @abstractmethod
    def check(cls, path: Path) -> ModelFolder:
        """InputError unless the folder looks like a whole model of this kind with its tokenizer."""

    @abstractmethod
    def open(self, dtype: str) -> None:
        """Load it. The numerics have been applied; dtype: as they have it. InputError where the files do not give all of it."""

    @abstractmethod
    def prepare(self, crop) -> np.ndarray:
        """PIL image -> [3, H, W] uint8, as the model takes it. Needs no model; threads may share it."""

    @abstractmethod
    def window(self, crops: Sequence[np.ndarray]) -> list[str | None]:
        """The captions of crops that go through the model together; None: its numbers are not finite."""

    def captions(self, crops: Sequence[np.ndarray]) -> list[str | None]:
        """The caption of each prepared crop, in windows of the list; None: the model's numbers for it are not finite."""
        said: list[str | None] = []
        for start in range(0, len(crops), self.settings.rows):
            said += self.window(crops[start : start + self.settings.rows])
        return said


def around(bbox: tuple[int, int, int, int], margin: float, width: int, height: int) -> tuple[int, int, int, int]:
    """left, top, right, bottom of a box (left, top, width, height) with a share of its sides added on each, inside of its picture.

    >>> around((10, 10, 20, 10), 0.2, 32, 100)
    (6, 8, 32, 22)
    """
    x, y, w, h = bbox
    more_x, more_y = round(w * margin), round(h * margin)
    return max(0, x - more_x), max(0, y - more_y), min(width, x + w + more_x), min(height, y + h + more_y)
