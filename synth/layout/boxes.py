"""Stage kind `boxes`: each picture's tags, looked for in it by a detector. Where nothing is found the record has no boxes. A detector that
finds masks as well gives the boxes those, which a segmenter behind it replaces."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from synth.images.pipeline import out_of_memory
from synth.layout.config import BoxesConfig
from synth.layout.detect import detector_class
from synth.layout.detect.base import NOT_FINITE, Detector, Settings
from synth.layout.detect.boxes import Candidates, Rules, chosen
from synth.layout.masks import with_masks
from synth.layout.model_stage import ModelStage
from synth.layout.records import Anno, Record, rounded
from synth.layout.stage import Item

INPUT = "detector"
TOO_LARGE = "a call of the detector does not fit on the device: lower detector.rows"


class Boxes(ModelStage):
    config: BoxesConfig
    model: Detector | None = None

    def made(self) -> Detector:
        """The detector of the config, its folder judged, not loaded."""
        config, cls = self.config.detector, detector_class(self.config.detector.kind)
        settings = Settings(config.box_threshold, config.text_threshold, config.template, config.rows)
        return cls(cls.check(self.folder.input_path(INPUT)), settings)

    def broken(self) -> tuple[str]:
        return (NOT_FINITE,)

    def needs(self, record: Record) -> bool:
        return bool(record.tags)

    def prepare(self, record: Record, image: Any) -> Any:
        return self.model.prepare(image)

    def label(self, items: Sequence[Item]) -> Sequence[Record | str]:
        asked = [item for item in items if item.record.tags]
        with out_of_memory(TOO_LARGE):
            found = self.model.find(
                [item.ready for item in asked],
                [(item.record.width, item.record.height) for item in asked],
                [item.record.tags for item in asked],
            )
        by_slot = {item.slot: one for item, one in zip(asked, found, strict=True)}
        return [self._record(item.record, by_slot.get(item.slot)) for item in items]

    def _record(self, record: Record, found: Candidates | None) -> Record | str:
        """With its boxes, best first. found: None if it has no tags; the reason why there is no record, if there is none."""
        if found is None:
            return replace(record, annos=())
        if found.reason:
            return found.reason
        config = self.config.detector
        boxes, dropped = chosen(found, record.width, record.height, Rules(config.nms, config.min_box, config.max_boxes or None))
        annos = tuple(Anno(box.bbox, rounded(box.score), record.tags[box.label]) for box in boxes)
        boxed = replace(record, annos=annos, dropped=dict(Counter(record.dropped) + Counter(dropped)))
        masks = self.model.masks(found, boxes, (record.width, record.height)) if boxes else []
        return with_masks(boxed, masks) if masks else boxed
