"""SynCLR's in-context prompts (Tian et al. 2023, arXiv 2312.17742): a heading, three examples, and the query left open.

    Describe a picture of the given object in the given place.

    cat, meadow => A small cat sits on the left of a green meadow.

    ...

    rocket, desert =>

Modes: class, class_background, class_relation for objects; texture for textures. Their shares are config
(prompts.modes). Headings, examples, backgrounds and relations are our own.
"""

from collections.abc import Callable, Mapping

import numpy as np

from synth import seeds
from synth.captions.prompts import Prompt
from synth.captions.prompts.classes import ExactBalance
from synth.config import ClassEntry, DatasetConfig, PromptsConfig
from synth.errors import InputError

HEADINGS = {
    "class": "Describe a picture of the given object.",
    "class_background": "Describe a picture of the given object in the given place.",
    "class_relation": "Describe a picture of the given object with the given relation.",
    "texture": "Describe a picture of the given texture.",
}
RELATIONS = ("in", "on", "next to", "behind", "in front of", "over", "under", "above", "below", "beside")
SECOND = {"class_background": "background", "class_relation": "relation"}  # mode -> the example's second key


class Synclr:
    """Prompt maker `synclr`. Everything is drawn from the slot's own stream; the mode from the slot alone, so that
    redrawn attempts keep the shares of the modes."""

    tables = ("examples", "backgrounds")

    def __init__(self, dataset: DatasetConfig, prompts: PromptsConfig, table: Callable[[str], Mapping]):
        self.dataset, self.shots = dataset, prompts.shots
        self.modes = self._shares(prompts.modes)
        self.examples = _checked_examples(table("examples"), tuple(self.modes), prompts.shots)
        self.backgrounds = table("backgrounds") if "class_background" in self.modes else {}
        self.classes = ExactBalance(dataset)
        for entry in dataset.classes if "class_background" in self.modes else ():
            self._places(entry)

    def _shares(self, modes: Mapping[str, float]) -> dict[str, float]:
        if self.dataset.kind == "texture":
            return {"texture": 1.0}
        unknown = sorted(set(modes) - set(HEADINGS))
        total = sum(modes.values())
        if unknown or not total > 0 or min(modes.values()) < 0:
            msg = f"prompts.modes={dict(modes)}: shares of {', '.join(HEADINGS)}, none negative, not all zero"
            raise InputError(msg)
        return {mode: share / total for mode, share in sorted(modes.items()) if share > 0}

    def _places(self, entry: ClassEntry) -> list[str]:
        for key in (entry.name, entry.superclass, "*"):
            if self.backgrounds.get(key):
                return self.backgrounds[key]
        msg = f"backgrounds: no list for class {entry.name!r}, its super-class {entry.superclass!r} or '*'"
        raise InputError(msg)

    def prompt(self, seed: int, slot: int, attempt: int) -> Prompt:
        """The prompt of a slot; at most `max_attempts` different ones are asked for it."""
        entry, slot_key = self.classes.at(seed, slot)
        pick = seeds.generator(seeds.derive(seed, "captions", slot_key, "mode")).random()
        mode = _inverse_cdf(self.modes, pick)
        sample_seed = seeds.derive(seed, "captions", slot_key, attempt)
        rng = seeds.generator(seeds.derive(sample_seed, "prompt"))
        examples = self.examples[mode]
        chosen = [examples[i] for i in rng.choice(len(examples), self.shots, replace=False)]
        query = self._query(entry, mode, rng)
        lines = [HEADINGS[mode], *(f"{_key(e, mode)} => {e['caption']}" for e in chosen), f"{query} =>"]
        return Prompt(slot_key, "\n\n".join(lines), entry.name, entry.index, mode, sample_seed, attempt)

    def _query(self, entry: ClassEntry, mode: str, rng: np.random.Generator) -> str:
        name = self.dataset.phrase(entry)
        if mode == "class_background":
            places = self._places(entry)
            return f"{name}, {places[rng.integers(len(places))]}"
        if mode == "class_relation":
            return f"{name}, {RELATIONS[rng.integers(len(RELATIONS))]}"
        return name


def _key(example: Mapping[str, str], mode: str) -> str:
    first = example["class"]
    return f"{first}, {example[SECOND[mode]]}" if mode in SECOND else first


def _inverse_cdf(shares: Mapping[str, float], u: float) -> str:
    total = 0.0
    for mode, share in shares.items():
        total += share
        if u < total:
            return mode
    return mode


def _checked_examples(table: Mapping, modes: tuple[str, ...], shots: int) -> Mapping[str, list]:
    for mode in modes:
        examples = table.get(mode)
        if not isinstance(examples, list) or len(examples) < shots:
            msg = f"examples: mode {mode!r} needs at least {shots} examples, a list of objects; found {len(examples or ())}"
            raise InputError(msg)
        wanted = {"class", "caption"} | ({SECOND[mode]} if mode in SECOND else set())
        for n, example in enumerate(examples):
            if not isinstance(example, Mapping) or not wanted <= set(example) or "\n" in "".join(map(str, example.values())):
                msg = f"examples: {mode}[{n}] needs the one-line texts {sorted(wanted)}, it is {example!r}"
                raise InputError(msg)
    return table
