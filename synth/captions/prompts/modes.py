"""What a caption is asked to show besides its class: modes, their shares, places and relations.

Modes: class, class_background, class_relation for objects; texture for textures. Shares are config (prompts.modes).
"""

from collections.abc import Mapping

import numpy as np

from synth import seeds
from synth.captions.config import ClassEntry, DatasetConfig
from synth.errors import InputError

HEADINGS = {
    "class": "Describe a picture of the given object.",
    "class_background": "Describe a picture of the given object in the given place.",
    "class_relation": "Describe a picture of the given object with the given relation.",
    "texture": "Describe a picture of the given texture.",
}
RELATIONS = ("in", "on", "next to", "behind", "in front of", "over", "under", "above", "below", "beside")
SECOND = {"class_background": "background", "class_relation": "relation"}  # mode -> the example's second key


class Modes:
    """Shares of modes, and the second word of a query."""

    def __init__(self, dataset: DatasetConfig, shares: Mapping[str, float]):
        self.shares = _shares(dataset, shares)

    def of(self, seed: int, slot_key: int) -> str:
        """The mode of a slot, whatever the attempt: so redraws keep the shares."""
        pick = seeds.generator(seeds.derive(seed, "captions", slot_key, "mode")).random()
        total = 0.0
        for mode, share in self.shares.items():
            total += share
            if pick < total:
                return mode
        return mode  # the shares sum to a little less than 1


def _shares(dataset: DatasetConfig, modes: Mapping[str, float]) -> dict[str, float]:
    if dataset.kind == "texture":
        return {"texture": 1.0}
    unknown = sorted(set(modes) - set(HEADINGS))
    total = sum(modes.values())
    if unknown or not total > 0 or min(modes.values()) < 0:
        raise InputError(f"prompts.modes={dict(modes)}: shares of {', '.join(HEADINGS)}, none negative, not all zero")
    return {mode: share / total for mode, share in sorted(modes.items()) if share > 0}


def places_of(entry: ClassEntry, backgrounds: Mapping[str, list]) -> list[str]:
    """The places of a class: its own, its super-class's, or those of "*"."""
    for key in (entry.name, entry.superclass, "*"):
        if backgrounds.get(key):
            return backgrounds[key]
    raise InputError(f"backgrounds: no list for class {entry.name!r}, its super-class {entry.superclass!r} or '*'")


def second_word(mode: str, places: list[str], rng: np.random.Generator) -> str:
    """The place or relation of a query; "" for modes that have none."""
    if mode == "class_background":
        return places[rng.integers(len(places))]
    return RELATIONS[rng.integers(len(RELATIONS))] if mode == "class_relation" else ""
