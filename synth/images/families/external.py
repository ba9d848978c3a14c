"""A command in the place of a pipeline: it takes any size and prompt, and starts from no picture."""

from collections.abc import Mapping

from synth.errors import InputError
from synth.images.config import ModelConfig
from synth.images.families.base import Family
from synth.keys import WrongKey


class External(Family):
    schedulers = frozenset()  # the command's own affair
    halves_in_one_call = False
    embeds = False

    @classmethod
    def check(cls, model, config) -> None:
        super().check(model, config)
        for key in config.model.unused or ():
            value, own = getattr(config, key), getattr(config.model, f"native_{key}", "")
            if value != own:
                raise WrongKey(key, value, f"{config.model.id} has no use for it (model.unused)", f"leave it at {own!r}")

    @classmethod
    def check_img2img(cls, model, config) -> None:
        raise InputError("model.command: a command draws from a prompt alone, it cannot start from a picture; use a model of diffusers")

    @classmethod
    def check_here(cls, folder) -> None:
        from synth.images.external.open import check_command

        check_command(folder)

    @classmethod
    def open(cls, stage, run: Mapping[str, object]) -> None:
        from synth.images.external.open import open_command

        stage.painter = open_command(stage.folder)

    @classmethod
    def promises(cls, model: ModelConfig) -> bool:
        return model.deterministic
