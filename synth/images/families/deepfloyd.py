"""DeepFloyd IF: pictures of pixels, 64 a side; then a super-resolution stage (x 4) and Stable Diffusion's upscaler (x 4).

One T5 reads the caption for stages I and II; the upscaler has a text encoder of its own. A chain may end after any stage:
the stored size is that of the last one.
"""

from collections.abc import Mapping, Sequence
from typing import ClassVar

from synth.errors import InputError
from synth.images.families.base import Embedded, Family, Part
from synth.keys import WrongKey

STAGE_2, STAGE_3 = "stage_2", "stage_3"
FACTOR = 4  # of each further stage
TOKENS = 77  # what IF's T5 was trained with


class DeepFloyd(Family):
    chain: ClassVar[Mapping[str, Part]] = {
        STAGE_2: Part("IFSuperResolutionPipeline", without=("text_encoder", "tokenizer")),
        STAGE_3: Part("StableDiffusionUpscalePipeline"),
    }
    schedulers = frozenset({"dpm++2m"})  # its U-Nets predict the variance too: other schedulers do not know what to do with it

    @classmethod
    def native_size(cls, model) -> tuple[int, int] | None:
        return model.native_size and tuple(n * FACTOR ** len(model.parts) for n in model.native_size)

    @classmethod
    def check(cls, model, config) -> None:
        super().check(model, config)
        parts = config.model.parts
        if STAGE_3 in parts and STAGE_2 not in parts:
            raise InputError("model.parts.stage_3 enlarges what stage_2 made; give model.parts.stage_2.path too")
        blocks = len(model.component_config("unet").get("block_out_channels", [0] * 4))
        model.check_size(config.height, config.width, FACTOR ** len(parts) * 2 ** (blocks - 1))
        top = {STAGE_2: 1000, STAGE_3: 350}  # of the schedulers; of the upscaler's max_noise_level
        for name, part in parts.items():
            if not 0 <= part.noise_level < top[name]:
                raise WrongKey(f"parts.{name}.noise_level", part.noise_level, f"must be from 0 to {top[name] - 1}", group="model")

    def encode(self, texts: list[str]) -> Mapping[str, object]:
        rows = {"prompt_embeds": self.pipe.encode_prompt(texts, do_classifier_free_guidance=False, device=self.pipe.device)[0]}
        if upscaler := self.parts.get(STAGE_3):
            embeds = upscaler.encode_prompt(texts, upscaler.device, 1, do_classifier_free_guidance=False)
            rows["stage_3_prompt_embeds"] = embeds[0]
        return rows

    def reader(self):
        return self.pipe.tokenizer, TOKENS

    def text_of(self, items: Sequence[Embedded], stage: str) -> dict:
        """The text arguments of one stage; whether it has an unconditional half depends on its own guidance scale."""
        import torch

        name = "stage_3_prompt_embeds" if stage == STAGE_3 else "prompt_embeds"
        text = {"prompt_embeds": torch.stack([i.tensors[name] for i in items])}
        if self.scale_of(stage) > 1.0:
            negative = self.negative()[name]
            text["negative_prompt_embeds"] = negative.expand(len(items), *negative.shape)
        return text

    def scale_of(self, stage: str) -> float:
        part = self.config.model.parts.get(stage)
        return (part and part.guidance_scale) or self.config.guidance_scale

    def draw(self, items: Sequence[Embedded], generators: list, start=None, strength: float = 1.0):
        config, shrink = self.config, FACTOR ** len(self.parts)
        size = config.height // shrink, config.width // shrink
        # [B, 3, h, w] in [-1, 1]: with output_type "pt" the pipelines of pixels give what they have
        images = self.call(self.pipe, self.text_of(items, ""), generators, height=size[0], width=size[1])
        for stage in (STAGE_2, STAGE_3):
            if stage not in self.parts:
                break
            part = config.model.parts[stage]
            settings = {"image": images, "noise_level": part.noise_level, "guidance_scale": self.scale_of(stage)}
            settings["num_inference_steps"] = part.steps or config.steps
            if stage == STAGE_2:
                size = size[0] * FACTOR, size[1] * FACTOR
                settings |= {"height": size[0], "width": size[1]}
            else:
                settings["image"] = (images / 2 + 0.5).clamp(0, 1)  # the upscaler takes [0, 1] and gives it
            images = self.call(self.parts[stage], self.text_of(items, stage), generators, **settings)
        return images if STAGE_3 in self.parts else (images / 2 + 0.5).clamp(0, 1)
