"""Tagger `vocabulary`: the words of a list that are likely to be in a picture, by a CLIP or SigLIP model. Texts are encoded once a worker.

CLIP says how likely each word is among all of the list, so that they share one probability (Radford et al. 2021); SigLIP says it of each
word by itself (Zhai et al. 2023).
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, cast

import numpy as np

from synth import foreign, numerics
from synth.errors import InputError
from synth.filters.clip import Clip, Preparation
from synth.filters.clip import check_folder as check_clip
from synth.layout.config import TaggerConfig
from synth.layout.model_folder import check_folder
from synth.layout.records import Record
from synth.store.folder import StageFolder

FIX = "give a folder of a CLIP or SigLIP model of transformers (config.json, weights, tokenizer), such as openai/clip-vit-base-patch32"
TOO_LARGE = "lower layout.batch_size"
SIDE, HALF = 224, (0.5, 0.5, 0.5)  # of SigLIP: pixels; mean and std of its colours


class Stretched(Preparation):
    """SigLIP's: the whole picture, stretched to a square."""

    def __call__(self, image: Any) -> np.ndarray:
        from PIL import Image

        square = image.convert("RGB").resize((self.side, self.side), Image.Resampling.BICUBIC)
        return super().__call__(square)


def model_type(path: Path) -> str:
    """clip or siglip; InputError for a folder of another model."""
    from synth.weights import read_json

    kind = read_json(path / "config.json", FIX).get("model_type")
    if not isinstance(kind, str) or kind not in _MODELS:
        raise InputError(f"{path / 'config.json'}: is a model of type {foreign.seen(kind)}; {FIX}")
    return kind


def check_siglip(path: Path) -> Preparation:
    """InputError unless a folder looks like a whole SigLIP model; how its pictures are prepared."""
    folder = check_folder(path, ("siglip",), FIX, tokenizer=True)
    side = folder.edge("height", folder.count("vision_config", "image_size", SIDE))
    folder.check_edge(side, "vision_config", SIDE, FIX)
    return Stretched(side, *folder.colours(HALF, HALF))


class ClipTags(Clip):
    fix, too_large = FIX, TOO_LARGE

    def probabilities(self, pictures: np.ndarray, words: np.ndarray) -> np.ndarray:
        """[N, W] of features [N, D] and [W, D]: of each word, among all of them."""
        logits = self._scale() * (pictures @ words.T)
        odds = np.exp(logits - logits.max(1, keepdims=True))
        return cast(np.ndarray, odds / odds.sum(1, keepdims=True))

    def _scale(self) -> float:
        return float(self._model.logit_scale.detach().float().exp())


class SiglipTags(ClipTags):
    loaded_as, longest, text_inputs = "SiglipModel", 64, ("input_ids",)
    check = staticmethod(check_siglip)

    def probabilities(self, pictures: np.ndarray, words: np.ndarray) -> np.ndarray:
        """[N, W] of features [N, D] and [W, D]: of each word, by itself."""
        logits = self._scale() * (pictures @ words.T) + float(self._model.logit_bias.detach().float())
        return cast(np.ndarray, np.where(np.isfinite(logits), 1 / (1 + np.exp(-logits)), np.nan))


_MODELS: dict[str, type[ClipTags]] = {"clip": ClipTags, "siglip": SiglipTags}


def model_at(path: Path) -> type[ClipTags]:
    """The class of the model in a folder."""
    return _MODELS[model_type(path)]


def check_model(path: Path) -> None:
    """InputError unless a folder looks like a whole model of a kind that is known here. Imports neither torch nor transformers."""
    check_siglip(path) if model_type(path) == "siglip" else check_clip(path)


class VocabularyTagger:
    def __init__(self, config: TaggerConfig, folder: StageFolder):
        path = folder.input_path(config.role)
        settings = numerics.apply(folder.spec.numerics)
        self.config = config
        self.model = model_at(path)(path, folder.spec.batch, settings["dtype"])
        texts = [template.replace("{}", word) for word in config.words for template in config.templates]
        means = self.model.texts(texts).reshape(len(config.words), len(config.templates), -1).mean(1)  # [W, D]
        self._features = means / np.linalg.norm(means, axis=1, keepdims=True)
        if not np.isfinite(self._features).all():
            raise InputError(f"{path}: its numbers for the words are not finite; fetch the model again")

    def prepare(self, image: Any) -> np.ndarray:
        """[3, side, side] float32"""
        return self.model.preparation(image)

    def tags(self, records: Sequence[Record], ready: Sequence[Any]) -> list[Sequence[str] | None]:
        odds = self.model.probabilities(self.model.pictures(ready), self._features)
        return [self._likely(of_picture) if np.isfinite(of_picture).all() else None for of_picture in odds]

    def _likely(self, odds: np.ndarray) -> list[str]:
        """The words above the threshold, the likeliest first; of equal ones that which the list has first."""
        order = np.argsort(-odds, kind="stable")[: self.config.top]
        return [self.config.words[n] for n in order if odds[n] >= self.config.min_probability]


def read_words(path: Path) -> tuple[str, ...]:
    """The words of a list, a line each, without empty lines and those that begin with #. InputError for none, and for one that stands
    twice."""
    lines = [" ".join(line.split()) for line in foreign.read_text(path, foreign.RECORD).splitlines()]
    words = [line for line in lines if line and not line.startswith("#")]
    if not words:
        raise InputError(f"{path}: names no word; write a word or phrase a line")
    met: set[str] = set()
    for word in words:
        if word.casefold() in met:
            raise InputError(f"{path}: {word!r} stands twice; remove a line")
        met.add(word.casefold())
    return tuple(words)
