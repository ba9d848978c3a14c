"""What kind of model a folder holds, by the names of its files: for the errors of who expected another kind. No torch."""

from collections.abc import Callable
from pathlib import Path

from synth.errors import InputError
from synth.weights import STEMS, read_json


def instead(folder: Path) -> str:
    """What a folder holds that is not what was looked for, and what takes it: the end of a message; "" if nothing tells.

    Any folder, of anybody: what cannot be read tells nothing.
    """
    if not folder.is_dir():
        return ""
    names = sorted(p.name for p in folder.iterdir())
    return next((f"; it is {what}" for tell in _KINDS if (what := tell(folder, names))), "")


def _pipeline(folder: Path, names: list[str]) -> str:
    return "a model of pictures in diffusers' layout: model=diffusers model.path=FOLDER" if "model_index.json" in names else ""


def _adapter(folder: Path, names: list[str]) -> str:
    lora = next((n for n in names if n in ("adapter_config.json", "pytorch_lora_weights.safetensors")), "")
    return f"an adapter (LoRA, by its {lora}) and no model: merge it into its model first, or give its file to model.lora" if lora else ""


def _meta(folder: Path, names: list[str]) -> str:
    if "params.json" in names and any(n.startswith("consolidated.") and n.endswith(".pth") for n in names):
        return "a LLaMA in Meta's layout: captioner=llama2_7b, or llama3_8b, captioner.ckpt_dir=FOLDER captioner.tokenizer_path=FILE"
    return ""


def _transformers(folder: Path, names: list[str]) -> str:
    classes = _config(folder).get("architectures")
    if not isinstance(classes, list) or not classes:
        return ""
    below = "; Meta's layout is in its folder original" if (folder / "original" / "params.json").is_file() else ""
    takes = "captioner=hf captioner.path=FOLDER" if "CausalLM" in str(classes[0]) else "a model of its own class"
    return f"a {classes[0]} in transformers' layout: {takes}{below}"


def _component(folder: Path, names: list[str]) -> str:
    cls = _config(folder).get("_class_name")
    return f"one component ({cls}) of a model: give the folder above it, which has model_index.json" if isinstance(cls, str) else ""


def _cache(folder: Path, names: list[str]) -> str:
    if "snapshots" not in names:
        return ""
    there = sorted(p.name for p in (folder / "snapshots").iterdir()) if (folder / "snapshots").is_dir() else []
    return f"a folder of the hub's cache: give a snapshot in it, {folder / 'snapshots' / there[0]}" if there else ""


def _other_forms(folder: Path, names: list[str]) -> str:
    if gguf := next((n for n in names if n.endswith(".gguf")), ""):
        return f"a folder with {gguf}: llama.cpp takes that file, captioner=served captioner.path=FILE"
    one = next((n for n in names if n.endswith((".safetensors", ".ckpt")) and not n.startswith(STEMS)), "")
    return f"a folder with {one}: a single-file checkpoint is given by its own name, with model.config=FOLDER" if one else ""


def _config(folder: Path) -> dict:
    try:
        return read_json(folder / "config.json", "")
    except InputError:
        return {}


_KINDS: tuple[Callable[[Path, list[str]], str], ...] = (_pipeline, _adapter, _meta, _transformers, _component, _cache, _other_forms)
