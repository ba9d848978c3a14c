"""Words of a caption in any script: how many there are, and whether they name a class."""

import math
import re
import unicodedata
from functools import lru_cache

_PUNCTUATION = ".,;:!?\u2026\"'()[]\u3001\u3002\uff0c\uff01\uff1f\u201c\u201d"
_APOSTROPHES = "\u2018\u2019\u201b\u02bc\u02b9\u2032\u00b4`"
_HYPHENS = "-\u2010\u2011\u2012\u2013\u2014\u2212\u00ad_"
_ALIKE = str.maketrans(_APOSTROPHES + _HYPHENS, "'" * len(_APOSTROPHES) + " " * len(_HYPHENS))
# scripts that put no blanks between words: how many characters a word has there
_TWO = "\u3005-\u3007\u3040-\u30ff\u31f0-\u31ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0003ffff"  # Chinese, Japanese
_FOUR = "\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff"  # Thai, Lao, Burmese, Khmer
_UNSPACED = re.compile(f"[{_TWO}{_FOUR}]")
_RUNS = ((re.compile(f"[{_TWO}]"), 2), (re.compile(f"[{_FOUR}]"), 4))
_LETTER = f"[^\\W{_TWO}{_FOUR}]"
_HANGUL, _ARABIC = re.compile("[\u1100-\u11ff\uac00-\ud7a3]"), re.compile("[\u0620-\u064a]")
_IRREGULAR = {
    "man": "men", "foot": "feet", "tooth": "teeth", "goose": "geese", "mouse": "mice", "louse": "lice", "child": "children", "ox": "oxen",
    "person": "people", "die": "dice", "cactus": "cacti", "fungus": "fungi", "wolf": "wolves", "knife": "knives", "leaf": "leaves",
    "calf": "calves", "half": "halves", "shelf": "shelves", "loaf": "loaves", "scarf": "scarves", "hoof": "hooves", "elf": "elves",
    "wife": "wives", "thief": "thieves", "life": "lives", "self": "selves",
}  # fmt: skip
_IRREGULAR_ENDS = tuple(_IRREGULAR.items()) + tuple((many, one) for one, many in _IRREGULAR.items())
_COMPOUND = ("man", "men", "foot", "feet", "tooth", "teeth", "knife", "knives", "wolf", "wolves")  # as in fireman, werewolf


def count(text: str) -> int:
    """Words; where a script puts no blanks between them, as many as its characters make on average.

    >>> count("a cat on a mat"), count("\u4e00\u53ea\u732b\u5728\u57ab\u5b50\u4e0a")
    (5, 4)
    """
    if text.isascii():
        return len(text.split())
    n = sum(math.ceil(len(characters.findall(text)) / size) for characters, size in _RUNS)
    return n + len(_UNSPACED.sub(" ", text).split())


def tokens(text: str) -> list[str]:
    """The words as they are compared: case folded, without the punctuation around them; of scripts without blanks each character.

    >>> tokens("A cat, on a mat.")
    ['a', 'cat', 'on', 'a', 'mat']
    """
    spaced = text if text.isascii() else _UNSPACED.sub(r" \g<0> ", text)
    return [bare for word in spaced.casefold().split() if (bare := word.strip(_PUNCTUATION))]


def repeats(text: str) -> bool:
    """Whether a text goes round in circles: one character 20 times, up to eight words four times, one behind the other; in scripts without
    blanks up to eight characters, eight at least in all."""
    if _ROUND.search(text):
        return True
    words = [word.strip(".,;:!?\u2026") for word in text.casefold().split()]
    return _circles(words, 3) or (not text.isascii() and _circles(_UNSPACED.findall(text), 7))


_ROUND = re.compile(r"(\S)\1{19}")


def _circles(items: list[str], least: int) -> bool:
    """Whether up to eight items come four times in a row, with `least` of them or more behind the first turn."""
    for size in range(1, 9):
        same = 0
        for i in range(size, len(items)):
            same = same + 1 if items[i] == items[i - size] else 0
            if same >= max(3 * size, least):
                return True
    return False


def names_class(caption: str, name: str) -> bool:
    """Whether a caption names a class: as a word or phrase, whatever its case, accents, apostrophes and hyphens, in singular or plural."""
    pattern = _pattern(name)
    return pattern is not None and pattern.search(_fold(caption)) is not None


@lru_cache(maxsize=1 << 16)
def _pattern(name: str) -> re.Pattern | None:
    folded = _fold(name)
    if not folded:
        return None
    # a word ends where a script begins that puts no blanks between words; Korean writes particles onto a noun, Arabic its article
    before = "" if _UNSPACED.match(folded[0]) else rf"(?<!{_LETTER})"
    after = "" if _UNSPACED.match(folded[-1]) or _HANGUL.match(folded[-1]) else rf"(?!{_LETTER})"
    if _ARABIC.match(folded[0]):
        before += "(?:[\u0648\u0628\u0644\u0643]?\u0627\u0644)?"
    head, blank, last = folded.rpartition(" ")
    return re.compile(f"{before}{re.escape(head + blank)}(?:{'|'.join(map(re.escape, _forms(last)))}){after}")


def _forms(word: str) -> list[str]:
    """A word, its plurals, and what it may be the plural of."""
    forms = [word, f"{word}s", f"{word}es"]
    if word.endswith("y"):
        forms.append(f"{word[:-1]}ies")
    if len(word) > 4 and word.endswith("ies"):
        forms.append(f"{word[:-3]}y")
    if len(word) > 3 and word.endswith("s") and not word.endswith(("ss", "us", "is")):
        forms.append(word[:-1])
        if word.endswith(("ses", "xes", "zes", "ches", "shes", "oes")) and not word.endswith("sses"):  # glasses are no glass
            forms.append(word[:-2])
    forms += [word[: -len(end)] + other for end, other in _IRREGULAR_ENDS if word == end or (end in _COMPOUND and word.endswith(end))]
    return sorted(set(forms), key=lambda form: (-len(form), form))


def _fold(text: str) -> str:
    """Text without case, accents of Latin letters and kinds of blanks, apostrophes and hyphens."""
    text = text.translate(_ALIKE)
    if not text.isascii():
        text = unicodedata.normalize("NFKC", "".join(_bare(c) for c in unicodedata.normalize("NFKC", text)))
    return " ".join(text.casefold().split())


def _bare(c: str) -> str:
    if c.isascii():
        return c
    parts = unicodedata.normalize("NFD", c)
    if not parts[0].isascii():  # marks of other scripts tell letters apart
        return c
    return "".join(p for p in parts if unicodedata.category(p) != "Mn")
