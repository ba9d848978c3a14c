"""How a picture becomes the input of an encoder, as the model's own folder says. PIL and numpy; no torch."""

from dataclasses import dataclass
from typing import Any

import numpy as np

from synth.features.model_folder import OPENAI

SIDE, HALF = 224, (0.5, 0.5, 0.5)
BICUBIC = 3  # Pillow's number, which preprocessor_config.json has too
LONGEST = 16  # times its short side: what is longer is cut before it is scaled


@dataclass(frozen=True)
class Preparation:
    """CLIP's: shorter side to `edge`, the middle square of `side`, then (x - mean) / std."""

    side: int = SIDE
    mean: tuple[float, ...] = OPENAI[0]
    std: tuple[float, ...] = OPENAI[1]
    edge: int = 0  # pixels; 0: side
    resample: int = BICUBIC

    def __call__(self, image: Any) -> np.ndarray:
        """PIL image -> [3, side, side] float32."""
        image = _middle(image).convert("RGB")
        size = self.scaled(image.size)
        if size != image.size:
            image = image.resize(size, self.resample)
        left, top = (size[0] - self.side) // 2, (size[1] - self.side) // 2
        pixels = np.asarray(image.crop((left, top, left + self.side, top + self.side)), np.float32) / 255
        return ((pixels - np.float32(self.mean)) / np.float32(self.std)).transpose(2, 0, 1)

    def scaled(self, size: tuple[int, int]) -> tuple[int, ...]:
        """(width, height) before the middle is cut out."""
        edge = self.edge or self.side
        return tuple(max(edge, round(length * (edge / min(size)))) for length in size)


class Truncated(Preparation):
    """DINOv2's: the same, and the longer side is rounded down, as transformers does it."""

    def scaled(self, size: tuple[int, int]) -> tuple[int, ...]:
        edge, short = self.edge or self.side, min(size)
        return tuple(edge if length == short else int(edge * length / short) for length in size)


class Stretched(Preparation):
    """SigLIP's: the whole picture, stretched to a square."""

    def __call__(self, image: Any) -> np.ndarray:
        return super().__call__(image.convert("RGB").resize((self.side, self.side), self.resample))


def _middle(image: Any) -> Any:
    """A picture without the ends that nothing is taken of, where it is so long that scaling them would take gigabytes."""
    short = min(image.size)
    if max(image.size) <= LONGEST * short:
        return image
    left, top = (max(0, (side - LONGEST * short) // 2) for side in image.size)
    return image.crop((left, top, image.width - left, image.height - top))
