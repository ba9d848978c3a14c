"""CLIP (Radford et al. 2021) of a local folder: features of pictures and of texts, offline. Preparing pictures needs PIL and numpy only."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from synth import foreign, loading
from synth.errors import InputError, not_trouble

MEAN, STD, SIDE = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711), 224
MOST = 4096  # pixels of a model's input that are thought possible
_COLOURS = foreign.Shape("three numbers", lambda v: foreign.fits(v, [(int, float)]) and len(v) == 3)
LONGEST = 16  # times its short side: what is longer is cut before it is scaled
FIX = "give a folder of a CLIP model of transformers (config.json, weights, tokenizer), such as openai/clip-vit-base-patch32"


@dataclass(frozen=True)
class Preparation:
    """How a picture becomes the model's input: shorter side to `side`, the middle square of it, then (x - mean) / std."""

    side: int = SIDE
    mean: tuple[float, ...] = MEAN
    std: tuple[float, ...] = STD

    def __call__(self, image) -> np.ndarray:
        """PIL image -> [3, side, side] float32."""
        from PIL import Image

        image = _middle(image).convert("RGB")
        scale = self.side / min(image.size)
        size = tuple(max(self.side, round(edge * scale)) for edge in image.size)
        if size != image.size:
            image = image.resize(size, Image.Resampling.BICUBIC)
        left, top = (size[0] - self.side) // 2, (size[1] - self.side) // 2
        pixels = np.asarray(image.crop((left, top, left + self.side, top + self.side)), np.float32) / 255
        return ((pixels - np.float32(self.mean)) / np.float32(self.std)).transpose(2, 0, 1)


def _middle(image):
    """A picture without the ends that nothing is taken of, where it is so long that scaling them would take gigabytes."""
    short = min(image.size)
    if max(image.size) <= LONGEST * short:
        return image
    left, top = (max(0, (side - LONGEST * short) // 2) for side in image.size)
    return image.crop((left, top, image.width - left, image.height - top))


def check_folder(path: Path) -> Preparation:
    """InputError unless a folder looks like a whole CLIP model; how its pictures are prepared. Imports neither torch nor transformers."""
    from synth.weights import check_weights, read_json

    config = read_json(path / "config.json", FIX)
    if config.get("model_type") != "clip":
        raise InputError(f"{path / 'config.json'}: is a model of type {config.get('model_type')!r}; {FIX}")
    check_weights(path)
    if not any((path / n).is_file() for n in ("tokenizer.json", "vocab.json")):
        raise InputError(f"{path}: holds no tokenizer (tokenizer.json, or vocab.json and merges.txt); {FIX}")
    settings = read_json(path / "preprocessor_config.json", FIX) if (path / "preprocessor_config.json").is_file() else {}
    vision = config.get("vision_config")
    side = settings.get("crop_size", vision.get("image_size", SIDE) if isinstance(vision, dict) else SIDE)
    side = side.get("height", SIDE) if isinstance(side, dict) else side
    where = path / "preprocessor_config.json"
    if type(side) is not int or not 1 <= side <= MOST:
        raise InputError(f"{where}: crop_size is {foreign.seen(side)}, which is no number of pixels; {FIX}")
    colours = foreign.obj(settings, where, FIX, image_mean=foreign.Maybe(_COLOURS, MEAN), image_std=foreign.Maybe(_COLOURS, STD))
    return Preparation(side, tuple(colours["image_mean"]), tuple(colours["image_std"]))


class Clip:
    """A loaded model. Every call has the same number of rows, so a feature does not depend on its neighbours."""

    loaded_as, longest, too_large = "CLIPModel", 77, "lower filter.<name>.batch_size"  # class; tokens; what to do about a full device
    check, fix, text_inputs = staticmethod(check_folder), FIX, ("input_ids", "attention_mask")

    def __init__(self, path: Path, batch: int, dtype: str):
        import torch
        import transformers

        from synth.images.pipeline import device, dtype_of

        self.preparation, self.batch = self.check(path), batch
        on = device()
        transformers.utils.logging.set_verbosity_error()
        transformers.utils.logging.disable_progress_bar()
        local = {"local_files_only": True, "trust_remote_code": False}
        try:
            with loading.complete():
                cls = getattr(transformers, self.loaded_as)
                self._model = cls.from_pretrained(path, **local, dtype=dtype_of(dtype, on)).eval().to(on)
            self._tokenizer = transformers.AutoTokenizer.from_pretrained(path, **local)
        except (OSError, ValueError, KeyError, RuntimeError) as e:
            if isinstance(e, torch.OutOfMemoryError):
                raise
            not_trouble(path, e)
            raise InputError(f"{path}: transformers cannot load it ({type(e).__name__}: {e}); {self.fix}") from e
        self._length = min(self._model.config.text_config.max_position_embeddings, self.longest)

    def pictures(self, prepared: Sequence[np.ndarray]) -> np.ndarray:
        """[N, D] float32 features of unit length of prepared pictures ([3, S, S] each)."""
        import torch

        def features(rows):
            x = torch.from_numpy(np.stack(rows)).to(self._model.device, self._model.dtype)
            return self._model.get_image_features(pixel_values=x)

        return self._all(prepared, features)

    def texts(self, texts: Sequence[str]) -> np.ndarray:
        """[N, D] float32 features of unit length; texts are cut to what the model takes."""
        return self._all([t or " " for t in texts], lambda rows: self._model.get_text_features(**self._tokens(rows)))

    def pooled(self, texts: Sequence[str]) -> np.ndarray:
        """[N, H] float32 of texts as their tower pools them, before they are projected; of any length."""
        return self._all([t or " " for t in texts], lambda rows: self._model.text_model(**self._tokens(rows)), unit=False)

    def _tokens(self, rows: Sequence[str]) -> dict:
        given = self._tokenizer(rows, padding="max_length", truncation=True, max_length=self._length, return_tensors="pt")
        return {name: given[name].to(self._model.device) for name in self.text_inputs}

    def _all(self, items: Sequence, features, unit: bool = True) -> np.ndarray:
        """unit: rows are made of unit length."""
        import torch

        from synth.images.pipeline import out_of_memory

        batches = []
        with (
            torch.inference_mode(),
            out_of_memory(f"a batch of CLIP does not fit on the device: {self.too_large}"),
        ):
            for start in range(0, len(items), self.batch):
                rows = list(items[start : start + self.batch])
                output = features(rows + rows[-1:] * (self.batch - len(rows)))
                output = getattr(output, "pooler_output", output)[: len(rows)].float()  # a tensor until transformers 4
                batches.append((output / output.norm(dim=-1, keepdim=True) if unit else output).cpu().numpy())
        return np.concatenate(batches) if batches else np.empty((0, 0), np.float32)
