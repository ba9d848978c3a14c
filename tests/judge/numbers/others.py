"""python -m tests.judge.numbers.others: what other libraries say of two sets, as JSON. Needs the packages of tests/export/readers.txt."""

import contextlib
import json
import sys

import numpy as np

from tests.judge.numbers import plain

K = 5


def main() -> None:
    from prdc import compute_prdc
    from sklearn.linear_model import LogisticRegression
    from sklearn.neighbors import KNeighborsClassifier

    (real, labels), (made, _) = sets()
    with contextlib.redirect_stdout(sys.stderr):  # it greets
        found = {"prdc": compute_prdc(real, made, K)}
    near = KNeighborsClassifier(K, weights=lambda d: np.exp((1 - d**2 / 2) / 0.07)).fit(real, labels)
    linear = LogisticRegression(C=1 / (1e-3 * len(real)), tol=1e-8, max_iter=5000).fit(scaled(real, real), labels)
    print(json.dumps(found | {"knn": near.predict_proba(made).tolist(), "linear": linear.predict_proba(scaled(made, real)).tolist()}))


def sets():
    return plain.features(300, width=12, seed=1, spread=1.5), plain.features(200, width=12, seed=2)


def scaled(x: np.ndarray, by: np.ndarray) -> np.ndarray:
    """Less the mean, and of a mean square of 1, of `by`."""
    away = by - by.mean(0, dtype=np.float64)
    return (x - by.mean(0, dtype=np.float64)) * np.sqrt(away.size / np.square(away).sum())


if __name__ == "__main__":
    main()
