"""What people would write below a scene of several objects: the things with their number, and where they are. Pure."""

from collections import Counter

import numpy as np

from synth.embedded.pictures.grammar import AS_OBJECT, article, background_phrase
from synth.embedded.pictures.render import Scene

PLURALS = {"strawberry": "strawberries", "cactus": "cacti", "fish": "fish", "bus": "buses"}
NUMBERS = ("no", "one", "two", "three", "four", "five", "six", "seven")
MANY = 4  # and more of a kind are "a group of"


def things(scene: Scene) -> str:
    """'two apples, a car and an umbrella', in the order in which they stand from left to right."""
    order = sorted(scene.items, key=lambda i: i.place[0])
    counts = Counter(i.cls for i in order)
    named = [article(c) if n == 1 else f"{'a group of' if n > MANY else NUMBERS[n]} {plural(c)}" for c, n in counts.items()]
    return " and ".join([", ".join(named[:-1]), named[-1]] if len(named) > 1 else named)


def plural(cls: str) -> str:
    return PLURALS.get(cls, f"{cls}s")


def captions(scene: Scene, rng: np.random.Generator) -> list[str]:
    """Five captions, all of them true: two name the things and the place, three the place alone.

    A small model that reads the names of things paints more of them wherever there is room.
    """
    where, name = [background_phrase(scene.background, rng) for _ in range(4)], scene.background
    texts = [f"a picture {where[0]}", f"a view of {AS_OBJECT.get(name) or article('plain ' + name)}", where[1]]
    if scene.items:
        what = things(scene)
        texts[:0] = [f"{what} {where[2]}", f"{where[3]}, {what}"]
    else:
        texts[:0] = [f"nothing {where[2]}", f"{where[3]}, no things at all"]
    return [text[0].upper() + text[1:] + "." for text in texts]
