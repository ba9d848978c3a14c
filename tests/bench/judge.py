"""What the judge's numbers cost: seconds of one core and memory of each, on random features.

    python -m tests.bench.judge [--made 100000] [--real 50000] [--width 512] [--classes 100] [--share 0.1] [--only NAME ...]

One thread, as in a worker; seconds of the processor, so that a busy machine changes little. --share: measure that share of the rows, and
say what all of them would take: seconds in proportion to the multiplications. The last column says so for 1,000,000 x 768 made and 500,000
real ones. A number runs in a process of its own; its peak memory holds the features that it reads.
"""

import argparse
import multiprocessing
import os
import resource
import time
from collections.abc import Callable
from dataclasses import dataclass

os.environ |= dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS"), "1")  # before numpy

import numpy as np

from synth.judge import probes
from synth.judge.numbers import alike, balls, moments
from synth.judge.numbers.intervals import interval


@dataclass(frozen=True)
class Sizes:
    made: int
    real: int
    width: int
    classes: int


@dataclass(frozen=True)
class Features:
    made: np.ndarray
    real: np.ndarray
    labels: np.ndarray  # of made
    real_labels: np.ndarray
    sizes: Sizes


# name -> (the number, multiplications)
NUMBERS: dict[str, tuple[Callable[[Features], object], Callable[[Sizes], float]]] = {
    "frechet": (lambda f: moments.frechet(f.real, f.made), lambda s: (s.made + s.real) * s.width**2),
    "cmmd, series": (
        lambda f: moments.cmmd_of(moments.moments(f.real, "real"), moments.moments(f.made)),
        lambda s: (s.made + s.real) * s.width**2,
    ),
    "cmmd of 2,000": (lambda f: moments.cmmd(f.real[:2000], f.made[:2000]), lambda s: s.width),
    "vendi, similarity": (
        lambda f: [moments.vendi_of(m := moments.moments(f.made)), moments.mean_similarity_of(m)],
        lambda s: s.made * s.width**2,
    ),
    "prdc and clipped": (
        lambda f: [balls.prdc_of(b := balls.balls(f.real, f.made)), balls.clipped_of(b)],
        lambda s: (s.made**2 / 2 + s.real**2 / 2 + s.made * s.real) * s.width,
    ),
    "the same by class": (lambda f: _by_class(f), lambda s: (s.made**2 / 2 + s.real**2 / 2 + s.made * s.real) * s.width / s.classes),
    "duplicates": (lambda f: alike.duplicates(f.made, f.labels, 0.95), lambda s: s.made**2 / 2 * s.width),
    "leaks": (lambda f: alike.leaks(f.made, f.real, 0.95), lambda s: s.made * s.real * s.width),
    "kNN of 5,000": (lambda f: probes.knn(f.made, f.labels, f.real[:5000], f.sizes.classes), lambda s: s.made * 5000 * s.width),
    "linear probe": (
        lambda f: probes.linear_probe(f.made, f.labels, f.real[:5000], f.sizes.classes),
        lambda s: s.made * s.width * s.classes,
    ),
    "interval": (lambda f: interval(f.made[:, 0].astype(np.float64), 0), lambda s: s.made),
}


def _by_class(f: Features) -> list:
    return [balls.prdc(f.real[f.real_labels == c], f.made[f.labels == c]) for c in range(f.sizes.classes)]


def drawn(sizes: Sizes) -> Features:
    rng = np.random.default_rng(0)
    centres = rng.normal(size=(sizes.classes, sizes.width)).astype(np.float32)

    def rows(n: int) -> tuple[np.ndarray, np.ndarray]:
        labels = np.arange(n) % sizes.classes
        x = rng.standard_normal((n, sizes.width), np.float32)
        for start in range(0, n, 4096):
            x[start : start + 4096] += 0.5 * centres[labels[start : start + 4096]]
        x /= np.linalg.norm(x, axis=1, keepdims=True)
        return x, labels

    (made, labels), (real, real_labels) = rows(sizes.made), rows(sizes.real)
    return Features(made, real, labels, real_labels, sizes)


def _measure(name: str, sizes: Sizes, out) -> None:
    features = drawn(sizes)
    begun = time.process_time()
    NUMBERS[name][0](features)
    out.send((time.process_time() - begun, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024))


def measured(name: str, sizes: Sizes) -> tuple[float, float]:
    """(seconds, MB at the peak)"""
    context = multiprocessing.get_context("spawn")
    here, there = context.Pipe(duplex=False)
    process = context.Process(target=_measure, args=(name, sizes, there))
    process.start()
    there.close()
    found = here.recv()
    process.join()
    return found


def main() -> None:
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    p.add_argument("--made", type=int, default=100_000)
    p.add_argument("--real", type=int, default=50_000)
    p.add_argument("--width", type=int, default=512)
    p.add_argument("--classes", type=int, default=100)
    p.add_argument("--share", type=float, default=1.0)
    p.add_argument("--only", nargs="*", choices=NUMBERS, default=list(NUMBERS))
    args = p.parse_args()
    asked = Sizes(args.made, args.real, args.width, args.classes)
    tried = Sizes(int(asked.made * args.share), int(asked.real * args.share), asked.width, asked.classes)
    large = Sizes(1_000_000, 500_000, 768, asked.classes)
    print(f"measured: {tried.made:,} made and {tried.real:,} real x {tried.width}, {tried.classes} classes, one thread", flush=True)
    print(f"{'number':18} {'s':>8} {'peak MB':>8} {'scaled to all, s':>17} {'1,000,000 x 768, h':>19}")
    for name in args.only:
        seconds, peak = measured(name, tried)
        cost = NUMBERS[name][1]
        all_of_it, most = (seconds * cost(s) / cost(tried) for s in (asked, large))
        print(f"{name:18} {seconds:8.1f} {peak:8.0f} {all_of_it:17,.0f} {most / 3600:19,.2f}", flush=True)


if __name__ == "__main__":
    main()
