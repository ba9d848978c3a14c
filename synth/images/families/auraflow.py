"""AuraFlow: a UMT5 text encoder."""

from collections.abc import Mapping

from synth.images.families.base import Family

TOKENS = 256  # of the pipeline's own default


class AuraFlow(Family):
    @classmethod
    def check(cls, model, config) -> None:
        super().check(model, config)
        model.check_size(config.height, config.width, cls.latent_step(model))

    def encode(self, texts: list[str]) -> Mapping[str, object]:
        embeds, mask, _, _ = self.pipe.encode_prompt(
            texts, do_classifier_free_guidance=False, device=self.pipe.device, max_sequence_length=TOKENS
        )
        # the pipeline asks for the mask but never reads it, and makes it as wide as the embeddings: one column a token is kept
        return {"prompt_embeds": embeds, "prompt_attention_mask": mask.view(embeds.shape)[..., 0]}  # [B, T, D], [B, T]

    def reader(self):
        return self.pipe.tokenizer, TOKENS
