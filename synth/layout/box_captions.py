"""Stage kind `box_captions`: a caption for each box, by a model that sees the box alone. One that is too small for that has its tag for a
caption."""

from collections.abc import Sequence
from dataclasses import replace
from itertools import islice
from typing import Any

from synth.images.pipeline import out_of_memory
from synth.layout.caption import captioner_class
from synth.layout.caption.base import BoxCaptioner, Settings, around
from synth.layout.config import BoxCaptionsConfig
from synth.layout.model_stage import ModelStage
from synth.layout.records import Anno, Record
from synth.layout.stage import Item

INPUT = "box_captioner"
NOT_FINITE = "the captioner's numbers for a box of it are not finite"
TOO_LARGE = "a window of crops does not fit on the device: lower box_captioner.rows"


class BoxCaptions(ModelStage):
    config: BoxCaptionsConfig
    model: BoxCaptioner | None = None

    def made(self) -> BoxCaptioner:
        """The captioner of the config, its folder judged, not loaded."""
        config, cls = self.config.box_captioner, captioner_class(self.config.box_captioner.kind)
        return cls(cls.check(self.folder.input_path(INPUT)), Settings(config.prompt, config.max_tokens, config.crop_pixels, config.rows))

    def broken(self) -> tuple[str]:
        return (NOT_FINITE,)

    def needs(self, record: Record) -> bool:
        return any(map(self._large, record.annos or ()))

    def prepare(self, record: Record, image: Any) -> list[Any]:
        """The crops of the boxes that are large enough, in order."""
        margin = self.config.box_captioner.margin
        boxes = [around(anno.bbox, margin, record.width, record.height) for anno in record.annos or () if self._large(anno)]
        return [self.model.prepare(image.crop(box)) for box in boxes]

    def _large(self, anno: Anno) -> bool:
        return anno.area >= self.config.box_captioner.min_box**2

    def label(self, items: Sequence[Item]) -> Sequence[Record | str]:
        with out_of_memory(TOO_LARGE):
            captions = iter(self.model.captions([crop for item in items for crop in item.ready]))
        return [self._record(item.record, list(islice(captions, len(item.ready)))) for item in items]

    def _record(self, record: Record, captions: list[str | None]) -> Record | str:
        """With a caption for each box, those of the large ones as given; the reason why there is no record, if there is none."""
        if None in captions:
            return NOT_FINITE
        left = iter(captions)
        return replace(record, annos=tuple(replace(a, caption=next(left) if self._large(a) else a.label) for a in record.annos or ()))
