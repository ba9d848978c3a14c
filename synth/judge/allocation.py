"""Whole numbers of pictures by weights: largest remainders, with a floor. Pure, exact, and the same on every machine."""

from collections.abc import Mapping, Sequence
from fractions import Fraction
from typing import TypeVar

DIGITS = 6  # behind the point, of a weight: what lies below that decides nothing

K = TypeVar("K")


def allocated(weights: Mapping[K, float], total: int, least: int = 0, before: Mapping[K, int] | None = None) -> dict[K, int]:
    """key -> how many of `total`: `least` each, and the rest in proportion to the weights, rounded by largest remainders; ties fall to the
    key that had the fewest `before`, then to the one that stands first. Where all weights are 0 they are equal. ValueError where `total` is
    less than `least` of each.

    >>> allocated({"cat": 3, "dog": 1}, 10), allocated({"cat": 3, "dog": 1}, 10, least=3), allocated({"cat": 0, "dog": 0}, 3)
    ({'cat': 8, 'dog': 2}, {'cat': 6, 'dog': 4}, {'cat': 2, 'dog': 1})
    >>> allocated({"cat": 1, "dog": 1}, 3, before={"cat": 2, "dog": 1})
    {'cat': 1, 'dog': 2}
    """
    rest = total - least * len(weights)
    if rest < 0 or (rest and not weights):
        raise ValueError(f"{total} cannot be {least} or more of each of {len(weights)}")
    exact = {key: Fraction(round(weight * 10**DIGITS)) for key, weight in weights.items()}
    if not (whole := sum(exact.values())):
        exact, whole = dict.fromkeys(exact, Fraction(1)), Fraction(len(exact))
    wanted = {key: rest * weight / whole for key, weight in exact.items()}
    counts = {key: int(share) for key, share in wanted.items()}
    left = rest - sum(counts.values())
    had = before or {}
    order = sorted(wanted, key=lambda key: (counts[key] - wanted[key], had.get(key, 0)))  # stable: the first of those alike comes first
    more = set(order[:left])
    return {key: least + n + (key in more) for key, n in counts.items()}


def least_of(total: int, classes: int, floor: float) -> int:
    """Pictures that each class gets at least: a share `floor` of an equal part, and one.

    >>> least_of(200, 20, 0.25), least_of(20, 20, 0.0), least_of(200, 20, 1.0)
    (2, 1, 10)
    """
    return max(1, int(Fraction(round(floor * 10**DIGITS), 10**DIGITS) * total / classes)) if classes else 0


def round_sizes(total: int, rounds: int) -> list[int]:
    """Pictures of each round: as many each, the first ones one more where that does not come out even.

    >>> round_sizes(100, 3)
    [34, 33, 33]
    """
    return [total // rounds + (at < total % rounds) for at in range(rounds)]


def in_turn(counts: Mapping[K, int]) -> Sequence[K]:
    """Each key as often as it counts, going round them, so that any first part is balanced.

    >>> in_turn({"cat": 3, "dog": 1})
    ['cat', 'dog', 'cat', 'cat']
    """
    return [key for turn in range(max(counts.values(), default=0)) for key, n in counts.items() if n > turn]
