"""Qwen2.5-VL (Bai et al. 2025) and Qwen3-VL as captioners of boxes: successors of the original's Qwen-VL-Chat, which transformers lacks.

A crop keeps its shape and has a fixed area, `crop_pixels`: what it costs is then the same for all boxes. With the original's 512 pixels on
the shorter side a box took five times the tokens of 224 x 224, and more. Crops of all shapes go together: patches stand in one list.
"""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from synth.errors import InputError
from synth.features.model_folder import OPENAI, ModelFolder, check_folder, load, load_tokenizer, normalised, planes
from synth.layout.answers import Chances, decoded, ends_of
from synth.layout.caption.base import BoxCaptioner

FRAMES = 2  # of a patch: a picture is a film of one frame, shown twice


class Qwen25Vl(BoxCaptioner):
    types = ("qwen2_5_vl",)
    cls = "Qwen2_5_VLForConditionalGeneration"
    fix = "give a folder of Qwen2.5-VL in transformers' layout, such as Qwen/Qwen2.5-VL-3B-Instruct"
    patch, colours = 14, OPENAI
    system = "<|im_start|>system\nYou are a helpful assistant.<|im_end|>\n"

    def __init__(self, folder, settings):
        super().__init__(folder, settings)
        self._colours = folder.colours(*self.colours)
        self._patch, self._merge = (
            folder.count("vision_config", name, n) for name, n in (("patch_size", self.patch), ("spatial_merge_size", 2))
        )

    @classmethod
    def check(cls, path: Path) -> ModelFolder:
        return check_folder(path, cls.types, cls.fix, tokenizer=True)

    def open(self, dtype: str) -> None:
        self.model = load(self.folder, self.cls, dtype, self.fix)
        self.tokenizer = load_tokenizer(self.folder, self.fix)
        if self.tokenizer.convert_tokens_to_ids("<|im_start|>") in (None, self.tokenizer.unk_token_id):
            raise InputError(f"{self.folder.path}: its tokenizer knows no <|im_start|>, by which Qwen's chats begin; {self.fix}")
        config = self.model.config
        self._before = [*self._tokens(f"{self.system}<|im_start|>user\n"), config.vision_start_token_id]
        self._behind = [config.vision_end_token_id, *self._tokens(f"{self.settings.prompt}<|im_end|>\n<|im_start|>assistant\n")]

    def _tokens(self, text: str) -> list[int]:
        return self.tokenizer(text, add_special_tokens=False)["input_ids"]

    def prepare(self, crop) -> np.ndarray:
        from PIL import Image

        size = of_area(*crop.size, self.settings.crop_pixels, self._patch * self._merge)
        return planes(crop.convert("RGB").resize(size, Image.Resampling.BICUBIC))

    def window(self, crops: Sequence[np.ndarray]) -> list[str | None]:
        """The likeliest token at every step."""
        import torch

        config, on = self.model.config, self.model.device
        patches = torch.cat([self._patches(crop) for crop in crops])
        grids = torch.tensor([[1, crop.shape[1] // self._patch, crop.shape[2] // self._patch] for crop in crops], device=on)
        rows = [self._before + [config.image_token_id] * (h * w // self._merge**2) + self._behind for _, h, w in grids.tolist()]
        longest, pad, chances = max(map(len, rows)), self.tokenizer.pad_token_id or 0, Chances()
        ids = torch.tensor([[pad] * (longest - len(row)) + row for row in rows], device=on)
        with torch.inference_mode():
            out = self.model.generate(
                input_ids=ids,
                attention_mask=torch.tensor([[0] * (longest - len(row)) + [1] * len(row) for row in rows], device=on),
                pixel_values=patches,
                image_grid_thw=grids,
                mm_token_type_ids=(ids == config.image_token_id).long(),
                max_new_tokens=self.settings.max_tokens,
                num_beams=1,
                do_sample=False,
                pad_token_id=pad,
                logits_processor=[chances],
            )
        return decoded(self.tokenizer, out, chances, ends_of(self.model.generation_config))

    def _patches(self, crop: np.ndarray):
        """[P, 3 * 2 * patch * patch] of a crop, those that are merged one behind the other."""
        import torch

        p, m = self._patch, self._merge
        x = normalised(torch.from_numpy(crop)[None], *self._colours, self.model).expand(FRAMES, -1, -1, -1)
        h, w = crop.shape[1] // p, crop.shape[2] // p
        x = x.reshape(FRAMES, 3, h // m, m, p, w // m, m, p)
        return x.permute(2, 5, 3, 6, 1, 0, 4, 7).reshape(h * w, -1)


class Qwen3Vl(Qwen25Vl):
    types = ("qwen3_vl",)
    cls = "Qwen3VLForConditionalGeneration"
    fix = "give a folder of Qwen3-VL in transformers' layout, such as Qwen/Qwen3-VL-2B-Instruct"
    patch, colours = 16, ((0.5, 0.5, 0.5), (0.5, 0.5, 0.5))
    system = ""


def of_area(width: int, height: int, area: int, factor: int) -> tuple[int, int]:
    """(width, height), multiples of `factor`, of about `area` pixels and of the shape of a crop; very thin ones become a strip of it.

    >>> of_area(100, 100, 224 * 224, 28), of_area(300, 100, 224 * 224, 28), of_area(5000, 1, 224 * 224, 28)
    ((224, 224), (392, 112), (1792, 28))
    """
    scale = (area / (width * height)) ** 0.5
    most = max(1, area // factor**2)
    across = min(most, max(1, round(width * scale / factor)))
    down = min(max(1, most // across), max(1, round(height * scale / factor)))
    return across * factor, down * factor
