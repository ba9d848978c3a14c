"""Outlines of masks: COCO gives them back to the pixel, holes and corners are what they should be."""

import re

import numpy as np
import pytest
from pycocotools import mask as coco

from synth.export.outlines import outlines, polygons, svg_path


def filled(loops: list[list[int]], height: int, width: int) -> np.ndarray:
    """By the even-odd rule."""
    found = np.zeros((height, width), bool)
    for code in coco.frPyObjects(loops, height, width) if loops else []:
        found ^= np.asarray(coco.decode([code])[:, :, 0]).astype(bool)
    return found


def random_masks(n: int):
    rng = np.random.default_rng(0)
    for _ in range(n):
        height, width = (int(v) for v in rng.integers(1, 40, 2))
        yield rng.random((height, width)) < rng.uniform(0.02, 0.98)


def test_filling_the_outlines_gives_any_mask_back_to_the_pixel():
    holes = 0
    for mask in random_masks(150):
        loops = [[v for point in loop for v in point] for loop in outlines(mask)]
        assert (filled(loops, *mask.shape) == mask).all()
        found = polygons(mask)
        holes += found is None
        assert found in (None, loops)
        for x0, y0, x1, y1 in ((*a, *b) for loop in outlines(mask) for a, b in zip(loop, [*loop[1:], loop[0]], strict=True)):
            assert (x0 == x1) != (y0 == y1)  # every step goes straight, and somewhere
    assert 50 < holes < 150


def test_pixels_that_touch_by_a_corner_are_two_polygons_and_holes_are_none():
    assert polygons(np.eye(2, dtype=bool)) == [[0, 0, 1, 0, 1, 1, 0, 1], [1, 1, 2, 1, 2, 2, 1, 2]]
    assert polygons(np.eye(2, dtype=bool)[::-1]) == [[1, 0, 2, 0, 2, 1, 1, 1], [0, 1, 1, 1, 1, 2, 0, 2]]
    assert polygons(np.ones((2, 3), np.uint8)) == [[0, 0, 3, 0, 3, 2, 0, 2]]
    ring = np.ones((3, 3), bool)
    ring[1, 1] = False
    assert polygons(ring) is None and len(outlines(ring)) == 2 and polygons(np.zeros((3, 3), bool)) == []


@pytest.mark.parametrize("scale", [1, 3])
def test_svg_paths_follow_the_outlines(scale):
    for mask in random_masks(20):
        loops = []
        for part in svg_path(mask, scale).split("z")[:-1]:
            x, y = (int(v) for v in re.match(r"M(\d+) (\d+)", part).groups())
            loop = [(x, y)]
            for way, step in re.findall(r"([hv])(-?\d+)", part):
                x, y = (x + int(step), y) if way == "h" else (x, y + int(step))
                loop.append((x, y))
            loops.append(loop)
        assert loops == [[(x * scale, y * scale) for x, y in loop] for loop in outlines(mask)]
