"""All parts of a judgement as one: what judge.json holds, and which test pictures were got right."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from synth.features.reading import n_pictures
from synth.judge.choice import choose
from synth.judge.measuring import ball_numbers, balls_of, duplicates_of, leaks_of, mean, rounded
from synth.judge.near import REAL_ROLE, ROLE, read_near, rows_in
from synth.judge.numbers.answers import confusion_pairs
from synth.judge.parts import BALLS, BOTH, CLASSES, MADE, PICTURES, PROBE, REAL, ROLES, ROUND, SET, TEST, Part, parts
from synth.judge.reading import shown
from synth.judge.sets import Sets
from synth.judge.shares import facts_of
from synth.kinds import config_of
from synth.reading.stage import ROLE as IMAGES
from synth.store.folder import StageFolder
from synth.store.spec import StageSpec, digest

VERSION = 1
CONFUSIONS = 20  # pairs of classes that are told
LONGEST = 200  # characters of a value that tells a point from others
READS = ("scores", "features", "against", "real", "test", ROLE, REAL_ROLE)  # roles of stages that make no pictures
NOT_TOLD = ("out", "form")


@dataclass(frozen=True)
class Found:
    """The parts of a stage. single: kind of part -> its facts; classes: of all blocks, by number; probes: trained on -> seed's place ->
    (facts, rows [M, 4]); unmeasurable: trained on -> why there is no such probe; balls: of all blocks of pictures, in order; rounds: of
    feedback, in order."""

    single: dict[str, Mapping] = field(default_factory=dict)
    classes: list[Mapping] = field(default_factory=list)
    probes: dict[str, list[tuple[Mapping, np.ndarray]]] = field(default_factory=dict)
    unmeasurable: dict[str, str] = field(default_factory=dict)
    balls: list[tuple[Mapping, np.ndarray | None]] = field(default_factory=list)
    rounds: list[Mapping] = field(default_factory=list)


def parts_of(judge: StageFolder) -> tuple[Part, ...]:
    """The parts of a judge stage, in slot order."""
    upstream = judge.spec.upstream
    made = sum(map(n_pictures, judge.upstream(ROLES[MADE])))
    return parts(config_of(judge), ROLES[REAL] in upstream, ROLES[TEST] in upstream, made)


def found_in(judge: StageFolder) -> Found:
    """The parts of a whole judge stage; InputError for a unit that holds something else."""
    found, known = Found(), parts_of(judge)
    for stored in judge.samples():
        part, facts = known[stored.slot], stored.json()
        if part.kind == CLASSES:
            found.classes.extend(facts["classes"])
        elif part.kind == BALLS:
            found.balls.append((facts, rows_in(stored.read("npy"), judge, stored.slot) if "npy" in stored.exts else None))
        elif part.kind == ROUND:
            found.rounds.append(facts)
        elif part.kind == PROBE:
            if "why" in facts:
                found.unmeasurable[part.trained_on] = facts["why"]
                continue
            found.probes.setdefault(part.trained_on, []).append((facts, rows_in(stored.read("npy"), judge, stored.slot)))
        else:
            found.single[part.kind] = facts
    found.classes.sort(key=lambda c: c["class"])
    for what in found.unmeasurable:  # one draw that cannot be learned: a mean of the others would hide it
        found.probes.pop(what, None)
    return found


def summary(judge: StageFolder, sets: Sets) -> tuple[dict[str, Any], np.ndarray | None]:
    """(judge.json without pictures, [S, M] bool: whether the probe of a seed on the judged set was right about a test picture).

    sets: those of the stage."""
    found, config, near = found_in(judge), config_of(judge), read_near(judge.upstream(ROLE)[0])
    beside = {} if sets.real is None else ball_numbers(lambda: balls_of(read_near(judge.upstream(REAL_ROLE)[0]), found.balls))
    whole = found.single[SET]
    names = whole["class_names"]
    right = {
        what: np.stack([rows[:, 0] == rows[:, 1] for _, rows in found.probes[what]]) for what in (MADE, REAL, BOTH) if what in found.probes
    }
    facts = {
        "version": VERSION,
        "name": _name(judge),
        "notes": _notes(judge),
        "point": _values(_point(judge)),
        "measured": _measured(judge, names),
        "features": _encoder(judge),
        "seeds": list(config.seeds),
        "test_rows": right[MADE].shape[1] if MADE in right else 0,
        "sets": whole["sets"],
        "numbers": whole["numbers"] | beside,
        "probes": _probes(found, right),
        "no_probes": dict(found.unmeasurable),
        "confusions": _confusions(found, names),
        "classes": _classes(found, names),
        "duplicates": duplicates_of(near),
        "leaks": None if sets.test is None else leaks_of(near, sets.made, sets.test, config.leak),
        "pictures": found.single[PICTURES],
    }
    if config.rounds:
        facts["rounds"] = _rounds(judge, found)
    return facts, right.get(MADE)


# -- what was judged -------------------------------------------------------------------------------------------------


def _made(judge: StageFolder) -> list[StageFolder]:
    """The stages of pictures that are judged, or a filter of them; none of a folder of somebody's."""
    if IMAGES in judge.spec.upstream:
        return judge.upstream(IMAGES)
    return [up for features in judge.upstream(ROLES[MADE]) if IMAGES in features.spec.upstream for up in features.upstream(IMAGES)]


def _name(judge: StageFolder) -> str:
    made = _made(judge)
    listed = [
        f"source {file.identity.rpartition(':')[2][:12]}"
        for features in judge.upstream(ROLES[MADE])
        for role, file in features.spec.inputs.items()
        if role == "source"
    ]
    return ", ".join([stage.path.name for stage in made] or listed)


def _point(judge: StageFolder) -> Iterator[tuple[str, Any]]:
    """(key, value) of the stages that made the pictures: what tells a point of a sweep from the others."""
    below, seen = _made(judge), set()
    while below:
        stage = below.pop()
        if stage.spec.fingerprint in seen:
            continue
        seen.add(stage.spec.fingerprint)
        yield from _scalars(stage.spec)
        below += [up for role in stage.spec.upstream if role not in READS for up in stage.upstream(role)]


def _values(pairs: Iterable[tuple[str, Any]]) -> dict[str, Any]:
    """By key. Stages of one name, as those of an ensemble, may give several values: these as one text."""
    values: dict[str, list[Any]] = {}
    for key, value in pairs:
        if value not in (those := values.setdefault(key, [])):
            those.append(value)
    return {key: those[0] if len(those) == 1 else " + ".join(map(shown, those))[:LONGEST] for key, those in sorted(values.items())}


def _notes(judge: StageFolder) -> list[str]:
    """What was said when the features of the sets were planned: of which model they are, and what it does not know."""
    features = [stage for role in ROLES.values() if role in judge.spec.upstream for stage in judge.upstream(role)]
    return list(dict.fromkeys(str(note) for stage in features for note in stage.spec.settings.get("notes", ())))


def _scalars(spec: StageSpec) -> Iterator[tuple[str, Any]]:
    yield f"{spec.name}.slots", spec.slots
    for key, value in _flat(spec.config, f"{spec.name}."):
        if key.rpartition(".")[2] not in NOT_TOLD and (not isinstance(value, str) or len(value) <= LONGEST):
            yield key, value


def _flat(tree: Mapping, prefix: str) -> Iterator[tuple[str, Any]]:
    for key, value in tree.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{prefix}{key}.")
        elif isinstance(value, (str, int, float, bool)) or value is None:
            yield f"{prefix}{key}", value


def _measured(judge: StageFolder, names: Sequence[str]) -> str:
    """What two judgements must have in common to be compared."""
    spec = judge.spec
    upstream = {role: [u.fingerprint for u in ups] for role, ups in spec.upstream.items() if role in ("real", "test")}
    encoders = [{"config": f.spec.config.get("templates"), "inputs": f.spec.inputs["model"].identity} for f in judge.upstream(ROLES[MADE])]
    config = {key: value for key, value in spec.config.items() if key != "rounds"}  # the same is asked of pictures that were drawn at once
    return digest({"config": config, "upstream": upstream, "classes": names, "encoders": encoders})[:16]


def _encoder(judge: StageFolder) -> str:
    return str(judge.upstream(ROLES[MADE])[0].spec.config["id"])


# -- what was found --------------------------------------------------------------------------------------------------


def _probes(found: Found, right: Mapping[str, np.ndarray]) -> dict[str, Any]:
    if not right:
        return {}
    chosen = choose(list(right.values()))
    neighbours = choose([np.stack([rows[:, 0] == rows[:, 3] for _, rows in found.probes[what]]) for what in right])
    return {
        what: {
            "rows": found.probes[what][0][0]["rows"],
            "accuracy": _interval(chosen.accuracies[n], right[what]),
            "knn": _interval(neighbours.accuracies[n], right[what]),
            "calibration_error": {"value": rounded(float(np.mean([f["calibration_error"] for f, _ in found.probes[what]])))},
        }
        for n, what in enumerate(right)
    }


def _interval(accuracy: Any, right: np.ndarray) -> dict[str, Any]:
    return {"value": rounded(accuracy.value), "low": rounded(accuracy.low), "high": rounded(accuracy.high), "n": right.shape[1]}


def _rounds(judge: StageFolder, found: Found) -> list[dict[str, Any]]:
    """Of each round of feedback what its shares were decided by, and the accuracy with all pictures up to it, where there is a test set."""
    rounds = []
    for n, features in enumerate(judge.upstream(ROLES[MADE])):
        (images,) = features.upstream(IMAGES)
        told = facts_of(images.upstream("captions")[0])
        one = {name: told[name] for name in ("round", "by", "pictures", "modes", "notes")}
        one["classes"] = [{name: c[name] for name in ("class", "pictures", "need")} for c in told["classes"]]
        if "accuracy" in told:
            one["accuracy_before"] = {"value": told["accuracy"], "n": told["real"]}
        rounds.append(one | ({"accuracy": found.rounds[n]["accuracy"]} if found.rounds else {}))
    return rounds


def _confusions(found: Found, names: Sequence[str]) -> list[dict[str, Any]]:
    """The pairs that the probe on the judged set takes for each other most often: pictures and share of the class, means of the seeds."""
    if MADE not in found.probes:
        return []
    n, seeds = len(names), len(found.probes[MADE])
    table = np.zeros((n, n))
    for _, rows in found.probes[MADE]:
        np.add.at(table, (rows[:, 0].astype(int), rows[:, 1].astype(int)), 1 / seeds)
    return [
        {"class": names[label], "taken_for": names[answer], "pictures": rounded(pictures), "share": rounded(share)}
        for label, answer, pictures, share in confusion_pairs(table, CONFUSIONS)
    ]


def _classes(found: Found, names: Sequence[str]) -> list[dict[str, Any]]:
    rows = found.probes.get(MADE, [])
    told = []
    for facts in found.classes:
        number = facts["class"]
        one: dict[str, Any] = {"name": names[number], "pictures": facts["pictures"], "numbers": dict(facts["numbers"])}
        right = np.array([r[r[:, 0] == number][:, 1] == number for _, r in rows])
        if right.size:
            one["numbers"]["accuracy"] = mean(lambda right=right: right)
        told.append(one)
    return told
