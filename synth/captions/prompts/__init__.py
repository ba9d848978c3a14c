"""Prompt makers: pure functions of (dataset, seed, slot, attempt), found by name."""

import importlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Protocol

from synth.config import DatasetConfig, PromptsConfig
from synth.errors import InputError

MAKERS = {"synclr": "synth.captions.prompts.synclr:Synclr"}


@dataclass(frozen=True)
class Prompt:
    """One request to a caption engine."""

    slot_key: int  # stable name of the slot, see synth.seeds
    text: str
    class_name: str
    label: int  # official index of the class
    mode: str
    seed: int  # 64 bits; the engine's draws come from it
    attempt: int


class PromptMaker(Protocol):
    tables: tuple[str, ...]  # the input files it reads: "examples", "backgrounds"

    def prompt(self, seed: int, slot: int, attempt: int) -> Prompt: ...


def make(dataset: DatasetConfig, prompts: PromptsConfig, table: Callable[[str], Mapping]) -> PromptMaker:
    """The maker that `prompts` names. `table(role)` yields a parsed JSON input."""
    if prompts.maker not in MAKERS:
        msg = f"prompts.maker={prompts.maker!r}: unknown; known: {', '.join(sorted(MAKERS))}"
        raise InputError(msg)
    module, name = MAKERS[prompts.maker].split(":")
    return getattr(importlib.import_module(module), name)(dataset, prompts, table)
