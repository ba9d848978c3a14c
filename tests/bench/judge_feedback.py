"""What feedback between rounds is worth: the accuracy of a linear probe that is trained on all pictures of all rounds, by how many there
are, for each kind of feedback; and how many pictures the control needs for the same accuracy.

    python -m tests.bench.judge_feedback FEATURES REAL_FEATURES TEST_FEATURES [--pictures 60 120 ..] [--rounds 3] [--seeds 20]

The three are folders of features stages, as a run of recipe=class_images with judge.real and judge.test makes them: of a pool of pictures
that are drawn already, as many of each class. Picture n of a class is the same one whichever feedback asks for it, as in recipe=feedback,
and each seed puts the pictures of a class into another order. Who gets how many is decided by the functions of stage `shares`, by class
alone. Accuracies are means over the seeds with 95 % intervals over seeds and test pictures; differences are paired. A class that is asked
for more pictures than its pool holds is told: its row stands for less than it says.
"""

import argparse
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from synth.features.reading import load
from synth.judge.allocation import allocated, least_of, round_sizes
from synth.judge.config import FEEDBACKS, NONE
from synth.judge.matching import matched
from synth.judge.numbers.answers import correct
from synth.judge.numbers.intervals import interval
from synth.judge.probes import linear_probe
from synth.judge.steering import Pictures, filled, needs
from synth.seeds import derive, generator
from synth.store.folder import StageFolder

NEIGHBOURS = 5


@dataclass(frozen=True)
class World:
    """order: of each class the rows of its pictures, in the order in which they are drawn."""

    made: Pictures
    real: Pictures
    test: Pictures
    n_classes: int

    def order(self, seed: int) -> list[np.ndarray]:
        lots = [generator(derive(seed, "bench of feedback", number)) for number in range(self.n_classes)]
        return [lot.permutation(np.flatnonzero(self.made.labels == number)) for number, lot in enumerate(lots)]


@dataclass(frozen=True)
class Drawn:
    """rows [N] of the pool; counts [C]; short: pictures that a pool did not hold."""

    rows: np.ndarray
    counts: np.ndarray
    short: int


def drawn(world: World, by: str, pictures: int, rounds: int, floor: float, order: list[np.ndarray]) -> Drawn:
    """The pictures of all rounds."""
    counts, rows, short = np.zeros(world.n_classes, np.int64), np.zeros(0, np.int64), 0
    for k, size in enumerate(round_sizes(pictures, rounds)):
        weights, least = [1.0] * world.n_classes, 0
        if k and by != NONE:
            made = Pictures(world.made.features[rows], world.made.labels[rows])
            weights, least = (
                filled(needs(by, made, world.real, world.n_classes, 1, NEIGHBOURS).of_class),
                least_of(size, world.n_classes, floor),
            )
        shares = allocated(dict(enumerate(weights)), size, least, dict(enumerate(counts)))
        counts += np.array([shares[number] for number in range(world.n_classes)])
        rows = np.sort(np.concatenate([of[:n] for of, n in zip(order, counts, strict=True)]))
        short = pictures - len(rows) if k == rounds - 1 else 0
    return Drawn(rows, counts, short)


def right(world: World, rows: np.ndarray) -> np.ndarray:
    """[M] bool: whether a probe of these pictures is right about a test picture."""
    p = linear_probe(world.made.features[rows], world.made.labels[rows], world.test.features, world.n_classes)
    return correct(p, world.test.labels)


def needed(accuracy: float, pictures: list[int], of_control: list[float]) -> float | None:
    """Pictures at which the control has an accuracy, in between by a straight line over their logarithm; None outside of what was measured.

    >>> round(needed(0.5, [100, 400], [0.4, 0.6])), needed(0.7, [100, 400], [0.4, 0.6])
    (200, None)
    """
    rising = np.maximum.accumulate(of_control)
    if not rising[0] <= accuracy <= rising[-1]:
        return None
    return float(np.exp(np.interp(accuracy, rising, np.log(pictures))))


def read(paths: list[Path]) -> World:
    made, real, test = (load(StageFolder.open(path)) for path in paths)
    numbers = matched({"made": made.classes, "real": real.classes, "test": test.classes}).numbers
    sets = []
    for name, there in (("made", made), ("real", real), ("test", test)):
        labels = np.array([*numbers[name], -1])[there.labels]
        sets.append(Pictures(there.features[labels >= 0], labels[labels >= 0]))
    return World(*sets, max(numbers["made"]) + 1)


def main() -> None:
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    p.add_argument("stages", nargs=3, type=Path)
    p.add_argument("--pictures", nargs="+", type=int, default=[60, 90, 120, 180, 240, 360, 480])
    p.add_argument("--rounds", type=int, default=3)
    p.add_argument("--seeds", type=int, default=20)
    p.add_argument("--floor", type=float, default=0.5)
    args = p.parse_args()
    world, sizes = read(args.stages), sorted(args.pictures)
    sets = ", ".join(f"{len(there.labels):,} {name}" for name, there in (("pool", world.made), ("real", world.real), ("test", world.test)))
    print(f"{sets} pictures, {world.n_classes} classes; {args.rounds} rounds, {args.seeds} seeds, floor {args.floor:g}")
    print(
        f"{'feedback':10} {'pictures':>8} {'of a class':>10} {'short':>5}   accuracy         difference                  the control needs"
    )
    orders = [world.order(seed) for seed in range(args.seeds)]
    control: dict[int, np.ndarray] = {}
    for by in (NONE, *(f for f in FEEDBACKS if f != NONE)):
        for n in sizes:
            sets_of = [drawn(world, by, n, args.rounds, args.floor, order) for order in orders]
            found = np.array([right(world, one.rows) for one in sets_of], float)
            control.setdefault(n, found)
            whole, apart = interval(found, 0), interval(found - control[n], 0)
            spread = f"{min(one.counts.min() for one in sets_of)}..{max(one.counts.max() for one in sets_of)}"
            told = f"{whole.value:.3f} +- {whole.half:.3f}   {apart.value:+.3f} [{apart.low:+.3f}, {apart.high:+.3f}]"
            alike = needed(whole.value, sizes, [float(control[m].mean()) for m in sizes]) if by != NONE else None
            said = "" if by == NONE else f"{alike:,.0f} ({n / alike:.2f} of it)" if alike else "outside of what was measured"
            print(f"{by:10} {n:8,} {spread:>10} {np.mean([one.short for one in sets_of]):5.1f}   {told:44}  {said}", flush=True)


if __name__ == "__main__":
    main()
