"""Filter `near_duplicates`: the first of pictures that are alike stays, by perceptual hashes or by embeddings; and none that is like one
of a given set. Below the stage: pure functions of hashes and of embeddings, in the order given.
"""

import itertools
from array import array

import numpy as np

from synth.features.reading import feature_of
from synth.filters.scoring import scores_of
from synth.filters.selection import Selection, There, Verdicts, unit_length

BITS = 64
BLOCK = 1024  # rows that are compared at once


class NearDuplicates(Selection):
    """The first of each set of pictures that are alike, and none that is like one of a given test set."""

    def judge(self, there):
        embedding = self.config.method == "embedding"
        of, known, rows = (self._by_embedding if embedding else self._by_hash)(there)
        kept, place = np.zeros(len(there.slots), bool), np.full(len(there.slots), -1, np.int64)
        kept[rows] = (of < 0) & ~known
        place[rows] = np.arange(len(rows))

        def say(at: int) -> tuple[dict, str]:
            row = place[at]
            if row < 0:
                return {}, f"near_duplicates: has no {'feature' if embedding else 'hash'}"
            if known[row]:
                return {}, "near_duplicates: is like a picture of the given set"
            return {}, f"near_duplicates: is like an earlier picture (slot {there.slots[rows[of[row]]]})"

        return Verdicts(kept, say)

    def _by_hash(self, there: There):
        hashes, has = np.zeros(len(there.slots), np.uint64), np.zeros(len(there.slots), bool)
        for at, facts, _ in self.scored("scores", there.slots):
            if "hash" in facts:
                hashes[at], has[at] = int(facts["hash"], 16), True
        rows = np.flatnonzero(has)
        against = self._against(lambda f, sample: int(f["hash"], 16))
        return *by_hash(hashes[rows], self.config.distance, np.array(against, np.uint64)), rows

    def _by_embedding(self, there: There):
        rows, features = array("q"), []
        for at, _, sample in self.scored("scores", there.slots):
            rows.append(at)
            features.append(feature_of(sample).astype(np.float16))
        rows = np.frombuffer(rows, np.int64)
        against = self._against(lambda f, sample: feature_of(sample))
        x = unit_length(np.array(features, np.float32).reshape(len(rows), -1))
        groups = there.labels[rows] if self.config.within == "class" else None
        return *by_embedding(x, self.config.similarity, groups, unit_length(np.array(against, np.float32)) if against else None), rows

    def _against(self, read) -> list:
        if "against" not in self.folder.spec.upstream:
            return []
        return [read(facts, sample) for _, facts, sample in scores_of(self.folder.upstream("against")[0])]


def by_hash(hashes: np.ndarray, distance: int, against: np.ndarray | None = None) -> tuple[np.ndarray, np.ndarray]:
    """Pictures within `distance` bits of an earlier one that is kept, or of one of `against`. hashes [N] uint64, in order.

    Returns (of [N] int64: index of the kept picture that it repeats, -1 if it is kept or is like one of `against`,
    known [N] bool: like one of `against`). Exact: two hashes within d bits agree in at least one of d + 1 bands.
    """
    if not 0 <= distance < BITS // 2:
        raise ValueError(f"distance {distance}: must be 0..{BITS // 2 - 1} of {BITS} bits")
    n = len(hashes)
    known = np.zeros(n, bool)
    if against is not None and len(against):
        known = _near_any(hashes, np.unique(against), distance)
    of = np.full(n, -1, np.int64)
    unique, first, inverse = np.unique(hashes, return_index=True, return_inverse=True)
    tables = Bands(distance)
    for u in np.argsort(first, kind="stable"):  # distinct hashes in order of their first appearance
        at = int(first[u])
        if known[at]:
            continue
        near = tables.nearest(int(unique[u]))
        if near is None:
            tables.add(int(unique[u]), at)
        else:
            of[at] = near
    for i in range(n):
        f = int(first[inverse[i]])
        if i != f and not known[i]:
            of[i] = of[f] if of[f] >= 0 else f
    return of, known


class Bands:
    """Hashes, found again by any of distance + 1 bands of their bits (Manber's pigeonhole)."""

    def __init__(self, distance: int):
        self.distance = distance
        edges = [round(i * BITS / (distance + 1)) for i in range(distance + 2)]
        self._bands = [(low, (1 << (high - low)) - 1) for low, high in itertools.pairwise(edges)]
        self._tables: list[dict[int, list[tuple[int, int]]]] = [{} for _ in self._bands]

    def add(self, value: int, at: int) -> None:
        for (low, mask), table in zip(self._bands, self._tables, strict=True):
            table.setdefault(value >> low & mask, []).append((value, at))

    def nearest(self, value: int) -> int | None:
        """Index of the earliest hash within the distance, or None."""
        best = None
        for (low, mask), table in zip(self._bands, self._tables, strict=True):
            for other, at in table.get(value >> low & mask, ()):
                if (best is None or at < best) and (value ^ other).bit_count() <= self.distance:
                    best = at
        return best


def _near_any(hashes: np.ndarray, others: np.ndarray, distance: int) -> np.ndarray:
    tables = Bands(distance)
    for i, value in enumerate(others):
        tables.add(int(value), i)
    unique, inverse = np.unique(hashes, return_inverse=True)
    return np.array([tables.nearest(int(v)) is not None for v in unique], bool)[inverse] if len(unique) else np.zeros(0, bool)


def by_embedding(
    features: np.ndarray, similarity: float, groups: np.ndarray | None = None, against: np.ndarray | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """The same by cosine similarity >= `similarity`. features [N, D] and against [M, D] of unit length; groups [N]: only within a group.

    Compares in blocks; a group of n pictures costs n^2 D multiplications.
    """
    n = len(features)
    of, known = np.full(n, -1, np.int64), np.zeros(n, bool)
    if against is not None and len(against):
        for start in range(0, n, BLOCK):
            block = features[start : start + BLOCK]
            for a in range(0, len(against), BLOCK):
                known[start : start + BLOCK] |= (block @ against[a : a + BLOCK].T >= similarity).any(1)
    groups = np.zeros(n, np.int64) if groups is None else groups
    for group in np.unique(groups):
        kept: list[int] = []
        mine = np.flatnonzero((groups == group) & ~known)
        for start in range(0, len(mine), BLOCK):
            rows = mine[start : start + BLOCK]
            block = features[rows]
            like = block @ features[kept].T >= similarity if kept else np.zeros((len(rows), 0), bool)
            within = block @ block.T >= similarity
            fresh: list[int] = []  # positions in the block
            for i, row in enumerate(rows):
                if like.shape[1] and like[i].any():
                    of[row] = kept[int(like[i].argmax())]
                elif earlier := [j for j in fresh if within[i, j]]:
                    of[row] = rows[earlier[0]]
                else:
                    fresh.append(i)
            kept += [int(rows[i]) for i in fresh]
    return of, known
