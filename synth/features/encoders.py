"""Encoders of a local folder, offline: CLIP (Radford et al. 2021), SigLIP (Zhai et al. 2023) and DINOv2 (Oquab et al. 2023).

`encoder_of` says which class a folder is of, and judges the folder, without torch; an object of the class is the loaded model.
"""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from synth import foreign
from synth.errors import InputError
from synth.features.model_folder import IMAGENET, OPENAI, PREPARES, ModelFolder, check_folder, from_folder, load_tokenizer
from synth.features.preparing import BICUBIC, HALF, SIDE, Preparation, Stretched, Truncated
from synth.weights import read_json

FIX = (
    "give a folder of a CLIP, SigLIP or DINOv2 model of transformers (config.json, weights, and a tokenizer where it reads texts), "
    "such as openai/clip-vit-base-patch32"
)
TOO_LARGE = "lower features.batch_size"
RESCALE = 1 / 255
MOST = 4096  # pixels of a model's input that are thought possible


class Encoder:
    """A loaded model. Every call has the same number of rows, so a feature does not depend on its neighbours."""

    type: ClassVar[str]  # model_type in config.json
    loaded_as: ClassVar[str]  # class of transformers
    reads_texts: ClassVar[bool] = True
    steps: ClassVar[tuple[str, ...]] = ("do_resize", "do_center_crop", "do_rescale", "do_normalize")  # of its preparation

    @classmethod
    def check(cls, path: Path) -> Preparation:
        """InputError unless a folder looks like a whole model of this class; how its pictures are prepared. Imports no torch."""
        return cls._prepared(check_folder(path, (cls.type,), FIX, tokenizer=cls.reads_texts))

    @classmethod
    def _prepared(cls, folder: ModelFolder) -> Preparation:
        if left_out := [step for step in cls.steps if folder.pictures.get(step, True) is not True]:
            raise InputError(
                f"{folder.path / PREPARES}: {left_out[0]} is not true; pictures are made ready with {', '.join(cls.steps)}; {FIX}"
            )
        factor = folder.pictures.get("rescale_factor", RESCALE)
        if not isinstance(factor, float) or abs(factor / RESCALE - 1) > 1e-6:
            raise InputError(f"{folder.path / PREPARES}: rescale_factor is {foreign.seen(factor)}, and colours are of 0 to 1: 1/255; {FIX}")
        return cls.preparation_of(folder)

    @classmethod
    def preparation_of(cls, folder: ModelFolder) -> Preparation:
        raise NotImplementedError

    def __init__(self, path: Path, batch: int, dtype: str, too_large: str = TOO_LARGE):
        """batch: rows of a call; dtype: as numerics has it; too_large: what to do about a full device."""
        from synth.host.gpu import device
        from synth.images.pipeline import dtype_of

        folder = check_folder(path, (self.type,), FIX, tokenizer=self.reads_texts)
        self.preparation, self.batch, self._too_large = self._prepared(folder), batch, too_large
        on = device()
        self._model = from_folder(folder, self.loaded_as, FIX, dtype=dtype_of(dtype, on)).eval().to(on)
        self._tokenizer = load_tokenizer(folder, FIX) if self.reads_texts else None

    def pictures(self, prepared: Sequence[np.ndarray]) -> np.ndarray:
        """[N, D] float32 features of unit length of prepared pictures ([3, S, S] each)."""
        return self._all(prepared, self._of_rows)

    def of_grey(self) -> np.ndarray:
        """[1, D] of a grey picture: a model that gives it no finite numbers gives them to none."""
        side = self.preparation.side
        return self._all([np.zeros((3, side, side), np.float32)], self._of_rows)

    def _of_rows(self, rows: list[np.ndarray]) -> Any:
        import torch

        return self.of_pixels(torch.from_numpy(np.stack(rows)).to(self._model.device, self._model.dtype))

    def of_pixels(self, pixels: Any) -> Any:
        """What the model makes of a batch [B, 3, S, S]."""
        return self._model.get_image_features(pixel_values=pixels)

    def _all(self, items: Sequence[Any], features: Callable[[list[Any]], Any]) -> np.ndarray:
        import torch

        from synth.images.pipeline import out_of_memory

        batches = []
        with (
            torch.inference_mode(),
            out_of_memory(f"a batch of {self.type} does not fit on the device: {self._too_large}"),
        ):
            for start in range(0, len(items), self.batch):
                rows = list(items[start : start + self.batch])
                output = features(rows + rows[-1:] * (self.batch - len(rows)))
                output = getattr(output, "pooler_output", output)[: len(rows)].float()  # a tensor until transformers 4
                batches.append((output / output.norm(dim=-1, keepdim=True)).cpu().numpy())
        return np.concatenate(batches) if batches else np.empty((0, 0), np.float32)


class TextEncoder(Encoder):
    """An encoder that reads texts, too: their features lie among those of pictures."""

    longest: ClassVar[int]  # tokens
    text_inputs: ClassVar[tuple[str, ...]] = ("input_ids",)

    @property
    def length(self) -> int:
        """Tokens that a text is cut or filled up to."""
        return min(self._model.config.text_config.max_position_embeddings, self.longest)

    def texts(self, texts: Sequence[str]) -> np.ndarray:
        """[N, D] float32 features of unit length; texts are cut to what the model takes."""

        def features(rows: list[str]) -> Any:
            given = self._tokenizer(rows, padding="max_length", truncation=True, max_length=self.length, return_tensors="pt")
            return self._model.get_text_features(**{name: given[name].to(self._model.device) for name in self.text_inputs})

        return self._all([t or " " for t in texts], features)

    def classes(self, names: Sequence[str], templates: Sequence[str]) -> np.ndarray:
        """[C, D] float32 of unit length: of each name the mean of the features of its texts; {} in a template is the name."""
        texts = [template.replace("{}", name) for name in names for template in templates]
        mean = self.texts(texts).reshape(len(names), len(templates), -1).mean(1)
        return mean / np.linalg.norm(mean, axis=1, keepdims=True)

    def probabilities(self, pictures: np.ndarray, texts: np.ndarray) -> np.ndarray:
        """[N, T] of features [N, D] and [T, D]: how likely each text is of each picture."""
        raise NotImplementedError

    def scale(self) -> float:
        return float(self._model.logit_scale.detach().float().exp())


class Clip(TextEncoder):
    type, loaded_as, longest, text_inputs = "clip", "CLIPModel", 77, ("input_ids", "attention_mask")

    @classmethod
    def preparation_of(cls, folder: ModelFolder) -> Preparation:
        vision = folder.config.get("vision_config")
        side = _crop(folder, vision.get("image_size", SIDE) if isinstance(vision, dict) else SIDE)
        return Preparation(side, *folder.colours(*OPENAI), edge=_edge(folder, side, side), resample=_resample(folder))

    def probabilities(self, pictures: np.ndarray, texts: np.ndarray) -> np.ndarray:
        """Among all of the texts, which share one probability."""
        logits = self.scale() * (pictures @ texts.T)
        odds = np.exp(logits - logits.max(1, keepdims=True))
        return odds / odds.sum(1, keepdims=True)


class Siglip(TextEncoder):
    """SigLIP, and SigLIP 2 of pictures of one size, whose folders say the same."""

    type, loaded_as, longest = "siglip", "SiglipModel", 64
    steps = ("do_resize", "do_rescale", "do_normalize")

    @classmethod
    def preparation_of(cls, folder: ModelFolder) -> Preparation:
        side = folder.edge("height", folder.count("vision_config", "image_size", SIDE))
        folder.check_edge(side, "vision_config", SIDE, FIX)
        return Stretched(side, *folder.colours(HALF, HALF), resample=_resample(folder))

    def probabilities(self, pictures: np.ndarray, texts: np.ndarray) -> np.ndarray:
        """Of each text by itself."""
        logits = self.scale() * (pictures @ texts.T) + float(self._model.logit_bias.detach().float())
        return np.where(np.isfinite(logits), 1 / (1 + np.exp(-logits)), np.nan)


class Dinov2(Encoder):
    """The class token behind the last norm. Reads no texts."""

    type, loaded_as, reads_texts = "dinov2", "Dinov2Model", False

    @classmethod
    def preparation_of(cls, folder: ModelFolder) -> Preparation:
        side, patch = _crop(folder, SIDE), folder.config.get("patch_size", 14)
        if type(patch) is not int or patch < 1 or side % patch:
            raise InputError(f"{folder.path / PREPARES}: crop_size {side} is no multiple of its patches of {foreign.seen(patch)}; {FIX}")
        return Truncated(side, *folder.colours(*IMAGENET), edge=_edge(folder, side, 256), resample=_resample(folder))

    def of_pixels(self, pixels: Any) -> Any:
        return self._model(pixel_values=pixels)


class Dinov2WithRegisters(Dinov2):
    type, loaded_as = "dinov2_with_registers", "Dinov2WithRegistersModel"


ENCODERS: dict[str, type[Encoder]] = {cls.type: cls for cls in (Clip, Siglip, Dinov2, Dinov2WithRegisters)}


def encoder_of(path: Path) -> type[Encoder]:
    """The class of a folder, by the model_type of its config.json; InputError for another model, and for one that is not whole."""
    kind = read_json(path / "config.json", FIX).get("model_type")
    if not isinstance(kind, str) or kind not in ENCODERS:
        raise InputError(f"{path / 'config.json'}: is a model of type {foreign.seen(kind)}, known are {', '.join(ENCODERS)}; {FIX}")
    ENCODERS[kind].check(path)
    return ENCODERS[kind]


def _crop(folder: ModelFolder, default: int) -> int:
    """Pixels of the square that is cut out of a picture."""
    side = folder.pictures.get("crop_size", default)
    side = side.get("height", SIDE) if isinstance(side, dict) else side
    if type(side) is not int or not 1 <= side <= MOST:
        raise InputError(f"{folder.path / PREPARES}: crop_size is {foreign.seen(side)}, which is no number of pixels; {FIX}")
    return side


def _edge(folder: ModelFolder, side: int, default: int) -> int:
    """Pixels of the shorter side of a picture before a square of `side` is cut out."""
    edge = folder.edge("shortest_edge", default)
    if side > edge:
        raise InputError(f"{folder.path / PREPARES}: cuts {side} pixels out of pictures of {edge}; {FIX}")
    return edge


def _resample(folder: ModelFolder) -> int:
    """Pillow's number of the filter that pictures are scaled by."""
    number = folder.pictures.get("resample", BICUBIC)
    if type(number) is not int or not 0 <= number <= 5:
        raise InputError(f"{folder.path / PREPARES}: resample is {foreign.seen(number)}, no filter of Pillow (0 to 5); {FIX}")
    return number
