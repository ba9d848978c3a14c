"""Captions made of templates, word lists and dictionaries: no model is asked.

The n-th caption of a class takes the n-th item of the class's own order of templates or places, so none comes twice before
all were used. `capacity` is how many different captions of a class there are.
"""

import re
from functools import lru_cache

from synth import seeds
from synth.captions.config import ClassEntry, DatasetConfig, PromptsConfig
from synth.captions.prompts import Prompt, Sources
from synth.captions.prompts.classes import balance
from synth.errors import InputError

_VOWEL = re.compile(r"(?!eu|one\b|once\b|u[bcfghjkmnqrst][aeiou]|uni)[aeiou]", re.IGNORECASE)  # an apple, a unicycle
_SPELT = re.compile(r"[FHLMNRSX][A-Z]*(?=[/\d-])")  # said letter by letter: an F-16, an MD-90
SLOTS_FOR_CLASS = ("{}", "[concept]")  # what a template may hold for the class name


class _Plain:
    """Takes one of a fixed list of items a caption."""

    mode: str
    items: tuple[str, ...]

    def __init__(self, dataset: DatasetConfig, prompts: PromptsConfig, sources: Sources):
        self.dataset, self.prompts = dataset, prompts
        self.balance = balance(dataset, prompts)
        self.items = self._items(sources)
        self._order = lru_cache(maxsize=4096)(self._draw_order)

    def _items(self, sources: Sources) -> tuple[str, ...]:
        raise NotImplementedError

    def _text(self, entry: ClassEntry, item: str) -> str:
        raise NotImplementedError

    @property
    def capacity(self) -> int:
        return len(self.items)

    def _draw_order(self, seed: int, index: int) -> tuple[int, ...]:
        rng = seeds.generator(seeds.derive(seed, "captions", "items", index))
        return tuple(int(i) for i in rng.permutation(len(self.items)))

    def prompt(self, seed: int, slot: int, attempt: int) -> Prompt:
        turn = self.balance.turn(seed, slot)
        entry = turn.entry
        item = self.items[self._order(seed, entry.index)[turn.nth % len(self.items)]]
        sample_seed = seeds.derive(seed, "captions", turn.key, attempt)
        return Prompt(turn.key, self._text(entry, item), entry.name, entry.index, self.mode, sample_seed, attempt, entry.said)


class ClassName(_Plain):
    """Prompt maker `class_name`: prompts.templates, with {} or [concept] for the class."""

    mode = "template"

    def _items(self, sources: Sources) -> tuple[str, ...]:
        templates = tuple(dict.fromkeys(" ".join(t.split()) for t in self.prompts.templates))
        if not templates:
            raise InputError('prompts.templates: holds no template; write one at least, such as ["a photo of a {}"]')
        for template in templates:
            if sum(template.count(mark) for mark in SLOTS_FOR_CLASS) != 1:
                raise InputError(f"prompts.templates: {template!r} must hold {{}} (or [concept]) for the class once")
        return templates

    def _text(self, entry: ClassEntry, item: str) -> str:
        phrase = self.dataset.phrase(entry)
        if self.dataset.kind == "texture":
            phrase += " texture"  # "a photo of a dotted" says nothing
        head, _, tail = item.partition(next(mark for mark in SLOTS_FOR_CLASS if mark in item))
        if (_VOWEL.match(phrase) or _SPELT.match(phrase)) and re.search(r"\b[aA] $", head):
            head = f"{head[:-1]}n "
        return head + phrase + tail


class _Sensible(_Plain):
    """Says something of each class that the plan looked up: prompts.senses."""

    def _sense(self, entry: ClassEntry) -> str:
        return " ".join(self.prompts.senses[str(entry.index)].split())

    def _check_senses(self, what: str) -> None:
        lacking = [c.name for c in self.dataset.classes if not self.prompts.senses.get(str(c.index), "").strip()]
        if lacking:
            raise InputError(f"prompts.maker={self.prompts.maker}: no {what} for {lacking[0]!r} (and {len(lacking) - 1} more classes)")


class FakeIt(_Sensible):
    """Prompt maker `fake_it`: "class, hypernym inside place" (Sariyildiz et al. 2023, arXiv 2212.08420)."""

    mode = "hypernym_background"

    def _items(self, sources: Sources) -> tuple[str, ...]:
        self._check_senses("hypernym")
        places = sources.table("places")
        if not isinstance(places, list) or not places or not all(isinstance(p, str) and p.strip() for p in places):
            raise InputError("places: needs a list of names of places, one at least")
        return tuple(dict.fromkeys(" ".join(p.split()) for p in places))

    def _text(self, entry: ClassEntry, item: str) -> str:
        return f"{self.dataset.phrase(entry)}, {self._sense(entry)} inside {item}"


class FakeDefinition(_Sensible):
    """Prompt maker `fake_definition`: "class, definition"; one caption a class."""

    mode = "definition"

    def _items(self, sources: Sources) -> tuple[str, ...]:
        self._check_senses("definition")
        return ("",)

    def _text(self, entry: ClassEntry, item: str) -> str:
        return f"{self.dataset.phrase(entry)}, {self._sense(entry)}"
