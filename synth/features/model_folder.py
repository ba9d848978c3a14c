"""A vision model of transformers in a local folder: judged without torch, then loaded offline as the class that was meant."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from synth import foreign, loading
from synth.errors import InputError, not_trouble
from synth.layouts import instead
from synth.weights import check_adapters, check_weights, read_json, weight_files

TOKENIZERS = ("tokenizer.json", "vocab.json", "vocab.txt", "spiece.model", "tokenizer.model")
PREPARES = "preprocessor_config.json"
IMAGENET = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))  # mean, std
OPENAI = ((0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711))
_LONGEST = 4096  # pixels of a model's input that are thought possible
_THREE = foreign.Shape("three numbers", lambda v: foreign.fits(v, [(int, float)]) and len(v) == 3)


@dataclass(frozen=True)
class ModelFolder:
    """A folder that holds all of a model, as far as names, configs and headers show."""

    path: Path
    config: Mapping[str, Any]  # config.json
    pictures: Mapping[str, Any] = field(default_factory=dict)  # how they are prepared; {} if the folder does not say it

    @property
    def type(self) -> str:
        return self.config["model_type"]

    def colours(self, mean: tuple[float, ...], std: tuple[float, ...]) -> tuple[tuple[float, ...], tuple[float, ...]]:
        """(mean, std) of each colour in 0..1: the folder's own, else those given."""
        where, fix = f"{self.path / PREPARES}", "fetch the model again"
        own = foreign.obj(dict(self.pictures), where, fix, image_mean=foreign.Maybe(_THREE, mean), image_std=foreign.Maybe(_THREE, std))
        if not all(own["image_std"]):
            raise InputError(f"{where}: image_std has a zero; {fix}")
        return tuple(own["image_mean"]), tuple(own["image_std"])

    def edge(self, name: str, default: int) -> int:
        """A length in pixels of the folder's `size`, which newer files write as an object and older ones as a number."""
        size = self.pictures.get("size", default)
        value = size.get(name, default) if isinstance(size, Mapping) else size
        if type(value) is not int or not 1 <= value <= _LONGEST:
            raise InputError(
                f"{self.path / PREPARES}: size.{name} is {foreign.seen(value)}, which is no number of pixels; fetch the model again"
            )
        return value

    def count(self, part: str, name: str, default: int) -> int:
        """A number of pixels or patches that a part of config.json gives; `default`, the class's own, where it leaves it out."""
        settings = self.config.get(part)
        value = settings.get(name, default) if isinstance(settings, Mapping) else default if settings is None else settings
        if type(value) is not int or not 1 <= value <= _LONGEST:
            where = f"{self.path / 'config.json'}: {part}.{name}"
            raise InputError(f"{where} is {foreign.seen(value)}, no whole number of 1 to {_LONGEST}; fetch the model again")
        return value

    def check_edge(self, edge: int, part: str, default: int, fix: str) -> None:
        """InputError unless a part of config.json, which may leave out what is the class's default, takes pictures of `edge` pixels.

        part: dotted where it is one of a part.
        """
        settings: Any = self.config
        for name in part.split("."):
            settings = settings.get(name) if isinstance(settings, Mapping) else None
        size = settings.get("image_size", default) if isinstance(settings, Mapping) else default
        if size != edge:
            why = f"its settings make pictures of {edge} pixels, {part}.image_size in config.json is {foreign.seen(size)}"
            raise InputError(f"{self.path}: {why}; {fix}")


class OtherType(InputError):
    """A folder holds a model of another type than the class takes."""


def check_folder(path: Path, types: tuple[str, ...], fix: str, tokenizer: bool) -> ModelFolder:
    """InputError unless a folder looks like a whole model of one of `types` (model_type). Imports neither torch nor transformers."""
    config = read_json(path / "config.json", f"{fix}{instead(path)}")
    if config.get("model_type") not in types:
        raise OtherType(f"{path / 'config.json'}: is a model of type {foreign.seen(config.get('model_type'))}; {fix}")
    check_weights(path)
    check_adapters(weight_files(path))
    if tokenizer and not any((path / name).is_file() for name in TOKENIZERS):
        raise InputError(f"{path}: holds no tokenizer ({', '.join(TOKENIZERS)}); {fix}")
    return ModelFolder(path, config, _settings(path, fix))


def _settings(path: Path, fix: str) -> Mapping[str, Any]:
    """How the folder says that pictures are prepared: in a file of their own, or among the settings of the whole processor, as newer
    versions of transformers save them."""
    if (path / PREPARES).is_file():
        return read_json(path / PREPARES, fix)
    whole = path / "processor_config.json"
    settings = read_json(whole, fix).get("image_processor", {}) if whole.is_file() else {}
    return settings if isinstance(settings, Mapping) else {}


def load(folder: ModelFolder, name: str, dtype: str, fix: str):
    """The model, an object of transformers' class `name`, on this process's device. dtype: as numerics has it, or one by name.

    InputError where the folder's files do not give all of it.
    """
    from synth.host.gpu import device
    from synth.images.pipeline import TOO_LARGE, dtype_of, out_of_memory

    on = device()
    own = str(folder.config.get("dtype") or folder.config.get("torch_dtype") or "auto")
    with out_of_memory(TOO_LARGE):
        return from_folder(folder, name, fix, dtype=dtype_of(dtype, on, own)).eval().to(on)


def load_tokenizer(folder: ModelFolder, fix: str):
    """The folder's tokenizer. InputError where it cannot be read."""
    return from_folder(folder, "AutoTokenizer", fix)


def from_folder(folder: ModelFolder, name: str, fix: str, **more: Any):
    """An object of transformers' class `name`, with all of its weights. InputError where the folder's files do not give it."""
    import torch
    import transformers

    transformers.utils.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()
    try:
        with loading.complete():
            return getattr(transformers, name).from_pretrained(folder.path, local_files_only=True, trust_remote_code=False, **more)
    except (OSError, ValueError, KeyError, TypeError, AttributeError, ImportError, RuntimeError) as e:
        if isinstance(e, torch.OutOfMemoryError):
            raise
        not_trouble(folder.path, e)
        reason = f"{type(e).__name__}: {(str(e).splitlines() or [''])[0]}"
        raise InputError(f"{folder.path}: transformers cannot load it ({reason}); {fix}") from e


def planes(image) -> np.ndarray:
    """PIL image -> [3, H, W] uint8."""
    return np.ascontiguousarray(np.asarray(image.convert("RGB")).transpose(2, 0, 1))


def normalised(batch, mean: tuple[float, ...], std: tuple[float, ...], model):
    """[N, 3, H, W] uint8, or float32 in 0..1, as a torch tensor of the model's device and dtype: (x - mean) / std."""
    import torch

    x = batch.to(model.device, non_blocking=True)
    x = x.float() / 255 if x.dtype == torch.uint8 else x
    centre, spread = (torch.tensor(v, device=x.device).view(1, 3, 1, 1) for v in (mean, std))
    return ((x - centre) / spread).to(model.dtype)
