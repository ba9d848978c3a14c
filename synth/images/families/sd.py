"""Stable Diffusion 1 and 2: one CLIP text encoder."""

from collections.abc import Mapping

from synth.images.families.base import Family


class StableDiffusion(Family):
    img2img_class = "StableDiffusionImg2ImgPipeline"
    safety_class = "StableDiffusionSafetyChecker"

    @property
    def guided(self) -> bool:
        # a U-Net distilled for guidance (LCM) takes the scale as an input and has no unconditional half
        return super().guided and self.pipe.unet.config.time_cond_proj_dim is None

    def encode(self, texts: list[str]) -> Mapping[str, object]:
        embeds, _ = self.pipe.encode_prompt(texts, self.pipe.device, 1, do_classifier_free_guidance=False)
        return {"prompt_embeds": embeds}  # [B, T, D]
