"""A product of matrices that is the same, bit for bit, however many threads compute it and on whatever machine.

Both operands are rounded to whole numbers so small that all partial sums of a product are whole numbers below 2**53, which float64 holds
exactly: then no order of summation differs from another. That leaves each operand about 26 bits below its largest row or column, more
than float32 has, at the speed of a float64 product.
"""

import math

import numpy as np

SUM_BITS = 52


def product(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """[N, K] @ [K, M], float64. By Cauchy and Schwarz no partial sum exceeds |row of a| |column of b|."""
    wide, high = _exponent(a, 1), _exponent(b, 0)
    bits = SUM_BITS - 1  # rounding may lengthen a row a little
    left = bits // 2
    a_shift, b_shift = left - wide, bits - left - high
    return np.ldexp(np.rint(np.ldexp(a, a_shift)) @ np.rint(np.ldexp(b, b_shift)), -(a_shift + b_shift))


def _exponent(x: np.ndarray, axis: int) -> int:
    """e with all rows (axis 1) or columns (axis 0) shorter than 2**e."""
    longest = math.sqrt(np.square(x).sum(axis).max(initial=0.0))
    return math.frexp(longest)[1]
