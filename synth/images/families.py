"""Families of pipelines: how captions become arguments of a diffusers pipeline. A new family is one class and one line.

`Generic` passes captions as they are and works with any text-to-image pipeline. A family that can take text embeddings
computes them once a unit, so that the text encoder runs in its own full batches and never inside the drawing loop.
"""

import importlib
import inspect
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

from synth.config import ImagesConfig


@dataclass(frozen=True)
class Embedded:
    """One caption as its family keeps it: tensors by argument name ([T, D] each; none for Generic), and whether it was cut."""

    caption: str
    tensors: Mapping[str, object]
    truncated: bool = False


class Generic:
    """Any pipeline that takes `prompt`: the caption itself is passed and the pipeline encodes it batch by batch."""

    output: ClassVar[str] = "np"  # output_type that gives [B, H, W, 3] floats in [0, 1]

    def __init__(self, pipe, config: ImagesConfig, batch: int):
        self.pipe, self.config, self.batch = pipe, config, batch
        self.accepts = frozenset(inspect.signature(pipe.__call__).parameters)

    @property
    def guided(self) -> bool:
        """Whether an unconditional half is computed beside the conditional one."""
        return self.config.guidance_scale > 1.0

    def embed(self, captions: Sequence[str]) -> list[Embedded]:
        """Each caption, encoded; what is shared by batches is computed here, once a unit."""
        return [Embedded(c, {}, t) for c, t in zip(captions, self.truncated(captions), strict=True)]

    def truncated(self, captions: Sequence[str]) -> list[bool]:
        """Which captions have more tokens than the model's (first) text encoder takes."""
        tokenizer = getattr(self.pipe, "tokenizer", None)
        limit = getattr(tokenizer, "model_max_length", None)
        if limit is None or not captions:
            return [False] * len(captions)
        return [len(ids) > limit for ids in tokenizer(list(captions), truncation=False, padding=False).input_ids]

    def arguments(self, items: Sequence[Embedded]) -> dict:
        """What the pipeline is called with for one batch, apart from generators and output type."""
        config = self.config
        text = self.text(items)
        if self.guided and config.negative_prompt and "negative_prompt" in self.accepts and "negative_prompt_embeds" not in text:
            text["negative_prompt"] = [config.negative_prompt] * len(items)
        known = {
            "num_inference_steps": config.steps,
            "guidance_scale": config.guidance_scale,
            "height": config.height,
            "width": config.width,
            "eta": config.eta,
        }
        return text | {k: v for k, v in known.items() if k in self.accepts}

    def text(self, items: Sequence[Embedded]) -> dict:
        return {"prompt": [i.caption for i in items]}


class StableDiffusion(Generic):
    """Stable Diffusion 1 and 2: one CLIP text encoder, `prompt_embeds` [B, T, D] and `negative_prompt_embeds`."""

    output = "pt"  # [B, 3, H, W] on the device: rounding to 8 bits there makes the copy to the host four times smaller

    def __init__(self, pipe, config: ImagesConfig, batch: int):
        super().__init__(pipe, config, batch)
        self._negative = None  # [T, D]; encoded once a worker

    def embed(self, captions: Sequence[str]) -> list[Embedded]:
        found, cut = [], self.truncated(captions)
        for start in range(0, len(captions), self.batch):
            texts = list(captions[start : start + self.batch])
            rows = self._encode(texts + texts[-1:] * (self.batch - len(texts)))  # always the same shape: [batch, T, D]
            found += [Embedded(t, {"prompt_embeds": rows[i]}, cut[start + i]) for i, t in enumerate(texts)]
        return found

    def text(self, items: Sequence[Embedded]) -> dict:
        import torch

        text = {"prompt_embeds": torch.stack([i.tensors["prompt_embeds"] for i in items])}
        if self.guided:
            if self._negative is None:
                self._negative = self._encode([self.config.negative_prompt] * self.batch)[0]
            text["negative_prompt_embeds"] = self._negative.expand(len(items), -1, -1)
        return text

    def _encode(self, texts: list[str]):
        """[B, T, D] text embeddings, on the device."""
        return self.pipe.encode_prompt(texts, self.pipe.device, 1, do_classifier_free_guidance=False)[0]


FAMILIES: Mapping[str, str] = {  # pipeline class -> adapter; others are Generic
    "StableDiffusionPipeline": "synth.images.families:StableDiffusion",
}


def family_of(pipe, config: ImagesConfig, batch: int) -> Generic:
    """The adapter of a loaded pipeline. `batch` = rows of every call of its text encoder."""
    module, name = FAMILIES.get(type(pipe).__name__, "synth.images.families:Generic").split(":")
    return getattr(importlib.import_module(module), name)(pipe, config, batch)
