"""In-context prompts: a heading, examples, and a query left open, for models that continue a text.

Describe a picture of the given object in the given place.

cat, meadow => A small cat sits on the left of a green meadow.

...

rocket, desert =>
"""

from collections.abc import Iterable, Mapping

import numpy as np

from synth.captions.prompts.modes import HEADINGS, SECOND
from synth.errors import InputError


class Shots:
    """The examples of a dataset, by mode, checked."""

    def __init__(self, table: Mapping, modes: Iterable[str], shots: int):
        self.shots = shots
        self.examples = _checked(table, tuple(modes), shots)

    def draw(self, mode: str, rng: np.random.Generator) -> list[tuple[str, str]]:
        """(key, caption) of different examples of a mode."""
        examples = self.examples[mode]
        chosen = [examples[i] for i in rng.choice(len(examples), self.shots, replace=False)]
        return [(_key(e, mode), e["caption"]) for e in chosen]

    def text(self, mode: str, drawn: Iterable[tuple[str, str]], phrase: str, second: str = "") -> str:
        """The prompt: heading, examples, query."""
        return few_shot(HEADINGS[mode], drawn, f"{phrase}, {second}" if second else phrase)


def few_shot(heading: str, examples: Iterable[tuple[str, str]], query: str) -> str:
    """heading, `key => text` lines and the open query, an empty line between them."""
    return "\n\n".join([heading, *(f"{key} => {text}" for key, text in examples), f"{query} =>"])


def _key(example: Mapping[str, str], mode: str) -> str:
    first = example["class"]
    return f"{first}, {example[SECOND[mode]]}" if mode in SECOND else first


def _checked(table: Mapping, modes: tuple[str, ...], shots: int) -> Mapping[str, list]:
    for mode in modes:
        examples = table.get(mode)
        if not isinstance(examples, list) or len(examples) < shots:
            n = len(examples) if isinstance(examples, list) else 0
            raise InputError(f"examples: mode {mode!r} needs at least {shots} examples, a list of objects; found {n}")
        wanted = {"class", "caption"} | ({SECOND[mode]} if mode in SECOND else set())
        for n, example in enumerate(examples):
            if not isinstance(example, Mapping) or not wanted <= set(example) or "\n" in "".join(map(str, example.values())):
                raise InputError(f"examples: {mode}[{n}] needs the one-line texts {sorted(wanted)}, it is {example!r}")
    return table
