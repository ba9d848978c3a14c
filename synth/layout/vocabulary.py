"""Tagger `vocabulary`: the words of a list that are likely to be in a picture, by a CLIP or SigLIP model. Texts are encoded once a worker.

CLIP says how likely each word is among all of the list, so that they share one probability (Radford et al. 2021); SigLIP says it of each
word by itself (Zhai et al. 2023).
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from synth import foreign, numerics
from synth.errors import InputError
from synth.features.encoders import TextEncoder, encoder_of
from synth.layout.config import TaggerConfig
from synth.layout.lists import Named
from synth.layout.records import Record
from synth.layout.taggers import Quiet
from synth.store.folder import StageFolder

FIX = "give a folder of a CLIP or SigLIP model of transformers (config.json, weights, tokenizer), such as openai/clip-vit-base-patch32"
TOO_LARGE = "lower layout.batch_size"


def check_model(path: Path) -> None:
    """InputError unless a folder looks like a whole model that reads texts. Imports neither torch nor transformers."""
    text_encoder_of(path)


def text_encoder_of(path: Path) -> type[TextEncoder]:
    """The class of a folder, which is judged; InputError for one that reads no texts. Imports no torch."""
    if issubclass(cls := encoder_of(path), TextEncoder):
        return cls
    raise InputError(f"{path}: a model of type {cls.type} reads no texts; {FIX}")


class VocabularyTagger(Quiet):
    def __init__(self, config: TaggerConfig, folder: StageFolder):
        path = folder.input_path(config.role)
        settings = numerics.apply(folder.spec.numerics)
        self.config = config
        self.model = text_encoder_of(path)(path, folder.spec.batch, settings["dtype"], TOO_LARGE)
        self._features = self.model.classes(config.words, config.templates)  # [W, D]
        if not np.isfinite(self._features).all():
            raise InputError(f"{path}: its numbers for the words are not finite; fetch the model again")

    def prepare(self, image: Any) -> np.ndarray:
        """[3, side, side] float32"""
        return self.model.preparation(image)

    def tags(self, records: Sequence[Record], ready: Sequence[Any]) -> list[Named | None]:
        odds = self.model.probabilities(self.model.pictures(ready), self._features)
        return [Named(tuple(self._likely(of_picture))) if np.isfinite(of_picture).all() else None for of_picture in odds]

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
