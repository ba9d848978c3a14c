"""Classifiers of transformers as training begins with them: a local folder with a new head, or a small ResNet from its config alone."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from synth import foreign, seeds
from synth.errors import InputError, not_trouble
from synth.weights import check_weights, read_json

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)  # of ImageNet
SIDE, MOST = 224, 4096  # pixels of a model's input: where its folder says nothing, and what is thought possible
FIX = "give a folder of transformers with an image classifier or its backbone (config.json and weights), such as microsoft/resnet-50"
_COLOURS = foreign.Shape("three numbers", lambda v: foreign.fits(v, [(int, float)]) and len(v) == 3)
RESNET18 = {"embedding_size": 64, "hidden_sizes": [64, 128, 256, 512], "depths": [2, 2, 2, 2], "layer_type": "basic"}

if TYPE_CHECKING:
    import numpy as np  # planning judges folders without it


@dataclass(frozen=True)
class Classifier:
    """model: takes pixel_values [B, 3, side, side], gives logits [B, C]; float32."""

    model: Any
    side: int
    mean: tuple[float, ...] = MEAN
    std: tuple[float, ...] = STD

    def prepared(self, pixels: "np.ndarray") -> "np.ndarray":
        """[S, S, 3] uint8 -> [3, S, S] float32"""
        import numpy as np

        return ((np.float32(pixels) / 255 - np.float32(self.mean)) / np.float32(self.std)).transpose(2, 0, 1)


def check_folder(path: Path) -> None:
    """InputError unless a folder looks like a model of transformers, whole or a config alone. Imports neither torch nor transformers."""
    config = read_json(path / "config.json", FIX)
    if not isinstance(config.get("model_type"), str):
        raise InputError(f"{path / 'config.json'}: names no model_type; {FIX}")
    if _has_weights(path):
        check_weights(path)


def _has_weights(path: Path) -> bool:
    return any(path.glob("*.safetensors")) or any(path.glob("*.bin"))


def open_classifier(path: Path | None, n_classes: int, side: int | None, seed: int) -> Classifier:
    """What is new in it is drawn by the seed. A folder without weights gives a model of its config. Offline; no code of a folder runs.

    InputError for a folder that is no classifier, or whose files lack more than a head.
    """
    import torch
    import transformers

    transformers.utils.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()
    torch.manual_seed(seeds.derive(seed, "finetune", "weights") >> 1)
    if path is None:
        config = transformers.ResNetConfig(**RESNET18, num_labels=n_classes)
        return Classifier(transformers.ResNetForImageClassification(config), side or SIDE)
    check_folder(path)
    settings = read_json(path / "config.json", FIX)
    model = _of_folder(path, n_classes)
    mean, std, own = _preparation(path, settings)
    return _tried(Classifier(model.float(), side or own, mean, std), path)


def _tried(classifier: Classifier, path: Path) -> Classifier:
    """InputError where the model does not take a picture of that side."""
    import torch

    try:
        with torch.inference_mode():
            classifier.model.eval()(pixel_values=torch.zeros(1, 3, classifier.side, classifier.side))
    except (ValueError, RuntimeError) as e:
        raise InputError(f"{path}: takes no pictures of {classifier.side} pixels ({e}); leave the side to the model") from e
    return classifier


def _of_folder(path: Path, n_classes: int) -> Any:
    import transformers

    auto, local = transformers.AutoModelForImageClassification, {"local_files_only": True, "trust_remote_code": False}
    try:
        config = transformers.AutoConfig.from_pretrained(path, num_labels=n_classes, **local)
        if not _has_weights(path):
            return auto.from_config(config, trust_remote_code=False)
        model, report = auto.from_pretrained(path, config=config, ignore_mismatched_sizes=True, output_loading_info=True, **local)
    except (OSError, ValueError, KeyError, RuntimeError) as e:
        not_trouble(path, e)
        raise InputError(f"{path}: transformers cannot load it as an image classifier ({type(e).__name__}: {e}); {FIX}") from e
    new = {str(key[0] if isinstance(key, tuple) else key) for name in ("missing_keys", "mismatched_keys") for key in report[name]}
    shapes = {name: tuple(p.shape) for name, p in model.named_parameters()}
    if lacking := sorted(name for name in new if shapes.get(name, (0,))[0] != n_classes):
        raise InputError(f"{path}: its files lack {', '.join(lacking[:3])}, which is no head and would be random; fetch the model again")
    return model


def _preparation(path: Path, config: dict) -> tuple[tuple[float, ...], tuple[float, ...], int]:
    """(mean, std, side) by preprocessor_config.json; the side by the config where that says none."""
    where = path / "preprocessor_config.json"
    settings = read_json(where, FIX) if where.is_file() else {}
    colours = foreign.obj(settings, where, FIX, image_mean=foreign.Maybe(_COLOURS, MEAN), image_std=foreign.Maybe(_COLOURS, STD))
    side = settings.get("crop_size") or settings.get("size") or config.get("image_size") or SIDE
    side = side.get("height", side.get("shortest_edge")) if isinstance(side, dict) else side
    if type(side) is not int or not 1 <= side <= MOST:
        raise InputError(f"{where}: the model's side is {foreign.seen(side)}, which is no number of pixels; {FIX}")
    return tuple(colours["image_mean"]), tuple(colours["image_std"]), side
