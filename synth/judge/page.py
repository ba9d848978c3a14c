"""Judgements as one HTML page: what to take, a table and curves of all points, and of each what is weak, alike and leaked, with pictures.
Pure; one file, nothing from outside, no script, every text escaped and no longer than a page bears.
"""

import base64
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from synth.export.html import document, escaped
from synth.judge.caveats import of_point
from synth.judge.curves import Mark, curve
from synth.judge.reading import Point, shown
from synth.judge.verdict import Verdict, number, rows, sentences, short, verdict

POLICY = "default-src 'none'; img-src data:; style-src 'unsafe-inline'"
CURVES = {"accuracy": "accuracy", "coverage": "coverage", "cmmd": "CMMD"}  # what is drawn against each swept key
KEYS, CLASSES, NAMES, TEXT = 6, 40, 20, 600  # swept keys, classes in a table, names in a list, characters of a text
SETS = {"made": "judged", "real": "real", "test": "test"}
TRAINED_ON = {"made": "the judged set", "real": "as many real pictures", "both": "both"}
NUMBERS = ("clipped_coverage", "clipped_density", "cmmd", "coverage", "precision", "recall", "density", "frechet")  # the first ones
GIVEN = {"coverage", "precision", "recall"}  # whose intervals say nothing of another draw of the set that they are beside
MIME = {"png": "image/png", "jpg": "image/jpeg"}
CSS = """
:root { color-scheme: light dark; --side: 6rem; }
body { font: 1rem/1.45 system-ui, sans-serif; margin: 0 auto; max-width: 80rem; padding: 1rem 1rem 4rem; }
h1 { font-size: 1.5rem; margin: 0 0 .3rem; } h2 { font-size: 1.2rem; margin: 2rem 0 .5rem; }
h3 { font-size: 1rem; margin: 1.4rem 0 .4rem; }
p { margin: .3rem 0; overflow-wrap: anywhere; } .said { font-size: 1.15rem; font-weight: 600; } small, .how { opacity: .7; }
.wide { overflow-x: auto; } table { border-collapse: collapse; font-size: .9rem; font-variant-numeric: tabular-nums; }
th, td { padding: .2rem .7rem .2rem 0; text-align: right; white-space: nowrap; } th:first-child, td:first-child { text-align: left; }
thead th { border-bottom: 1px solid #8888; font-weight: 600; } tr.best td { font-weight: 600; }
td:first-child { white-space: normal; overflow-wrap: anywhere; min-width: 11rem; max-width: 30rem; }
.curves { display: flex; flex-wrap: wrap; gap: 1rem; } .curve { width: 340px; max-width: 100%; font: 11px system-ui, sans-serif; }
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


def page(title: str, groups: Sequence[Sequence[Point]]) -> str:
    """The page of points in groups that were measured alike (synth.judge.reading.comparable)."""
    parts = []
    for at, group in enumerate(groups, 1):
        found = verdict(group)
        heading = f"<h2>{at} of {len(groups)}: {_text(_measured_on(found.points[0].facts))}</h2>\n" if len(groups) > 1 else ""
        parts.append(f"<section>{heading}{''.join(_group(found))}</section>\n")
    return document(title, CSS, "".join(parts), policy=POLICY)


def _group(found: Verdict) -> Iterator[str]:
    first, *how = sentences(found)
    yield f'<p class="said">{_text(first)}</p>\n' + "".join(f'<p class="how">{_text(line)}</p>\n' for line in how)
    yield _table(rows(found), best=bool(found.choice and found.choice.winner is not None))
    yield from _curves(found)
    for at, point in enumerate(found.points):
        yield f"<details{'' if at else ' open'}><summary>{_text(point.label)}</summary>{''.join(_point(point))}</details>\n"


def _table(table: Sequence[Mapping[str, str]], best: bool = False) -> str:
    if not table:
        return ""
    head = "".join(f"<th>{_text(name)}</th>" for name in table[0])
    body = ""
    for at, row in enumerate(table):
        marked = ' class="best"' if best and not at else ""
        body += f"<tr{marked}>{''.join(f'<td>{_text(cell)}</td>' for cell in row.values())}</tr>\n"
    return f'<div class="wide"><table><thead><tr>{head}</tr></thead><tbody>\n{body}</tbody></table></div>\n'


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
    yield f"<h3>What was measured on what</h3>\n<p>{_text(_measured_on(facts))}</p>\n{_table(_sets(facts))}"
    yield from (f"<p>{_text(line)}</p>\n" for line in _notes(facts))
    yield f"<h3>Numbers</h3>\n{_table(_numbers(facts))}"
    if GIVEN & facts["numbers"].keys():
        yield "<p><small>The intervals of coverage, precision and recall are given the other set.</small></p>\n"
    if facts["probes"]:
        yield f"<h3>Classifiers, on the test set</h3>\n{_table(_probes(facts))}"
    if facts["classes"]:
        yield f"<h3>Classes, the worst first</h3>\n{_table(_classes(facts))}{_more(len(facts['classes']), CLASSES)}"
    yield from _shown(point)
    if facts["confusions"]:
        yield f"<h3>Taken for each other</h3>\n{_table(_confusions(facts))}"
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
        yield f'<p>{_text(one["class"])}</p>\n<div class="pictures">{grid}</div>\n'


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
        yield f"<h3>Leaks</h3>\n<p>{_text(words)}</p>\n{_gallery(point, leaks['examples'])}"


def _gallery(point: Point, pairs: Sequence[Mapping]) -> str:
    figures = "".join(
        f'<figure><div class="row">{"".join(_img(point, f, "") for f in pair["files"])}</div>'
        f"<figcaption>{_text(', '.join(pair['names']))}: {pair['similarity']:.4f}</figcaption></figure>"
        for pair in pairs
        if pair["files"]
    )
    return f'<div class="pairs">{figures}</div>\n' if figures else ""


def _img(point: Point, name: str, alt: str) -> str:
    data = base64.b64encode(point.picture(name)).decode()
    return f'<img alt="{_text(alt)}" src="data:{MIME[name.rpartition(".")[2]]};base64,{data}">'


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


def _text(words: str) -> str:
    line = " ".join(words.split())
    return escaped(line if len(line) <= TEXT else f"{line[:TEXT]}\u2026")
