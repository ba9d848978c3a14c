"""Florence-2 as a captioner of boxes: its own task of captions, on crops."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from synth.features.model_folder import ModelFolder
from synth.layout.caption.base import BoxCaptioner
from synth.layout.florence2 import Florence2Model


class Florence2Captions(BoxCaptioner):
    types = ("florence2",)

    def __init__(self, folder, settings):
        super().__init__(folder, settings)
        self._florence = Florence2Model(folder)

    @classmethod
    def check(cls, path: Path) -> ModelFolder:
        return Florence2Model.check(path)

    def open(self, dtype: str) -> None:
        self._florence.open(dtype)

    def prepare(self, crop) -> np.ndarray:
        return self._florence.prepare(crop)

    def window(self, crops: Sequence[np.ndarray]) -> list[str | None]:
        prompt = self._florence.tokens(self.settings.prompt)[: self._florence.room]
        answers, _ = self._florence.answer(np.stack(crops), [prompt] * len(crops), self.settings.max_tokens)
        return [None if answer is None else self._florence.words(answer) for answer in answers]
