"""Stable Diffusion XL: two CLIP text encoders, and a refiner that takes the latents over for the last share of the steps."""

from collections.abc import Mapping, Sequence
from typing import ClassVar

from synth.errors import InputError
from synth.images.families.base import Embedded, Family, Part
from synth.keys import WrongKey

REFINER = "refiner"


class StableDiffusionXL(Family):
    img2img_class = "StableDiffusionXLImg2ImgPipeline"
    chain: ClassVar[Mapping[str, Part]] = {REFINER: Part("StableDiffusionXLImg2ImgPipeline", shared=("text_encoder_2", "vae"))}

    @classmethod
    def check(cls, model, config) -> None:
        super().check(model, config)
        refiner = config.model.parts.get(REFINER)
        if refiner is None:
            return
        if not 0 < refiner.start < 1:
            why = "the share of the steps after which it takes over, more than 0 and less than 1"
            raise WrongKey("parts.refiner.start", refiner.start, why, group="model")
        if not 0 < int(config.steps * refiner.start) < config.steps:
            raise WrongKey("steps", config.steps, f"too few to share between model and refiner at {refiner.start}", "use more steps")

    @classmethod
    def check_img2img(cls, model, config) -> None:
        if REFINER in config.model.parts:
            raise InputError("model.parts.refiner: a picture is changed by the model alone; use model.parts.refiner.path=null")
        super().check_img2img(model, config)

    @property
    def guided(self) -> bool:
        return super().guided and self.pipe.unet.config.time_cond_proj_dim is None

    def encode(self, texts: list[str]) -> Mapping[str, object]:
        rows = _encode(self.pipe, texts)  # [B, T, D], [B, P]
        if refiner := self.parts.get(REFINER):
            rows |= {f"{REFINER}_{n}": v for n, v in _encode(refiner, texts).items()}
        return rows

    def encode_negative(self, texts: list[str]) -> Mapping[str, object]:
        """As the pipelines do: zeros stand for no negative prompt where the model was trained so (the refiner was not)."""
        rows = dict(self.encode(texts))
        for prefix, pipe in (("", self.pipe), (f"{REFINER}_", self.parts.get(REFINER))):
            if pipe is not None and not texts[0] and pipe.config.force_zeros_for_empty_prompt:
                rows |= {f"{prefix}{n}": rows[f"{prefix}{n}"] * 0 for n in ("prompt_embeds", "pooled_prompt_embeds")}
        return rows

    def draw(self, items: Sequence[Embedded], generators: list, start=None, strength: float = 1.0):
        text = self.text(items)
        mark = f"{REFINER}_"
        later = {n.replace(mark, ""): v for n, v in text.items() if mark in n}
        text = {n: v for n, v in text.items() if mark not in n}
        if start is not None:
            return self.pixels(self.call(self.img2img(), text, generators, image=start, strength=strength))
        refiner = self.parts.get(REFINER)
        if refiner is None:
            return self.pixels(self.call(self.pipe, text, generators))
        share = float(self.config.model.parts[REFINER].start)
        latents = self.call(self.pipe, text, generators, denoising_end=share, output_type="latent")
        return self.pixels(self.call(refiner, later, generators, image=latents, denoising_start=share))


def _encode(pipe, texts: list[str]) -> dict:
    embeds, _, pooled, _ = pipe.encode_prompt(texts, device=pipe.device, do_classifier_free_guidance=False)
    return {"prompt_embeds": embeds, "pooled_prompt_embeds": pooled}
