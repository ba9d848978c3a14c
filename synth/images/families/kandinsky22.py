"""Kandinsky 2.2: a prior draws the CLIP embedding of a picture of the caption; a decoder draws the picture of that embedding.

Two folders: model.path is the decoder's, model.parts.prior.path the prior's. The prior reads the caption while it draws.
"""

from collections.abc import Mapping, Sequence
from typing import ClassVar

from synth.images.families.base import Embedded, Family, Part
from synth.images.noise import own_noise
from synth.keys import WrongKey

PRIOR = "prior"


class Kandinsky22(Family):
    chain: ClassVar[Mapping[str, Part]] = {PRIOR: Part("KandinskyV22PriorPipeline", without=("image_processor",), uses=("image_encoder",))}
    schedulers = frozenset()  # its U-Net predicts the variance too, in a way that only its own scheduler knows
    embeds = False

    @classmethod
    def factor(cls, model) -> int:
        """Pixels a latent."""
        return 2 ** (len(model.component_config("movq").get("block_out_channels", [0] * 4)) - 1)

    @classmethod
    def native_size(cls, model) -> tuple[int, int] | None:
        return model.native_size and tuple(n * cls.factor(model) for n in model.native_size)

    @classmethod
    def check(cls, model, config) -> None:
        super().check(model, config)
        if PRIOR not in config.model.parts:
            why = f"{model.pipeline} ({model.name}) draws what a prior made of a caption"
            raise WrongKey("parts.prior.path", None, why, "give the prior's folder", "model")
        model.check_size(config.height, config.width, cls.factor(model) ** 2)  # the pipeline rounds up to it
        if (steps := config.model.parts[PRIOR].steps or config.steps) < 2:
            raise WrongKey("parts.prior.steps", steps, "its scheduler needs at least 2", group="model")

    def encode(self, texts: list[str]) -> Mapping[str, object]:
        return {}

    def reader(self):
        tokenizer = self.parts[PRIOR].tokenizer
        return tokenizer, tokenizer.model_max_length

    def text(self, items: Sequence[Embedded]) -> dict:
        return {"prompt": [i.caption for i in items]}

    def draw(self, items: Sequence[Embedded], generators: list, start=None, strength: float = 1.0):
        part, prior, text = self.config.model.parts[PRIOR], self.parts[PRIOR], self.text(items)
        own = generators
        if self.guided and self.config.negative_prompt:  # it is drawn an embedding of its own, in B more rows
            text["negative_prompt"], own = [self.config.negative_prompt] * len(items), [*generators, *generators]
        scale, steps = part.guidance_scale or self.config.guidance_scale, part.steps or self.config.steps
        with own_noise(prior, own):
            priors = prior(**text, num_inference_steps=steps, guidance_scale=scale, generator=own)
        embeds = {"image_embeds": priors.image_embeds, "negative_image_embeds": priors.negative_image_embeds}  # [B, D] each
        return (self.call(self.pipe, embeds, generators) / 2 + 0.5).clamp(0, 1)
