"""LoRA files, added to the weights once, so that drawing costs nothing more."""

import importlib.util
from collections.abc import Sequence
from pathlib import Path

from synth.errors import InputError, not_trouble


def fuse_loras(pipe, files: Sequence[Path], weights: Sequence[float]) -> None:
    """Add LoRA files, each times its weight, to the weights of a pipeline. Needs the package peft."""
    if importlib.util.find_spec("peft") is None:
        raise InputError("model.lora: needs the package peft: pip install -e '.[lora]'")
    if not hasattr(pipe, "load_lora_weights"):
        raise InputError(f"model.lora: {type(pipe).__name__} takes no LoRA")
    names = [f"lora_{i}" for i in range(len(files))]
    for name, file in zip(names, files, strict=True):
        try:
            pipe.load_lora_weights(str(file.parent), weight_name=file.name, adapter_name=name, local_files_only=True)
            loaded = any(name in adapters for adapters in pipe.get_list_adapters().values())
        except (OSError, ValueError, KeyError, TypeError, AttributeError, RuntimeError) as e:
            not_trouble(file, e)
            raise InputError(f"model.lora: {file} does not fit {type(pipe).__name__} ({type(e).__name__}: {str(e).splitlines()[0]})") from e
        if not loaded:
            raise InputError(f"model.lora: {file} holds nothing for {type(pipe).__name__}; was it made for another kind of model?")
    pipe.set_adapters(names, list(weights))
    pipe.fuse_lora(adapter_names=names)
    pipe.unload_lora_weights()
