"""Sizes, scaling and padding."""

import doctest
from fractions import Fraction

import numpy as np
import pytest

from synth.tracking import canvas
from synth.tracking.canvas import back, bucket_of, fitted, mask_onto, onto


def test_the_examples_in_the_docstrings():
    assert doctest.testmod(canvas).failed == 0 < doctest.testmod(canvas).attempted


@pytest.mark.parametrize(
    "size", [(1, 1), (1, 5000), (5000, 1), (640, 427), (427, 640), (333, 333), (7, 3), (2048, 1536), (769, 512), (768, 513)]
)
@pytest.mark.parametrize("box", [(768, 512), (64, 64), (96, 48), (1024, 1)])
def test_an_image_fits_touches_a_side_and_keeps_its_proportions_to_a_pixel(size, box):
    w, h = fitted(*size, *box)
    assert max(w, h) <= box[0] and min(w, h) <= box[1] and (max(w, h) == box[0] or min(w, h) == box[1])
    scale = min(Fraction(box[0], max(size)), Fraction(box[1], min(size)))
    assert all(abs(found - side * scale) <= Fraction(1, 2) or found == 1 for found, side in zip((w, h), size, strict=True))
    assert fitted(*size[::-1], *box) == (h, w)
    for step in (1, 8, 64):
        bucket = bucket_of(*size, *box, step)
        assert all(b % step == 0 and 0 <= b - side < step for b, side in zip(bucket, (w, h), strict=True))


def test_padding_repeats_the_edge_below_and_to_the_right_and_is_cut_off_again():
    image = np.random.default_rng(0).integers(0, 256, (30, 50, 3), dtype=np.uint8)
    laid = onto(image, (50, 30), (64, 32))
    assert laid.shape == (32, 64, 3) and (laid[:30, :50] == image).all()
    assert (laid[30:, :50] == image[-1]).all() and (laid[:30, 50:] == image[:, -1:]).all()
    assert (back(laid, (50, 30), 50, 30) == image).all()
    smaller = onto(image, (25, 15), (32, 16))
    assert smaller.shape == (16, 32, 3) and back(smaller, (25, 15), 50, 30).shape == (30, 50, 3)
    assert back(onto(image[:, :1], (1, 64), (16, 64)), (1, 64), 1, 30).shape == (30, 1, 3)


def test_no_pixel_of_a_mask_is_lost_when_it_shrinks_and_padding_is_never_kept():
    rng = np.random.default_rng(1)
    for size in ((50, 30), (25, 15), (7, 4), (90, 60)):
        mask = (rng.random((30, 50)) < 0.01).astype(np.uint8)
        ys, xs = np.nonzero(mask)
        bucket = tuple(-(-n // 16) * 16 for n in size)
        laid = mask_onto(mask, size, bucket)
        assert laid.shape == bucket[::-1] and set(np.unique(laid)) == {0, 1}
        assert not laid[size[1] :].any() and not laid[:, size[0] :].any()
        assert laid[(ys * size[1] // 30), (xs * size[0] // 50)].all()
        assert laid.sum() < 12 * mask.sum() * max(1, size[0] * size[1] / 1500)
