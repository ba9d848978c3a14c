"""Florence-2 (Xiao et al. 2024): pictures with a prompt each, answered with tokens, of which a thousand are places along a side."""

from collections.abc import Sequence
from functools import cached_property
from pathlib import Path

import numpy as np

from synth.errors import InputError
from synth.features.model_folder import IMAGENET, ModelFolder, check_folder, load, load_tokenizer, normalised, planes
from synth.layout.answers import Chances, written

CLS = "Florence2ForConditionalGeneration"
FIX = "give a folder of Florence-2 in transformers' own layout, such as florence-community/Florence-2-base"
SIDE = 768  # pixels
PLACES = 1000  # along a side


class Florence2Model:
    """The model of a judged folder. `open` loads it; `prepare` needs no model."""

    def __init__(self, folder: ModelFolder):
        self.folder = folder
        self._colours = folder.colours(*IMAGENET)
        self._side = folder.edge("height", SIDE)

    @staticmethod
    def check(path: Path) -> ModelFolder:
        return check_folder(path, ("florence2",), FIX, tokenizer=True)

    def open(self, dtype: str) -> None:
        """dtype: as the numerics have it. InputError where the folder's files do not give all of it, or its tokenizer knows no places."""
        self.model = load(self.folder, CLS, dtype, FIX)
        self.tokenizer = load_tokenizer(self.folder, FIX)
        ids = self.tokenizer.convert_tokens_to_ids([f"<loc_{n}>" for n in range(PLACES)])
        self.places = {token: n for n, token in enumerate(ids) if token is not None and token != self.tokenizer.unk_token_id}
        if len(self.places) < PLACES:
            raise InputError(f"{self.folder.path}: its tokenizer has {len(self.places)} of the {PLACES} places <loc_0> ..; {FIX}")

    @cached_property
    def silent(self) -> frozenset[int]:
        """Tokens that are no words."""
        return frozenset(self.tokenizer.all_special_ids) | {self.model.config.image_token_id}

    @cached_property
    def seen(self) -> int:
        """Tokens that a picture takes of the text encoder's."""
        return self._features(np.zeros((1, 3, self._side, self._side), np.uint8)).shape[1]

    @property
    def room(self) -> int:
        """Tokens that a prompt may have."""
        return self.model.config.text_config.max_position_embeddings - self.seen - 2

    def prepare(self, image) -> np.ndarray:
        """PIL image -> [3, side, side] uint8, stretched."""
        from PIL import Image

        return planes(image.convert("RGB").resize((self._side, self._side), Image.Resampling.BICUBIC))

    def tokens(self, text: str) -> list[int]:
        """Of words alone: "<loc_5>" in a text is no place."""
        ids = self.tokenizer(text, add_special_tokens=False)["input_ids"]
        return [n for n in ids if n not in self.silent and n not in self.places]

    def words(self, tokens: Sequence[int]) -> str:
        return " ".join(self.tokenizer.decode([n for n in tokens if n not in self.silent]).split())

    def _pixels(self, pictures: np.ndarray):
        import torch

        return normalised(torch.from_numpy(pictures), *self._colours, self.model)

    def _features(self, pictures: np.ndarray):
        import torch

        with torch.inference_mode():
            return self.model.get_image_features(self._pixels(pictures)).pooler_output

    def answer(self, pictures: np.ndarray, prompts: Sequence[list[int]], longest: int) -> tuple[list[list[int] | None], list[list[float]]]:
        """(tokens of the answer, probability of each) of [N, 3, side, side] pictures with a prompt each; the likeliest token at every step.

        None in the place of the tokens: the model's numbers are not finite. longest: tokens of an answer, where the model can count so far.
        """
        import torch

        text = self.model.config.text_config
        rows = [[text.bos_token_id, *prompt, text.eos_token_id] for prompt in prompts]
        length = max(map(len, rows))
        image = [self.model.config.image_token_id] * self.seen
        ids = torch.tensor([image + row + [text.pad_token_id] * (length - len(row)) for row in rows], device=self.model.device)
        mask = torch.tensor([[1] * (len(image) + len(row)) + [0] * (length - len(row)) for row in rows], device=self.model.device)
        chances = Chances()
        with torch.inference_mode():
            out = self.model.generate(
                input_ids=ids,
                attention_mask=mask,
                pixel_values=self._pixels(pictures),
                max_new_tokens=min(longest, text.max_position_embeddings - 1),
                num_beams=1,
                do_sample=False,
                logits_processor=[chances],
            )
        return _until_end(out.cpu().tolist(), chances.of(out), text.eos_token_id)


def _until_end(sequences: list[list[int]], chances: list[list[float]], end: int) -> tuple[list[list[int] | None], list[list[float]]]:
    """Both without the first token, which begins every answer, and what comes from the end on."""
    tokens: list[list[int] | None] = []
    likely = []
    for sequence, row in zip(sequences, chances, strict=True):
        stop = written(sequence[1:], row, (end,))
        tokens.append(None if stop is None else sequence[1 : 1 + stop])
        likely.append(row[:stop])
    return tokens, likely
