"""Captions of scenes with one object, in a small grammar of our own: class, size, position, background.

What a caption leaves unsaid has one meaning (no size = medium, no position = centre), so that the text fixes the
picture up to the drawing and the background's tint. Everything random comes from the Generator that is passed in.
"""

from dataclasses import dataclass

import numpy as np

from . import backgrounds
from .render import Item, Scene, classes, drawings

RELATIONS = ("in", "on", "next to", "behind", "in front of", "over", "under", "above", "below", "beside")
SIZE_WORDS = {"small": ("small", "tiny", "little"), "medium": ("",), "large": ("large", "big", "huge")}
POSITION_WORDS = {
    "left": ("on the left", "on the left side", "to the left"),
    "centre": ("", "", "", "in the middle"),
    "right": ("on the right", "on the right side", "to the right"),
}
ADJECTIVES = ("lovely", "neat", "pretty", "bright", "cheerful", "simple", "shiny", "charming", "clean", "lively")
VERBS = ("", "", "", "", "shown", "seen", "placed", "resting")
OPENERS = ("a picture of", "a drawing of", "an image of", "an illustration of", "a view of")

_IN_PLACE = {  # every phrase holds the background's own name
    "beach": ("on a beach", "on a sandy beach", "at the beach"),
    "meadow": ("in a meadow", "in a green meadow", "in a grassy meadow"),
    "snow": ("in the snow", "in deep snow", "on fresh white snow"),
    "night sky": ("under a night sky", "in a dark night sky", "under a starry night sky"),
    "sunset": ("at sunset", "in front of a sunset", "in a glowing sunset"),
    "wooden table": ("on a wooden table", "on a brown wooden table", "on top of a wooden table"),
    "lake": ("on a lake", "on a blue lake", "at a calm lake"),
    "city street": ("on a city street", "on a busy city street", "on a grey city street"),
    "desert": ("in a desert", "in a hot desert", "in a dry desert"),
    "forest": ("in a forest", "in a dark forest", "in a green forest"),
}
AS_OBJECT = {  # after a relation word
    "beach": "a sandy beach",
    "meadow": "a green meadow",
    "snow": "the snow",
    "night sky": "a night sky",
    "sunset": "a sunset",
    "wooden table": "a wooden table",
    "lake": "a blue lake",
    "city street": "a city street",
    "desert": "a desert",
    "forest": "a forest",
}


@dataclass(frozen=True)
class Captioned:
    """A scene, its caption, and what the caption says of it."""

    scene: Scene
    caption: str
    says_size: bool
    says_position: bool


def article(words: str) -> str:
    """'a apple' is wrong: `article('apple')` is 'an apple'."""
    return f"{'an' if words[:1].lower() in 'aeiou' else 'a'} {words}"


def _pick(rng: np.random.Generator, words):
    return words[int(rng.integers(len(words)))]


def background_phrase(background: str, rng: np.random.Generator) -> str:
    """'on a sandy beach', 'on a plain red background', or 'in a kitchen' for a place the pictures do not have."""
    if background in _IN_PLACE:
        return _pick(rng, _IN_PLACE[background])
    if background in backgrounds.NAMES:
        return _pick(rng, (f"on {article(background)}", f"on a plain {background}", f"against {article(background)}"))
    return _pick(rng, (f"in {article(background)}", f"in the {background}", f"at the {background}"))


def relation_phrase(relation: str, background: str) -> str:
    """'next to a green meadow'."""
    return f"{relation} {AS_OBJECT.get(background) or article(background)}"


def sentence(cls: str, where: str, size: str, position: str, rng: np.random.Generator) -> str:
    """One caption. The class name stands verbatim, after a space, never first: a small language model can copy it."""
    adjective = _pick(rng, ADJECTIVES) if rng.random() < 0.25 else ""
    words = " ".join(w for w in (_pick(rng, SIZE_WORDS[size]), adjective, cls) if w)
    noun, at, verb = article(words), _pick(rng, POSITION_WORDS[position]), _pick(rng, VERBS)
    frame = int(rng.integers(6))
    if frame <= 1:  # A small frog in a meadow, on the left.
        text = f"{noun} {verb} {where}" + (f", {at}" if at else "")
    elif frame <= 3:  # A picture of a small frog in a meadow, on the left.
        text = f"{_pick(rng, OPENERS)} {noun} {verb} {where}" + (f", {at}" if at else "")
    elif frame == 4:  # In a meadow, a small frog on the left.
        text = f"{where}, {noun} {verb if at else ''} {at}"
    else:  # A small frog on the left in a meadow.
        text = f"{noun} {verb if at else ''} {at} {where}"
    text = " ".join(text.split()).replace(" ,", ",")
    return text[0].upper() + text[1:] + "."


def sample(rng: np.random.Generator, cls: str | None = None, background: str | None = None, held_out: bool = False) -> Captioned:
    """A random scene of one object with its caption; size, position, drawing, background drawn evenly."""
    cls = cls or _pick(rng, classes())
    background = background or _pick(rng, backgrounds.NAMES)
    size = _pick(rng, ("small", "medium", "large"))
    position = "centre" if size == "large" else _pick(rng, ("left", "centre", "right"))
    lift = 0.0 if size == "large" else float(_pick(rng, (-0.125, 0.0)))
    item = Item(cls, int(rng.integers(len(drawings(cls, held_out)))), size, position, lift, held_out=held_out)
    scene = Scene(background, (item,), int(rng.integers(2**31)))
    where = background_phrase(background, rng)
    if rng.random() < 0.1:
        where = relation_phrase(_pick(rng, RELATIONS), background)
    text = sentence(cls, where, size, position, rng)
    return Captioned(scene, text, size != "medium", position != "centre")
