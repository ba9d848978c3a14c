"""Stage kind `masks`: the mask of each box, as COCO's compressed run-length code, by a segmenter. A box in which it finds no pixel stays,
without a mask, and is counted."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from synth import numerics
from synth.export.rle import packed
from synth.images.pipeline import out_of_memory
from synth.layout.config import MasksConfig
from synth.layout.model_stage import ModelStage
from synth.layout.records import Anno, Mask, Record, rounded
from synth.layout.segment import segmenter_class
from synth.layout.segment.base import NOT_FINITE, Segmenter, Settings
from synth.layout.segment.base import Mask as Found
from synth.layout.stage import Item

INPUT = "segmenter"
EMPTY = "empty_mask"  # reason
TOO_LARGE = "a call of the segmenter does not fit on the device: lower segmenter.rows, then segmenter.boxes"


class Masks(ModelStage):
    config: MasksConfig
    apply = staticmethod(numerics.apply)  # it reads no text
    model: Segmenter | None = None

    def made(self) -> Segmenter:
        """The segmenter of the config, its folder judged, not loaded."""
        config, cls = self.config.segmenter, segmenter_class(self.config.segmenter.kind)
        return cls(cls.check(self.folder.input_path(INPUT)), Settings(config.rows, config.boxes))

    def broken(self) -> tuple[str]:
        return (NOT_FINITE,)

    def needs(self, record: Record) -> bool:
        return bool(record.annos)

    def prepare(self, record: Record, image: Any) -> Any:
        return self.model.prepare(image)

    def label(self, items: Sequence[Item]) -> Sequence[Record | str]:
        with out_of_memory(TOO_LARGE):
            masks = self.model.segment(
                [item.ready for item in items],
                [(item.record.width, item.record.height) for item in items],
                [[anno.bbox for anno in item.record.annos or ()] for item in items],
            )
        return [one if isinstance(one, str) else with_masks(item.record, one) for item, one in zip(items, masks, strict=True)]


def with_masks(record: Record, masks: Sequence[Found | None]) -> Record:
    """A record with the masks of its boxes, those that a detector gave it replaced."""
    annos = tuple(_with_mask(anno, mask, (record.height, record.width)) for anno, mask in zip(record.annos or (), masks, strict=True))
    empty = Counter({EMPTY: sum(mask is None for mask in masks)})
    return replace(record, annos=annos, dropped=dict(Counter(record.dropped) + empty))


def _with_mask(anno: Anno, mask: Found | None, size: tuple[int, int]) -> Anno:
    if mask is None:
        return replace(anno, mask=None, iou=None)
    return replace(anno, mask=Mask(size, packed(mask.runs)), iou=None if mask.iou is None else rounded(mask.iou))
