"""In-context documents to train the caption model on: heading, three examples, and a fourth line to complete.

Class names are the 20 of `pictures`, emoji names, names like "Boeing 707-320", and mostly random pseudo-words, so that
the model has to copy a name rather than know it. Half of the example lines are the prose of examples.json (never a
target), the others and every target come from the grammar. Only targets are learned: what stands after `=>` in lines
of the grammar.
"""

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from synth.embedded.pictures import backgrounds, grammar
from synth.embedded.pictures.render import FOLDER, classes

HEADINGS = {
    "class": "Describe a picture of the given object.",
    "class_background": "Describe a picture of the given object in the given place.",
    "class_relation": "Describe a picture of the given object with the given relation.",
    "texture": "Describe a picture of the given texture.",
}
MODES = ("class",) * 8 + ("class_background",) * 5 + ("class_relation",) * 2 + ("texture",)  # shares in 16ths
ONSETS = [
    "b", "bl", "br", "c", "ch", "cl", "cr", "d", "dr", "f", "fl", "fr", "g", "gl", "gr", "h", "j", "k", "kl", "kr", "l", "m", "n", "p",
    "ph", "pl", "pr", "qu", "r", "s", "sc", "sh", "sk", "sl", "sm", "sn", "sp", "st", "str", "sw", "t", "th", "tr", "tw", "v", "w", "wh",
    "x", "y", "z",
]  # fmt: skip
VOWELS = ["a", "a", "a", "e", "e", "e", "i", "i", "o", "o", "u", "ai", "au", "ea", "ee", "ia", "ie", "oa", "oi", "oo", "ou", "ue", "y"]
CODAS = [
    "b", "ch", "ck", "d", "f", "g", "k", "l", "ll", "m", "n", "n", "nd", "ng", "nt", "p", "r", "r", "rd", "rk", "s", "s", "sh", "sk",
    "ss", "st", "t", "t", "th", "x", "z",
] + [""] * 24  # fmt: skip
COLOURS = tuple(backgrounds.PLAIN)
LETTERS = "abcdefghijklmnopqrstuvwxyz"
TEXTURE_FRAMES = (
    "A close view of {} surface.",
    "A picture of {} pattern in {} and {}.",
    "A picture of {} texture.",
    "A view of {} surface in {} and {}.",
    "An image of {} pattern.",
    "A close view of {} texture in soft light.",
)


@dataclass(frozen=True)
class Line:
    query: str
    caption: str
    learned: bool


def _pick(rng: np.random.Generator, items):
    """rng.choice on a list builds an array each time, twenty times slower."""
    return items[int(rng.random() * len(items))]


def pseudo_word(rng: np.random.Generator) -> str:
    """'blarnee', 'tosk': one to four random syllables; now and then random letters, so that any spelling is copied."""
    if rng.random() < 0.12:
        return "".join(_pick(rng, LETTERS) for _ in range(int(rng.integers(2, 10))))
    return "".join(
        _pick(rng, ONSETS) * (i == 0 or rng.random() < 0.85) + _pick(rng, VOWELS) + _pick(rng, CODAS)
        for i in range(_pick(rng, (1, 1, 2, 2, 2, 2, 3, 3, 3, 4)))
    )


def _code(rng: np.random.Generator) -> str:
    """'707-320', 'A340', 'DC-10', '2012', 'F-16A': the numbers in names of cars and aircraft."""
    number, other = (str(int(10 ** (4 * rng.random()))) for _ in range(2))
    letters = "".join(_pick(rng, LETTERS) for _ in range(int(rng.integers(1, 4)))).upper()
    years = [str(1950 + int(80 * rng.random())) for _ in range(2)]
    joined = [f"{number}-{other}", f"{letters}{number}", f"{letters}-{number}", letters, f"{letters}-{number}{letters[0]}"]
    return _pick(rng, [number, *joined, *years])


def pseudo_name(rng: np.random.Generator, nouns: list[str]) -> str:
    """One to six words: pseudo-words, real nouns, capitals, hyphens, apostrophes, model numbers."""
    words = []
    for _ in range(_pick(rng, (1,) * 12 + (2,) * 10 + (3,) * 5 + (4,) * 3 + (5,) * 2 + (6,))):
        draw = rng.random()
        word = _pick(rng, nouns) if draw < 0.2 else _code(rng) if draw < 0.38 else pseudo_word(rng)
        style = rng.random()
        if style < 0.18:
            word = word[0].upper() + word[1:]
        elif style < 0.21:
            word = word.upper()
        elif style < 0.24:
            word = f"{word}-{pseudo_word(rng)}"
        elif style < 0.255:
            word = f"{word}'s"
        elif style < 0.265:
            at = int(rng.integers(len(word)))
            word = word[:at] + _pick(rng, "éèêñüöäçåøíó") + word[at:]
        elif style < 0.27:
            word = f"{word}{_pick(rng, ('/', '.', ' & ', ' of '))}{pseudo_word(rng)}"
        words.append(word)
    if rng.random() < 0.06:  # years and the like repeat digits, which a copying model loses its place in
        words[-1:] = [words[-1], str(1980 + int(45 * rng.random()))]
    return " ".join(words)


class Corpus:
    """Endless documents. `nouns` are extra real names (emoji names); none of `without` is ever used as a name."""

    def __init__(self, nouns: list[str], without: frozenset[str] = frozenset()):
        self.names = [n for n in nouns if n.lower() not in without and n not in classes()]
        self.words = sorted({w for n in self.names for w in n.split() if len(w) > 2})
        self.without = without
        self.examples = json.loads((FOLDER / "examples.json").read_text())

    def name(self, rng: np.random.Generator) -> str:
        draw = rng.random()
        if draw < 0.36:
            return _pick(rng, classes())
        if draw < 0.48:
            return _pick(rng, self.names)
        while True:
            name = pseudo_name(rng, self.words)
            if name.lower() not in self.without and (len(name) <= 24 or rng.random() < 0.3):
                return name

    def line(self, rng: np.random.Generator, mode: str, learned_only: bool) -> Line:
        if not learned_only and rng.random() < 0.45:
            e = _pick(rng, self.examples[mode])
            second = e.get("background") or e.get("relation")
            return Line(f"{e['class']}, {second}" if second else e["class"], e["caption"], False)
        name = self.name(rng)
        if mode == "texture":
            colours = _pick(rng, COLOURS), _pick(rng, COLOURS)
            text = _pick(rng, TEXTURE_FRAMES).format(grammar.article(name), *colours)
            return Line(name, text, True)
        place = _pick(rng, backgrounds.NAMES)
        if mode == "class_background" and rng.random() < 0.3:
            place = pseudo_word(rng) if rng.random() < 0.6 else _pick(rng, self.names)
        size = _pick(rng, ("small", "medium", "large"))
        position = "centre" if size == "large" else _pick(rng, ("left", "centre", "right"))
        if mode == "class_relation":
            relation = _pick(rng, grammar.RELATIONS)
            where, query = grammar.relation_phrase(relation, place), f"{name}, {relation}"
        else:
            where = grammar.background_phrase(place, rng)
            query = f"{name}, {place}" if mode == "class_background" else name
        return Line(query, grammar.sentence(name, where, size, position, rng), True)

    def document(self, rng: np.random.Generator) -> tuple[str, list[Line]]:
        """(heading, lines): half have three examples as the prompts do, the others fewer, which teaches copying faster."""
        mode = _pick(rng, MODES)
        shots = 3 if rng.random() < 0.5 else int(rng.integers(3))
        return HEADINGS[mode], [self.line(rng, mode, False) for _ in range(shots)] + [self.line(rng, mode, True)]


def emoji_names(icons: Path) -> list[str]:
    """Names of up to three words from a package's icons.json: 'red-apple' is 'red apple'."""
    names = {n.replace("-", " ") for n in json.loads(icons.read_text())["icons"]}
    return sorted(n for n in names if 1 <= len(n.split()) <= 3 and "skin tone" not in n and not n.startswith("flag"))
