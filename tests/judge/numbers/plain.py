"""The numbers of synth/judge by their definitions, row by row and slowly; and sets of features to compare on."""

import math

import numpy as np


def features(n: int, width: int = 16, classes: int = 4, seed: int = 0, spread: float = 0.7) -> tuple[np.ndarray, np.ndarray]:
    """([n, width] float32 of unit length, [n] labels): a cloud a class, its centre the same for every seed."""
    centres = np.random.default_rng(99).normal(size=(classes, width)) + 1
    labels = np.arange(n) % classes
    x = centres[labels] + spread * np.random.default_rng(seed).normal(size=(n, width))
    return (x / np.linalg.norm(x, axis=1, keepdims=True)).astype(np.float32), labels


def distance(a, b) -> float:
    return math.dist([float(v) for v in a], [float(v) for v in b])


def radii(x, k: int) -> list[float]:
    return [sorted(distance(x[i], x[j]) for j in range(len(x)) if j != i)[k - 1] for i in range(len(x))]


def prdc(real, made, k: int) -> tuple[float, float, float, float]:
    real_radius, made_radius = radii(real, k), radii(made, k)
    d = [[distance(r, m) for m in made] for r in real]
    n, m = range(len(real)), range(len(made))
    return (
        sum(any(d[i][j] < real_radius[i] for i in n) for j in m) / len(made),
        sum(any(d[i][j] < made_radius[j] for j in m) for i in n) / len(real),
        sum(d[i][j] < real_radius[i] for i in n for j in m) / (k * len(made)),
        sum(min(d[i]) < real_radius[i] for i in n) / len(real),
    )


def clipped(real, made, k: int) -> tuple[float, float]:
    """2507.01761, with the integral of its expectation taken by brute force."""
    radius = radii(real, k)
    small = np.minimum(radius, np.median(radius))
    d = np.array([[distance(r, m) for m in made] for r in real])
    own = np.array([[distance(r, other) for other in real] for r in real])
    np.fill_diagonal(own, np.inf)
    rim = small[:, None] * (1 + 1e-6)  # the k-th neighbour of its own set is on it
    density = np.minimum((d <= rim).sum(0) / k, 1).mean() / np.minimum((own <= rim).sum(0) / k, 1).mean()
    raw = np.mean([min(int((d[i] < radius[i]).sum()), k) / k for i in range(len(real))])
    expected = [coverage_of(len(real), rows, k) for rows in range(len(made) + 1)]
    return min(density, 1), float(np.interp(raw, expected, np.arange(len(made) + 1) / len(made)))


def coverage_of(n: int, rows: int, k: int) -> float:
    """E min(J, k) / k, J binomial(rows, p), p beta(k, n - k): the volume of a ball to the k-th of n - 1 others."""
    p = (np.arange(2_000) + 0.5) / 2_000
    weight = p ** (k - 1) * (1 - p) ** (n - k - 1)
    mean = sum(min(j, k) * math.comb(rows, j) * p**j * (1 - p) ** (rows - j) for j in range(rows + 1))
    return float((weight * mean).sum() / weight.sum() / k)


def cmmd(real, made) -> float:
    def mean(a, b):
        return sum(math.exp(-(distance(x, y) ** 2) / 200) for x in a for y in b) / (len(a) * len(b))

    return 1000 * (mean(real, real) + mean(made, made) - 2 * mean(real, made))


def frechet(real, made) -> float:
    """By the eigenvalues of the product, which is not symmetric."""
    real, made = real.astype(np.float64), made.astype(np.float64)
    one, other = np.cov(real, rowvar=False), np.cov(made, rowvar=False)
    root = np.sqrt(np.linalg.eigvals(one @ other).astype(complex)).real.sum()
    return float(np.square(real.mean(0) - made.mean(0)).sum() + np.trace(one) + np.trace(other) - 2 * root)


def vendi(x) -> float:
    values = np.linalg.eigvalsh(x.astype(np.float64) @ x.T.astype(np.float64) / len(x))
    return math.exp(-sum(v * math.log(v) for v in values if v > 1e-12))


def nearest(a, b, k: int) -> list[list[int]]:
    return [sorted(range(len(b)), key=lambda j, x=x: (round(distance(x, b[j]), 6), j))[:k] for x in a]


def knn(train, labels, test, n_classes: int, k: int, temperature: float) -> np.ndarray:
    answers = np.zeros((len(test), n_classes))
    for row, near in enumerate(nearest(test, train, k)):
        for j in near:
            answers[row, labels[j]] += math.exp(float(test[row].astype(np.float64) @ train[j].astype(np.float64)) / temperature)
    return answers / answers.sum(1, keepdims=True)


def calibration_error(probabilities, labels, bins: int) -> float:
    total = 0.0
    for low in range(bins):
        rows = [i for i, p in enumerate(probabilities) if low / bins < max(p) <= (low + 1) / bins]
        if rows:
            right = sum(int(np.argmax(probabilities[i])) == labels[i] for i in rows) / len(rows)
            total += abs(right - sum(max(probabilities[i]) for i in rows) / len(rows)) * len(rows)
    return total / len(labels)
