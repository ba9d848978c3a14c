"""The warp: where points land, what is filled, what is drawn."""

from dataclasses import replace

import numpy as np
import pytest

from synth.seeds import generator
from synth.tracking.masks import object_of_mask
from synth.tracking.warp import Warp, coloured, draw, warped
from tests.configs import WarpConfig

NEVER = WarpConfig(affine=0, perspective=0, flip=0, colour=0)
ALWAYS = WarpConfig(affine=1, perspective=1, flip=1, colour=1)
W, H = 90, 60


def picture(seed: int = 0) -> np.ndarray:
    """Smooth colours without black."""
    y, x = np.mgrid[:H, :W]
    phases = np.random.default_rng(seed).random(3) * 6
    return np.stack([140 + 90 * np.sin(x / 14 + y / 17 + p) for p in phases], -1).astype(np.uint8)


def landed(matrix, x: float, y: float) -> tuple[float, float]:
    u, v, w = matrix @ (x, y, 1)
    return u / w, v / w


def dot(x: int, y: int) -> np.ndarray:
    mask = np.zeros((1, H, W), np.uint8)
    mask[0, y - 1 : y + 2, x - 1 : x + 2] = 1
    return mask


def test_nothing_changes_where_all_probabilities_are_0():
    image, masks = picture(), dot(20, 30)
    for seed in range(5):
        found = draw(NEVER, generator(seed))
        assert found == Warp() and (found.homography(W, H) == np.eye(3)).all()
        moved, same = warped(image, masks, found)
        assert (moved == image).all() and (same == masks).all()


def test_each_part_moves_points_as_its_name_says():
    middle = (W - 1) / 2, (H - 1) / 2
    at = lambda warp, x, y: landed(warp.homography(W, H), x, y)  # noqa: E731
    assert at(Warp(flip=True), 0, 5) == (W - 1, 5) and at(Warp(flip=True), 10, 0) == (W - 11, 0)
    assert at(Warp(scale=(2, 0.5)), middle[0] + 10, middle[1] + 10) == pytest.approx((middle[0] + 20, middle[1] + 5))
    assert at(Warp(rotate=90), middle[0] + 10, middle[1]) == pytest.approx((middle[0], middle[1] + 10))  # right goes down: clockwise
    assert at(Warp(translate=(0.1, 0.2)), 3, 4) == pytest.approx((3 + 9, 4 + 12))
    assert at(Warp(shear=(45, 0)), middle[0], middle[1] + 10) == pytest.approx((middle[0] + 10, middle[1] + 10))
    assert at(Warp(shear=(0, 45)), middle[0] + 10, middle[1]) == pytest.approx((middle[0] + 10, middle[1] + 10))
    inset = Warp(corners=((0.1, 0.2), (0.0, 0.1), (0.3, 0.0), (0.05, 0.25)))
    for corner, frame in (((9, 12), (0, 0)), ((W, 6), (W, 0)), ((0.7 * W, H), (W, H)), ((4.5, 45), (0, H))):
        assert at(inset, corner[0] - 0.5, corner[1] - 0.5) == pytest.approx((frame[0] - 0.5, frame[1] - 0.5))
    assert at(replace(inset, flip=True), 8.5, 11.5) == pytest.approx((W - 0.5, -0.5))  # perspective first, then the flip


@pytest.mark.parametrize("seed", range(12))
def test_image_and_masks_go_where_the_matrix_says(seed):
    """Against a resampling of its own, by the inverse matrix, pixel by pixel."""
    config = WarpConfig(affine=1, perspective=seed % 2, flip=seed % 3 == 0, colour=0)
    warp, image = draw(config, generator(seed)), picture(seed)
    masks = np.stack([dot(20, 30)[0], dot(60, 20)[0], np.ones((H, W), np.uint8)] * 4)
    moved, found = warped(image, masks, warp)
    inverse = np.linalg.inv(warp.homography(W, H))
    wrong, far = 0, 0
    for y in range(0, H, 2):
        for x in range(0, W, 2):
            u, v = landed(inverse, x, y)
            inside = -0.5 < u < W - 0.5 and -0.5 < v < H - 0.5
            if min(abs(u % 1 - 0.5), abs(v % 1 - 0.5)) > 0.01:  # nearly half way between two pixels, either may be taken
                i, j = round(u), round(v)
                expected = [int(inside and masks[k, j, i]) for k in range(3)]
                wrong += found[:3, y, x].tolist() != expected
            if not inside:
                far += (moved[y, x] != image[y, x]).any()
            elif 1 < u < W - 2 and 1 < v < H - 2:
                i, j = int(u), int(v)
                a, b = u - i, v - j
                square = image[j : j + 2, i : i + 2].astype(float)
                expected = (square[0, 0] * (1 - a) + square[0, 1] * a) * (1 - b) + (square[1, 0] * (1 - a) + square[1, 1] * a) * b
                far += abs(expected - moved[y, x]).max() > 2
    assert wrong == 0 and far == 0
    assert (found[3:6] == found[:3]).all() and (found[9:] == found[:3]).all()


def test_black_in_the_original_is_not_taken_for_outside():
    """Two fills of one warp: what is black inside stays black, whatever lies there in the original."""
    image = picture()
    image[20:40, 30:60] = 0
    warp = Warp(rotate=20, scale=(0.8, 0.8), translate=(-0.3, 0.0))  # to where the original is not black
    moved, inside = warped(image, np.ones((1, H, W), np.uint8), warp)
    outside = inside[0] == 0
    assert 0.05 < outside.mean() < 0.6 and (moved[outside] == image[outside]).all()
    x, y = (round(v) for v in landed(warp.homography(W, H), 45, 30))
    assert (moved[y, x] == 0).all() and image[y, x].all()
    two = np.zeros((H, W, 3), np.uint8)
    two[:, : W // 2, 0], two[:, W // 2 :, 1:] = 200, 200  # each half is black in the channels of the other
    mirrored, _ = warped(two, np.ones((1, H, W), np.uint8), Warp(flip=True))
    assert (mirrored == two[:, ::-1]).all()


def test_no_fringe_comes_from_beyond_the_frame():
    white = np.full((H, W, 3), 255, np.uint8)
    for seed in range(8):
        moved, _ = warped(white, dot(5, 5), draw(replace(ALWAYS, colour=0), generator(seed)))
        assert (moved == 255).all()


def test_objects_that_leave_the_frame_have_boxes_of_zeros():
    _, masks = warped(picture(), np.concatenate([dot(2, 2), dot(80, 50)]), Warp(translate=(-0.5, -0.5)))
    gone, there = map(object_of_mask, masks)
    assert gone["bbox"] == [0, 0, 0, 0] and gone["area"] == 0
    assert there["bbox"] == [34, 19, 3, 3] and there["area"] == 9


def test_brightness_and_contrast_are_of_the_image_alone_and_come_before_the_filling():
    image = picture()
    bright = Warp(brightness=0.1, contrast=-0.2)
    expected = np.clip(np.rint(image * 0.8 + 25.5), 0, 255)
    assert (coloured(image, bright) == expected).all()
    moved, masks = warped(image, dot(40, 30), replace(bright, translate=(0.3, 0.0)))
    assert (masks == np.roll(dot(40, 30), 27, axis=2)).all()
    assert (moved[:, :27] == image[:, :27]).all() and (moved[:, 27:] == expected[:, : W - 27]).all()
    assert coloured(np.uint8([[[0, 1, 255]]]), Warp(brightness=1.0)).tolist() == [[[255, 255, 255]]]


def test_what_is_drawn_lies_within_the_ranges_and_a_probability_changes_no_other_part():
    found = [draw(ALWAYS, generator(s)) for s in range(300)]
    config = WarpConfig()
    for name in ("scale", "translate", "shear"):
        values = np.array([getattr(w, name) for w in found])
        lo, hi = getattr(config, name)
        assert lo <= values.min() < lo + 0.1 * (hi - lo) and hi - 0.1 * (hi - lo) < values.max() <= hi
    for name in ("rotate", "brightness", "contrast"):
        values = np.array([getattr(w, name) for w in found])
        lo, hi = getattr(config, name)
        assert lo <= values.min() < lo + 0.1 * (hi - lo) and hi - 0.1 * (hi - lo) < values.max() <= hi
    corners = np.array([w.corners for w in found])
    assert corners.shape == (300, 4, 2) and corners.min() >= 0 and corners.max() <= 0.45 and 0.08 < corners.mean() < 0.12
    half = [draw(WarpConfig(), generator(s)) for s in range(300)]
    assert 0.4 < np.mean([w.scale != (1.0, 1.0) for w in half]) < 0.6 and 0.4 < np.mean([bool(w.corners) for w in half]) < 0.6
    assert 0.4 < np.mean([w.flip for w in half]) < 0.6 and 0.12 < np.mean([w.brightness != 0 for w in half]) < 0.28
    for a, b in zip(half, found, strict=True):
        assert a.scale in (b.scale, (1.0, 1.0)) and a.corners in (b.corners, ()) and a.brightness in (b.brightness, 0.0)


def test_the_farthest_corners_still_make_a_picture():
    worst = Warp(corners=((0.45, 0.45), (0.0, 0.0), (0.45, 0.45), (0.0, 0.0)))
    moved, masks = warped(picture(), np.ones((1, H, W), np.uint8), worst)
    assert masks.all() and moved.std() > 10 and np.isfinite(worst.homography(W, H)).all()
    tiny = np.zeros((3, 1, 3), np.uint8)
    for seed in range(20):
        warped(tiny, np.ones((1, 3, 1), np.uint8), draw(ALWAYS, generator(seed)))
