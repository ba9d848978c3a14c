"""Kolors: a U-Net as of Stable Diffusion XL that reads ChatGLM3's last but one layer, in English and Chinese."""

from collections.abc import Mapping

from synth.images.families.base import Family

TOKENS = 256  # of the pipeline's own default


class Kolors(Family):
    img2img_class = "KolorsImg2ImgPipeline"

    @property
    def guided(self) -> bool:
        return super().guided and self.pipe.unet.config.time_cond_proj_dim is None

    def encode(self, texts: list[str]) -> Mapping[str, object]:
        embeds, _, pooled, _ = self.pipe.encode_prompt(
            texts, device=self.pipe.device, do_classifier_free_guidance=False, max_sequence_length=TOKENS
        )
        return {"prompt_embeds": embeds, "pooled_prompt_embeds": pooled}  # [B, T, D], [B, P]

    def reader(self):
        return self.pipe.tokenizer, TOKENS

    def call(self, pipe, text: Mapping, generators: list, **more):
        if pipe is not self.pipe:  # image to image hands encode_prompt only some of the embeddings, so it wants a prompt
            names = ("prompt_embeds", "negative_prompt_embeds", "pooled_prompt_embeds", "negative_pooled_prompt_embeds")
            pipe.encode_prompt = lambda **_: tuple(text.get(name) for name in names)
        return super().call(pipe, text, generators, **more)
