"""Stage kind `masks`: the mask of each box, as COCO's compressed run-length code, by a segmenter. A box in which it finds no pixel stays,
without a mask, and is counted."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from synth import numerics
from synth.export.rle import packed
from synth.images.pipeline import free, out_of_memory
from synth.layout.config import MasksConfig
from synth.layout.records import Mask, Record, rounded
from synth.layout.segment import segmenter_class
from synth.layout.segment.base import Mask as Found
from synth.layout.segment.base import Segmenter, Settings
from synth.layout.stage import Item, LayoutStage

INPUT = "segmenter"
EMPTY = "empty_mask"  # reason
TOO_LARGE = "a call of the segmenter does not fit on the device: lower segmenter.rows, then segmenter.boxes"


class Masks(LayoutStage):
    config: MasksConfig
    segmenter: Segmenter | None = None

    def check(self) -> None:
        super().check()
        self._made()

    def open(self) -> None:
        super().open()
        now = numerics.apply(self.folder.spec.numerics)
        self.segmenter = self._made()
        self.segmenter.open(now["dtype"])

    def close(self) -> None:
        super().close()
        self.segmenter = None
        free()

    def _made(self) -> Segmenter:
        """The segmenter of the config, its folder judged, not loaded."""
        config, cls = self.config.segmenter, segmenter_class(self.config.segmenter.kind)
        return cls(cls.check(self.folder.input_path(INPUT)), Settings(config.rows, config.boxes))

    def needs(self, record: Record) -> bool:
        return bool(record.annos)

    def prepare(self, record: Record, image: Any) -> Any:
        return self.segmenter.prepare(image)

    def label(self, items: Sequence[Item]) -> Sequence[Record | str]:
        with out_of_memory(TOO_LARGE):
            masks = self.segmenter.segment(
                [item.ready for item in items],
                [(item.record.width, item.record.height) for item in items],
                [[anno.bbox for anno in item.record.annos or ()] for item in items],
            )
        return [one if isinstance(one, str) else with_masks(item.record, one) for item, one in zip(items, masks, strict=True)]


def with_masks(record: Record, masks: Sequence[Found | None]) -> Record:
    """A record with the masks of its boxes."""
    size = (record.height, record.width)
    annos = tuple(
        anno if mask is None else replace(anno, mask=Mask(size, packed(mask.runs)), iou=rounded(mask.iou))
        for anno, mask in zip(record.annos or (), masks, strict=True)
    )
    empty = Counter({EMPTY: sum(mask is None for mask in masks)})
    return replace(record, annos=annos, dropped=dict(Counter(record.dropped) + empty))
