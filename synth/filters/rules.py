"""Which of many scored pictures to keep: pure functions of arrays, one row a picture. They return a mask of those that are kept."""

from collections.abc import Mapping

import numpy as np

from synth.seeds import uniform


def order_by_score(scores: np.ndarray, keys: np.ndarray) -> np.ndarray:
    """Indices from the best to the worst score; ties, and scores that are no number (worst of all), in the order of their keys."""
    worst = np.where(np.isnan(scores), -np.inf, scores)
    return np.lexsort((keys, -worst))


def at_least(scores: np.ndarray, threshold: float) -> np.ndarray:
    """scores [N] that reach a threshold; one that is no number does not.

    >>> at_least(np.array([.1, .3, np.nan]), .2).tolist()
    [False, True, False]
    """
    with np.errstate(invalid="ignore"):
        return scores >= threshold


def top_of_class(
    scores: np.ndarray, labels: np.ndarray, keys: np.ndarray, share: float = 1.0, counts: Mapping[int, int] | None = None
) -> np.ndarray:
    """The best of each class: floor(share x its pictures), and at most counts[class] of them. share in 0..1; scores, labels, keys [N].

    >>> top_of_class(np.array([.1, .9, .5, .2]), np.array([0, 0, 0, 1]), np.arange(4), share=0.67).tolist()
    [False, True, True, False]
    """
    kept = np.zeros(len(scores), bool)
    order = order_by_score(scores, keys)
    for label in np.unique(labels):
        mine = order[labels[order] == label]
        most = int(share * len(mine) + 1e-9)
        if counts is not None:
            most = min(most, counts.get(int(label), 0))
        kept[mine[:most]] = True
    return kept


def random_of_class(labels: np.ndarray, keys: np.ndarray, counts: Mapping[int, int], seed: int) -> np.ndarray:
    """counts[class] pictures of each class (all where there are fewer), drawn without replacement.

    Each picture's ticket is drawn from its own key, so a picture that comes or goes changes no other one's luck.
    """
    tickets = np.array([uniform(seed, "balance", int(k)) for k in keys])
    return top_of_class(tickets, labels, keys, counts=counts)


def missing_counts(labels: np.ndarray, counts: Mapping[int, int]) -> dict[int, int]:
    """class -> how many pictures are wanting of counts[class]."""
    there = {int(label): int(n) for label, n in zip(*np.unique(labels, return_counts=True), strict=True)}
    return {label: n - there.get(label, 0) for label, n in counts.items() if there.get(label, 0) < n}
