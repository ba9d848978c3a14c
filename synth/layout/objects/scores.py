"""Stage kind `crop_scores`: the records of the stage before, with the cosine similarity of each object's crop to its text, by CLIP."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from synth.features.encoders import TextEncoder
from synth.features.preparing import Stretched
from synth.host.gpu import free
from synth.layout.caption.base import around
from synth.layout.objects.clip import checked, features_of, opened, said, whole
from synth.layout.objects.config import CAPTION, CropScoresConfig
from synth.layout.records import DIGITS, Record
from synth.layout.stage import Item, LayoutStage

NOT_FINITE = "the numbers of CLIP for a box of it are not finite"


class CropScores(LayoutStage):
    config: CropScoresConfig
    model: TextEncoder | None = None
    preparation: Stretched

    def check(self) -> None:
        super().check()
        checked(self.folder)

    def open(self) -> None:
        super().open()
        self.model = opened(self.folder, self.config.rows)
        self.preparation = whole(self.model.preparation)

    def close(self) -> None:
        super().close()
        self.model = None
        free()

    def broken(self) -> tuple[str]:
        return (NOT_FINITE,)

    def needs(self, record: Record) -> bool:
        return bool(record.annos)

    def prepare(self, record: Record, image: Any) -> list[np.ndarray]:
        """[3, side, side] of each object."""
        boxes = [around(anno.bbox, self.config.margin, record.width, record.height) for anno in record.annos or ()]
        return [self.preparation(image.crop(box)) for box in boxes]

    def label(self, items: Sequence[Item]) -> list[Record | str]:
        annos = [anno for item in items for anno in item.record.annos or ()]
        if not annos:
            return [item.record for item in items]
        texts = [said(anno) if self.config.against == CAPTION else anno.label for anno in annos]
        crops = self.model.pictures([crop for item in items for crop in item.ready])  # [N, D]
        scores = iter((crops * features_of(texts, self.model.texts)).sum(1))
        return [self._record(item.record, [next(scores) for _ in item.record.annos or ()]) for item in items]

    def _record(self, record: Record, scores: Sequence[float]) -> Record | str:
        if not np.isfinite(scores).all():
            return NOT_FINITE
        scored = zip(record.annos or (), scores, strict=True)
        return replace(record, annos=tuple(replace(anno, crop_score=similarity(score)) for anno, score in scored))


def similarity(value: float) -> float:
    """A cosine, as it is stored.

    >>> similarity(0.256789), similarity(-1.0000001)
    (0.2568, -1.0)
    """
    return round(min(1.0, max(-1.0, float(value))), DIGITS)
