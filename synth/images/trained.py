"""LoRAs that the stage `lora` of a run trained, read from its units by the stage that draws with them."""

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from synth.errors import InputError
from synth.images.config import ALL_CLASSES

if TYPE_CHECKING:
    from synth.images.config import ModelConfig
    from synth.images.model_folder import ModelFolder
    from synth.store.folder import StageFolder

ROLE = "lora"  # in which a stage reads it
FILE = "safetensors"  # of the last sample of a unit


@dataclass(frozen=True)
class Trained:
    """The LoRA of a unit. sha256: of its file."""

    stage: "StageFolder"
    unit: int
    sha256: str

    def __str__(self) -> str:
        return str(self.stage.unit_path(self.unit))

    def tensors(self) -> dict[str, Any]:
        """Compared with the digest that was committed with it."""
        from safetensors.torch import load

        slot = self.stage.unit(self.unit).stop - 1
        (data,) = (stored.read(FILE) for stored in self.stage.samples(slot, slot + 1))
        return load(data)


def with_trained(model: "ModelFolder", config: "ModelConfig", folder: "StageFolder") -> "ModelFolder":
    """A judged model with the LoRAs that its stage was planned to draw with. InputError where they are not those that were trained."""
    if not config.trained:
        return model
    (stage,) = folder.upstream(ROLE)
    classes = [c["index"] for c in stage.spec.config["classes"]] if stage.spec.config["scope"] == "class" else [ALL_CLASSES]
    there = {index: Trained(stage, number, _sha256(stage, number)) for number, index in enumerate(classes)}
    if lacking := [c.name for c in config.trained if c.file and c.index not in there]:
        raise InputError(f"{folder.path}: {stage.path.name} holds no LoRA of {lacking[0]!r}; plan the run again")
    if ALL_CLASSES in there:
        return replace(model, loras=(*model.loras, there[ALL_CLASSES]))
    return replace(model, adapters={c.index: there[c.index] for c in config.trained if c.file})


def _sha256(stage: "StageFolder", number: int) -> str:
    slot = stage.unit(number).stop - 1
    for stored in stage.samples(slot, slot + 1):
        ((_, sha256),) = stored.json("files")["files"].values()
        return str(sha256)
    raise InputError(f"{stage.unit_path(number)}: holds no LoRA; verify --repair sets it aside")
