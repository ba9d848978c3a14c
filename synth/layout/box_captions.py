"""Stage kind `box_captions`: a caption for each box, by a model that sees the box alone. One that is too small for that has its tag for a
caption. A box about which nothing is said that is a caption stays without one, and is counted by reason."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import islice
from typing import Any

from synth.captions.answers import CleanAnswer
from synth.images.pipeline import out_of_memory
from synth.layout.answers import caption_of
from synth.layout.asked import Heard, together
from synth.layout.caption import captioner_class
from synth.layout.caption.base import BoxCaptioner, Settings, around
from synth.layout.caption.served import served_captioner
from synth.layout.config import SERVED, BoxCaptionsConfig
from synth.layout.model_stage import ModelStage
from synth.layout.records import Anno, Record
from synth.layout.stage import Item

INPUT = "box_captioner"
PREFIX = "caption_"  # of reasons
NOT_FINITE = "the captioner's numbers for a box of it are not finite"
TOO_LARGE = "a window of crops does not fit on the device: lower box_captioner.rows"


class BoxCaptions(ModelStage):
    config: BoxCaptionsConfig
    model: BoxCaptioner | None = None

    def __init__(self, folder):
        super().__init__(folder)
        self.deterministic = self.config.box_captioner.kind != SERVED
        self._heard = Heard(folder, "box_captioner", "boxes", "caption", self._captioned)
        self._spent: dict[str, Any] = {}  # of captioners that were closed

    def made(self) -> BoxCaptioner:
        """The captioner of the config, judged, not loaded or started."""
        config = self.config.box_captioner
        if config.kind == SERVED:
            return served_captioner(self.folder, config, INPUT, INPUT, config.crop_pixels)
        cls = captioner_class(config.kind)
        return cls(cls.check(self.folder.input_path(INPUT)), Settings(config.prompt, config.max_tokens, config.crop_pixels, config.rows))

    def close(self) -> None:
        if self.model is not None:
            self._spent = together([self._spent, self.model.usage()])
            self.model.close()
        super().close()

    def usage(self) -> Mapping[str, Any]:
        return together([self._spent, self.model.usage() if self.model is not None else {}, self._heard.usage()])

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

    def _captioned(self, record: Record) -> bool:
        """Whether the model gave a caption: a small box has its tag."""
        return any(anno.caption and self._large(anno) for anno in record.annos or ())

    def label(self, items: Sequence[Item]) -> Sequence[Record | str]:
        with out_of_memory(TOO_LARGE):
            said = self.model.answers([crop for item in items for crop in item.ready])
        captions = [None if one is None else caption_of(one, self.model.chat) for one in said]
        for one, answer in zip(said, captions, strict=True):
            if one is not None and answer is not None:
                self._heard.note(answer.reason, answer.cut, one.text, good=not answer.reason)
        self._heard.judge()
        left = iter(captions)
        return [self._record(item.record, list(islice(left, len(item.ready)))) for item in items]

    def _record(self, record: Record, captions: list[CleanAnswer | None]) -> Record | str:
        """With a caption for each box, those of the large ones as given; the reason why there is no record, if there is none."""
        answers = [answer for answer in captions if answer is not None]
        if len(answers) < len(captions):
            return NOT_FINITE
        left = iter(answers)
        annos = tuple(replace(a, caption=(next(left).text or None) if self._large(a) else a.label) for a in record.annos or ())
        none = Counter(f"{PREFIX}{answer.reason}" for answer in answers if answer.reason)
        return replace(record, annos=annos, dropped=dict(Counter(record.dropped) + none))
