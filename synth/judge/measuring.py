"""The parts of a judgement, computed: each a function of the sets that gives plain JSON. A number is {"value"} with "low" and "high" (95 %)
where it has an interval, and "n", the pictures that it is of; one that cannot be had is {"value": null, "why"}.
"""

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from synth.images.decode import decode_whole
from synth.judge import probes
from synth.judge.config import JudgeConfig
from synth.judge.near import EXAMPLES, Near
from synth.judge.numbers import answers, balls, intervals, moments, texts
from synth.judge.numbers import pictures as looks
from synth.judge.numbers.alike import squared_of
from synth.judge.numbers.rows import Unmeasurable
from synth.judge.parts import BALLS, BLOCKS, CLASSES, MADE, PICTURES, PROBE, REAL, ROUND, SET, Part
from synth.judge.sets import PictureSet, Sets, captions_of, training_rows

DIGITS = 6  # significant ones of a number that is stored

Number = dict[str, Any]


@dataclass(frozen=True)
class Measured:
    """facts: the JSON of a part. rows: of a probe [M, 4] float32, one a test picture in slot order: its class, the answer of the linear
    probe, the probability of that, the answer of the neighbours; of balls what `_balls` says."""

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
    numbers = _inner(sets.made, np.arange(len(sets.made)), sets)
    if sets.real is not None:
        real, made = sets.real.features, sets.made.features
        numbers |= {"cmmd": _number(lambda: moments.cmmd(real, made)), "frechet": _number(lambda: moments.frechet(real, made))}
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


def _beside(made: np.ndarray, real: PictureSet | None, number: int, config: JudgeConfig) -> dict[str, Number]:
    """Numbers of judged pictures of a class beside the real ones."""
    if real is None:
        return {}
    theirs = real.features[real.of_class(number)]
    return {
        "cmmd": _number(lambda: moments.cmmd(theirs, made)),
        **ball_numbers(lambda: balls.balls(theirs, made, config.neighbours)),
    }


def ball_numbers(compute: Callable[[], balls.Balls]) -> dict[str, Number]:
    """What is told of balls; the reason where there are none."""
    try:
        around = compute()
    except Unmeasurable as e:
        why = {"value": None, "why": str(e)}
        return dict.fromkeys(("precision", "recall", "density", "coverage", "clipped_density", "clipped_coverage"), why)
    found: dict[str, Number] = {
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


def _balls(part: Part, sets: Sets, config: JudgeConfig) -> Measured:
    """What a block of judged pictures counts among all real ones: facts say how many they are, rows hold the four counts, end to end."""
    assert sets.real is not None and sets.near is not None  # or there is no such part
    rows = sets.made.rows_of(part.pictures)
    made = sets.made.features[rows]
    if not len(made):
        return Measured({"made": 0})
    try:
        own, theirs = sets.near[0].own(MADE), sets.near[1].own(REAL)
        found = balls.counted(sets.real.features, made, theirs.squared[:, -1], own.squared[rows, -1])
    except Unmeasurable as e:
        return Measured({"made": len(made), "why": str(e)})
    return Measured({"made": len(made)}, np.concatenate([found.around, found.clipped, found.inside, found.reached]))


def balls_of(real: Near, parts: Iterable[tuple[Mapping[str, Any], np.ndarray | None]]) -> balls.Balls:
    """The balls that all blocks counted. real: of the real set. Unmeasurable as they say."""
    counted = []
    for facts, rows in parts:
        if "why" in facts:
            raise Unmeasurable(facts["why"])
        if rows is not None:
            m = facts["made"]
            n = (len(rows) - 2 * m) // 2
            around, clipped, inside, reached = np.split(rows, [m, 2 * m, 2 * m + n])
            counted.append(balls.Counted(around, clipped, inside, reached > 0))
    return balls.joined(real.own(REAL), counted)


def duplicates_of(near: Near) -> dict[str, Any]:
    """Judged pictures that are alike."""
    found = near.duplicates()
    examples = {name: [[a, b, rounded(s)] for a, b, s in pairs] for name, pairs in found["examples"].items()}
    return found | {"examples": examples}


def leaks_of(near: Near, made: PictureSet, test: PictureSet, leak: float) -> dict[str, Any]:
    """Judged pictures that are in the test set, too."""
    similarity, row = near.test.similarity[:, 0], near.test.index[:, 0]
    reach = near.test.squared[:, 0] <= squared_of(leak)
    order = np.lexsort((made.slots, -similarity))
    return {
        "pictures": int(reach.sum()),
        "of": len(made),
        "from": leak,
        "nearest": {"median": rounded(np.median(similarity)), "highest": rounded(similarity.max())},
        "examples": [[int(made.slots[n]), int(test.slots[row[n]]), rounded(similarity[n])] for n in order[:EXAMPLES] if reach[n]],
    }


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
    BALLS: _balls,
    PICTURES: _pictures,
    CLASSES: _classes,
    PROBE: _probe,
    ROUND: _round,
}
