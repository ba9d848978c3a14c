"""Filter `ensemble`: GenCL's ensemble (Seo et al. 2024, arXiv 2403.10853): how well several generators' pictures fit their class, and which
to take.

Below the stage: pure functions of features. Relative Mahalanobis distance (Ren et al. 2021, arXiv 2106.09022): a picture far from the mean
of its class but near to the mean of all fits badly. CONAN samples by a softmax over these scores.
"""

from array import array
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from synth.features.reading import feature_of, n_pictures
from synth.filters.rules import top_of_class
from synth.filters.scoring import labelled, scores_of
from synth.filters.selection import Selection, Verdicts, refuse_shortage, unit_length
from synth.reading.stage import ROLE, StageReader
from synth.seeds import uniform

LOW, HIGH = 5, 95  # percentiles to which scores are clipped
TEMPERATURE = 0.5
MODES = ("conan", "top", "bottom", "inverse", "equal")
RIDGE = 1e-6  # of the mean variance, where fewer pictures than dimensions leave a covariance singular


class Ensemble(Selection):
    """GenCL's ensemble over the pictures of several generators: relative Mahalanobis distance and CONAN's sampling."""

    def check(self) -> None:
        self.pictures = StageReader(self.folder)

    def there(self):
        first = 0
        for source, scores in zip(self.folder.upstream(ROLE), self.folder.upstream("scores"), strict=True):
            yield from ((first + slot, label) for slot, label in labelled(StageReader(source).sample_slots, scores))
            first += source.spec.slots

    def begin(self, unit):
        return {}

    def judge(self, there):
        config, slots = self.config, there.slots
        positions, features, first = array("q"), [], 0
        for stage in self.folder.upstream("scores"):
            for slot, _, sample in scores_of(stage):
                at = int(np.searchsorted(slots, first + slot))
                if at < len(slots) and slots[at] == first + slot:
                    positions.append(at)
                    features.append(feature_of(sample).astype(np.float16))
            first += n_pictures(stage)
        rows = np.frombuffer(positions, np.int64)
        labels = there.labels[rows]
        counts = {int(k): v for k, v in config.counts.items()}
        refuse_shortage(self.folder, labels, counts, config.allow_short)
        sources = np.array([self.pictures.at(int(s))[0] for s in slots], np.int64)
        scores = np.full(len(slots), np.nan)
        if len(rows):
            scores[rows] = rmd_scores(unit_length(np.array(features, np.float32)), labels)
        kept = np.zeros(len(slots), bool)
        kept[rows] = choose(
            Pool(scores[rows], labels, sources[rows], slots[rows]),
            counts,
            config.mode,
            config.seed,
            config.temperature,
        )

        def say(at: int) -> tuple[dict, str]:
            if np.isnan(scores[at]):
                return {}, "ensemble: has no feature"
            return {
                "rmd_score": round(float(scores[at]), 6),
                "source": int(sources[at]),
            }, f"ensemble: not drawn (RMD score {scores[at]:.4f})"

        return Verdicts(kept, say)


def rmd_scores(features: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Relative Mahalanobis score [N] of each picture: M_class - M_all, M = -(x - mu)' S^-1 (x - mu). features [N, D], labels [N].

    The covariance of the classes is shared: that of each picture around the mean of its own class. Higher = fits its class better.
    """
    x = features.astype(np.float64)
    classes, index = np.unique(labels, return_inverse=True)
    means = np.stack([x[index == c].mean(0) for c in range(len(classes))])
    return _mahalanobis(x - means[index]) - _mahalanobis(x - x.mean(0))


def _mahalanobis(centred: np.ndarray) -> np.ndarray:
    """-(x' S^-1 x) of rows [N, D], S their covariance."""
    covariance = centred.T @ centred / len(centred)
    covariance += np.eye(len(covariance)) * max(RIDGE * float(np.trace(covariance)) / len(covariance), 1e-12)
    return -np.einsum("nd,dn->n", centred, np.linalg.solve(covariance, centred.T))


def probabilities(scores: np.ndarray, mode: str = "conan", temperature: float = TEMPERATURE) -> np.ndarray:
    """Weights [N], sum 1, of the pictures of one class: scores clipped to their 5th..95th percentile, z-scores, softmax(z / T).

    inverse: the reciprocals of these weights, which is softmax(-z / T).
    """
    clipped = np.clip(scores, *np.percentile(scores, (LOW, HIGH)))
    spread = clipped.std()
    z = (clipped - clipped.mean()) / spread if spread > 0 else np.zeros(len(scores))
    logits = (z if mode == "conan" else -z) / temperature
    weights = np.exp(logits - logits.max())
    return weights / weights.sum()


@dataclass(frozen=True)
class Pool:
    """The pictures of all generators, a row a picture: all arrays [N]."""

    scores: np.ndarray
    labels: np.ndarray
    sources: np.ndarray  # which generator
    keys: np.ndarray  # int or str, unique; ties and luck hang on them


def choose(pool: Pool, counts: Mapping[int, int], mode: str, seed: int, temperature: float = TEMPERATURE) -> np.ndarray:
    """Mask of counts[class] pictures of each class (all where there are fewer), over the pictures of all generators.

    conan and inverse draw without replacement by Gumbel's trick, with a number of each picture's own: the k largest of log p + g.
    equal draws a generator, all with the same chance, then one of its pictures that is left.
    """
    if mode not in MODES:
        raise ValueError(f"ensemble mode {mode!r}: use one of {', '.join(MODES)}")
    if mode in ("top", "bottom"):
        return top_of_class(pool.scores if mode == "top" else -pool.scores, pool.labels, pool.keys, counts=counts)
    luck = np.array([uniform(seed, "ensemble", k if isinstance(k, str) else int(k)) for k in pool.keys])
    if mode == "equal":
        return _equal(pool, counts, luck, seed)
    tickets = np.empty(len(pool.scores))
    for label in np.unique(pool.labels):
        mine = pool.labels == label
        gumbel = -np.log(-np.log(np.clip(luck[mine], 1e-300, 1 - 2.0**-53)))
        tickets[mine] = np.log(probabilities(pool.scores[mine], mode, temperature)) + gumbel
    return top_of_class(tickets, pool.labels, pool.keys, counts=counts)


def _equal(pool: Pool, counts: Mapping[int, int], luck: np.ndarray, seed: int) -> np.ndarray:
    kept = np.zeros(len(pool.scores), bool)
    for label, wanted in sorted(counts.items()):
        mine = np.flatnonzero(pool.labels == label)
        left = {
            int(s): list(mine[pool.sources[mine] == s][np.argsort(luck[mine[pool.sources[mine] == s]])])
            for s in np.unique(pool.sources[mine])
        }
        for n in range(min(wanted, len(mine))):
            names = sorted(s for s, pictures in left.items() if pictures)
            drawn = names[int(uniform(seed, "ensemble", "model", int(label), n) * len(names))]
            kept[left[drawn].pop()] = True
    return kept
