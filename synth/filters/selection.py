"""Filters: which pictures of a stage stay. A slot that stays is a sample with its score; one that goes is a tombstone with the reason.

All of the stage is judged at once (a share of a class needs the whole class), by each worker anew from the stored scores: that takes
seconds, and gives all of them the same answer. Features of a million pictures take 2 GB while they are compared.
"""

import json
from collections.abc import Mapping

import numpy as np

from synth.errors import InputError
from synth.export.pictures import ROLE, Pictures
from synth.filters import duplicates, ensemble, rules
from synth.filters.scoring import feature_of, scores_of
from synth.stages import Sample, Stage, Tombstone
from synth.store.folder import StageFolder
from synth.store.spec import canonical

Verdict = tuple[bool, dict, str]  # kept, facts of the sample, reason of the tombstone


class Selection(Stage):
    """What the filters share. A kind says in `judge` what becomes of each picture that is still there."""

    def __init__(self, folder: StageFolder):
        super().__init__(folder)
        self.config = folder.config
        self.pictures: Pictures | None = None
        self._verdicts: dict[int, Verdict] = {}

    def check(self) -> None:
        roles = self.folder.upstream(ROLE)
        if len(roles) == 1:
            self.pictures = Pictures(roles[0])
        if self.folder.spec.slots != sum(r.spec.slots for r in roles):
            msg = f"{self.folder.path}: has {self.folder.spec.slots} slots, its images {sum(r.spec.slots for r in roles)}; plan it again"
            raise InputError(msg)

    def open(self) -> None:
        self.check()
        self._verdicts = self.judge(self.there())

    def there(self) -> list[tuple[int, str, Mapping]]:
        """(slot, key, record) of the pictures that are still there."""
        return [(p.slot, p.key, p.record()) for p in self.pictures.samples()]

    def judge(self, there: list[tuple[int, str, Mapping]]) -> dict[int, Verdict]:
        raise NotImplementedError

    def begin(self, unit) -> dict[int, str]:
        return self.pictures.reasons(unit.start, unit.stop)

    def compute(self, state: dict[int, str], slots: range) -> list[tuple[int, Verdict]]:
        gone = "no picture in the images stage"
        return [(s, self._verdicts.get(s) or (False, {}, state.get(s, gone))) for s in slots]

    def encode(self, state, item) -> Sample | Tombstone:
        slot, (kept, facts, reason) = item
        return Sample(slot, f"{slot:09d}", {"json": canonical(facts)}) if kept else Tombstone(slot, reason)

    def facts(self, role: str) -> tuple[dict[int, Mapping], StageFolder]:
        """slot -> facts of the scoring stage in a role."""
        stage = self.folder.upstream(role)[0]
        return {slot: facts for slot, facts, _ in scores_of(stage)}, stage


def column(facts: Mapping[int, Mapping], slots: list[int], name: str) -> np.ndarray:
    """[N] of one number of the facts; not a number where it is missing."""
    return np.array([facts.get(s, {}).get(name, np.nan) for s in slots], np.float64)


def labels_of(there: list[tuple[int, str, Mapping]]) -> np.ndarray:
    return np.array([r.get("label", -1) for _, _, r in there], np.int64)


class ClipScore(Selection):
    """The best by similarity to their caption or class: at least `min_score`, the top share and the top count of each class."""

    def judge(self, there):
        config, slots = self.config, [s for s, _, _ in there]
        scores = column(self.facts("scores")[0], slots, f"{config.score}_score")
        counts = {int(k): v for k, v in config.counts.items()} or None
        enough = rules.at_least(scores, config.min_score)
        kept = enough.copy()
        kept[enough] = rules.top_of_class(scores[enough], labels_of(there)[enough], np.array(slots)[enough], config.top_share, counts)
        found = {}
        for s, score, passed, k in zip(slots, scores, enough, kept, strict=True):
            facts = {} if np.isnan(score) else {f"{config.score}_score": float(score)}
            why = "is not among the best of its class" if passed else "has no score" if np.isnan(score) else f"is below {config.min_score:g}"
            found[s] = (bool(k), facts, f"clip_score: its {config.score} score {'' if np.isnan(score) else f'{score:.4f} '}{why}")
        return found


class LabelAgreement(Selection):
    """What zero-shot CLIP takes for the class that it was made for, or misses by less than `margin`."""

    def judge(self, there):
        facts, found = self.facts("scores")[0], {}
        for slot, _, record in there:
            f = facts.get(slot, {})
            agrees = f.get("best_label") == record.get("label") or f.get("best_score", np.inf) - f.get("class_score", -np.inf) < self.config.margin
            keep = {k: f[k] for k in ("best_label", "best_score", "class_score") if k in f}
            found[slot] = (agrees, keep, f"label_agreement: looks like class {f.get('best_label', 'none')}, was made for {record.get('label')}")
        return found


class NearDuplicates(Selection):
    """The first of each set of pictures that are alike, and none that is like one of a given test set."""

    def judge(self, there):
        config, slots = self.config, [s for s, _, _ in there]
        if config.method == "embedding":
            of, known, rows = self._by_embedding(slots, labels_of(there))
        else:
            of, known, rows = self._by_hash(slots)
        found = {s: (False, {}, f"near_duplicates: has no {'feature' if config.method == 'embedding' else 'hash'}") for s in slots}
        for i, slot in enumerate(rows):
            why = "is like a picture of the given set" if known[i] else f"is like the picture of slot {rows[of[i]]}"
            found[slot] = (bool(of[i] < 0 and not known[i]), {}, f"near_duplicates: {why}")
        return found

    def _by_hash(self, slots):
        facts, _ = self.facts("scores")
        rows = [s for s in slots if "hash" in facts.get(s, {})]
        hashes = np.array([int(facts[s]["hash"], 16) for s in rows], np.uint64)
        against = self._against(lambda f, stored: int(f["hash"], 16))
        return *duplicates.by_hash(hashes, self.config.distance, np.array(against, np.uint64)), rows

    def _by_embedding(self, slots, labels):
        wanted, by_slot = set(slots), dict(zip(slots, labels, strict=True))
        rows, features = [], []
        for slot, _, stored in scores_of(self.folder.upstream("scores")[0]):
            if slot in wanted:
                rows.append(slot)
                features.append(feature_of(stored).astype(np.float16))
        against = self._against(lambda f, stored: feature_of(stored))
        x = _unit(np.array(features, np.float32).reshape(len(rows), -1))
        groups = np.array([by_slot[s] for s in rows]) if self.config.within == "class" else None
        return *duplicates.by_embedding(x, self.config.similarity, groups, _unit(np.array(against, np.float32)) if against else None), rows

    def _against(self, read) -> list:
        if "against" not in self.folder.spec.upstream:
            return []
        return [read(facts, stored) for _, facts, stored in scores_of(self.folder.upstream("against")[0])]


def _unit(features: np.ndarray) -> np.ndarray:
    """Rows of length one again, after their storage in half precision."""
    return features / np.maximum(np.linalg.norm(features, axis=1, keepdims=True), 1e-12)


class Balance(Selection):
    """So many pictures of each class, drawn by the pictures' own seeds; too few of a class is an error unless allowed."""

    def judge(self, there):
        config, slots = self.config, [s for s, _, _ in there]
        labels = labels_of(there)
        counts = {int(k): v for k, v in config.counts.items()}
        refuse_shortage(self.folder, labels, counts, config.allow_short)
        kept = rules.random_of_class(labels, np.array(slots), counts, config.seed)
        return {s: (bool(k), {}, "balance: its class has as many as were asked for") for s, k in zip(slots, kept, strict=True)}


class Ensemble(Selection):
    """GenCL's ensemble over the pictures of several generators: relative Mahalanobis distance and CONAN's sampling."""

    def check(self) -> None:
        self.pictures = Pictures(self.folder)
        if self.config.mode not in ensemble.MODES:
            msg = f"filter.ensemble.mode={self.config.mode!r}: use one of {', '.join(ensemble.MODES)}"
            raise InputError(msg)

    def there(self):
        first, found = 0, []
        for n, source in enumerate(self.folder.upstream(ROLE)):
            below = Pictures(source)
            for p in below.samples():
                found.append((first + p.slot, self.pictures.key(n, p.key), p.record()))
            first += below.slots
        return found

    def begin(self, unit):
        return {}

    def judge(self, there):
        config, slots = self.config, [s for s, _, _ in there]
        features, first = {}, 0
        for stage in self.folder.upstream("scores"):
            features |= {first + slot: feature_of(stored) for slot, _, stored in scores_of(stage)}
            first += stage.spec.slots
        rows = [i for i, s in enumerate(slots) if s in features]
        labels = labels_of(there)[rows]
        counts = {int(k): v for k, v in config.counts.items()}
        refuse_shortage(self.folder, labels, counts, config.allow_short)
        scores = ensemble.rmd_scores(_unit(np.array([features[slots[i]] for i in rows], np.float32)), labels) if rows else np.empty(0)
        sources = np.array([self.pictures.at(slots[i])[0] for i in rows], np.int64)
        pool = ensemble.Pool(scores, labels, sources, np.array([slots[i] for i in rows]))
        kept = ensemble.choose(pool, counts, config.mode, config.seed, config.temperature)
        found = {s: (False, {}, "ensemble: has no feature") for s in slots}
        for i, score, k in zip(rows, scores, kept, strict=True):
            found[slots[i]] = (bool(k), {"rmd_score": round(float(score), 6), "source": int(self.pictures.at(slots[i])[0])}, f"ensemble: not drawn (RMD score {score:.4f})")
        return found


def refuse_shortage(folder: StageFolder, labels: np.ndarray, counts: Mapping[int, int], allowed: bool) -> None:
    """InputError that names the classes with fewer pictures than are asked for."""
    short = rules.missing_counts(labels, counts)
    if short and not allowed:
        names = json.dumps({str(k): v for k, v in sorted(short.items())[:10]})
        msg = (
            f"{folder.spec.name}: {sum(short.values())} pictures are wanting in {len(short)} classes (label: how many: {names}"
            f"{' ...' if len(short) > 10 else ''}); make more images, lower the counts, or set filter.{folder.spec.name}.allow_short=true"
        )
        raise InputError(msg)
