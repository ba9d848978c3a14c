"""Stable Diffusion 3 and 3.5: two CLIP text encoders and, unless it was left out, a T5."""

from collections.abc import Mapping

from synth.images.families.base import Family

T5_TOKENS = 256  # of the pipeline's own default


class StableDiffusion3(Family):
    img2img_class = "StableDiffusion3Img2ImgPipeline"
    floors_steps = False

    @classmethod
    def check(cls, model, config) -> None:
        super().check(model, config)
        model.check_size(config.height, config.width, cls.latent_step(model))

    def encode(self, texts: list[str]) -> Mapping[str, object]:
        embeds, _, pooled, _ = self.pipe.encode_prompt(
            texts, texts, texts, device=self.pipe.device, do_classifier_free_guidance=False, max_sequence_length=T5_TOKENS
        )
        return {"prompt_embeds": embeds, "pooled_prompt_embeds": pooled}  # [B, 77 + T5_TOKENS, D], [B, P]

    def reader(self):
        if self.pipe.text_encoder_3 is not None:
            return self.pipe.tokenizer_3, T5_TOKENS
        return super().reader()
