"""Judgements as one HTML page: what to take, a table and curves of all points, and of each what is weak, alike and leaked, with pictures.
Pure; one file, nothing from outside, no script, every text escaped and no longer than a page bears.
"""

from collections.abc import Iterator, Mapping, Sequence
from itertools import accumulate
from typing import Any

from synth.export import page_parts
from synth.export.html import document
from synth.export.page_parts import img, table, text
from synth.judge.caveats import of_point
from synth.judge.curves import Mark, curve
from synth.judge.reading import Point, shown
from synth.judge.verdict import Verdict, number, rows, sentences, short, verdict

POLICY = "default-src 'none'; img-src data:; style-src 'unsafe-inline'"
CURVES = {"accuracy": "accuracy", "coverage": "coverage", "cmmd": "CMMD"}  # what is drawn against each swept key
KEYS, CLASSES, NAMES = 6, 40, 20  # swept keys, classes in a table, names in a list
SETS = {"made": "judged", "real": "real", "test": "test"}
TRAINED_ON = {"made": "the judged set", "real": "as many real pictures", "both": "both"}
NUMBERS = ("clipped_coverage", "clipped_density", "cmmd", "coverage", "precision", "recall", "density", "frechet")  # the first ones
GIVEN = {"coverage", "precision", "recall"}  # whose intervals say nothing of another draw of the set that they are beside
CSS = (
    page_parts.CSS
    + """.curves { display: flex; flex-wrap: wrap; gap: 1rem; } .curve { width: 340px; max-width: 100%; font: 11px system-ui, sans-serif; }
.curve text { fill: currentColor; opacity: .75; } .curve .name { font-size: 12px; opacity: 1; }
.curve .axis { stroke: currentColor; opacity: .5; fill: none; }
.curve .grid { stroke: currentColor; opacity: .12; } .curve polyline { fill: none; stroke: #0072b2; stroke-width: 2; }
.curve .span { stroke: #0072b2; opacity: .45; stroke-width: 2; }
.curve circle { fill: #0072b2; } .curve circle.best { fill: #d55e00; r: 6px; }
.pictures { display: grid; grid-template-columns: max-content 1fr; gap: .4rem .8rem; align-items: start; }
.row { display: flex; flex-wrap: wrap; gap: .3rem; } .pairs { display: flex; flex-wrap: wrap; gap: 1rem; }
figure { margin: 0; width: max-content; max-width: 100%; }
figcaption { font-size: .8rem; opacity: .75; max-width: calc(2 * var(--side)); overflow-wrap: anywhere; }
img { width: var(--side); height: var(--side); object-fit: contain; display: block; background: #8882; image-rendering: pixelated; }
img[src^="data:image/jpeg"] { image-rendering: auto; }
details { border-top: 1px solid #8886; padding: .6rem 0; }
summary { cursor: pointer; font-weight: 600; overflow-wrap: anywhere; }
"""
)


def page(title: str, groups: Sequence[Sequence[Point]]) -> str:
    """The page of points in groups that were measured alike (synth.judge.reading.comparable)."""
    return document(title, CSS, sections(groups), policy=POLICY)


def sections(groups: Sequence[Sequence[Point]]) -> str:
    """What stands on it, for a page that has this CSS."""
    parts = []
    for at, group in enumerate(groups, 1):
        found = verdict(group)
        heading = f"<h2>{at} of {len(groups)}: {text(_measured_on(found.points[0].facts))}</h2>\n" if len(groups) > 1 else ""
        parts.append(f"<section>{heading}{''.join(_group(found))}</section>\n")
    return "".join(parts)


def _group(found: Verdict) -> Iterator[str]:
    first, *how = sentences(found)
    yield f'<p class="said">{text(first)}</p>\n' + "".join(f'<p class="how">{text(line)}</p>\n' for line in how)
    yield table(rows(found), best=bool(found.choice and found.choice.winner is not None))
    yield from _curves(found)
    for at, point in enumerate(found.points):
        yield f"<details{'' if at else ' open'}><summary>{text(point.label)}</summary>{''.join(_point(point))}</details>\n"


def _curves(found: Verdict) -> Iterator[str]:
    keys = list(found.points[0].keys)[:KEYS]
    drawn = "".join(_curve(found, key, name, title) for key in keys for name, title in CURVES.items())
    if drawn:
        yield f'<div class="curves">{drawn}</div>\n'


def _curve(found: Verdict, key: str, name: str, title: str) -> str:
    marks = []
    for at, point in enumerate(found.points):
        accuracy = found.accuracy(at)
        value, low, high = (
            (accuracy.value, accuracy.low, accuracy.high)
            if name == "accuracy" and accuracy
            else (number(point.facts, name), *(point.facts["numbers"].get(name, {}).get(end) for end in ("low", "high")))
        )
        if value is not None:
            x = point.keys[key]
            place = float(x) if isinstance(x, (int, float)) and not isinstance(x, bool) else shown(x)
            rest = " ".join(f"{k}={shown(v)}" for k, v in point.keys.items() if k != key)
            best = bool(found.choice and found.choice.winner == at)
            marks.append(Mark(place, value, low, high, rest, f"{point.label}: {title} {value:.4g}", best))
    return curve(title, key, marks) if len({m.x for m in marks}) > 1 else ""


# -- a point ---------------------------------------------------------------------------------------------------------


def _point(point: Point) -> Iterator[str]:
    facts = point.facts
    yield f"<h3>What was measured on what</h3>\n<p>{text(_measured_on(facts))}</p>\n{table(_sets(facts))}"
    yield from (f"<p>{text(line)}</p>\n" for line in _notes(facts))
    yield f"<h3>Numbers</h3>\n{table(_numbers(facts))}"
    if GIVEN & facts["numbers"].keys():
        yield "<p><small>The intervals of coverage, precision and recall are given the other set.</small></p>\n"
    if facts["probes"]:
        yield f"<h3>Classifiers, on the test set</h3>\n{table(_probes(facts))}"
    yield from _rounds(facts.get("rounds", ()))
    if facts["classes"]:
        yield f"<h3>Classes, the worst first</h3>\n{table(_classes(facts))}{_more(len(facts['classes']), CLASSES)}"
    yield from _shown(point)
    if facts["confusions"]:
        yield f"<h3>Taken for each other</h3>\n{table(_confusions(facts))}"
    yield from _pairs(point)


def _measured_on(facts: Mapping) -> str:
    sets = ", ".join(f"{facts['sets'][name]['pictures']:,} {word}" for name, word in SETS.items() if name in facts["sets"])
    return f"features of {facts['features']}; {sets} pictures; {len(facts['classes']):,} classes"


def _sets(facts: Mapping) -> list[dict[str, str]]:
    return [
        {
            "set": name,
            "pictures": f"{n['pictures']:,}",
            "fewest of a class": f"{n['fewest']:,}",
            "most": f"{n['most']:,}",
            "evenness": _said(n["balance"]),
            "without a class that all sets have": f"{n['without_class']:,}",
        }
        for name in SETS
        if (n := facts["sets"].get(name))
    ]


def _notes(facts: Mapping) -> Iterator[str]:
    yield from facts.get("notes", ())
    yield from of_point(facts)
    for name, n in facts["sets"].items():
        for reason, count in sorted(n["left_out"].items(), key=lambda r: (-r[1], r[0])):
            yield f"{name}: {count:,} left out: {reason}"
        if others := n["other_classes"]:
            more = f" and {len(others) - NAMES:,} more" if len(others) > NAMES else ""
            yield f"{name}: classes that another set does not have: {', '.join(others[:NAMES])}{more}"
    yield from (f"no probe on {what}: {why}" for what, why in facts["no_probes"].items())
    looked = facts["pictures"]
    if looked["looked_at"]:
        words = f"of {looked['looked_at']:,} pictures that were decoded {looked['undecodable']:,} could not be"
        yield words + "".join(
            f", {name.replace('_', ' ')} {_said(looked[name])}" for name in ("blank", "clipped", "sharpness") if name in looked
        )
    if captions := looked.get("captions"):
        yield "captions: " + ", ".join(
            f"{name.replace('_', ' ')} {_said(value)}" for name, value in captions.items() if not isinstance(value, dict)
        )


def _numbers(facts: Mapping) -> list[dict[str, str]]:
    names = sorted(facts["numbers"], key=lambda name: (NUMBERS.index(name) if name in NUMBERS else len(NUMBERS), name))
    return [{"number": name.replace("_", " "), "value": _value(n), "95 %": _span(n)} for name in names for n in [facts["numbers"][name]]]


def _probes(facts: Mapping) -> list[dict[str, str]]:
    return [
        {
            "trained on": words,
            "pictures": f"{p['rows']:,}",
            "accuracy": _value(p["accuracy"]),
            "95 %": _span(p["accuracy"]),
            "kNN": _value(p["knn"]),
            **({"fine-tuned": f"{_value(p['finetune'])} ({_span(p['finetune'])})"} if "finetune" in p else {}),
            "calibration error": _value(p["calibration_error"]),
        }
        for what, words in TRAINED_ON.items()
        if (p := facts["probes"].get(what))
    ]


def _rounds(rounds: Sequence[Mapping]) -> Iterator[str]:
    """Of pictures that were drawn in rounds: the accuracy after each, and whom each drew more of."""
    if not rounds:
        return
    so_far = list(accumulate(one["pictures"] for one in rounds))
    marks = [
        Mark(float(n), a["value"], a.get("low"), a.get("high"), name=f"round {one['round']}: {a['value']:.4g}")
        for n, one in zip(so_far, rounds, strict=True)
        if (a := one.get("accuracy", {})).get("value") is not None
    ]
    drawn = f'<div class="curves">{curve("accuracy", "pictures", marks)}</div>\n' if len(marks) > 1 else ""
    table_of = [
        {
            "round": str(one["round"]),
            "feedback": one["by"],
            "pictures": f"{one['pictures']:,}",
            "so far": f"{n:,}",
            "real pictures got right before": _value(one.get("accuracy_before", {})),
            "accuracy after": _value(one.get("accuracy", {})),
            "95 %": _span(one.get("accuracy", {})),
        }
        | {f"of mode {mode}": f"{k:,}" for mode, k in one["modes"].items() if mode}
        for n, one in zip(so_far, rounds, strict=True)
    ]
    yield f"<h3>Rounds of feedback</h3>\n{drawn}{table(table_of)}"
    yield "<p><small>The accuracy after a round is that of a probe of all pictures so far, on the test set.</small></p>\n"
    yield from (f"<p>round {one['round']}: {text(note)}</p>\n" for one in rounds for note in one["notes"])
    yield f"<h3>Pictures of a class by round, the most first</h3>\n{table(_shares(rounds))}{_more(len(rounds[0]['classes']), CLASSES)}"


def _shares(rounds: Sequence[Mapping]) -> list[dict[str, str]]:
    """A row a class. All rounds tell the same classes in the same order; two may have one name."""
    counts = [[c["pictures"] for c in of_class] for of_class in zip(*(one["classes"] for one in rounds), strict=True)]
    named = zip((c["class"] for c in rounds[0]["classes"]), counts, strict=True)
    return [
        {"class": name} | {f"round {k}": f"{n:,}" for k, n in enumerate(of, 1)} | {"all": f"{sum(of):,}"}
        for name, of in sorted(named, key=lambda item: -sum(item[1]))[:CLASSES]
    ]


def _classes(facts: Mapping) -> list[dict[str, str]]:
    columns = ("accuracy", "coverage", "precision", "similarity", "vendi", "clip_score", "zero_shot")
    told = [c for c in columns if any(c in one["numbers"] for one in facts["classes"])]
    return [
        {"class": one["name"]}
        | {name: f"{n:,}" for name, n in one["pictures"].items()}
        | {c.replace("_", " "): _value(one["numbers"].get(c, {})) for c in told}
        for one in worst_first(facts["classes"])[:CLASSES]
    ]


def worst_first(classes: Sequence[Mapping]) -> list[Mapping]:
    """By accuracy, then by coverage, then by how alike their pictures are."""

    def badness(one: Mapping) -> tuple:
        accuracy, coverage, similarity = (one["numbers"].get(name, {}).get("value") for name in ("accuracy", "coverage", "similarity"))
        return accuracy is None, accuracy or 0.0, coverage is None, coverage or 0.0, -(similarity or 0.0)

    return sorted(classes, key=badness)


def _shown(point: Point) -> Iterator[str]:
    if point.facts["shown"]:
        yield "<h3>The worst classes</h3>\n"
    for one in point.facts["shown"]:
        grid = "".join(
            f'<small>{word}</small><div class="row">{"".join(_img(point, f, one["class"]) for f in one[name])}</div>'
            for name, word in SETS.items()
            if name in one
        )
        yield f'<p>{text(one["class"])}</p>\n<div class="pictures">{grid}</div>\n'


def _confusions(facts: Mapping) -> list[dict[str, str]]:
    return [
        {"class": c["class"], "taken for": c["taken_for"], "pictures": f"{c['pictures']:g}", "of its pictures": f"{100 * c['share']:.0f} %"}
        for c in facts["confusions"]
    ]


def _pairs(point: Point) -> Iterator[str]:
    duplicates, leaks = point.facts["duplicates"], point.facts.get("leaks")
    same = f"{duplicates['within']:,} pairs within a class and {duplicates['between']:,} between classes"
    yield f"<h3>Duplicates</h3>\n<p>{same} with a similarity of {duplicates['from']:g} or more, of {duplicates['of']:,} pictures</p>\n"
    for name in ("within", "between"):
        yield _gallery(point, duplicates["examples"][name])
    if leaks:
        near = f"the nearest test picture is at {_said(leaks['nearest']['median'])} (median), {_said(leaks['nearest']['highest'])} at most"
        words = f"{leaks['pictures']:,} of {leaks['of']:,} pictures are like one of the test set ({leaks['from']:g} or more); {near}"
        yield f"<h3>Leaks</h3>\n<p>{text(words)}</p>\n{_gallery(point, leaks['examples'])}"


def _gallery(point: Point, pairs: Sequence[Mapping]) -> str:
    figures = "".join(
        f'<figure><div class="row">{"".join(_img(point, f, "") for f in pair["files"])}</div>'
        f"<figcaption>{text(', '.join(pair['names']))}: {pair['similarity']:.4f}</figcaption></figure>"
        for pair in pairs
        if pair["files"]
    )
    return f'<div class="pairs">{figures}</div>\n' if figures else ""


def _img(point: Point, name: str, alt: str) -> str:
    return img(point.picture(name), alt)


# -- words -----------------------------------------------------------------------------------------------------------


def _more(there: int, most: int) -> str:
    return f"<p><small>and {there - most:,} more, in judge.json</small></p>\n" if there > most else ""


def _value(found: Mapping[str, Any]) -> str:
    return "" if found.get("value") is None else _said(found["value"])


def _span(found: Mapping[str, Any]) -> str:
    if found.get("value") is None:
        return str(found.get("why", ""))
    return f"{_said(found['low'])} .. {_said(found['high'])}" if found.get("low") is not None else ""


def _said(value: float | int | None) -> str:
    if value is None:
        return ""
    return f"{value:,}" if isinstance(value, int) else short(value) if abs(value) < 1 else f"{value:.4g}"
