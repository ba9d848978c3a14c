"""A diffusers model folder, judged from its files alone: nothing here imports torch or diffusers.

A worker that finds a torn or incomplete folder says so in milliseconds, not after minutes of loading.
"""

import json
import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from synth.errors import InputError

INDEX = "model_index.json"
WEIGHTS = (".safetensors", ".bin")
UNUSED = ("safety_checker", "feature_extractor", "image_encoder")  # loaded as None, or not by text-to-image
_CONFIGS = {  # part of a class name -> the files of which one must be there
    "Tokenizer": ("tokenizer_config.json", "tokenizer.json", "vocab.json"),
    "Scheduler": ("scheduler_config.json",),
    "Processor": ("preprocessor_config.json",),
    "Extractor": ("preprocessor_config.json",),
}


@dataclass(frozen=True)
class ModelFolder:
    """What a whole folder says about itself."""

    path: Path
    pipeline: str  # class name in model_index.json
    components: tuple[str, ...]  # those that are not null
    scheduler: str  # class name of the model's own, "" if it has none
    vae_factor: int  # pixels a latent; 1 for models of pixels

    def check_size(self, height: int, width: int) -> None:
        """InputError unless height and width are multiples of what the model can compute."""
        # StableDiffusionPipeline and its kin insist on 8 even where the VAE shrinks by less
        step = math.lcm(8, self.vae_factor) if "vae" in self.components else self.vae_factor
        for name, value in (("height", height), ("width", width)):
            if value < 1 or value % step:
                below, above = value // step * step, -(-max(value, 1) // step) * step
                near = f"{below} or {above}" if below else f"{above}"
                msg = f"images.{name}={value}: {self.path.name} computes multiples of {step} pixels; use {near}"
                raise InputError(msg)


def inspect(path: Path, expected: str = "auto") -> ModelFolder:
    """Read and check a folder: index, every component with its config and whole weights. `expected`: pipeline class or auto."""
    path = Path(path)
    if not path.is_dir():
        msg = f"{path}: no such model folder; model.path must be a local folder in diffusers' layout"
        raise InputError(msg)
    index = _json(path / INDEX, "a diffusers model folder has one; fetch the model again")
    pipeline = index.get("_class_name")
    if not isinstance(pipeline, str):
        msg = f"{path / INDEX}: has no _class_name; fetch the model again"
        raise InputError(msg)
    if expected not in ("auto", pipeline):
        msg = f"{path / INDEX}: is a {pipeline}, but model.pipeline={expected}; use model.pipeline={pipeline} or another model.path"
        raise InputError(msg)
    wanted = {n: v[1] for n, v in index.items() if isinstance(v, list) and len(v) == 2 and v[1] is not None and n not in UNUSED}
    if not wanted:
        msg = f"{path / INDEX}: names no component; fetch the model again"
        raise InputError(msg)
    for name, cls in wanted.items():
        _check_component(path / name, str(cls))
    scheduler = _json(path / "scheduler" / "scheduler_config.json", "fetch the model again") if "scheduler" in wanted else {}
    return ModelFolder(path, pipeline, tuple(wanted), scheduler.get("_class_name", str(wanted.get("scheduler", ""))), _vae_factor(path, wanted))


def _vae_factor(path: Path, components: dict) -> int:
    if "vae" not in components:
        return 1
    blocks = _json(path / "vae" / "config.json", "fetch the model again").get("block_out_channels")
    return 2 ** (len(blocks) - 1) if isinstance(blocks, list) and blocks else 8


def _check_component(folder: Path, cls: str) -> None:
    if not folder.is_dir():
        msg = f"{folder}: missing, but {INDEX} names it ({cls}); fetch the model again"
        raise InputError(msg)
    for part, names in _CONFIGS.items():
        if part in cls:
            found = [folder / n for n in names if (folder / n).is_file()]
            if not found:
                msg = f"{folder}: has none of {', '.join(names)}; fetch the model again"
                raise InputError(msg)
            _json(found[0], "fetch the model again")
            return
    _json(folder / "config.json", "fetch the model again")
    if not (weights := list(_weight_files(folder))):
        msg = f"{folder}: holds no weights (*.safetensors or *.bin); fetch the model again"
        raise InputError(msg)
    for file in weights:
        if file.suffix == ".safetensors":
            check_safetensors(file)
        elif file.stat().st_size == 0:
            msg = f"{file}: empty; fetch the model again"
            raise InputError(msg)


def _weight_files(folder: Path) -> Iterator[Path]:
    """The weight files of a component; those that a shard index names must all be there."""
    for index in sorted(folder.glob("*.index.json")):
        for name in sorted(set(_json(index, "fetch the model again").get("weight_map", {}).values())):
            if not (folder / name).is_file():
                msg = f"{folder / name}: missing, but {index.name} names it; fetch the model again"
                raise InputError(msg)
    yield from sorted(p for p in folder.iterdir() if p.suffix in WEIGHTS and p.is_file())


def check_safetensors(file: Path) -> None:
    """InputError if a .safetensors file is shorter or longer than its header says. Reads the header only."""
    size = file.stat().st_size
    try:
        with open(file, "rb") as f:
            head = f.read(8)
            n = int.from_bytes(head, "little")
            if len(head) < 8 or n > size - 8:
                msg = f"{file}: torn inside its header ({size} bytes); fetch the model again"
                raise InputError(msg)
            header = json.loads(f.read(n))
        wanted = 8 + n + max((t["data_offsets"][1] for k, t in header.items() if k != "__metadata__"), default=0)
    except (ValueError, KeyError, TypeError, AttributeError) as e:
        msg = f"{file}: not a safetensors file ({type(e).__name__}: {e}); fetch the model again"
        raise InputError(msg) from e
    if size != wanted:
        msg = f"{file}: {size} bytes, its header says {wanted}; it is torn: fetch the model again"
        raise InputError(msg)


def _json(file: Path, fix: str) -> dict:
    try:
        data = json.loads(file.read_bytes())
    except FileNotFoundError as e:
        msg = f"{file}: missing; {fix}"
        raise InputError(msg) from e
    except (OSError, ValueError) as e:
        msg = f"{file}: cannot be read as JSON ({e}); {fix}"
        raise InputError(msg) from e
    if not isinstance(data, dict):
        msg = f"{file}: expected a JSON object, found {type(data).__name__}; {fix}"
        raise InputError(msg)
    return data
