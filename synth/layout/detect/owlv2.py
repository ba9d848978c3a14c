"""OWLv2 (Minderer et al. 2023): a box and a feature a patch, compared with the features of the tags. Tags of any number take one pass.

Its pictures are squares: what is missing of one is part of the picture's own preparation and does not depend on its neighbours.
"""

from collections import Counter
from functools import lru_cache
from pathlib import Path

import numpy as np

from synth.features.model_folder import OPENAI, ModelFolder, normalised
from synth.layout.detect.base import BLANK, LONG, NOT_FINITE, Detector, corners, in_rows
from synth.layout.detect.boxes import Candidates, none

SIDE = 960  # pixels
OWN = 768  # which transformers takes where the config does not say it
TEXTS = 64  # tags that the text tower takes at once
_REACH = 4  # standard deviations at which the filter ends


class Owlv2(Detector):
    types = ("owlv2",)
    cls = "Owlv2ForObjectDetection"
    fix = "give a folder of OWLv2 in transformers' layout, such as google/owlv2-base-patch16-ensemble"

    @classmethod
    def check(cls, path: Path) -> ModelFolder:
        folder = super().check(path)
        folder.check_edge(folder.edge("height", SIDE), "vision_config", OWN, cls.fix)
        return folder

    def __init__(self, folder, settings):
        super().__init__(folder, settings)
        self._colours = folder.colours(*OPENAI)
        self._side = folder.edge("height", SIDE)

    def prepare(self, image) -> np.ndarray:
        """Blackened to a square at its right or lower side, smoothed and resized to the model's."""
        return squared(np.asarray(image.convert("RGB")), self._side).transpose(2, 0, 1)

    def find(self, pictures, sizes, tags) -> list[Candidates]:
        texts = {tag: self._tokens(tag) for own in tags for tag in own}
        usable = {tag: n for n, tag in enumerate(tag for tag, ids in texts.items() if isinstance(ids, list))}
        dropped = [Counter(str(texts[tag]) for tag in own if tag not in usable) for own in tags]
        asked = [[(n, usable[tag]) for n, tag in enumerate(own) if tag in usable] for own in tags]
        features = self._features([texts[tag] for tag in usable])
        found = [none(counts) for counts in dropped]
        for together in in_rows(range(len(pictures)), lambda i: bool(asked[i]), self.settings.rows):
            if not asked[together[0]]:
                continue
            logits, boxes = self._forward(np.stack([pictures[i] for i in together]), features)
            for i, row_logits, row_boxes in zip(together, logits, boxes, strict=True):
                found[i] = self._candidates(row_logits, row_boxes, asked[i], sizes[i], dropped[i])
        return found

    def _tokens(self, tag: str) -> list[int] | str:
        """Token numbers of a tag's text, or why there are none."""
        if not tag.strip():
            return BLANK
        most = self.model.config.text_config.max_position_embeddings
        ids = self.tokenizer(self.settings.template.replace("{}", tag))["input_ids"]
        return ids + [self.tokenizer.pad_token_id] * (most - len(ids)) if len(ids) <= most else LONG

    def _features(self, texts: list[list[int]]):
        """[T, D] of T texts' tokens, none being T = 0."""
        import torch

        batches = []
        with torch.inference_mode():
            for start in range(0, len(texts), TEXTS):
                ids = torch.tensor(texts[start : start + TEXTS], device=self.model.device)
                mask = torch.tensor([[*self._mask(t)] for t in texts[start : start + TEXTS]], device=ids.device)
                batches.append(self.model.owlv2.get_text_features(input_ids=ids, attention_mask=mask).pooler_output)
            return torch.cat(batches) if batches else None

    def _mask(self, ids: list[int]) -> list[int]:
        """1 for the tokens of a text, 0 for what fills it up: the end's own token may be that as well."""
        end = ids.index(self.tokenizer.eos_token_id)
        return [int(n <= end) for n in range(len(ids))]

    def _forward(self, pixels: np.ndarray, features) -> tuple[np.ndarray, np.ndarray]:
        """([N, P, T] scores of patches for texts, [N, P, 4] boxes: centre, size, of the square)"""
        import torch

        with torch.inference_mode():
            map_ = self.model.image_embedder(normalised(torch.from_numpy(pixels), *self._colours, self.model))[0]  # [N, h, w, D]
            patches = map_.flatten(1, 2)
            logits, _ = self.model.class_predictor(patches, features)
            boxes = self.model.box_predictor(patches, map_)
            return logits.sigmoid().float().cpu().numpy(), boxes.float().cpu().numpy()

    def _candidates(self, scores, boxes, asked: list[tuple[int, int]], size: tuple[int, int], dropped) -> Candidates:
        own = scores[:, [column for _, column in asked]]
        if not (np.isfinite(own).all() and np.isfinite(boxes).all()):
            return none(reason=NOT_FINITE)
        best = own.max(1)
        stay = best > self.settings.box_threshold
        labels = np.array([number for number, _ in asked])[own.argmax(1)]
        return Candidates(corners(boxes[stay], max(size), max(size)), best[stay], labels[stay], dropped)


def squared(pixels: np.ndarray, side: int) -> np.ndarray:
    """[H, W, 3] uint8 -> [side, side, 3] float32 in 0..1: the picture in the upper left corner of a black square, smoothed with a Gaussian
    of (factor - 1) / 2 pixels and resized linearly, as scipy does it for the original; here only the pixels that are read are smoothed."""
    height, width = pixels.shape[:2]
    places, weights = taps(max(height, width), side)
    x = np.zeros((side, width, 3), np.float32)
    for column in range(places.shape[1]):
        rows = places[:, column]
        inside = np.flatnonzero(rows < height)
        x[inside] += pixels[rows[inside]] * weights[inside, column, None, None]
    y = np.zeros((side, side, 3), np.float32)
    for column in range(places.shape[1]):
        columns = places[:, column]
        inside = np.flatnonzero(columns < width)
        y[:, inside] += x[:, columns[inside]] * weights[inside, column, None]
    return y / np.float32(255)


@lru_cache(64)
def taps(length: int, side: int) -> tuple[np.ndarray, np.ndarray]:
    """([side, K] pixels of `length` that each of `side` new ones is made of, [side, K] their shares, which add up to 1)"""
    factor = length / side
    sigma = max(0.0, (factor - 1) / 2)
    reach = int(_REACH * sigma + 0.5)
    around = np.arange(-reach, reach + 1)
    bell = np.exp(-0.5 * (around / sigma) ** 2) if sigma else np.ones(1)
    bell /= bell.sum()
    centre = (np.arange(side) + 0.5) * factor - 0.5
    first = np.floor(centre).astype(int)
    share = centre - first
    shares = np.zeros((side, 2 * reach + 2))
    shares[:, :-1] += bell * (1 - share[:, None])
    shares[:, 1:] += bell * share[:, None]
    return mirrored(first[:, None] + np.arange(-reach, reach + 2), length), shares.astype(np.float32)


def mirrored(index: np.ndarray, length: int) -> np.ndarray:
    """Indices beyond an end, turned back at its pixel: -1 is 1.

    >>> mirrored(np.array([-2, 0, 3, 4]), 4).tolist()
    [2, 0, 3, 2]
    """
    if length == 1:
        return np.zeros_like(index)
    period = 2 * (length - 1)
    index = np.abs(index) % period
    return np.where(index < length, index, period - index)
