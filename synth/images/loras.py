"""LoRA files, added to the weights: once, so that drawing costs nothing more, or those of a class before its pictures."""

import importlib.util
import math
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from synth.errors import InputError, not_trouble
from synth.images.trained import Trained
from synth.weights import elements, shapes_of, tensor_names

if TYPE_CHECKING:
    from synth.images.model_folder import ModelFolder

ONE, BY_CLASS = "model.lora", "model.lora_by_class"  # keys that name files
FIX = "it was made for another kind of model: leave it out, or use one that was made for this"
_DOWN = re.compile(r"lora_A\b|lora_down\b|lora(_linear_layer)?\.down\b")  # in the name of the first of a layer's two matrices
# the same where its layer is called as the model calls it: by diffusers and peft, with dots; by kohya, with underscores alone
_LAYER = re.compile(
    r"(?P<component>unet|transformer)\.(?P<layer>.+)\.lora(_A|\.down)\.weight"
    r"|lora_(?P<kohya>unet)_(?P<flat>(down_blocks|mid_block|up_blocks)_.+)\.lora_down\.weight"
)
_UP = {"lora_A": "lora_B", "lora.down": "lora.up", "lora_down": "lora_up"}
_TEXT = ("text_encoder", "lora_te")  # how names begin in the parts of text encoders


# -- at plan time, without torch -------------------------------------------------------------------------------------


def check_lora(file: Path, model: "ModelFolder", key: str = ONE) -> None:
    """InputError for a file that is no LoRA, and for one with layers that the denoiser of `model` does not have, or not in this size, as
    far as its header and those of the model tell. Layers in the names of other programs are judged when they are loaded."""
    if not any(map(_DOWN.search, tensor_names(file))):
        raise InputError(f"{key}: {file} holds no LoRA (no lora_A, lora_down or lora.down); give a file of one")
    layers: dict[str, dict[str, int]] = {}  # component -> layer -> elements of what is added to it
    for component, layer, size in _layers(file):
        layers.setdefault(component, {})[layer] = size
    for component, asked in layers.items():
        has = _weights(model, component)
        if foreign := sorted(layer for layer, size in asked.items() if has and has.get(_flat(layer)) != size):
            why = f"{len(foreign)} of its {len(asked)} layers do not fit the {component} of {model.pipeline} ({foreign[0]})"
            raise InputError(f"{key}: {file}: {why}; {FIX}")


def reads_texts(file: Path) -> bool:
    """Whether a LoRA changes text encoders, too. Reads the header only."""
    return any(name.startswith(_TEXT) for name in tensor_names(file))


def _layers(file: Path) -> Iterator[tuple[str, str, int]]:
    """(component, layer, elements of what is added to it) of those layers that are called as models call them."""
    shapes = shapes_of(file)
    for name, shape in shapes.items():
        if (match := _LAYER.fullmatch(name)) is None:
            continue
        down = next(word for word in _UP if f".{word}." in name)
        if (up := name.replace(f".{down}.", f".{_UP[down]}.")) not in shapes:
            raise InputError(f"{file}: holds {name} without {up}; fetch the file again")
        yield match["component"] or match["kohya"], match["layer"] or match["flat"], math.prod((*shapes[up][:1], *shape[1:]))


def _weights(model: "ModelFolder", component: str) -> Mapping[str, int]:
    """flat name of a layer -> elements of its weight; {} where no header tells."""
    if model.checkpoint is not None or component not in model.components:
        return {}
    found = elements(model.path / component, model.variant)
    return {_flat(name.removesuffix(".weight")): n for name, n in found if name.endswith(".weight")}


def _flat(layer: str) -> str:
    return layer.replace(".", "_")


# -- on a worker -----------------------------------------------------------------------------------------------------


def fuse_loras(pipe, files: Sequence[Path | Trained], weights: Sequence[float]) -> None:
    """Add LoRA files, each times its weight, to the weights of a pipeline. Needs the package peft."""
    _check_takes(pipe, ONE)
    names = _load(pipe, files, weights, ONE)
    pipe.fuse_lora(adapter_names=names)
    pipe.unload_lora_weights()


@dataclass(frozen=True)
class Adapter:
    """The LoRA of a class. weight: that it is added with."""

    file: Path | Trained
    weight: float


class Adapters:
    """One of several LoRA files at a time in the weights of a pipeline, the same for all that came before it.

    The weights that one changes are kept in host memory when it comes, and are put back, bit by bit, when it goes: to take away what was
    added would leave rounding behind in half precision. What is added is added as `fuse_loras` does, so pictures have the bytes that they
    have with this file in model.lora.
    """

    def __init__(self, pipe, adapters: Mapping[int, Adapter]):
        """adapters: by what `use` is asked for."""
        _check_takes(pipe, BY_CLASS)
        self._pipe, self._adapters = pipe, adapters
        self._now: int | None = None
        self._kept: dict = {}  # parameter -> its values without an adapter, on the host
        self._changed: list = []  # parameters that hold those of `_now`

    def use(self, which: int | None) -> bool:
        """Have the weights with an adapter, or as they were without any; whether they changed. InputError for one that does not fit."""
        if which == self._now:
            return False
        self._put_back()
        if which is not None:
            self._add(which)
        return True

    def _add(self, which: int) -> None:
        adapter = self._adapters[which]
        try:
            names = _load(self._pipe, [adapter.file], [adapter.weight], BY_CLASS)
            self._keep()
            self._pipe.fuse_lora(adapter_names=names)
            self._now = which
        finally:
            self._pipe.unload_lora_weights()
            if self._now != which:  # it did not fit into memory, say: the next picture must not have a half of it
                self._put_back()

    def _keep(self) -> None:
        modules = {id(m): m for part in self._pipe.components.values() if hasattr(part, "modules") for m in part.modules()}
        layers = [m.get_base_layer() for m in modules.values() if hasattr(m, "lora_A")]
        self._changed = [parameter for layer in layers for parameter in layer.parameters(recurse=False)]
        for parameter in self._changed:
            if parameter not in self._kept:
                self._kept[parameter] = parameter.data.to("cpu", copy=True)

    def _put_back(self) -> None:
        for parameter in self._changed:
            parameter.data.copy_(self._kept[parameter])
        self._changed, self._now = [], None


def check_peft(key: str) -> None:
    """InputError where what adds LoRAs is not installed. key: that asked for one."""
    if importlib.util.find_spec("peft") is None:
        raise InputError(f"{key}: needs the package peft: pip install -e '.[lora]'")


def _check_takes(pipe, key: str) -> None:
    """InputError where nothing can add a LoRA to a pipeline. key: that asked for it."""
    check_peft(key)
    if not hasattr(pipe, "load_lora_weights"):
        raise InputError(f"{key}: {type(pipe).__name__} takes no LoRA")


def _where(file: Path | Trained) -> tuple[Any, dict[str, Any]]:
    """(argument, keywords) of diffusers' functions that read a LoRA: a file, or what was read of a unit."""
    if isinstance(file, Trained):
        return file.tensors(), {}
    return str(file.parent), {"weight_name": file.name, "local_files_only": True}


def _load(pipe, files: Sequence[Path | Trained], weights: Sequence[float], key: str) -> list[str]:
    """The names under which LoRA files now lie beside the weights of a pipeline. key: that named them."""
    names = [f"lora_{i}" for i in range(len(files))]
    for name, file in zip(names, files, strict=True):
        try:
            what, how = _where(file)
            read = pipe.lora_state_dict(what, **how)
            pipe.load_lora_weights(what, adapter_name=name, **how)
            loaded = any(name in adapters for adapters in pipe.get_list_adapters().values())
        except (OSError, ValueError, LookupError, TypeError, AttributeError, RuntimeError) as e:
            not_trouble(str(file), e)
            raise InputError(f"{key}: {file} does not fit {type(pipe).__name__} ({type(e).__name__}: {str(e).splitlines()[0]})") from e
        if not loaded:
            raise InputError(f"{key}: {file} holds nothing for {type(pipe).__name__}; was it made for another kind of model?")
        _check_taken(pipe, file, name, read[0] if isinstance(read, tuple) else read, key)
    pipe.set_adapters(names, list(weights))
    return names


def _check_taken(pipe, file: Path | Trained, name: str, tensors: Iterable[str], key: str) -> None:
    """InputError unless every layer of a file was added to some layer of the pipeline: diffusers passes over what it does not know.

    tensors: names in the file, as diffusers has put them: <component>.<layer>.lora_A.weight.
    """
    given = Counter(tensor.partition(".")[0] for tensor in tensors if _DOWN.search(tensor))
    for component, layers in sorted(given.items()):
        module = pipe.components.get(component)
        taken = 0 if module is None else sum(name in getattr(m, "lora_A", ()) for m in module.modules())
        if taken < layers:
            whose = f"{component} of {type(pipe).__name__}" if module is not None else f"{type(pipe).__name__}, which has no {component}"
            raise InputError(f"{key}: {file}: {layers - taken} of its {layers} layers do not fit the {whose}; {FIX}")
