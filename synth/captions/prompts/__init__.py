"""Prompt makers: pure functions of (dataset, seed, slot, attempt), found by name."""

import importlib
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from synth.captions.config import DatasetConfig, PromptsConfig
from synth.errors import InputError

_HERE = "synth.captions.prompts"
MAKERS = {
    "synclr": f"{_HERE}.synclr:Synclr",
    "synclr_chat": f"{_HERE}.synclr:SynclrChat",
    "synthclip": f"{_HERE}.synthclip:Synthclip",
    "hirpg": f"{_HERE}.hirpg:Hirpg",
    "class_name": f"{_HERE}.plain:ClassName",
    "fake_it": f"{_HERE}.plain:FakeIt",
    "fake_definition": f"{_HERE}.plain:FakeDefinition",
    "from_file": f"{_HERE}.from_file:FromFile",
}
# their captions are made of what is there
WITHOUT_MODEL = frozenset({"hirpg", "class_name", "fake_it", "fake_definition", "from_file"})
UPSTREAM = {"hirpg": "prompts", "synclr_chat": "backgrounds"}  # the role of the stage that a maker reads


@dataclass(frozen=True)
class Prompt:
    """One request to a caption engine. A maker that needs no model makes captions: `text` is the caption itself."""

    slot_key: int  # stable name of the slot, see synth.seeds
    text: str
    class_name: str
    label: int  # official index of the class
    mode: str
    seed: int  # 64 bits; the engine's draws come from it
    attempt: int
    said: str = ""  # the words for the class that the caption must hold; "" = class_name
    messages: tuple[tuple[str, str], ...] = ()  # of a chat, see synth.captions.engines.Request
    labels: tuple[int, ...] = ()  # from_file: several classes in one caption, `label` the first of them
    label_names: tuple[str, ...] = ()
    error: str = ""  # why there is nothing to ask: the slot becomes a tombstone


class PromptMaker(Protocol):
    def prompt(self, seed: int, slot: int, attempt: int) -> Prompt: ...


@dataclass(frozen=True)
class Sources:
    """What a maker may read."""

    table: Callable[[str], Any]  # role of an input -> its parsed JSON
    path: Callable[[str], str] = str  # role of an input -> the file
    # upstream role -> (slot, record or reason of its tombstone)
    records: Callable[[str], Iterable[tuple[int, Mapping | str]]] = lambda role: ()
    count: Callable[[str], int] = lambda role: 1  # role of an input -> how many files it has

    def files(self, role: str) -> list[str]:
        """The files of a role that may have several, in order."""
        return [self.path(nth(role, n)) for n in range(self.count(role))]


def nth(role: str, n: int) -> str:
    """The role of file n of several: "captions", "captions.1", .."""
    return f"{role}.{n}" if n else role


def make(dataset: DatasetConfig, prompts: PromptsConfig, table: Callable[[str], Any] | Sources) -> PromptMaker:
    """The maker that `prompts` names. `table(role)` yields a parsed JSON input; some makers need more: Sources."""
    if prompts.maker not in MAKERS:
        raise InputError(f"prompts.maker={prompts.maker!r}: unknown; known: {', '.join(sorted(MAKERS))}")
    sources = table if isinstance(table, Sources) else Sources(table)
    module, name = MAKERS[prompts.maker].split(":")
    return getattr(importlib.import_module(module), name)(dataset, prompts, sources)
