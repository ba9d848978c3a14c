"""BLIP-2 (Li et al. 2023), with OPT or Flan-T5: InstanceDiffusion's captioner of boxes."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from synth.errors import InputError
from synth.features.model_folder import OPENAI, ModelFolder, check_folder, load, load_tokenizer, normalised, planes
from synth.layout.answers import Chances, decoded, ends_of
from synth.layout.caption.base import BoxCaptioner

FIX = "give a folder of BLIP-2 in transformers' layout, such as Salesforce/blip2-opt-2.7b"
SIDE = 224  # pixels


class Blip2(BoxCaptioner):
    types = ("blip-2",)

    def __init__(self, folder, settings):
        super().__init__(folder, settings)
        self._colours = folder.colours(*OPENAI)
        self._side = folder.edge("height", SIDE)

    @classmethod
    def check(cls, path: Path) -> ModelFolder:
        folder = check_folder(path, cls.types, FIX, tokenizer=True)
        if type(folder.config.get("image_token_index")) is not int:
            why = "says no image_token_index, by which newer versions of transformers know where the picture is in the text"
            raise InputError(f"{path / 'config.json'}: {why}; fetch a newer revision of the model")
        folder.check_edge(folder.edge("height", SIDE), "vision_config", SIDE, FIX)
        return folder

    def open(self, dtype: str) -> None:
        self.model = load(self.folder, "Blip2ForConditionalGeneration", dtype, FIX)
        self.tokenizer = load_tokenizer(self.folder, FIX)
        seen = [self.model.config.image_token_index] * self.model.config.num_query_tokens
        self._ids = seen + self.tokenizer(self.settings.prompt)["input_ids"]

    def prepare(self, crop) -> np.ndarray:
        from PIL import Image

        return planes(crop.convert("RGB").resize((self._side, self._side), Image.Resampling.BICUBIC))

    def window(self, crops: Sequence[np.ndarray]) -> list[str | None]:
        """The likeliest token at every step; the prompt is not repeated."""
        import torch

        ids, chances = torch.tensor([self._ids] * len(crops), device=self.model.device), Chances()
        with torch.inference_mode():
            out = self.model.generate(
                pixel_values=normalised(torch.from_numpy(np.stack(crops)), *self._colours, self.model),
                input_ids=ids,
                attention_mask=torch.ones_like(ids),
                max_new_tokens=self.settings.max_tokens,
                num_beams=1,
                do_sample=False,
                logits_processor=[chances],
            )
        ends = ends_of(self.model.language_model.generation_config)
        return decoded(self.tokenizer, out, chances, ends)
