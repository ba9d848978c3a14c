"""Any text-to-image pipeline: the captions themselves are passed, and the pipeline encodes them batch by batch."""

import inspect
from collections.abc import Mapping, Sequence

from synth.images.families.base import Embedded, Family


class Generic(Family):
    output = "np"
    halves_in_one_call = False
    embeds = False

    def encode(self, texts: list[str]) -> Mapping[str, object]:
        return {}

    def text(self, items: Sequence[Embedded]) -> dict:
        text = {"prompt": [i.caption for i in items]}
        if self.guided and self.config.negative_prompt and "negative_prompt" in inspect.signature(self.pipe.__call__).parameters:
            text["negative_prompt"] = [self.config.negative_prompt] * len(items)
        return text
