"""A diffusers model folder, judged from its files alone: nothing here imports torch or diffusers.

A worker that finds a torn or incomplete folder says so in milliseconds, not after minutes of loading.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from synth import foreign
from synth.errors import InputError
from synth.images import library
from synth.keys import WrongKey
from synth.layouts import instead
from synth.weights import SUFFIXES, check_adapters, check_checkpoint, check_scales, check_weights, read_json, weight_files

if TYPE_CHECKING:
    from synth.images.trained import Trained

INDEX = "model_index.json"
SAFETY = ("safety_checker", "feature_extractor")
UNUSED = (*SAFETY, "image_encoder", "watermarker")  # loaded as None, or not by text-to-image
FIX = "fetch the model again"
PROCESSOR = ("preprocessor_config.json", "processor_config.json")  # of transformers before 5, and of 5
_CONFIGS = {  # part of a class name -> the files of which one must be there
    "Tokenizer": ("tokenizer_config.json", "tokenizer.json", "vocab.json"),
    "Scheduler": ("scheduler_config.json",),
    "Processor": PROCESSOR,
    "Extractor": PROCESSOR,
}


@dataclass(frozen=True)
class ModelFolder:
    """What a whole folder says about itself, with all else that is loaded beside it."""

    path: Path
    pipeline: str  # class name in model_index.json
    components: tuple[str, ...]  # those that are not null
    scheduler: str  # class name of the model's own, "" if it has none
    vae_factor: int  # pixels a latent; 1 for models of pixels
    sample_size: tuple[int, int] | None = None  # (height, width) in latents that the denoiser was trained on
    variant: str = ""  # of the weight files to load
    checkpoint: Path | None = None  # a single file that holds the weights; the folder then gives configs and tokenizers
    vae: Path | None = None  # folder of a VAE to use instead of the model's own
    loras: "tuple[Path | Trained, ...]" = ()
    adapters: "Mapping[int, Path | Trained]" = field(default_factory=dict)  # official index of a class -> its LoRA
    classes: Mapping[str, str] = field(default_factory=dict)  # component -> class name
    parts: Mapping[str, "ModelFolder"] = field(default_factory=dict)  # further models of a chain

    @property
    def name(self) -> str:
        return (self.checkpoint or self.path).name

    @property
    def native_size(self) -> tuple[int, int] | None:
        """(height, width) in pixels that the model was trained on, where its configs say so."""
        return self.sample_size and tuple(n * self.vae_factor for n in self.sample_size)

    def component_config(self, name: str) -> dict:
        """config.json of a component; empty if it has none."""
        file = self.path / name / "config.json"
        return read_json(file, FIX) if file.is_file() else {}

    def scheduler_config(self) -> dict:
        return read_json(self.path / "scheduler" / "scheduler_config.json", FIX) if "scheduler" in self.components else {}

    def check_size(self, height: int, width: int, step: int = 0) -> None:
        """WrongKey unless height and width are multiples of `step`, or (0) of what the model can compute."""
        # StableDiffusionPipeline and its kin insist on 8 even where the VAE shrinks by less
        step = step or (math.lcm(8, self.vae_factor) if "vae" in self.components else self.vae_factor)
        for name, value in (("height", height), ("width", width)):
            if value < 1 or value % step:
                below, above = value // step * step, -(-max(value, 1) // step) * step
                near = f"{below} or {above}" if below else f"{above}"
                raise WrongKey(name, value, f"{self.name} computes multiples of {step} pixels", f"use {near}")


def inspect(
    path: Path,
    expected: str = "auto",
    variant: str = "",
    config: Path | None = None,
    safety: bool = False,
    without: tuple[str, ...] = (),
    uses: tuple[str, ...] = (),
) -> ModelFolder:
    """Read and check a folder: index, every component with its config and whole weights.

    path: a folder in diffusers' layout; or a single-file checkpoint, of which `config` is such a folder (weights not needed).
    expected: pipeline class, or auto. variant: of the weight files. safety: its safety checker must be there too.
    without: components that are not loaded, so that they need not be there. uses: those of UNUSED that are loaded.
    """
    path = Path(path)
    if path.is_file():
        return _inspect_checkpoint(path, expected, config)
    if not path.is_dir():
        why = "no such model folder" if not path.is_symlink() else foreign.absent(path)
        raise InputError(f"{path}: {why}; model.path must be a local folder in diffusers' layout, or a checkpoint file")
    left_out = frozenset({*UNUSED, *without}) - frozenset(uses)
    model = _read(path, expected, weights=True, wanted_variant=variant, left_out=left_out)
    if safety and not all(found_in_index(path, name) for name in SAFETY):
        raise InputError(f"{path}: has no safety checker; use model.safety_checker=off")
    if safety:
        for name in SAFETY:
            _check_component(path / name, _index(path)[name][1], weights=True)
    return model


def pipeline_of(path: Path) -> str:
    """Class name that a folder's index gives, "" if it cannot be read: `inspect` says why."""
    try:
        return str(_index(Path(path)).get("_class_name"))
    except InputError:
        return ""


def found_in_index(path: Path, name: str) -> bool:
    """Whether model_index.json names a class for a component."""
    entry = _index(path).get(name)
    return isinstance(entry, list) and len(entry) == 2 and entry[1] is not None


def _inspect_checkpoint(path: Path, expected: str, config: Path | None) -> ModelFolder:
    check_checkpoint(path)
    check_adapters([path])
    check_scales([path])
    if config is None:
        raise InputError(f"{path}: a checkpoint file; model.config must name a folder of such a model (weights not needed)")
    if not Path(config).is_dir():
        what = "the config of the original code" if Path(config).suffix in (".yaml", ".yml") else "no folder"
        raise InputError(
            f"model.config: {config} is {what}; it must be a folder with model_index.json, configs and tokenizers of such a model"
        )
    model = _read(Path(config), expected, weights=False, wanted_variant="")
    return ModelFolder(**{**vars(model), "checkpoint": path})


def _index(path: Path) -> dict:
    if not (path / INDEX).is_file() and (other := instead(path)):
        raise InputError(f"{path}: has no {INDEX}, which a model in diffusers' layout has{other}")
    return read_json(path / INDEX, "a diffusers model folder has one; fetch the model again")


def _read(path: Path, expected: str, weights: bool, wanted_variant: str, left_out: frozenset[str] = frozenset(UNUSED)) -> ModelFolder:
    index = _index(path)
    pipeline = index.get("_class_name")
    if not isinstance(pipeline, str):
        raise InputError(f"{path / INDEX}: has no _class_name; {FIX}")
    if expected not in ("auto", pipeline):
        raise InputError(f"{path / INDEX}: is a {pipeline}, but model.pipeline={expected}; use {pipeline} or another model.path")
    if pipeline not in library.classes():
        fix = "install the one that its makers name, or use another model"
        raise InputError(f"{path / INDEX}: is a {pipeline}, which diffusers {library.version()} does not have; {fix}")
    named = {n: str(v[1]) for n, v in index.items() if isinstance(v, list) and len(v) == 2 and v[1] is not None}
    wanted = {n: cls for n, cls in named.items() if n not in left_out}
    for name, entry in index.items():
        module = entry[0] if isinstance(entry, list) and entry and isinstance(entry[0], str) else ""
        if module.isidentifier() and (path / name / f"{module}.py").exists():  # what diffusers would import
            raise InputError(f"{path / name}: brings code of its own ({module}.py), which is not run; use a model of diffusers' classes")
        if module == "diffusers" and name in wanted and wanted[name] not in library.classes():
            fix = "install the one that the model's makers name"
            raise InputError(f"{path / INDEX}: its {name} is a {wanted[name]}, which diffusers {library.version()} does not have; {fix}")
    if not wanted:
        raise InputError(f"{path / INDEX}: names no component; {FIX}")
    kinds = {name: _check_component(path / name, cls, weights) for name, cls in wanted.items()}
    variant = _variant(path, {n: k for n, k in kinds.items() if k is not None}, wanted_variant)
    scheduler = read_json(path / "scheduler" / "scheduler_config.json", FIX) if "scheduler" in wanted else {}
    factor = _vae_factor(path, wanted)
    own = wanted.get("scheduler", str(scheduler.get("_class_name", "")))  # the index's is what is made, whatever its config says
    return ModelFolder(path, pipeline, tuple(wanted), own, factor, _sample_size(path, wanted), variant, classes=wanted)


def _variant(path: Path, kinds: Mapping[str, tuple[bool, frozenset[str]]], wanted: str) -> str:
    """The variant to load: the wanted one, or the only one of a component that has no plain files."""
    if wanted:
        for name, (plain, variants) in kinds.items():
            if wanted not in variants and not plain:
                raise InputError(f"{path / name}: has no weights of model.variant={wanted}; it has {', '.join(sorted(variants))}")
        if kinds and not any(wanted in variants for _, variants in kinds.values()):
            raise InputError(f"{path}: has no weights of model.variant={wanted}; use model.variant=null for its plain ones")
        return wanted
    needed = [variants for plain, variants in kinds.values() if not plain]
    if not needed:
        return ""
    common = sorted(frozenset.intersection(*needed))
    if len(common) != 1:
        every = ", ".join(sorted(frozenset.union(*needed)))
        raise InputError(f"{path}: has no plain weights, but the variants {every}; choose one with model.variant")
    return common[0]


def _vae_factor(path: Path, components: Mapping[str, str]) -> int:
    """Pixels a latent, as the VAE's class says it: by itself, or by the number of its halvings."""
    if "vae" not in components:
        return 1
    config = read_json(path / "vae" / "config.json", FIX)
    for key in ("spatial_compression_ratio", "scale_factor_spatial"):
        if isinstance(config.get(key), int):
            return config[key]
    for key, first in (("block_out_channels", 1), ("encoder_block_out_channels", 1), ("temperal_downsample", 0)):
        if isinstance(halvings := config.get(key), list) and halvings:
            return 2 ** (len(halvings) - first)
    return 8


def _sample_size(path: Path, components: Mapping[str, str]) -> tuple[int, int] | None:
    for name in ("unet", "transformer"):
        if name in components:
            size = read_json(path / name / "config.json", FIX).get("sample_size")
            if isinstance(size, int):
                return size, size
            if isinstance(size, list) and len(size) == 2:
                return tuple(size)
    return None


def _check_component(folder: Path, cls: str, weights: bool) -> tuple[bool, frozenset[str]] | None:
    """What check_weights says of a component; None for one without weights."""
    if not folder.is_dir():
        raise InputError(f"{folder}: {foreign.absent(folder)}, but {INDEX} names it ({cls}); {FIX}")
    for part, names in _CONFIGS.items():
        if part in cls:
            there = [folder / n for n in names if (folder / n).is_file()]
            if not there:
                raise InputError(f"{folder}: has none of {', '.join(names)}; {FIX}")
            read_json(there[0], FIX)
            return None
    bare = not (folder / "config.json").is_file() and not any(p.suffix in SUFFIXES for p in folder.iterdir())
    if bare and (settings := sorted(folder.glob("*_config.json"))):
        read_json(settings[0], FIX)  # guider_config.json and the like: of what has no weights
        return None
    config = read_json(folder / "config.json", FIX)
    if not weights:
        return None
    variants = check_weights(folder)
    if "quantization_config" not in config:  # else the library knows what to do with its scales
        check_scales(weight_files(folder))
        check_adapters(weight_files(folder))
    return variants
