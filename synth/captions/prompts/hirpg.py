"""Hierarchical recurrent prompt generation, GenCL's "ours" (arXiv 2403.10853): metaprompts, then prompts below each of them.

Each request shows what was written before and asks for something else. In the static form texts hold [concept] and are written
once for all classes; in the dynamic form they are written for each class. Three stages:

    metaprompts   the given metaprompts and more of them, one after the other   a dialogue a dataset (static) or class (dynamic)
    prompt_trees  prompts below a metaprompt                                    a dialogue a metaprompt
    captions      all metaprompts and a draw of the prompts, without repetitions, for every class; no model

The given metaprompts are our own.
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache

from synth import seeds
from synth.captions.config import ClassEntry, DatasetConfig, PromptsConfig
from synth.captions.normalise import normalised
from synth.captions.prompts import Prompt, Sources
from synth.captions.prompts.classes import balance
from synth.captions.prompts.gencl import CONCEPT
from synth.captions.prompts.modes import HEADINGS
from synth.captions.prompts.shots import few_shot

GIVEN = (
    f"A photo of one {CONCEPT} in daylight.",
    f"A flat drawing of one {CONCEPT} with clean outlines.",
    f"One {CONCEPT} sketched in charcoal, dark against white.",
)
SYSTEM = "You write prompts for a model that makes pictures of text."
STAND_IN = "zorbel"  # small models do not write brackets; no language has this noun, so nothing is taken for it
_STAND_IN = re.compile(rf"\b{STAND_IN}(?=s?\b)", re.IGNORECASE)
META_WORDS = 10  # asked of a metaprompt
CONTEXT = 2  # other metaprompts shown with the one that a tree grows from


@dataclass(frozen=True)
class Subject:
    """What texts are written about: all classes at once (static), or one of them."""

    key: int  # official index; -1 = all of them
    word: str  # as texts say it, which each of them must hold


def subjects(dataset: DatasetConfig, prompts: PromptsConfig) -> tuple[Subject, ...]:
    if prompts.form == "static":
        return (Subject(-1, CONCEPT),)
    return tuple(Subject(c.index, dataset.phrase(c)) for c in dataset.classes)


def given(subject: Subject, texts: Sequence[str] = GIVEN) -> list[str]:
    """Metaprompts that need not be asked for."""
    return [t.replace(CONCEPT, subject.word) for t in texts]


def messages(subject: Subject, earlier: Sequence[str], words: int) -> tuple[tuple[str, str], ...]:
    """The request for one more text, with all that was written before."""
    lines = [
        f"Write one prompt for a realistic picture of {subject.word}.",
        "Choose another scene, viewpoint, light, style or palette than the prompts below; do not repeat any of them.",
        *(f"prompt: {text}" for text in earlier),
        f'Use one sentence of fewer than {words} words that holds "{subject.word}".',
        "Answer with one line: prompt: <the sentence>",
    ]
    return (("system", SYSTEM), ("user", "\n".join(lines)))


def plain_text(subject: Subject, earlier: Sequence[str]) -> str:
    """The same for a model that continues texts, with what was written before as examples; a made-up noun for [concept]."""
    text = few_shot(HEADINGS["class"], ((subject.word, text) for text in earlier), subject.word)
    return text.replace(CONCEPT, STAND_IN)


def with_concept(text: str) -> str:
    """An answer with [concept] in place of the made-up noun."""
    return _STAND_IN.sub(CONCEPT, text)


def subject_trees(dataset: DatasetConfig, prompts: PromptsConfig) -> list[tuple[Subject, int]]:
    """Every (subject, number of the metaprompt), in the order of their slots."""
    return [(subject, n) for subject in subjects(dataset, prompts) for n in range(prompts.num_metaprompts)]


def said_before(text: str, earlier: Iterable[str]) -> bool:
    return normalised(text) in {normalised(e) for e in earlier}


def context(seed: int, subject: Subject, metaprompts: Sequence[str], which: int) -> list[str]:
    """What a tree starts from: two other metaprompts, drawn, then its own."""
    others = [i for i in range(len(metaprompts)) if i != which]
    rng = seeds.generator(seeds.derive(seed, "prompt_trees", subject.key, which, "context"))
    drawn = rng.choice(len(others), min(CONTEXT, len(others)), replace=False) if others else ()
    return [*(metaprompts[others[int(i)]] for i in drawn), metaprompts[which]]


def final_texts(seed: int, key: int, metaprompts: Sequence[str], prompts: Sequence[str], limit: int) -> list[str]:
    """All metaprompts, then drawn prompts until there are `limit`; nothing twice, in the sense of `normalised`."""
    rng = seeds.generator(seeds.derive(seed, "captions", "drawn", key))
    drawn = [prompts[int(i)] for i in rng.permutation(len(prompts))]
    kept: dict[str, str] = {}
    for text in [*metaprompts, *drawn]:
        kept.setdefault(normalised(text), text)
    return list(kept.values())[:limit]


class Hirpg:
    """Prompt maker `hirpg`: the captions of the finished trees (upstream role "prompts"). The n-th caption of a class is the
    n-th text; a class for which there are too few leaves slots empty."""

    def __init__(self, dataset: DatasetConfig, prompts: PromptsConfig, sources: Sources):
        self.dataset, self.prompts = dataset, prompts
        self.balance = balance(dataset, prompts)
        self.static = prompts.form == "static"
        self.trees = trees_of(record for _, record in sources.records("prompts") if not isinstance(record, str))
        self._texts = lru_cache(maxsize=None)(self._final)

    def _final(self, seed: int, key: int) -> list[str]:
        trees = self.trees.get(key, {})
        below = [text for _, texts in trees.values() for text in texts]
        return final_texts(seed, key, [metaprompt for metaprompt, _ in trees.values()], below, self.prompts.max_prompts)

    def prompt(self, seed: int, slot: int, attempt: int) -> Prompt:
        turn = self.balance.turn(seed, slot)
        entry = turn.entry
        texts = self._texts(seed, -1 if self.static else entry.index)
        sample_seed = seeds.derive(seed, "captions", turn.key, attempt)
        error = "" if turn.nth < len(texts) else "too_few_prompts"
        text = "" if error else self._about(entry, texts[turn.nth])
        mode = f"hirpg_{self.prompts.form}"
        return Prompt(turn.key, text, entry.name, entry.index, mode, sample_seed, attempt, entry.said, error=error)

    def _about(self, entry: ClassEntry, text: str) -> str:
        return text.replace(CONCEPT, self.dataset.phrase(entry)) if self.static else text


def trees_of(records: Iterable[Mapping]) -> dict[int, dict[int, tuple[str, list[str]]]]:
    """subject -> number of the tree -> (its metaprompt, the prompts below it). A tree's first record is its metaprompt."""
    by_subject: dict[int, dict[int, tuple[str, list[str]]]] = {}
    for record in records:
        trees = by_subject.setdefault(record["subject"], {})
        if record["kind"] == "metaprompt":
            trees[record["tree"]] = (record["text"], [])
        else:
            trees[record["tree"]][1].append(record["text"])
    return by_subject
