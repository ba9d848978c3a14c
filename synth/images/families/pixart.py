"""PixArt-Sigma: a T5 text encoder."""

from collections.abc import Mapping

from synth.images.families.base import Family

TOKENS = 300  # what it was trained with


class PixArtSigma(Family):
    @classmethod
    def check(cls, model, config) -> None:
        super().check(model, config)
        model.check_size(config.height, config.width, cls.latent_step(model))

    def encode(self, texts: list[str]) -> Mapping[str, object]:
        embeds, mask, _, _ = self.pipe.encode_prompt(
            texts, do_classifier_free_guidance=False, device=self.pipe.device, clean_caption=False, max_sequence_length=TOKENS
        )
        return {"prompt_embeds": embeds, "prompt_attention_mask": mask}  # [B, T, D], [B, T]

    def reader(self):
        return self.pipe.tokenizer, TOKENS

    def call(self, pipe, text: Mapping, generators: list, **more):
        # its negative prompt is "" by default, beside which it takes no embeddings; with binning it would draw a size of its
        # own list and stretch that to the one asked for
        return super().call(pipe, text, generators, negative_prompt=None, use_resolution_binning=False, **more)
