"""What filter `judge` does to the accuracy of a linear probe: of pictures that it left, and of all, at equal counts a class.

    python -m tests.bench.judge_filter FEATURES REAL_FEATURES TEST_FEATURES [--per-class 8] [--seeds 20] [--wrong 0.2]

The three are folders of features stages, as a run with judge.real and judge.test makes them. Each row is a setting of the filter: how many
pictures it left, and the accuracy on the test set of a probe trained on `per-class` pictures of each class, means of as many draws as there
are seeds, with 95 % intervals over draws and test pictures; and its difference to no filter, by the same test pictures. --wrong: the same
after that share of the pictures was given the label of another class.
"""

import argparse
from dataclasses import replace
from pathlib import Path

import numpy as np

from synth.features.reading import load
from synth.filters.selection import There
from synth.judge.config import JudgeFilterConfig
from synth.judge.filtering import STAYS, decided
from synth.judge.matching import matched
from synth.judge.numbers.answers import correct
from synth.judge.numbers.intervals import interval
from synth.judge.probes import equal_counts, linear_probe
from synth.judge.scores import LEAK, Real
from synth.store.folder import StageFolder

ALL = JudgeFilterConfig(keep="none", share=0.5, min_margin=-1.0, max_distance=1.0, leak=1.0)
SETTINGS: dict[str, dict] = {
    "no filter": {},
    "keep=margin share=0.5": {"keep": "margin"},
    "keep=entropy share=0.5": {"keep": "entropy"},
    "keep=margin share=0.8": {"keep": "margin", "share": 0.8},
    "min_margin=0": {"min_margin": 0.0},
    "max_distance=0.95": {"max_distance": 0.95},
    "max_distance=0.8": {"max_distance": 0.8},
    "min_margin=0 keep=margin share=0.5": {"min_margin": 0.0, "keep": "margin"},
}


def mislabelled(labels: np.ndarray, share: float, n_classes: int) -> np.ndarray:
    """Labels of which a share is that of another class."""
    rng = np.random.default_rng(0)
    wrong = rng.permutation(len(labels))[: int(share * len(labels))]
    labels = labels.copy()
    labels[wrong] = (labels[wrong] + rng.integers(1, n_classes, len(wrong))) % n_classes
    return labels


def main() -> None:
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    p.add_argument("stages", nargs=3, type=Path)
    p.add_argument("--per-class", type=int, default=8)
    p.add_argument("--seeds", type=int, default=20)
    p.add_argument("--wrong", type=float, default=0.0)
    args = p.parse_args()
    made, real, test = (load(StageFolder.open(path)) for path in args.stages)
    numbers = matched({"made": made.classes, "real": real.classes, "test": test.classes}).numbers
    of_made, of_real, truth = (np.array(numbers[n])[s.labels] for n, s in (("made", made), ("real", real), ("test", test)))
    n_classes = max(numbers["made"]) + 1
    labels = mislabelled(of_made, args.wrong, n_classes)
    columns = Real.of(real.features, of_real, {n: n for n in range(n_classes)}, None).scores(made.features, labels)
    columns[LEAK] = np.zeros(len(labels))
    print(f"{len(made):,} made, {len(real):,} real, {len(test):,} test pictures, {n_classes} classes, {args.wrong:.0%} of labels wrong")
    print(f"{args.per_class} a class, {args.seeds} draws\n{'filter':36} {'left':>6} {'fewest':>6}   accuracy         difference")
    plain = np.zeros(0)
    for name, keys in SETTINGS.items():
        there = There(made.slots, labels)
        stays = np.flatnonzero(decided(columns, np.ones(len(labels), bool), there, replace(ALL, **keys)) == STAYS)
        right = []
        for seed in range(args.seeds):
            rows = stays[equal_counts(labels[stays], args.per_class, seed)]
            right.append(correct(linear_probe(made.features[rows], labels[rows], test.features, n_classes), truth))
        found = interval(np.array(right), 0)
        plain = plain if len(plain) else np.array(right, float)
        apart = interval(np.array(right, float) - plain, 0)
        fewest = np.bincount(labels[stays], minlength=n_classes).min()
        told = f"{found.value:.3f} +- {found.half:.3f}   {apart.value:+.3f} [{apart.low:+.3f}, {apart.high:+.3f}]"
        print(f"{name:36} {len(stays):6,} {fewest:6}   {told}", flush=True)


if __name__ == "__main__":
    main()
