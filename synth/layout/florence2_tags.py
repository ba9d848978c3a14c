"""Tagger `florence2`: the names that Florence-2 (Xiao et al. 2024) writes when it is asked for the objects of a picture, in its order."""

from collections.abc import Collection, Sequence
from typing import Any

import numpy as np

from synth import numerics
from synth.images.pipeline import out_of_memory
from synth.layout.config import TaggerConfig
from synth.layout.florence2 import Florence2Model
from synth.layout.lists import Named
from synth.layout.records import Record
from synth.layout.taggers import Quiet
from synth.store.folder import StageFolder

ASKED = "Locate the objects with category name in the image."  # <OD>, as its makers' processor writes it
LONGEST = 512  # tokens of an answer: 100 objects
TOO_LARGE = "a batch of Florence-2 does not fit on the device: lower layout.batch_size"


class Florence2Tagger(Quiet):
    def __init__(self, config: TaggerConfig, folder: StageFolder):
        settings = numerics.apply_to_text(folder.spec.numerics)
        self.model = Florence2Model(Florence2Model.check(folder.input_path(config.role)))
        self.model.open(settings["dtype"])
        self._prompt = self.model.tokens(ASKED)

    def prepare(self, image: Any) -> np.ndarray:
        """[3, side, side] uint8"""
        return self.model.prepare(image)

    def tags(self, records: Sequence[Record], ready: Sequence[Any]) -> list[Named | None]:
        with out_of_memory(TOO_LARGE):
            answers, _ = self.model.answer(np.stack(ready), [self._prompt] * len(ready), LONGEST)
        return [None if answer is None else Named(tuple(self._names(answer))) for answer in answers]

    def _names(self, answer: Sequence[int]) -> list[str]:
        return [self.model.words(run) for run in between(answer, self.model.places)]


def between(tokens: Sequence[int], places: Collection[int]) -> list[list[int]]:
    """The runs of an answer's tokens that are no places.

    >>> between([5, 6, 1, 2, 7, 1], {1, 2})
    [[5, 6], [7]]
    """
    runs: list[list[int]] = [[]]
    for token in tokens:
        if token not in places:
            runs[-1].append(token)
        elif runs[-1]:
            runs.append([])
    return [run for run in runs if run]
