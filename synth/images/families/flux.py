"""FLUX.1: a CLIP for the style of the whole, a T5 for what is in it. Guidance is an input of the transformer (dev) or absent
(schnell, distilled to a few steps): there is never an unconditional half.
"""

from collections.abc import Mapping

from synth.images.families.base import Family


class Flux(Family):
    img2img_class = "FluxImg2ImgPipeline"
    floors_steps = False
    negative_prompts = False
    chooses_attention = True
    halves_in_one_call = False

    @classmethod
    def check(cls, model, config) -> None:
        super().check(model, config)
        model.check_size(config.height, config.width, 2 * model.vae_factor)  # latents are packed two by two

    @property
    def guided(self) -> bool:
        return False

    @property
    def tokens(self) -> int:
        """Tokens of a caption that the T5 reads: schnell was distilled on 256, dev reads 512."""
        return 512 if self.pipe.transformer.config.guidance_embeds else 256

    def encode(self, texts: list[str]) -> Mapping[str, object]:
        embeds, pooled, _ = self.pipe.encode_prompt(texts, texts, device=self.pipe.device, max_sequence_length=self.tokens)
        return {"prompt_embeds": embeds, "pooled_prompt_embeds": pooled}  # [B, T, D], [B, P]

    def reader(self):
        return self.pipe.tokenizer_2, self.tokens
