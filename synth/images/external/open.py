"""From a stage folder to its command."""

import shutil

from synth.errors import InputError
from synth.host.environment import check_set
from synth.images.external.painter import CommandPainter
from synth.images.external.settings import Patience, filled
from synth.images.models import model_inputs
from synth.kinds import config_of


def check_command(folder) -> None:
    """InputError where the command is not on this machine, or a secret that it is to be given is not set."""
    check_set("model.pass_env", folder.spec.settings.get("pass_env", ()))
    word = filled(config_of(folder).model.command, model_inputs(folder))[0]
    if shutil.which(word) is None:
        raise InputError(f"model.command: {word} is not found here; give its full path, or activate its environment (cluster.setup)")


def open_command(folder) -> CommandPainter:
    """Ready to draw a stage's pictures; the command is started by the first batch."""
    words = filled(config_of(folder).model.command, model_inputs(folder))
    settings = folder.spec.settings
    return CommandPainter(words, config_of(folder), Patience.of(settings), folder.path / "logs", tuple(settings.get("pass_env", ())))
