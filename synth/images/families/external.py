"""What can be known of a command beforehand: it takes any size and prompt, and starts from no picture."""

from synth.errors import InputError
from synth.images.families.base import Family


class External(Family):
    schedulers = frozenset()  # the command's own affair
    halves_in_one_call = False
    embeds = False

    @classmethod
    def check_img2img(cls, model, config) -> None:
        raise InputError("model.command: a command draws from a prompt alone, it cannot start from a picture; use a model of diffusers")
