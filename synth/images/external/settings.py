"""The command of an external model: its words, and how patiently it is treated. No torch."""

import string
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path

from synth.errors import InputError

MODEL, WORD = "model", "model_command_"  # roles of inputs: {model} in the command; its further words that name files
PIPELINE = "external"  # what stands for the class of a pipeline


@dataclass(frozen=True)
class Patience:
    """Not in any fingerprint."""

    timeout: float  # seconds between two answers
    start_timeout: float  # seconds until the command says hello
    restarts: int  # times in a row that it may die, hang or talk nonsense without drawing a picture in between

    @classmethod
    def of(cls, settings: Mapping) -> "Patience":
        """From a stage's settings."""
        return cls(**{f.name: settings[f.name] for f in fields(cls)})


def check_words(words: Sequence[str], fields: Sequence[str]) -> None:
    """InputError unless there is a command, and every {name} in it is one of `fields`."""
    if not words or not words[0].strip():
        raise InputError("model.command: not set; it must be a list of words: 'model.command=[/envs/glide/bin/python,draw.py]'")
    for word in words:
        try:
            names = {name for _, name, _, _ in string.Formatter().parse(word) if name is not None}
        except ValueError as e:
            raise InputError(f"model.command: {word!r}: {e}; braces that are meant as such are doubled: {{{{ }}}}") from e
        if unknown := sorted(names - set(fields)):
            known = f"there is {{{MODEL}}}" if MODEL in fields else "{model} needs model.path"
            raise InputError(f"model.command: {{{unknown[0]}}} is not known; {known}")


def filled(words: Sequence[str], paths: Mapping[str, Path]) -> list[str]:
    """The words to run: input paths in the place of their {roles}."""
    return [w.format_map({role: str(path) for role, path in paths.items()}) for w in words]
