"""What every segmenter is: a model that gives the mask of an object by its box. A picture is encoded once, whatever boxes it has."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from synth.features.model_folder import IMAGENET, ModelFolder, check_folder, load, normalised

SIDE = 1024  # pixels of a model's input, unless its folder says otherwise
NOT_FINITE = "the segmenter's numbers for it are not finite"
_AT_ONCE = 1 << 25  # pixels of masks that are enlarged together


@dataclass(frozen=True)
class Settings:
    """How a segmenter is asked."""

    rows: int = 4  # pictures that are encoded at once
    boxes: int = 32  # of a picture, that are decoded at once


@dataclass(frozen=True)
class Mask:
    """runs: of pixels down the columns of the picture, the first one outside of the mask. iou: with the object, as the model says."""

    runs: np.ndarray
    iou: float


class Segmenter(ABC):
    """A model of transformers from a local folder; `check` judges the folder without torch, `open` loads it."""

    types: ClassVar[tuple[str, ...]]  # model_type in config.json
    cls: ClassVar[str]  # of transformers
    fix: ClassVar[str]
    edge: ClassVar[str]  # name of the input's length in preprocessor_config.json

    def __init__(self, folder: ModelFolder, settings: Settings):
        self.folder, self.settings = folder, settings
        self._colours = folder.colours(*IMAGENET)
        self.side = folder.edge(self.edge, SIDE)

    @classmethod
    def check(cls, path: Path) -> ModelFolder:
        """InputError unless the folder looks like a whole model of this kind, whose pictures are made as large as it takes them."""
        folder = check_folder(path, cls.types, cls.fix, tokenizer=False)
        folder.check_edge(folder.edge(cls.edge, SIDE), "prompt_encoder_config", SIDE, cls.fix)
        return folder

    def open(self, dtype: str) -> None:
        """Load it. The numerics have been applied; dtype: as they have it. InputError where the files do not give all of it."""
        self.model = load(self.folder, self.cls, dtype, self.fix)

    @abstractmethod
    def prepare(self, image) -> np.ndarray:
        """PIL image -> [3, H, W] uint8, at most `side` x `side`. Needs no model; threads may share it."""

    @abstractmethod
    def part(self, embeddings: Any, row: int) -> dict[str, Any]:
        """The arguments that give the model the embeddings of one picture of those that were encoded together."""

    @abstractmethod
    def enlarge(self, logits, prepared: tuple[int, int], size: tuple[int, int]):
        """[N, 1, h, w] torch logits of masks -> [N, height, width] of the picture. prepared, size: (height, width)."""

    def segment(
        self, pictures: Sequence[np.ndarray], sizes: Sequence[tuple[int, int]], boxes: Sequence[Sequence[tuple[int, int, int, int]]]
    ) -> list[list[Mask | None] | str]:
        """The mask of each box (left, top, width, height in pixels) of each prepared picture, cut at the box, None where no pixel is in it;
        or the reason why a picture has no masks.

        sizes: (width, height) of the pictures themselves. Pictures without a box are not computed.
        """
        masks: list[list[Mask | None] | str] = [[] for _ in pictures]
        asked = [i for i, own in enumerate(boxes) if own]
        for start in range(0, len(asked), self.settings.rows):
            together = asked[start : start + self.settings.rows]
            embeddings = self._encoded([pictures[i] for i in together])
            for row, i in enumerate(together):
                masks[i] = self._decoded(self.part(embeddings, row), pictures[i].shape[1:], sizes[i], boxes[i])
        return masks

    def _encoded(self, pictures: Sequence[np.ndarray]):
        """What the image encoder gives for pictures, each in the upper left corner of the model's square."""
        import torch

        with torch.inference_mode():
            pixels = torch.zeros(len(pictures), 3, self.side, self.side, device=self.model.device, dtype=self.model.dtype)
            for row, picture in zip(pixels, pictures, strict=True):
                row[:, : picture.shape[1], : picture.shape[2]] = normalised(torch.from_numpy(picture)[None], *self._colours, self.model)[0]
            return self.model.get_image_embeddings(pixels)

    def _decoded(self, embeddings: dict[str, Any], prepared: tuple[int, int], size: tuple[int, int], boxes) -> list[Mask | None] | str:
        """Masks of one picture's boxes, or why there are none.

        prepared: (height, width) that it was encoded with; size: its own (width, height).
        """
        import torch

        width, height = size
        scale = np.array([prepared[1] / width, prepared[0] / height] * 2)
        corners = np.array([(x, y, x + w, y + h) for x, y, w, h in boxes]) * scale
        masks: list[Mask | None] = []
        with torch.inference_mode():
            for start in range(0, len(corners), self.settings.boxes):
                own = corners[start : start + self.settings.boxes]
                asked = torch.tensor(own[None], dtype=torch.float32, device=self.model.device)  # 1024 places need more than 16 bits
                out = self.model(**embeddings, input_boxes=asked, multimask_output=False)
                # [1, N, 1, h, w] and [1, N, 1]
                logits, foretold = out.pred_masks[0].float(), out.iou_scores[0, :, 0].float().cpu().numpy()
                if not (np.isfinite(foretold).all() and logits.isfinite().all()):
                    return NOT_FINITE
                masks += self._cut(logits, prepared, (height, width), boxes[start : start + len(own)], foretold)
        return masks

    def _cut(self, logits, prepared, size: tuple[int, int], boxes, foretold: np.ndarray) -> list[Mask | None]:
        """Masks of logits [N, 1, h, w], in the picture's own (height, width) pixels."""
        masks: list[Mask | None] = []
        at_once = max(1, _AT_ONCE // max(size[0] * size[1], self.side**2))
        for start in range(0, len(logits), at_once):
            large = self.enlarge(logits[start : start + at_once], prepared, size) > 0
            for mask, box, iou in zip(large, boxes[start:], foretold[start:], strict=False):
                runs = runs_in(mask, box)
                masks.append(None if runs is None else Mask(runs, float(iou)))
        return masks


def runs_in(mask, box: tuple[int, int, int, int]) -> np.ndarray | None:
    """Runs down the columns of what is in a box of a [H, W] bool torch mask, the first one of False; None where it is empty."""
    import torch

    height, width = mask.shape
    x, y, w, h = box
    columns = torch.zeros(w, height, dtype=torch.bool, device=mask.device)
    columns[:, y : y + h] = mask[y : y + h, x : x + w].t()
    edge = torch.zeros(1, dtype=torch.bool, device=mask.device)
    flat = torch.cat([edge, columns.flatten(), edge])
    changes = (flat[1:] != flat[:-1]).nonzero().flatten().cpu().numpy() + x * height
    if not len(changes):
        return None
    runs = np.diff(np.concatenate([[0], changes, [height * width]]))
    return runs if runs[-1] else runs[:-1]
