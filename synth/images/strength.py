"""Noise strength in steps: how many of a schedule are run, and how to tell a pipeline so. Pure."""

import math
from fractions import Fraction


def steps_run(steps: int, strength: float) -> int:
    """Steps that are run of a schedule. Exact: in floats 50 * 0.58 is less than 29.

    >>> steps_run(50, 0.1), steps_run(50, 0.58), steps_run(20, 0.01)
    (5, 29, 0)
    """
    return math.floor(steps * Fraction(str(strength)))


def strength_for(steps: int, run: int, floors: bool) -> float:
    """A strength of which a pipeline makes `run` steps, half a step away from where its floats could round to another number.

    floors: it runs int(steps * strength); else steps - int(steps - steps * strength).
    """
    return min(1.0, (run + (0.5 if floors else -0.5)) / steps)
