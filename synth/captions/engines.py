"""Caption engines by name: requests in, texts out, a random stream a request."""

import importlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

from synth.errors import InputError
from synth.kinds import config_of
from synth.store.folder import StageFolder

ENGINES = {
    "llama": "synth.captions.llama.adapter:from_stage",
    "hf": "synth.captions.hf.engine:from_stage",
    "openai": "synth.captions.remote.engine:from_stage",
    "served": "synth.captions.remote.served:from_stage",
    "none": "synth.captions.echo:from_stage",
}
NOT_DETERMINISTIC = ("openai", "served")  # a unit made twice may differ, and that is no error
WITHOUT_DEVICE = ("openai", "none")  # their workers compute nothing: they take no GPU
TOO_LONG = "prompt_too_long"  # the reason of a request that leaves no room in captioner.max_seq_len
REFUSED_BY_SERVER = "refused_by_server"  # the reason of a request that a server answers with errors, and it alone; `text` says which


@dataclass(frozen=True)
class Request:
    """What an engine is asked: a chat engine sends `messages`, or one user message that holds `text`; the others continue `text`."""

    text: str  # the whole request as one plain prompt to be continued
    messages: tuple[tuple[str, str], ...] = ()  # (role, content) of a chat: system | user | assistant
    seed: int = 0  # 64 bits; all draws of the completion come from it
    pictures: tuple[str, ...] = ()  # of chats with a server: data URLs, shown before the last message's text


class Completion(Protocol):
    text: str
    ended: bool  # by the model or a stop text; False: captioner.max_gen_len cut it off
    error: str | None  # why this request has no text, e.g. "prompt_too_long"


@dataclass(frozen=True)
class Reply:
    """A completion and nothing else."""

    text: str
    error: str = ""
    ended: bool = True


Generate = Callable[[Sequence[Request]], Sequence[Completion]]  # one a request, in order
# What becomes of requests that ended, by number: those that are asked next
More = Callable[[Sequence[tuple[int, Completion]]], Sequence[Request]]
# Numbers requests as they come, gives `more` the completions of those that ended and serves what it returns as well, to the end
Serve = Callable[[Sequence[Request], More], None]


class Engine(Protocol):
    """May also have usage() -> dict: what this process spent so far (requests, tokens, price), for events/; and serve: Serve, where
    it can take in requests while it computes others."""

    def check(self) -> None: ...

    def start(self) -> None: ...

    def generate(self, requests: Sequence[Request]) -> Sequence[Completion]: ...  # one a request, in order

    def close(self) -> None: ...


def make(folder: StageFolder) -> Engine:
    """The engine that a captions stage asks for, not started."""
    name = config_of(folder).captioner.engine
    if name not in ENGINES:
        raise InputError(f"captioner.engine={name!r}: unknown; known: {', '.join(sorted(ENGINES))}")
    module, function = ENGINES[name].split(":")
    return getattr(importlib.import_module(module), function)(folder)


def stops(stop: Sequence[str], chat: bool) -> tuple[str, ...]:
    """The stop texts of a request. Line breaks end a text that is continued; a chat's answer may begin with one, or with thoughts."""
    return tuple(s for s in stop if s.strip()) if chat else tuple(stop)


def cut(text: str, stop: Sequence[str]) -> str:
    """The text before the first of the stop texts.

    >>> cut("one => two\\nthree", ["\\n", " => "])
    'one'
    """
    return text[: min((at for s in stop if (at := text.find(s)) >= 0), default=len(text))]


def check_texts(requests: Sequence[Request]) -> None:
    """InputError where a request is not Unicode text: no tokenizer and no server takes a lone surrogate."""
    for i, request in enumerate(requests):
        for text in (request.text, *(content for _, content in request.messages)):
            if any("\ud800" <= c <= "\udfff" for c in text):
                raise InputError(f"prompt {i} is not Unicode text (a lone surrogate in {text[:80]!r}): mend its source's encoding")
