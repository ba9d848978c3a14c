"""Classes of several sets, matched by name: composed letters, without case, `_` for blanks. Pure."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from synth.captions.normalise import looked_up
from synth.errors import InputError
from synth.terminal import printable

NAMED = 5  # classes that a message names


@dataclass(frozen=True)
class Matching:
    """classes: names that all sets have, as the first set writes and orders them. numbers: set -> for each of its classes its number
    among them, -1 for one that another set does not have. others: set -> names of those."""

    classes: tuple[str, ...]
    numbers: Mapping[str, tuple[int, ...]]
    others: Mapping[str, tuple[str, ...]]


def matched(sets: Mapping[str, Sequence[str]]) -> Matching:
    """Of class names by set; sets without classes are left out. InputError where no class is in all of them.

    A name that one of the sets has twice is nobody's: which is meant cannot be told.

    >>> matched({"made": ["Sea lion", "cat"], "test": ["cat", "sea_lion", "dog"]}).numbers["test"]
    (1, 0, -1)
    """
    spelled = {name: [looked_up(c) for c in classes] for name, classes in sets.items() if classes}
    if not spelled:
        return Matching((), {}, {})
    once = [{c for c, n in Counter(classes).items() if n == 1} for classes in spelled.values()]
    common = set.intersection(*once)
    first = next(iter(spelled))
    if not common:
        raise InputError(
            "; ".join(_told(name, sets[name]) for name in spelled) + ": no class is in all of these sets; give them the same names"
        )
    order = {c: n for n, c in enumerate(c for c in spelled[first] if c in common)}
    names = tuple(name for name, c in zip(sets[first], spelled[first], strict=True) if c in common)
    numbers = {name: tuple(order.get(c, -1) for c in classes) for name, classes in spelled.items()}
    others = {name: tuple(c for c, n in zip(sets[name], numbers[name], strict=True) if n < 0) for name in spelled}
    return Matching(names, numbers, others)


def _told(name: str, classes: Sequence[str]) -> str:
    return f"judge: the {name} set has {named(classes)}"


def named(classes: Sequence[str]) -> str:
    """The first ones of some classes."""
    more = f" and {len(classes) - NAMED:,} more" if len(classes) > NAMED else ""
    return f"{', '.join(repr(printable(c, 60)) for c in classes[:NAMED])}{more}"
