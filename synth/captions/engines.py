"""Caption engines by name: requests in, texts out, a random stream a request."""

import importlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from synth.errors import InputError
from synth.store.folder import StageFolder

ENGINES = {
    "llama": "synth.captions.llama.adapter:from_stage",
    "none": "synth.captions.echo:from_stage",
}
NOT_DETERMINISTIC = ()  # a unit made twice may differ, and that is no error


@dataclass(frozen=True)
class Request:
    """What an engine is asked: a chat engine sends `messages`, or one user message of `text`; the others continue `text`."""

    text: str  # the whole request as one plain prompt to be continued
    messages: tuple[tuple[str, str], ...] = ()  # (role, content) of a chat: system | user | assistant
    seed: int = 0  # 64 bits; all draws of the completion come from it


class Completion(Protocol):
    text: str
    error: str | None  # why this request has no text, e.g. "prompt_too_long"


@dataclass(frozen=True)
class Reply:
    """A completion and nothing else."""

    text: str
    error: str = ""


class Engine(Protocol):
    def check(self) -> None: ...

    def start(self) -> None: ...

    def generate(self, requests: Sequence[Request]) -> Sequence[Completion]: ...  # one a request, in order

    def close(self) -> None: ...


def make(folder: StageFolder) -> Engine:
    """The engine that a captions stage asks for, not started."""
    name = folder.config.captioner.engine
    if name not in ENGINES:
        msg = f"captioner.engine={name!r}: unknown; known: {', '.join(sorted(ENGINES))}"
        raise InputError(msg)
    module, function = ENGINES[name].split(":")
    return getattr(importlib.import_module(module), function)(folder)
