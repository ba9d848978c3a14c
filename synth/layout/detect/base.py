"""What every detector is: a model that finds a picture's tags in it. Pictures of equal size go together, and none is padded to another's.

Padding moves boxes: by up to 0.83 of the picture with MM-Grounding-DINO, whose queries are chosen among all positions.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from synth.features.model_folder import ModelFolder, check_folder, load, load_tokenizer
from synth.layout.detect.boxes import Candidates

LONG, BLANK = "long_tag", "empty_tag"  # reasons: a tag that the text encoder does not take; one of which nothing is left
NOT_FINITE = "the detector's numbers for it are not finite"
DTYPE = "float32"  # of coordinates: half precision has 256 to 2048 places along a picture, and boxes between them would move


@dataclass(frozen=True)
class Settings:
    """How a detector is asked."""

    box_threshold: float = 0.25  # a box's best score must be above it
    text_threshold: float = 0.2  # score from which a word of a tag counts
    template: str = "{}"  # text of a tag
    rows: int = 8  # pictures, or passes over their tags, that are computed at once


class Detector(ABC):
    """A model of transformers from a local folder; `check` judges the folder without torch, `open` loads it."""

    types: ClassVar[tuple[str, ...]]  # model_type in config.json
    cls: ClassVar[str]  # of transformers
    fix: ClassVar[str]

    def __init__(self, folder: ModelFolder, settings: Settings):
        self.folder, self.settings = folder, settings

    @classmethod
    def check(cls, path: Path) -> ModelFolder:
        """InputError unless the folder looks like a whole model of this kind with its tokenizer."""
        return check_folder(path, cls.types, cls.fix, tokenizer=True)

    def open(self, dtype: str) -> None:
        """Load it. The numerics have been applied; dtype: as they have it, for those that write their boxes as text.

        InputError where the folder's files do not give all of it.
        """
        self.model = load(self.folder, self.cls, DTYPE, self.fix)
        self.tokenizer = load_tokenizer(self.folder, self.fix)

    @abstractmethod
    def prepare(self, image) -> np.ndarray:
        """PIL image -> [3, H, W] uint8, or float32 in 0..1, of the size that is computed. Needs no model; threads may share it."""

    @abstractmethod
    def find(self, pictures: Sequence[np.ndarray], sizes: Sequence[tuple[int, int]], tags: Sequence[Sequence[str]]) -> list[Candidates]:
        """Candidates of each prepared picture for its own tags. sizes: (width, height) of the pictures themselves."""


def in_rows(items: Sequence[Any], alike: Callable[[Any], object], rows: int) -> Iterator[list[int]]:
    """Indices of items that are computed at once: at most `rows`, all alike, in the order in which kinds come and in their own.

    >>> list(in_rows("abacab", lambda letter: letter, 2))
    [[0, 2], [4], [1, 5], [3]]
    """
    kinds: dict[object, list[int]] = {}
    for i, item in enumerate(items):
        kinds.setdefault(alike(item), []).append(i)
    for same in kinds.values():
        for start in range(0, len(same), rows):
            yield same[start : start + rows]


def corners(boxes: np.ndarray, width: float, height: float) -> np.ndarray:
    """[N, 4] boxes (centre, size; of 0..1) as left, top, right, bottom in pixels, float64."""
    centre, half = boxes[:, :2].astype(np.float64), boxes[:, 2:].astype(np.float64) / 2
    return np.concatenate([centre - half, centre + half], 1) * [width, height, width, height]
