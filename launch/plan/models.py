"""The model of an images stage at plan time: its inputs, its ModelConfig, and what images.* that are null become."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from omegaconf import OmegaConf

from launch.config.schema import Images, Model, ModelPart
from launch.plan.external import plan_command
from launch.plan.fetching import fetched
from launch.plan.inputs import existing, identity_of
from synth.errors import InputError
from synth.images.config import ModelConfig, PartConfig
from synth.images.external.settings import PIPELINE
from synth.images.families import family_class
from synth.images.model_folder import ModelFolder
from synth.images.models import CONFIG, LORA, MODEL, PART, VAE, inspect_model, judged
from synth.store.spec import InputFile

NATIVE = ("height", "width", "steps", "scheduler", "guidance_scale")
FAST = {"scheduler": "dpm++2m", "steps": 20}  # images.preset=fast: 20 calls of the model instead of DDIM's 50
FOLDER = "a folder in diffusers' layout (model_index.json)"
DTYPES = ("auto", "float16", "bfloat16", "float32")


@dataclass(frozen=True)
class PlannedModel:
    """What a stage is planned with. `inputs`: role -> file or folder; `folder`: what they hold."""

    config: ModelConfig
    inputs: Mapping[str, InputFile]
    folder: ModelFolder
    native: Mapping[str, object]
    paper: Mapping[str, object] = field(default_factory=dict)  # settings of the work that the model is known from

    def settings(self, images: Images) -> dict:
        """height, width, steps, scheduler and guidance_scale: as `images` says; where that is null as its preset, then the model says."""
        chosen = self.native | self.preset(images.preset) | {k: v for k in NATIVE if (v := getattr(images, k)) is not None}
        for key in ("height", "width"):
            if chosen[key] is None:
                raise InputError(f"images.{key}: not set, and the folder of {self.folder.name} does not say its own; images.{key}=512, say")
        if images.preset == "fast" and images.scheduler is None and not self.fits(FAST["scheduler"]):
            raise InputError(
                f"images.preset=fast: {FAST['scheduler']} does not fit {self.folder.pipeline} ({self.folder.name}); "
                "use images.preset=null and fewer images.steps"
            )
        return chosen

    def fits(self, scheduler: str) -> bool:
        """Whether a scheduler of the registry can drive the model."""
        names = family_class(self.folder.pipeline).schedulers
        return not self.folder.scheduler.startswith("FlowMatch") and (names is None or scheduler in names)

    def preset(self, name: str | None) -> Mapping[str, object]:
        """The settings that a preset names. paper is the model's own; an unknown one, or a model without, is an InputError."""
        if name is None:
            return {}
        if name == "paper" and not self.paper:
            raise InputError(f"images.preset=paper: {self.config.id} has no paper's settings (model.paper); use null for its native ones")
        found = {"paper": self.paper, "fast": FAST}.get(name)
        if found is None:
            raise InputError(f"images.preset={name}: no such preset; there are paper, fast and null")
        if unknown := sorted(set(found) - set(NATIVE)):
            raise InputError(f"model.paper: unknown keys {', '.join(unknown)}; there are {', '.join(NATIVE)}")
        return found

    def judge(self, config, img2img: bool = False) -> None:
        """InputError if the model cannot do what the stage's sample config asks: it must not wait in a queue to be found."""
        judged(self.folder, config, img2img)


def plan_model(model: Model) -> PlannedModel:
    """Inspects everything that the group `model` names. Raises InputError; imports no torch."""
    if model.pipeline == PIPELINE:
        config, inputs, folder = plan_command(model)
        return PlannedModel(config, inputs, folder, {k: getattr(model, f"native_{k}") for k in NATIVE}, dict(model.paper))
    loras, parts = _loras(model.lora), {name: part for name, part in model.parts.items() if part.path is not None}
    paths = {role: existing(*rest) for role, *rest in _places(model, [path for path, _ in loras], parts)}
    if model.dtype not in DTYPES:
        raise InputError(f"model.dtype={model.dtype}: use one of {', '.join(DTYPES)}")
    config = ModelConfig(
        id=model.id or paths[MODEL].name,
        pipeline=model.pipeline,
        variant=model.variant or "",
        dtype=model.dtype,
        safety_checker=model.safety_checker,
        loras=tuple(weight for _, weight in loras),
        parts={n: PartConfig(p.steps, p.guidance_scale, p.noise_level, p.start) for n, p in parts.items()},
    )
    folder = inspect_model(paths, config)  # first: whatever else a wrong path leads to must not be read whole
    inputs = {role: InputFile(str(path), identity_of(path)) for role, path in paths.items()}
    native = {k: getattr(model, f"native_{k}") for k in NATIVE}
    own = family_class(folder.pipeline).native_size(folder) or (None, None)
    native |= {k: v for k, v in zip(("height", "width"), own, strict=True) if native[k] is None}
    return PlannedModel(config, inputs, folder, native, dict(model.paper))


def _places(model: Model, loras: list[str], parts: Mapping[str, ModelPart]) -> Iterator[tuple[str, str | None, str, str]]:
    """(role of the input, path, key, what must be there)"""
    yield MODEL, model.path or fetched("model", model.id, model.repo), "model.path", f"{FOLDER}, or a checkpoint file"
    if model.config is not None:
        yield CONFIG, model.config, "model.config", FOLDER
    if model.vae is not None:
        yield VAE, model.vae, "model.vae", "a folder of one VAE"
    for i, path in enumerate(loras):
        yield f"{LORA}{i}", path, "model.lora", "a .safetensors file"
    for name, part in parts.items():
        yield PART + name, part.path, f"model.parts.{name}.path", FOLDER


def _loras(value) -> list[tuple[str, float]]:
    """[(path, weight)] of model.lora: a path, a list of paths, or a list of {path: ..., weight: ...}."""
    value = OmegaConf.to_container(value) if OmegaConf.is_config(value) else value
    if value is None:
        return []
    found = []
    for item in value if isinstance(value, list) else [value]:
        entry = {"path": item} if isinstance(item, str) else item
        weight = entry.get("weight", 1.0) if isinstance(entry, dict) else None
        if not isinstance(entry, dict) or not isinstance(entry.get("path"), str) or not set(entry) <= {"path", "weight"}:
            raise InputError(f"model.lora: {item!r} is no LoRA; write a file, or {{path: FILE, weight: 0.8}}")
        if isinstance(weight, bool) or not isinstance(weight, (int, float)):
            raise InputError(f"model.lora: weight {weight!r} of {entry['path']} is not a number")
        if not entry["path"].endswith(".safetensors"):
            raise InputError(f"model.lora: {entry['path']} is not a .safetensors file; pickled LoRAs are not read, convert it")
        found.append((entry["path"], float(weight)))
    return found
