"""A command in the place of a model: whether what it needs is on this machine, told in one message with what brings it."""

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

from synth.errors import InputError
from synth.images.config import ModelConfig
from synth.images.external.settings import PIPELINE

IMAGES = (".sif",)  # words that are files of this machine: Apptainer's images


def check_there(model: ModelConfig) -> None:
    """InputError that names all that is missing of `model`: its command, images that it starts, and files below model.path."""
    missing = [*_of_command(model), *_of_files(model)]
    if missing:
        raise InputError(f"model {model.id or PIPELINE}: {'; '.join(missing)}")


def _of_command(model: ModelConfig) -> Iterator[str]:
    """Of presets, whose program is made on this machine. Another one may lie in the image or on the nodes where it runs."""
    if not model.setup:
        return
    how, words = f", made by: {model.setup}", model.command or ()
    if not words:
        yield f"model.command is not set; it starts a program in an environment of its own{how}"
    for number, word in enumerate(words):
        is_path = word.endswith(IMAGES) or (not number and os.sep in word)
        if is_path and not Path(word).expanduser().exists():
            yield f"model.command: {word} is not there{how}"
    if words and os.sep not in words[0] and shutil.which(words[0]) is None:
        yield f"model.command: {words[0]} is not installed here{how}"


def _of_files(model: ModelConfig) -> Iterator[str]:
    if not model.files:
        return
    how = f", fetched by: {model.fetch.replace('DIR', model.path or 'DIR')}" if model.fetch else ""
    if model.path is None:
        yield f"model.path is not set; it must name the folder of its weights{how}"
        return
    folder = Path(model.path).expanduser()
    lacking = [name for name in model.files if not _is_whole(folder / name)]
    if lacking:
        yield f"model.path: {folder} lacks {', '.join(lacking)}{how}"


def _is_whole(file: Path) -> bool:
    return file.is_file() and file.stat().st_size > 0
