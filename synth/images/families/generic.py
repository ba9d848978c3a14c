"""Any text-to-image pipeline: the captions themselves are passed, and the pipeline encodes them batch by batch."""

import inspect
from collections.abc import Mapping, Sequence

from synth.errors import InputError
from synth.images.families.base import Embedded, Family


class Generic(Family):
    output = "np"
    chooses_attention = True  # some do; what does not is refused when it is loaded
    halves_in_one_call = False
    one_shape = False  # the pipeline may pad a batch of captions to the longest
    embeds = False

    def __init__(self, pipe, config, *args, **kwargs):
        super().__init__(pipe, config, *args, **kwargs)
        self.accepts = frozenset(inspect.signature(pipe.__call__).parameters)
        for name in ("prompt", *(["negative_prompt"] if config.negative_prompt else [])):
            if name not in self.accepts:
                fix = "leave negative_prompt empty" if name == "negative_prompt" else "use a text-to-image pipeline"
                raise InputError(f"model.path: {type(pipe).__name__} takes no {name}; {fix}")

    def encode(self, texts: list[str]) -> Mapping[str, object]:
        return {}

    def text(self, items: Sequence[Embedded]) -> dict:
        text = {"prompt": [i.caption for i in items]}
        if self.guided and self.config.negative_prompt:
            text["negative_prompt"] = [self.config.negative_prompt] * len(items)
        return text
