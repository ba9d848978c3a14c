"""The model of a stage at plan time: its files, its ModelConfig, and what keys of drawing that are null become."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any, TypeVar

from launch.config.secrets import names_of
from launch.plan.absent import ABSENT, stand_in, unless_absent
from launch.plan.fetching import fetched
from launch.plan.inputs import existing, identity_of
from launch.plan.loras import check_offload, class_loras
from launch.plan.programs import check_there
from synth.errors import InputError
from synth.images.config import DrawingConfig, ModelConfig, PartConfig
from synth.images.external.settings import PIPELINE, WORD, Patience
from synth.images.families import family_class
from synth.images.model_folder import ModelFolder
from synth.images.models import ADAPTER, CONFIG, LORA, MODEL, PART, VAE, inspect_model, judge
from synth.keys import WrongKey
from synth.store.spec import InputFile

NATIVE = ("height", "width", "steps", "scheduler", "guidance_scale")  # keys of drawing that a model has values of its own for
FAST = {"scheduler": "dpm++2m", "steps": 20}  # images.preset=fast: 20 calls of the model instead of DDIM's 50
FOLDER = "a folder in diffusers' layout (model_index.json)"

Drawn = TypeVar("Drawn", bound=DrawingConfig)


@dataclass(frozen=True)
class PlannedModel:
    """What a stage is planned with. `inputs`: role -> file or folder; `folder`: what they hold."""

    config: ModelConfig
    inputs: Mapping[str, InputFile]
    folder: ModelFolder
    notes: tuple[str, ...] = ()  # for who plans it
    absent: bool = False  # a dry run without the weights: nothing can be asked of `folder` but what the preset says

    def settings(self, config: Drawn) -> Drawn:
        """The config of a group that draws; where it is null its preset says height, width, steps, .., else the model does."""
        own = {key: getattr(self.config, f"native_{key}") for key in NATIVE} | dict(self.preset(config.preset))
        if config.preset == "fast" and config.scheduler is None and not self.fits(FAST["scheduler"]):
            why = f"{FAST['scheduler']} does not fit {self.folder.pipeline} ({self.folder.name})"
            raise WrongKey("preset", "fast", why, "use null and fewer steps")
        filled = replace(config, **{key: value for key, value in own.items() if getattr(config, key) is None})
        for key in ("height", "width"):
            if getattr(filled, key) is None:
                raise WrongKey(key, None, f"the folder of {self.folder.name} does not say its own", "give it in pixels, 512 say")
        return filled

    def fits(self, scheduler: str) -> bool:
        """Whether a scheduler of the registry can drive the model."""
        names = family_class(self.folder.pipeline).schedulers
        return not self.folder.scheduler.startswith("FlowMatch") and (names is None or scheduler in names)

    def preset(self, name: str | None) -> Mapping[str, Any]:
        """The settings that a preset names. paper is the model's own; an unknown one, or a model without, is a WrongKey."""
        if name is None:
            return {}
        if name == "paper" and not self.config.paper:
            raise WrongKey("preset", name, f"{self.config.id} has no paper's settings (model.paper)", "use null for its native ones")
        values = {"paper": self.config.paper, "fast": FAST}.get(name)
        if values is None:
            raise WrongKey("preset", name, "use one of paper, fast, or null")
        if unknown := sorted(set(values) - set(NATIVE)):
            raise WrongKey("paper", ", ".join(unknown), "unknown keys", f"use {', '.join(NATIVE)}", "model")
        return values


def judged(model: PlannedModel, config: DrawingConfig, img2img: bool = False) -> None:
    """InputError if the model cannot do what the config asks. Of one that is not here nothing is known."""
    if not model.absent:
        judge(model.folder, config, img2img)


def _absent(model: ModelConfig) -> PlannedModel:
    """What the preset says of a model whose weights are not here."""
    name = model.id or (model.repo or "").rpartition("/")[2]
    folder = ModelFolder(Path(f"/{ABSENT}/{name}"), model.pipeline, ("unet", "vae"), "", 8)
    config = replace(
        model, id=name, variant=model.variant or "", parts={n: _plan_part(p) for n, p in model.parts.items() if p.path is not None}
    )
    return PlannedModel(config, {MODEL: stand_in("model.path")}, folder, absent=True)


def plan_model(model: ModelConfig, classes: Mapping[int, str] | None = None) -> PlannedModel:
    """Inspects everything that the group `model` names. Raises InputError; imports no torch.

    classes: official index -> name of those that are drawn; None: a stage whose pictures are not drawn class by class.
    """
    if model.pipeline == PIPELINE:
        return _plan_command(model)
    if unless_absent(lambda: _weights(model)) is None:
        if model.pipeline == "auto":
            raise InputError(f"model.path: not here, and model={model.id or 'diffusers'} does not say its class: set model.pipeline")
        return _absent(model)
    of_class = class_loras(model, classes)
    loras, parts = _loras(model.lora), {name: part for name, part in model.parts.items() if part.path is not None}
    paths = {role: existing(path, key, what) for role, path, key, what in _places(model, [path for path, _ in loras], parts)}
    paths |= {f"{ADAPTER}{index}": path for index, path in of_class.files.items()}
    config = replace(
        model,
        id=model.id or paths[MODEL].name,
        variant=model.variant or "",
        loras=tuple(weight for _, weight in loras),
        adapters=of_class.adapters,
        parts={name: _plan_part(part) for name, part in parts.items()},
    )
    folder = inspect_model(paths, config)  # first: whatever else a wrong path leads to must not be read whole
    height, width = family_class(folder.pipeline).native_size(folder) or (None, None)
    if config.native_height is None:
        config = replace(config, native_height=height)
    if config.native_width is None:
        config = replace(config, native_width=width)
    if model.text_offload:
        check_offload(of_class)
    return PlannedModel(config, _inputs(paths), folder, of_class.notes)


def _plan_part(part: PartConfig) -> PartConfig:
    """Numbers that are null become 0."""
    numbers: dict[str, Any] = {"steps": 0, "guidance_scale": 0.0, "noise_level": 0, "start": 0.0}
    return replace(part, **{key: zero for key, zero in numbers.items() if getattr(part, key) is None})


def _inputs(paths: Mapping[str, Path]) -> dict[str, InputFile]:
    return {role: InputFile(str(path), identity_of(path)) for role, path in paths.items()}


def _weights(model: ModelConfig) -> Path:
    return existing(model.path or fetched("model", model.id, model.repo), "model.path", f"{FOLDER}, or a checkpoint file")


def _places(model: ModelConfig, loras: list[str], parts: Mapping[str, PartConfig]) -> Iterator[tuple[str, str | None, str, str]]:
    """(role of the input, path, key, what must be there)"""
    yield MODEL, str(_weights(model)), "model.path", f"{FOLDER}, or a checkpoint file"
    if model.config is not None:
        if model.config.endswith((".yaml", ".yml")):
            why = "a config of the original scripts says nothing of tokenizers and schedulers"
            raise WrongKey("config", model.config, why, f"name {FOLDER} of such a model; it needs no weights: docs/models.md", "model")
        yield CONFIG, model.config, "model.config", FOLDER
    if model.vae is not None:
        yield VAE, model.vae, "model.vae", "a folder of one VAE"
    for i, path in enumerate(loras):
        yield f"{LORA}{i}", path, "model.lora", "a .safetensors file"
    for name, part in parts.items():
        yield PART + name, part.path, f"model.parts.{name}.path", FOLDER


def _loras(value: Any) -> list[tuple[str, float]]:
    """[(path, weight)] of model.lora: a path, a list of paths, or a list of {path: ..., weight: ...}."""
    loras = []
    for item in () if value is None else value if isinstance(value, (list, tuple)) else [value]:
        entry = {"path": item} if isinstance(item, str) else item
        weight = entry.get("weight", 1.0) if isinstance(entry, dict) else None
        if not isinstance(entry, dict) or not isinstance(entry.get("path"), str) or not set(entry) <= {"path", "weight"}:
            raise InputError(f"model.lora: {item!r} is no LoRA; write a file, or {{path: FILE, weight: 0.8}}")
        if isinstance(weight, bool) or not isinstance(weight, (int, float)):
            raise InputError(f"model.lora: weight {weight!r} of {entry['path']} is not a number")
        if not entry["path"].endswith(".safetensors"):
            raise InputError(f"model.lora: {entry['path']} is not a .safetensors file; pickled LoRAs are not read, convert it")
        loras.append((entry["path"], float(weight)))
    return loras


# -- a command in the place of a model -------------------------------------------------------------------------------


def _plan_command(model: ModelConfig) -> PlannedModel:
    """Words after the first that name files become inputs, so that an edited script is another model."""
    if not is_external(model):
        raise WrongKey("pipeline", PIPELINE, "not for this model", "use model=external model.command=[...]", "model")
    for key in ("config", "variant", "vae", "lora", "lora_by_class"):
        if getattr(model, key) is not None:
            raise InputError(f"model.{key}: a command has none; give it what it needs in model.command")
    check_there(model)
    paths: dict[str, Path] = {}
    if model.path is not None:
        paths[MODEL] = existing(model.path, "model.path", "the file or folder of the weights")
    words = tuple(_word(word, n, paths) for n, word in enumerate(model.command or ()))
    config = replace(model, id=model.id or PIPELINE, variant="", parts={}, command=words)
    folder = inspect_model(paths, config)  # first, as of any model
    return PlannedModel(config, _inputs(paths), folder)


def is_external(model: ModelConfig) -> bool:
    """Whether the option has the keys of a command."""
    return model.restarts is not None


def _word(word: str, number: int, paths: dict[str, Path]) -> str:
    """A word of the command, or the role that stands for the file it names. The first is how it is started, not what."""
    try:
        path = Path(word).expanduser().absolute()
        if not number or not path.is_file():
            return word
    except (OSError, ValueError):  # too long, or with a NUL: no path
        return word
    role = f"{WORD}{number}"
    paths[role] = path
    return "{" + role + "}"


def patience_of(model: ModelConfig) -> dict[str, Any]:
    """The settings of a command; none of another model."""
    if not is_external(model):
        return {}
    names = names_of("model", model.pass_env)
    return {f.name: getattr(model, f.name) for f in fields(Patience)} | ({"pass_env": list(names)} if names else {})
