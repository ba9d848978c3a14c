"""The parts of a judgement, computed: each a function of the sets that gives plain JSON. A number is {"value"} with "low" and "high" (95 %)
where it has an interval, and "n", the pictures that it is of; one that cannot be had is {"value": null, "why"}.
"""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from synth.images.decode import decode_whole
from synth.judge import probes
from synth.judge.config import JudgeConfig
from synth.judge.numbers import alike, answers, balls, intervals, moments, texts
from synth.judge.numbers import pictures as looks
from synth.judge.numbers.rows import Unmeasurable
from synth.judge.parts import BLOCKS, CLASSES, DUPLICATES, LEAKS, PICTURES, PROBE, ROUND, SET, Part
from synth.judge.sets import PictureSet, Sets, captions_of, training_rows

DIGITS = 6  # significant ones of a number that is stored
EXAMPLES = 12  # pairs of duplicates and leaks that are kept

Number = dict[str, Any]


@dataclass(frozen=True)
class Measured:
    """facts: the JSON of a part. rows: of a probe [M, 4] float32, one a test picture in slot order: its class, the answer of the linear
    probe, the probability of that, the answer of the neighbours."""

    facts: dict[str, Any]
    rows: np.ndarray | None = None


def measure(part: Part, sets: Sets, config: JudgeConfig) -> Measured:
    return _PARTS[part.kind](part, sets, config)


def rounded(value: float) -> float | None:
    """A number as it is stored; None for one that is not finite."""
    return float(f"{value:.{DIGITS}g}") if math.isfinite(value) else None


def _number(compute: Callable[[], float]) -> Number:
    try:
        return {"value": rounded(float(compute()))}
    except Unmeasurable as e:
        return {"value": None, "why": str(e)}


def mean(compute: Callable[[], np.ndarray]) -> Number:
    """The mean of one value a picture, with its interval."""
    try:
        found = intervals.interval(compute(), seed=0)
    except Unmeasurable as e:
        return {"value": None, "why": str(e)}
    return {"value": rounded(found.value), "low": rounded(found.low), "high": rounded(found.high), "n": found.n}


# -- a set, as a whole and by class ----------------------------------------------------------------------------------


def _set(part: Part, sets: Sets, config: JudgeConfig) -> Measured:
    numbers = _inner(sets.made, np.arange(len(sets.made)), sets) | _beside(sets.made.features, sets.real, None, config)
    if sets.real is not None:
        real = sets.real
        numbers |= {"frechet": _number(lambda: moments.frechet(real.features, sets.made.features))}
    told = {name: _told(name, there, sets) for name, there in sets.named.items()}
    return Measured({"class_names": list(sets.class_names), "sets": told, "numbers": numbers})


def _told(name: str, there: PictureSet, sets: Sets) -> dict[str, Any]:
    return {
        "pictures": len(there),
        "without_class": int((there.labels < 0).sum()),
        "left_out": dict(sorted(there.left_out.items())),
        "other_classes": list(sets.matching.others.get(name, ())),
        **_balance(there.labels[there.labels >= 0], len(sets.class_names)),
    }


def _balance(labels: np.ndarray, n_classes: int) -> dict[str, Any]:
    if not len(labels):
        return {"fewest": 0, "most": 0, "balance": None}
    found = texts.class_balance(labels, n_classes)
    return {"fewest": found.smallest, "most": found.largest, "balance": rounded(found.evenness)}


def _inner(made: PictureSet, rows: np.ndarray, sets: Sets) -> dict[str, Number]:
    """Numbers of some of the judged pictures alone."""
    features = made.features[rows]
    numbers = {"vendi": _number(lambda: moments.vendi(features)), "similarity": _number(lambda: moments.mean_similarity(features))}
    if made.captions is not None:
        told = np.isfinite(made.captions[rows]).all(1)
        captions = made.captions[rows[told]]
        numbers["clip_score"] = mean(lambda: answers.clip_scores(features[told], captions))
    if made.class_texts is not None and len(made.class_texts):
        known = rows[made.labels[rows] >= 0]
        numbers["zero_shot"] = mean(lambda: _zero_shot(made, known))
    return numbers


def _zero_shot(made: PictureSet, rows: np.ndarray) -> np.ndarray:
    """[n] bool: whether the most similar class text of each picture is that of its class."""
    assert made.class_texts is not None
    return answers.zero_shot_labels(made.features[rows], made.class_texts) == made.labels[rows]


def _beside(made: np.ndarray, real: PictureSet | None, number: int | None, config: JudgeConfig) -> dict[str, Number]:
    """Numbers of judged pictures beside the real ones, or those of a class."""
    if real is None:
        return {}
    theirs = real.features if number is None else real.features[real.of_class(number)]
    found: dict[str, Number] = {"cmmd": _number(lambda: moments.cmmd(theirs, made))}
    try:
        around = balls.balls(theirs, made, config.neighbours)
    except Unmeasurable as e:
        why = {"value": None, "why": str(e)}
        return found | dict.fromkeys(("precision", "recall", "density", "coverage", "clipped_density", "clipped_coverage"), why)
    found |= {
        "precision": mean(lambda: around.around > 0),
        "recall": mean(lambda: around.reached),
        "density": _number(lambda: around.around.mean() / around.k),  # its pictures share neighbourhoods: a bootstrap is far too narrow
        "coverage": mean(lambda: around.inside > 0),
    }
    density, coverage = balls.clipped_of(around)
    return found | {"clipped_density": {"value": rounded(density)}, "clipped_coverage": {"value": rounded(coverage)}}


def _classes(part: Part, sets: Sets, config: JudgeConfig) -> Measured:
    facts = []
    for number in range(part.number, len(sets.class_names), BLOCKS):
        rows = sets.made.of_class(number)
        of_class = {name: len(there.of_class(number)) for name, there in sets.named.items()}
        numbers = _inner(sets.made, rows, sets) | _beside(sets.made.features[rows], sets.real, number, config)
        facts.append({"class": number, "pictures": of_class, "numbers": numbers})
    return Measured({"classes": facts})


# -- pictures that are alike -----------------------------------------------------------------------------------------


def _duplicates(part: Part, sets: Sets, config: JudgeConfig) -> Measured:
    made = sets.made
    labels = np.where(made.own < 0, made.own.max(initial=0) + 1, made.own)  # classes that no other set has are classes, too
    found = alike.duplicates(made.features, labels, config.duplicate, EXAMPLES)
    pairs = {
        name: [[int(made.slots[a]), int(made.slots[b]), rounded(s)] for a, b, s in examples]
        for name, examples in (("within", found.examples_within), ("between", found.examples_between))
    }
    return Measured(
        {
            "within": found.within,
            "between": found.between,
            "repeats": found.repeats,
            "of": len(made),
            "from": config.duplicate,
            "examples": pairs,
        }
    )


def _leaks(part: Part, sets: Sets, config: JudgeConfig) -> Measured:
    made, test = sets.made, sets.test
    assert test is not None  # or there is no such part
    found = alike.leaks(made.features, test.features, config.leak)
    order = np.lexsort((made.slots, -found.similarity))
    there = [n for n in order[:EXAMPLES] if found.similarity[n] >= config.leak]
    examples = [[int(made.slots[n]), int(test.slots[found.nearest[n]]), rounded(found.similarity[n])] for n in there]
    facts = {
        "pictures": round(found.share * len(made)),
        "of": len(made),
        "from": config.leak,
        "nearest": {"median": rounded(np.median(found.similarity)), "highest": rounded(found.similarity.max())},
        "examples": examples,
    }
    return Measured(facts)


# -- pictures and captions as such -----------------------------------------------------------------------------------


def _pictures(part: Part, sets: Sets, config: JudgeConfig) -> Measured:
    made = sets.made
    most = min(config.pictures, len(made))
    rows = np.arange(most) * len(made) // max(1, most)
    found = list(_looked_at(made, made.slots[rows]))
    facts: dict[str, Any] = {"looked_at": most, "undecodable": most - len(found)}
    if found:
        facts |= {"blank": sum(f.blank for f in found), "clipped": rounded(np.mean([f.clipped for f in found]))}
        facts |= {"sharpness": rounded(np.median([f.sharpness for f in found]))}
    captions = list(captions_of(made, made.slots[rows]))
    return Measured(facts | ({"captions": _captions(captions)} if captions else {}))


def _looked_at(made: PictureSet, slots: Sequence[int]) -> Iterator[Any]:
    for slot in slots:
        decoded = decode_whole(made.file(int(slot)))
        if decoded.pixels is not None:
            yield looks.image_statistics(decoded.pixels)


def _captions(captions: Sequence[str]) -> dict[str, Any]:
    found = texts.caption_statistics(captions)
    facts = {"captions": found.captions, "words": rounded(found.words), "shortest": found.shortest, "longest": found.longest}
    grams = {f"distinct_{n}_grams": rounded(share) for n, share in enumerate(found.distinct, 1) if share is not None}
    return facts | {"repeats": found.repeats} | grams


# -- probes ----------------------------------------------------------------------------------------------------------


def _probe(part: Part, sets: Sets, config: JudgeConfig) -> Measured:
    test = sets.test
    assert test is not None  # or there is no such part
    n_classes = len(sets.class_names)
    tested = np.flatnonzero(test.labels >= 0)
    x, labels = _training(part, sets, config)
    told = {"trained_on": part.trained_on, "seed": config.seeds[part.number], "rows": len(x), "tested": len(tested)}
    if not len(tested) or not len(x):
        lacks = "the test set" if len(x) else "what it would be trained on"
        return Measured(told | {"why": f"{lacks} has no picture of a class that all sets have"})
    truth, asked = test.labels[tested], test.features[tested]
    try:
        linear = probes.linear_probe(x, labels, asked, n_classes)
        near = probes.knn(x, labels, asked, n_classes, min(config.votes, len(x)))
    except Unmeasurable as e:
        return Measured(told | {"why": str(e)})
    facts = {
        "accuracy": rounded(answers.accuracy(linear, truth)),
        "knn": rounded(answers.accuracy(near, truth)),
        "calibration_error": rounded(answers.calibration_error(linear, truth)),
    }
    columns = truth, linear.argmax(1), linear.max(1), near.argmax(1)
    return Measured(told | facts, np.stack(columns, 1).astype(np.float32))


def _round(part: Part, sets: Sets, config: JudgeConfig) -> Measured:
    """A probe that is trained on all pictures of the rounds up to one, as many as each class has."""
    made, test = sets.made, sets.test
    assert test is not None  # or there is no such part
    tested = np.flatnonzero(test.labels >= 0)
    rows = np.flatnonzero((made.labels >= 0) & (made.slots < sum(config.rounds[: part.number + 1])))
    accuracy: Number = {"value": None, "why": "there is no picture of a class that all sets have"}
    if len(rows) and len(tested):
        accuracy = mean(lambda: _right(made.features[rows], made.labels[rows], test.features[tested], test.labels[tested], sets))
    return Measured({"pictures": len(rows), "accuracy": accuracy})


def _right(x: np.ndarray, labels: np.ndarray, asked: np.ndarray, truth: np.ndarray, sets: Sets) -> np.ndarray:
    return answers.correct(probes.linear_probe(x, labels, asked, len(sets.class_names)), truth)


def _training(part: Part, sets: Sets, config: JudgeConfig) -> tuple[np.ndarray, np.ndarray]:
    """(features [N, D], labels [N]) that a probe is trained on: as many judged as real pictures of each class, or both of them."""
    rows = training_rows(sets, part.trained_on, config.per_class, config.seeds[part.number])
    return np.concatenate([there.features[r] for there, r in rows]), np.concatenate([there.labels[r] for there, r in rows])


_PARTS: Mapping[str, Callable[[Part, Sets, JudgeConfig], Measured]] = {
    SET: _set,
    DUPLICATES: _duplicates,
    LEAKS: _leaks,
    PICTURES: _pictures,
    CLASSES: _classes,
    PROBE: _probe,
    ROUND: _round,
}
