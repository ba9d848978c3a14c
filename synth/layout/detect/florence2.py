"""Florence-2 as a detector: it is given the tags as a caption ("Locate the phrases in the caption: a red car. dog.") and writes phrases
with boxes. A box belongs to the tag that its phrase says; its score is the geometric mean of the probabilities of its four places."""

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np

from synth.features.model_folder import ModelFolder
from synth.layout.detect.base import BLANK, LONG, NOT_FINITE, Detector, in_rows
from synth.layout.detect.boxes import Candidates, joined, none
from synth.layout.florence2 import CLS, FIX, PLACES, Florence2Model

ASKED = "Locate the phrases in the caption: "
LONGEST = 1023  # tokens of an answer
NO_TAG = "no_tag"  # reason: a phrase that is none of the tags


class Florence2(Detector):
    types = ("florence2",)
    cls, fix = CLS, FIX

    def __init__(self, folder, settings):
        super().__init__(folder, settings)
        self._florence = Florence2Model(folder)

    @classmethod
    def check(cls, path: Path) -> ModelFolder:
        return Florence2Model.check(path)

    def open(self, dtype: str) -> None:
        self._florence.open(dtype)

    def prepare(self, image) -> np.ndarray:
        return self._florence.prepare(image)

    def find(self, pictures, sizes, tags) -> list[Candidates]:
        asked = [self._passes(own) for own in tags]
        rows = [(i, prompt) for i, (prompts, _) in enumerate(asked) for prompt in prompts]
        found = [[none(dropped)] for _, dropped in asked]
        for together in in_rows(rows, lambda row: None, self.settings.rows):
            batch = [rows[n] for n in together]
            answers, chances = self._florence.answer(np.stack([pictures[i] for i, _ in batch]), [p for _, p in batch], LONGEST)
            for (i, _), tokens, likely in zip(batch, answers, chances, strict=True):
                broken = tokens is None
                found[i].append(none(reason=NOT_FINITE) if broken else self._candidates(tokens, likely, tags[i], sizes[i]))
        return [joined(parts) for parts in found]

    def _passes(self, tags: Sequence[str]) -> tuple[list[list[int]], dict[str, int]]:
        """(prompts that hold all tags, as many in each as fit; tags that were left out, by reason)"""
        florence, dropped = self._florence, Counter[str]()
        head, stop = florence.tokens(ASKED.rstrip()), florence.tokens(".")
        prompts: list[list[int]] = []
        for tag in tags:
            own = [*florence.tokens(" " + self.settings.template.replace("{}", tag).strip()), *stop]
            if not plain(tag) or len(head) + len(own) > florence.room:
                dropped[LONG if plain(tag) else BLANK] += 1
            elif prompts and len(prompts[-1]) + len(own) <= florence.room:
                prompts[-1] += own
            else:
                prompts.append([*head, *own])
        return prompts, dict(dropped)

    def _candidates(self, tokens: list[int], likely: list[float], tags: Sequence[str], size: tuple[int, int]) -> Candidates:
        boxes, scores, labels, dropped = [], [], [], Counter[str]()
        for phrase, places, chances in grounded(tokens, likely, self._florence.places, self._florence.words):
            label, score = match(phrase, tags), float(np.exp(np.log(np.maximum(chances, 1e-30)).mean()))
            if label is None:
                dropped[NO_TAG] += 1
            elif score > self.settings.box_threshold:
                boxes.append([(n + 0.5) * edge / PLACES for n, edge in zip(places, (*size, *size), strict=True)])
                scores.append(score)
                labels.append(label)
        return Candidates(np.array(boxes, float).reshape(-1, 4), np.array(scores, float), np.array(labels, int), dropped)


def grounded(
    tokens: Sequence[int], likely: Sequence[float], places: Mapping[int, int], words: Callable[[Sequence[int]], str]
) -> Iterator[tuple[str, list[int], list[float]]]:
    """(phrase, four places, their probabilities) of every whole box of an answer, in its order.

    >>> words = lambda tokens: "".join(map(chr, tokens))
    >>> [*grounded([97, 1, 2, 3, 4, 5, 98, 1], [0.5] * 8, {n: n for n in range(9)}, words)]
    [('a', [1, 2, 3, 4], [0.5, 0.5, 0.5, 0.5])]
    """
    phrase: list[int] = []
    box: list[int] = []
    for n, token in enumerate(tokens):
        if token not in places:
            if n and tokens[n - 1] in places:
                phrase = []
            phrase.append(token)
            box = []
            continue
        box.append(n)
        if len(box) == 4:
            yield words(phrase), [places[tokens[i]] for i in box], [likely[i] for i in box]
            box = []


def match(phrase: str, tags: Sequence[str]) -> int | None:
    """The number of the tag that a phrase says: the same words, else the longest tag that is a part of it, or of which it is one.

    >>> match("Red car.", ["car", "red car"]), match("the dog", ["cat", "dog"]), match("hydrant", ["fire hydrant"]), match("cart", ["car"])
    (1, 1, 0, None)
    """
    said, own = plain(phrase), [plain(tag) for tag in tags]
    if said in own and said:
        return own.index(said)
    inside = [n for n, tag in enumerate(own) if said and tag and (f" {tag} " in f" {said} " or f" {said} " in f" {tag} ")]
    return max(inside, key=lambda n: (len(own[n]), -n)) if inside else None


def plain(text: str) -> str:
    """Its words in small letters.

    >>> plain(" A red-hot  Car. ")
    'a red hot car'
    """
    return " ".join("".join(c if c.isalnum() else " " for c in text.lower()).split())
