"""CogView4: GLM-4 reads the caption, without a padding mask and to no fixed length.

The pipeline pads a batch of captions to the longest of them, and GLM-4 sees the padding: a caption's embedding, and so its
picture, would depend on its neighbours. Here each caption is read by itself, as if the pipeline were called for it alone
(padded to a multiple of 16 tokens), and captions of equal length are drawn together.
"""

from collections.abc import Mapping, Sequence

from synth.images.families.base import Embedded, Family

TOKENS = 1024  # of the pipeline's own default


class CogView4(Family):
    size_step = 16  # the pipeline insists on it
    halves_in_one_call = False
    one_shape = False

    @classmethod
    def check(cls, model, config) -> None:
        super().check(model, config)
        model.check_size(config.height, config.width, cls.latent_step(model))

    def embed(self, captions: Sequence[str]) -> list[Embedded]:
        cut = self.truncated(captions)
        rows = [self.encode([c]) for c in captions]
        return [Embedded(c, {n: v[0] for n, v in row.items()}, cut[i]) for i, (c, row) in enumerate(zip(captions, rows, strict=True))]

    def encode(self, texts: list[str]) -> Mapping[str, object]:
        embeds, _ = self.pipe.encode_prompt(texts, do_classifier_free_guidance=False, device=self.pipe.device, max_sequence_length=TOKENS)
        return {"prompt_embeds": embeds}  # [B, T, D], T a multiple of 16

    def reader(self):
        return self.pipe.tokenizer, TOKENS

    def draw(self, items: Sequence[Embedded], generators: list, start=None, strength: float = 1.0):
        import torch

        alike: dict[int, list[int]] = {}  # tokens -> rows
        for row, item in enumerate(items):
            alike.setdefault(len(item.tensors["prompt_embeds"]), []).append(row)
        pictures = [None] * len(items)
        for rows in alike.values():
            part = super().draw([items[r] for r in rows], [generators[r] for r in rows], start, strength)
            for row, picture in zip(rows, part, strict=True):
                pictures[row] = picture
        return torch.stack(pictures)
