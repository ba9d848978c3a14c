"""Caption engines by name: prompts and seeds in, texts out, a random stream a caption."""

import importlib
from collections.abc import Sequence
from typing import Protocol

from synth.errors import InputError
from synth.store.folder import StageFolder

ENGINES = {"llama": "synth.captions.llama.adapter:from_stage"}


class Completion(Protocol):
    text: str
    error: str | None  # why this request has no text, e.g. "prompt_too_long"


class Engine(Protocol):
    def check(self) -> None: ...

    def start(self) -> None: ...

    def generate(self, prompts: Sequence[str], seeds: Sequence[int]) -> Sequence[Completion]: ...

    def close(self) -> None: ...


def make(folder: StageFolder) -> Engine:
    """The engine that a captions stage asks for, not started."""
    name = folder.config.captioner.engine
    if name not in ENGINES:
        msg = f"captioner.engine={name!r}: unknown; known: {', '.join(sorted(ENGINES))}"
        raise InputError(msg)
    module, function = ENGINES[name].split(":")
    return getattr(importlib.import_module(module), function)(folder)
