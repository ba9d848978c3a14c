"""A command in the place of a model, at plan time: its words, the files that they name, and how patiently it is treated."""

from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path

from launch.config.schema import External, Model
from launch.plan.inputs import existing, identity_of
from synth.errors import InputError
from synth.images.config import ModelConfig
from synth.images.external.settings import MODEL, PIPELINE, WORD, Patience
from synth.images.model_folder import ModelFolder
from synth.images.models import inspect_model
from synth.store.spec import InputFile


def plan_command(model: Model) -> tuple[ModelConfig, dict[str, InputFile], ModelFolder]:
    """What `model` becomes. Words after the first that name files become inputs, so that an edited script is another model."""
    if not isinstance(model, External):
        raise InputError(f"model.pipeline={PIPELINE}: not for this model; use model=external model.command=[...]")
    for key in ("config", "variant", "vae", "lora"):
        if getattr(model, key) is not None:
            raise InputError(f"model.{key}: a command has none; give it what it needs in model.command")
    paths: dict[str, Path] = {}
    if model.path is not None:
        paths[MODEL] = existing(model.path, "model.path", "the file or folder of the weights")
    words = [_word(word, n, paths) for n, word in enumerate(model.command or ())]
    config = ModelConfig(
        id=model.id or PIPELINE,
        pipeline=PIPELINE,
        dtype=model.dtype,
        safety_checker=model.safety_checker,
        command=tuple(words),
        deterministic=model.deterministic,
    )
    folder = inspect_model(paths, config)
    return config, {role: InputFile(str(path), identity_of(path)) for role, path in paths.items()}, folder


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


def patience_of(model: Model) -> Mapping[str, object]:
    """The settings of a command; none of another model. InputError for what is out of range."""
    return asdict(Patience.of({k: getattr(model, k) for k in asdict(Patience())})) if isinstance(model, External) else {}
