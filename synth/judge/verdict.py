"""What judgements say, in a table and in sentences: which point to take, and what cannot be said. Pure."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from synth.judge.caveats import caveats, notes, undrawn
from synth.judge.choice import Accuracy, Choice, choose
from synth.judge.reading import Point, shown

OTHERS = 3  # points that the sentence names beside the one to take
# name of a column -> the number of judge.json, and how it is written
NUMBERS = {
    "clipped coverage": ("clipped_coverage", ".3f"),
    "CMMD": ("cmmd", ".3f"),
    "coverage": ("coverage", ".3f"),
    "precision": ("precision", ".3f"),
    "Frechet": ("frechet", ".4g"),
    "Vendi": ("vendi", ".4g"),
    "CLIP score": ("clip_score", ".3f"),
    "zero-shot": ("zero_shot", ".3f"),
}
PROBES = {"accuracy": "made", "real": "real", "real + made": "both"}
# numbers that order points without a test set, and whether more is better: first those that unequal counts do not move
BY = ("clipped_coverage", True), ("cmmd", False), ("vendi", True)


@dataclass(frozen=True)
class Verdict:
    """points: best first. choice: of them in this order, where there is a test set."""

    points: tuple[Point, ...]
    choice: Choice | None

    def accuracy(self, at: int) -> Accuracy | None:
        return self.choice.accuracies[at] if self.choice else None


def verdict(points: Sequence[Point]) -> Verdict:
    """Of points that were measured alike (synth.judge.reading.comparable)."""
    correct = [p.correct for p in points if p.correct is not None]
    if len(correct) < len(points):
        return Verdict(tuple(sorted(points, key=_worth)), None)
    choice = choose(correct)
    ordered = [points[n] for n in choice.order]
    place = {n: at for at, n in enumerate(choice.order)}
    return Verdict(
        tuple(ordered),
        Choice(tuple(choice.accuracies[n] for n in choice.order), tuple(range(len(ordered))), tuple(place[n] for n in choice.tied)),
    )


def _worth(point: Point) -> tuple:
    values = [(number(point.facts, name), more) for name, more in BY]
    return *((value is None, (-value if more else value) if value is not None else 0.0) for value, more in values), point.label


def number(facts: Mapping, name: str) -> float | None:
    """One of the numbers of judge.json, None where it was not measured."""
    return (facts["numbers"].get(name) or {}).get("value")


def short(value: float) -> str:
    """.712, 1.000

    >>> short(0.7124), short(1.0), short(-0.25)
    ('.712', '1.000', '-.250')
    """
    return f"{value:.3f}".replace("0.", ".", 1) if abs(value) < 0.9995 else f"{value:.3f}"


def rows(found: Verdict) -> list[dict[str, str]]:
    """A row a point: column -> text; columns of which no point knows anything are left out."""
    table = [_row(point, found.accuracy(at)) for at, point in enumerate(found.points)]
    said = [name for name in table[0] if any(row[name] for row in table)] if table else []
    return [{name: row[name] for name in said} for row in table]


def _row(point: Point, accuracy: Accuracy | None) -> dict[str, str]:
    facts, probes = point.facts, point.facts["probes"]
    row = {"point": point.label, "pictures": f"{facts['sets']['made']['pictures']:,}"}
    row["accuracy"] = f"{short(accuracy.value)} +- {short(accuracy.half)}" if accuracy else ""
    row["kNN"] = short(probes["made"]["knn"]["value"]) if "made" in probes else ""
    tuned = probes.get("made", {}).get("finetune", {}).get("value")
    row["fine-tuned"] = "" if tuned is None else short(tuned)
    for name in ("real", "real + made"):
        row[name] = short(probes[PROBES[name]]["accuracy"]["value"]) if PROBES[name] in probes else ""
    for name, (key, form) in NUMBERS.items():
        value = number(facts, key)
        row[name] = "" if value is None else short(value) if form == ".3f" and abs(value) < 1 else format(value, form)
    row["duplicates"] = f"{facts['duplicates']['within'] + facts['duplicates']['between']:,}"
    row["leaks"] = f"{facts['leaks']['pictures']:,}" if facts.get("leaks") else ""
    return row


def sentences(found: Verdict) -> list[str]:
    """What was said of the features; what to take, or why nothing is to be taken; how that was found; what it is not to be taken for."""
    return [*notes(found.points), *_said(found), *caveats(found.points)] if found.points else []


def _said(found: Verdict) -> list[str]:
    first = found.points[0].facts
    if found.choice is None:
        return [_no_choice(found.points) if len(found.points) > 1 else _without(first)]
    how = f"{first['test_rows']:,} test pictures of {len(first['classes']):,} classes, {_draws(found.points)}"
    if len(found.points) == 1:
        return [_alone(found), f"linear probe on features of {first['features']}; {how}"]
    return [_choice(found, found.choice), f"linear probe on features of {first['features']}; paired bootstrap of the same {how}"]


def _draws(points: Sequence[Point]) -> str:
    if any(undrawn(point.facts) for point in points):
        return (
            "all pictures of a set train its probe (no draws: what another set of the kind would give is not in it, judge.per_class=K is)"
        )
    seeds = len(points[0].facts["seeds"])
    return f"{seeds} draw{'' if seeds == 1 else 's'} of the training pictures"


def _no_choice(points: Sequence[Point]) -> str:
    for point in points:
        if why := point.facts["no_probes"].get("made"):
            return f"which point trains best cannot be said: no classifier can be trained on {point.label}: {why}"
    return "which point trains best cannot be said without a test set: judge.test=FOLDER"


def _without(facts: Mapping) -> str:
    if why := facts["no_probes"].get("made"):
        return f"no classifier can be trained on it: {why}"
    lacks = "a test set (judge.test=FOLDER)" + ("" if "real" in facts["sets"] else " or a real set (judge.real=FOLDER)")
    return f"whether it trains a classifier cannot be said without {lacks}"


def _alone(found: Verdict) -> str:
    probes, accuracy = found.points[0].facts["probes"], found.accuracy(0)
    assert accuracy is not None  # there is a test set
    others = [f"{words} {short(probes[name]['accuracy']['value'])}" for name, words in _BESIDE if name in probes]
    return f"accuracy {_interval(accuracy)}{'; ' if others else ''}{', '.join(others)}"


_BESIDE = ("real", "as many real pictures give"), ("both", "both together")


def _choice(found: Verdict, choice: Choice) -> str:
    best, tied = found.points[0], choice.tied
    names = [_named(p) for p in found.points]
    given = [short(a.value) for a in choice.accuracies]
    if choice.winner is not None:
        others = ", ".join(f"{names[n]} gives {given[n]}" for n in range(1, min(len(names), 1 + OTHERS)))
        return f"take {best.label} (accuracy {_interval(choice.accuracies[0])}; {others})"
    same = ", ".join(f"{names[n]} {given[n]}" for n in tied[1 : 1 + OTHERS]) + (", .." if len(tied) > 1 + OTHERS else "")
    worse = [n for n in range(len(names)) if n not in tied]
    if not worse:
        return f"no point is better than the others by more than the noise ({best.label} {_interval(choice.accuracies[0])}, {same})"
    last = ", ".join(f"{names[n]} gives {given[n]}" for n in worse[-OTHERS:])
    return f"{best.label} is best ({_interval(choice.accuracies[0])}), but not by more than the noise: {same}; worse: {last}"


def _interval(accuracy: Accuracy) -> str:
    return f"{short(accuracy.value)} +- {short(accuracy.half)}"


def _named(point: Point) -> str:
    """Of points that differ in one key its value alone."""
    return shown(next(iter(point.keys.values()))) if len(point.keys) == 1 else point.label
