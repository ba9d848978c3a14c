"""What of judgements cannot be taken at its word: classes that are not there, counts that differ, draws that are none. Pure."""

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING

from synth.captions.normalise import looked_up
from synth.judge.matching import named
from synth.judge.parts import MADE, REAL, TEST

if TYPE_CHECKING:
    from synth.judge.reading import Point  # numpy, which planning does without

UNEQUAL = 1.1  # of two sets: from so many times the pictures on their counts are not equal


def notes(points: "Sequence[Point]") -> list[str]:
    """What was said of the features when they were planned, as of a model that knows nothing of these pictures."""
    return list(dict.fromkeys(note for point in points for note in point.facts.get("notes", ())))


def caveats(points: "Sequence[Point]") -> list[str]:
    """Of all points that are compared: each line once, with the points that it is true of."""
    rows = {point.facts["probes"][MADE]["rows"] for point in points if MADE in point.facts["probes"]}
    apart = [f"trained on {min(rows):,} to {max(rows):,} pictures: set judge.per_class=K for equal counts"] if len(rows) > 1 else []
    of_lines: dict[str, list[str]] = {}  # line -> points
    for point in points:
        for line in of_point(point.facts):
            of_lines.setdefault(line, []).append(point.label)
    everywhere = len(points) if len(points) > 1 else 0
    return apart + [f"{'all points' if len(of) == everywhere else ', '.join(of)}: {line}" for line, of in of_lines.items()]


def of_point(facts: Mapping) -> Iterator[str]:
    """Of one judgement."""
    sets = facts["sets"]
    for line in not_there({name: there["other_classes"] for name, there in sets.items()}):
        yield f"{line}; {sets[TEST]['without_class']:,} test pictures take no part"
    if empty := [one["name"] for one in facts["classes"] if not one["pictures"].get(MADE)]:
        yield f"has no picture of {_classes(empty)}"
    if REAL in sets:
        made, real = (sets[name]["pictures"] for name in (MADE, REAL))
        if max(made, real) > UNEQUAL * min(made, real):
            wants = "coverage, precision, recall, density, Frechet distance and Vendi score need equal counts"
            yield f"{made:,} pictures beside {real:,} real ones: {wants}; go by clipped coverage and CMMD"


def undrawn(facts: Mapping) -> bool:
    """Whether probes are trained on all judged pictures, so that draws of them are one draw."""
    made = facts["sets"][MADE]
    return MADE in facts["probes"] and facts["probes"][MADE]["rows"] == made["pictures"] - made["without_class"]


def not_there(others: Mapping[str, Sequence[str]]) -> Iterator[str]:
    """Classes of the test set that another one does not have. others: set -> its classes that are not in all sets."""
    in_made = {looked_up(name) for name in others.get(MADE, ())}
    for there, where in ((False, "in it"), (True, "in the real set, or twice in a set")):
        if names := [name for name in others.get(TEST, ()) if (looked_up(name) in in_made) == there]:
            yield _classes(names, f" of the test set {'is' if len(names) == 1 else 'are'} not {where}")


def _classes(names: Sequence[str], words: str = "") -> str:
    return f"{len(names):,} class{'' if len(names) == 1 else 'es'}{words} ({named(names)})"
