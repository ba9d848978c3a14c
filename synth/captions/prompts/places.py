"""Places in which a class may be seen, asked of a model for synclr_chat: the request, and its answer read."""

import re
from collections.abc import Iterable

from synth.captions.checks import unfit
from synth.captions.normalise import normalised

SYSTEM = "You know where things are found. Answer with the list alone."
LONGEST = 6  # words of a place
ENOUGH = 0.5  # share of the places asked for from which an answer is taken
_HEADING = "Name places in which the given object may be seen."
_EXAMPLES = (
    ("bicycle", "park path, city street, garage, mountain trail, bike rack, canal bank, market square, farm road"),
    ("teapot", "kitchen counter, garden table, tea house, windowsill, picnic blanket, antique shop, breakfast tray, stove"),
    ("owl", "old barn, pine forest, church tower, moonlit field, hollow oak, snowy fence post, rocky ledge, ruined wall"),
)
_QUOTED = re.compile(r"\"((?:[^\"\\\n]|\\.)+)\"|'((?:[^'\\\n]|\\.)+)'")
_MARK = re.compile(r"^(\d{1,3}[.):]\s*|[-*\u2022]\s*)")


def messages(phrase: str, wanted: int, known: Iterable[str] = ()) -> tuple[tuple[str, str], ...]:
    """The request for `wanted` places, other than the known ones."""
    but = f" Leave these out: {', '.join(known)}." if known else ""
    asked = (
        f"Name {wanted} different places or surroundings in which {phrase} may well be seen, each in one to four words.{but} "
        'Write them as one list in brackets: ["...", "..."]'
    )
    return (("system", SYSTEM), ("user", asked))


def plain_text(phrase: str) -> str:
    return "\n\n".join([_HEADING, *(f"{name} => {places}" for name, places in _EXAMPLES), f"{phrase} =>"])


def places_in(text: str) -> list[str]:
    """The places of an answer: of a list in brackets, numbered lines, or a line with commas.

    >>> places_in('Sure: ["Quiet lake", "barn"]')
    ['quiet lake', 'barn']
    >>> places_in('1. a barn\\n2. lake')
    ['a barn', 'lake']
    """
    start, stop = text.find("["), text.rfind("]")
    inner = text[start + 1 : stop] if 0 <= start < stop else text
    quoted = [re.sub(r"\\(.)", r"\1", a or b) for a, b in _QUOTED.findall(inner)]
    lines = [line for line in inner.split("\n") if line.strip()]
    items = quoted or (lines if len(lines) > 1 and "," not in lines[0] else inner.replace("\n", ",").split(","))
    places: dict[str, str] = {}
    for item in items:
        place = _MARK.sub("", item.strip()).strip(" .;:'\"*`[]").casefold()
        place = " ".join(place.split())
        if place and len(place.split()) <= LONGEST and not unfit(place) and any(c.isalpha() for c in place):
            places.setdefault(normalised(place), place)
    return list(places.values())
