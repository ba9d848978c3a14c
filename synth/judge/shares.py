"""Stage kind `shares`: which captions a round of feedback draws, a row a picture, in shares by class and mode that the pictures of the
rounds before decided, beside real ones. The images stage reads it as it reads captions.json.

One unit of one sample: captions.parquet (synth.captions.table); modes.npy, [N] int16, the mode of each row; json, what it was decided by,
which stands in the stage's folder as `shares.json`, too. `counts.json` beside that is a file for images.count_file.
"""

import io
import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from synth.captions.normalise import looked_up
from synth.captions.table import rows, to_parquet
from synth.errors import InputError
from synth.features.reading import load
from synth.judge.allocation import allocated, least_of
from synth.judge.config import NONE, SHARES, SharesConfig
from synth.judge.matching import matched, named
from synth.judge.numbers.rows import Unmeasurable
from synth.judge.parts import MADE, REAL, ROLES
from synth.judge.pool import Cell, Place, Pool, draw, in_order, place_of
from synth.judge.steering import Needs, Pictures, filled, mixed, needs
from synth.run.findings import Check
from synth.run.stage import Stage
from synth.store.damage import mending
from synth.store.files import write_atomic
from synth.store.folder import StageFolder
from synth.store.names import classes_of
from synth.store.samples import Sample
from synth.store.spec import canonical

MODES = "modes.npy"
EARLIER = "earlier"  # role of the shares of the rounds before
COUNTS, DECIDED = "counts.json", "shares.json"
DIGITS = 6  # of a number that is told


@dataclass(frozen=True)
class Decision:
    """of_class: class -> pictures. of_cell: the same by mode. need: class -> its need of more, None where it is not known.
    notes: what people should know."""

    of_class: Mapping[int, int]
    of_cell: Mapping[Cell, int]
    need: Mapping[int, float | None]
    notes: Sequence[str] = ()


@dataclass(frozen=True)
class Found:
    """needs: by numbers of the classes that real pictures are of, too. numbers: official index -> such a number, -1 without one. real:
    pictures that decided. others: classes of the real ones that the run does not have."""

    needs: Needs
    numbers: Mapping[int, int]
    real: int
    others: Sequence[str]


class Shares(Stage):
    config: SharesConfig

    def check(self) -> None:
        before, of_pictures = (len(self.folder.spec.upstream.get(role, ())) for role in (EARLIER, ROLES[MADE]))
        if self.config.by != NONE and before != of_pictures:
            raise InputError(f"{self.folder.path}: needs features of each of {before} rounds, has those of {of_pictures}; plan it again")

    def compute(self, state: None, slots: range) -> list[dict[str, bytes]]:
        pool = Pool.of(self.folder.upstream("captions")[0])
        found = self._needs(pool) if self.folder.spec.upstream.get(ROLES[MADE]) else None
        decision = decided(pool, self.config, found, self._before)
        drawn = draw(pool, decision.of_cell, self._before)
        modes = np.array([pool.modes[mode] for _, mode in drawn], np.int16)
        table = to_parquet([caption for caption, _ in drawn])
        return [{"json": canonical(self._facts(pool, decision, found)), "parquet": table, MODES: _npy(modes)}]

    def encode(self, state: None, item: dict[str, bytes]) -> Sample:
        return Sample(0, SHARES, item)

    @property
    def _earlier(self) -> list[StageFolder]:
        return self.folder.upstream(EARLIER) if EARLIER in self.folder.spec.upstream else []

    @cached_property
    def _before(self) -> Counter:
        """How often each caption was drawn in the rounds before."""
        return Counter(place_of(row) for stage in self._earlier for row in rows(stage, 0, stage.spec.config["total"]))

    def _needs(self, pool: Pool) -> Found:
        made = [load(stage) for stage in self.folder.upstream(ROLES[MADE])]
        real = load(self.folder.upstream(ROLES[REAL])[0])
        classes = classes_of(self.folder)
        labels = sorted(classes)
        matching = matched({MADE: [classes[label] for label in labels], REAL: real.classes})
        numbers = dict(zip(labels, matching.numbers[MADE], strict=True))
        of_real = np.array([*matching.numbers[REAL], -1])[real.labels]  # the last one: of pictures without a class
        told = [np.array([*(numbers.get(i, -1) for i in m.indices), -1])[m.labels] for m in made]
        modes = [modes_of(stage)[m.slots] for stage, m in zip(self._earlier, made, strict=True)]
        ours = Pictures(np.concatenate([m.features for m in made]), np.concatenate(told), np.concatenate(modes))
        theirs = Pictures(real.features[of_real >= 0], of_real[of_real >= 0])
        if not len(theirs.labels):
            raise InputError("judge.real: has no picture of a class of this run that has features; give others")
        keep = ours.labels >= 0
        ours = Pictures(ours.features[keep], ours.labels[keep], None if ours.modes is None else ours.modes[keep])
        try:
            found = needs(self.config.by, ours, theirs, len(matching.classes), len(pool.modes), self.config.neighbours)
        except Unmeasurable as e:
            raise InputError(f"feedback={self.config.by}: no probe can be trained on the pictures of the rounds before: {e}") from e
        return Found(found, numbers, len(theirs.labels), matching.others[REAL])

    def _facts(self, pool: Pool, decision: Decision, found: Found | None) -> dict[str, Any]:
        classes, by_mode = classes_of(self.folder), Counter[str]()
        for (_, mode), n in decision.of_cell.items():
            by_mode[mode] += n
        before = so_far(pool, self._before)
        told = [
            {"label": label, "class": classes[label], "pictures": n, "before": before[label], "need": decision.need.get(label)}
            for label, n in decision.of_class.items()
        ]
        facts = {"by": self.config.by, "round": len(self._earlier) + 1, "pictures": self.config.total, "classes": told}
        facts |= {"modes": {mode: by_mode[mode] for mode in pool.modes}, "notes": list(decision.notes)}
        if found is not None:
            facts |= {"real": found.real, "accuracy": _rounded(found.needs.accuracy)}
        return facts

    # -- what lies beside the unit -----------------------------------------------------------------------------------

    def finish(self) -> None:
        for name, data in self._files().items():
            write_atomic(self.folder.path / name, data)

    def verify(self, check: Check) -> None:
        """The files are what the unit says: they are small."""
        for name, data in self._files().items():
            check.same(name, data)

    def _files(self) -> dict[str, bytes]:
        facts = facts_of(self.folder)
        counts = json.dumps(count_file(facts["classes"]), indent=1, ensure_ascii=False).encode() + b"\n"
        return {COUNTS: counts, DECIDED: canonical(facts) + b"\n"}


def decided(pool: Pool, config: SharesConfig, found: Found | None, before: Mapping[Place, int]) -> Decision:
    """How many pictures each class and mode gets: alike where nothing was found. before: how often each caption was drawn in earlier
    rounds. InputError where there are more classes than pictures."""
    labels, of_class = pool.labels, dict[int, float | None]()
    notes: list[str] = []
    if found is not None:
        known = [found.needs.of_class[n] if (n := found.numbers[label]) >= 0 else np.nan for label in labels]
        of_class = {label: None if np.isnan(need) else _rounded(need) for label, need in zip(labels, known, strict=True)}
        weights = dict(zip(labels, filled(np.array(known)), strict=True))
        notes = _notes(pool, found, of_class)
    else:
        weights = dict.fromkeys(labels, 1.0)
    had = so_far(pool, before)
    least = least_of(config.total, len(labels), config.floor) if found is not None else 0
    try:
        counts = allocated(weights, config.total, least, had)
    except ValueError as e:
        raise InputError(f"feedback.pictures: {config.total} pictures a round for {len(labels)} classes: {e}; raise it") from e
    return Decision(counts, _by_mode(pool, config, found, counts, before), of_class, notes)


def so_far(pool: Pool, before: Mapping[Place, int]) -> dict[int, int]:
    """class -> pictures of it in earlier rounds."""
    had = dict.fromkeys(pool.labels, 0)
    for caption in pool.captions:
        had[caption.label] += before.get(place_of(caption), 0)
    return had


def _by_mode(
    pool: Pool, config: SharesConfig, found: Found | None, counts: Mapping[int, int], before: Mapping[Place, int]
) -> dict[Cell, int]:
    """Within a class by need; where none is told, the captions come in their order, whatever their modes are."""
    cells: dict[Cell, int] = {}
    for label, n in counts.items():
        there, number = pool.modes_of(label), found.numbers[label] if found is not None else -1
        needed = [float(found.needs.by_mode[number, pool.modes[m]]) if found and number >= 0 else 0.0 for m in there]
        if any(needed):
            of_mode = allocated(dict(zip(there, mixed(needed, list(there.values()), config.floor), strict=True)), n)
        else:
            of_mode = in_order(pool, label, n, before)
        cells |= {(label, mode): k for mode, k in of_mode.items()}
    return cells


def _notes(pool: Pool, found: Found, need: Mapping[int, float | None]) -> list[str]:
    names = {caption.label: caption.class_name for caption in pool.captions}
    unknown, notes = [label for label, value in need.items() if value is None], []
    if unknown:
        why = found.needs.why.get(found.numbers[unknown[0]], "has no real picture, or its name is there twice")
        notes.append(f"a usual share, as their need is not known: {_classes([names[label] for label in unknown])}; the first: {why}")
    if found.others:
        notes.append(f"takes no part, as this run does not have it: {_classes(found.others)} of judge.real")
    return notes


def _classes(names: Sequence[str]) -> str:
    return f"{len(names):,} class{'' if len(names) == 1 else 'es'} ({named(names)})"


def count_file(classes: Sequence[Mapping[str, Any]]) -> dict[str, int]:
    """{class: pictures} as images.count_file takes it: by index where a name is that of several classes.

    >>> count_file([{"class": "cat", "label": 0, "pictures": 3}, {"class": "Cat", "label": 1, "pictures": 2}])
    {'0': 3, '1': 2}
    """
    times = Counter(looked_up(one["class"]) for one in classes)
    return {one["class"] if times[looked_up(one["class"])] == 1 else str(one["label"]): one["pictures"] for one in classes}


def facts_of(stage: StageFolder) -> Mapping[str, Any]:
    """What a shares stage tells of its decision."""
    for stored in stage.samples():
        return stored.json("by", "round", "pictures", "classes", "modes", "notes")
    raise _none(stage)


def _none(stage: StageFolder) -> InputError:
    path = stage.unit_path(0)
    return InputError(f"{path}: holds no shares; {mending(path)}")


def modes_of(stage: StageFolder) -> np.ndarray:
    """[N] numbers of the modes of the rows of a shares stage."""
    path = stage.unit_path(0)
    for stored in stage.samples():
        try:
            return np.load(io.BytesIO(stored.read(MODES)), allow_pickle=False)
        except (KeyError, ValueError) as e:
            raise InputError(f"{path}: tells no modes of its captions ({e}); {mending(path)}") from e
    raise _none(stage)


def _npy(column: np.ndarray) -> bytes:
    out = io.BytesIO()
    np.save(out, column, allow_pickle=False)
    return out.getvalue()


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(float(value), DIGITS)
