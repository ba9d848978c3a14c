"""LoRA files, added to the weights once, so that drawing costs nothing more."""

import importlib.util
import re
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path

from synth.errors import InputError, not_trouble

_DOWN = re.compile(r"lora_A\b|lora_down\b|lora(_linear_layer)?\.down\b")  # in the name of the first of a layer's two matrices


def fuse_loras(pipe, files: Sequence[Path], weights: Sequence[float]) -> None:
    """Add LoRA files, each times its weight, to the weights of a pipeline. Needs the package peft."""
    if importlib.util.find_spec("peft") is None:
        raise InputError("model.lora: needs the package peft: pip install -e '.[lora]'")
    if not hasattr(pipe, "load_lora_weights"):
        raise InputError(f"model.lora: {type(pipe).__name__} takes no LoRA")
    names = [f"lora_{i}" for i in range(len(files))]
    for name, file in zip(names, files, strict=True):
        try:
            read = pipe.lora_state_dict(str(file.parent), weight_name=file.name, local_files_only=True)
            pipe.load_lora_weights(str(file.parent), weight_name=file.name, adapter_name=name, local_files_only=True)
            loaded = any(name in adapters for adapters in pipe.get_list_adapters().values())
        except (OSError, ValueError, LookupError, TypeError, AttributeError, RuntimeError) as e:
            not_trouble(file, e)
            raise InputError(f"model.lora: {file} does not fit {type(pipe).__name__} ({type(e).__name__}: {str(e).splitlines()[0]})") from e
        if not loaded:
            raise InputError(f"model.lora: {file} holds nothing for {type(pipe).__name__}; was it made for another kind of model?")
        _check_taken(pipe, file, name, read[0] if isinstance(read, tuple) else read)
    pipe.set_adapters(names, list(weights))
    pipe.fuse_lora(adapter_names=names)
    pipe.unload_lora_weights()


def _check_taken(pipe, file: Path, name: str, tensors: Iterable[str]) -> None:
    """InputError unless every layer of a file was added to some layer of the pipeline: diffusers passes over what it does not know.

    tensors: names in the file, as diffusers has put them: <component>.<layer>.lora_A.weight.
    """
    given = Counter(key.partition(".")[0] for key in tensors if _DOWN.search(key))
    for component, layers in sorted(given.items()):
        module = pipe.components.get(component)
        taken = 0 if module is None else sum(name in getattr(m, "lora_A", ()) for m in module.modules())
        if taken < layers:
            whose = f"{component} of {type(pipe).__name__}" if module is not None else f"{type(pipe).__name__}, which has no {component}"
            fix = "it was made for another kind of model: leave it out, or use one that was made for this"
            raise InputError(f"model.lora: {file}: {layers - taken} of its {layers} layers do not fit the {whose}; {fix}")
