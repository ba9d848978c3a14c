"""Segmentations to masks and back."""

import builtins
import sys

import numpy as np
import pytest
from pycocotools.coco import COCO

from synth.errors import InputError
from synth.tracking import opencv
from synth.tracking.masks import mask_of, object_of_mask, union
from synth.tracking.preparing import prepared
from tests.configs import ModelConfig, PairsConfig, WarpConfig
from tests.tracking import scenes


def some(n: int = 60):
    """Masks of many sizes and densities, blobs and noise, and the extremes."""
    rng = np.random.default_rng(0)
    for k in range(n):
        h, w = (int(v) for v in rng.integers(1, 40, 2))
        mask = rng.random((h, w)) < rng.random()
        if k % 2:
            mask = np.zeros((h, w), bool)
            y, x = rng.integers(0, h), rng.integers(0, w)
            mask[y : y + 9, x : x + 7] = True
        yield mask.astype(np.uint8)
    yield np.ones((5, 7), np.uint8)
    yield np.zeros((5, 7), np.uint8)
    yield np.ones((1, 1), np.uint8)
    yield np.tile(np.uint8([[0], [1]]), (200, 300))  # many short runs, and in one of them more than five bits
    yield np.pad(np.ones((1, 1), np.uint8), ((900, 3), (800, 1)))


def test_masks_go_to_run_lengths_and_back_with_tight_boxes_in_whole_numbers():
    for mask in some():
        found = object_of_mask(mask)
        ys, xs = np.nonzero(mask)
        box = [xs.min(), ys.min(), xs.max() - xs.min() + 1, ys.max() - ys.min() + 1] if len(xs) else [0, 0, 0, 0]
        assert found["bbox"] == box and found["area"] == mask.sum()
        assert all(type(v) is int for v in (*found["bbox"], found["area"], *found["segmentation"]["size"]))
        assert found["segmentation"] == scenes.compressed(mask)
        for form in (scenes.compressed, scenes.uncompressed):
            assert (mask_of(form(mask), *mask.shape) == mask).all()


def test_polygons_are_filled_as_pycocotools_does():
    polygons = [[2, 2, 20.5, 3, 11, 17.25], [25, 1, 39, 1, 39, 9, 25, 9], [-5, 20, 3, 20, 3, 50]]
    coco = COCO.__new__(COCO)
    coco.imgs = {1: {"height": 30, "width": 40}}
    expected = coco.annToMask({"segmentation": polygons, "image_id": 1})
    assert (mask_of(polygons, 30, 40) == expected).all() and 200 < expected.sum() < 600


HOSTILE = [
    [], {}, None, "x", 7, [[]], [[1, 2, 3, 4]], [[1, 2, 3, 4, 5]], [[0, 0, 1, 1, 2, 2, 3]], [["a"] * 6], [[float("nan")] * 6],
    [[1e300] * 6],
    [{"counts": "a"}], [[True] * 6], [[None] * 6], {"size": [4, 5]}, {"size": [5, 4], "counts": [20]}, {"size": [4, 5], "counts": [21]},
    {"size": [4, 5], "counts": [-1, 21]}, {"size": [4, 5], "counts": [19.5, 0.5]}, {"size": [4, 5], "counts": "d"},
    {"size": [4, 5], "counts": "o"},
    {"size": [4, 5], "counts": "ooooooooooooooooooooooooo0"}, {"size": [4, 5], "counts": "\x00d0"}, {"size": [4, 5], "counts": "d0é"},
    {"size": "45", "counts": "d0"}, {"size": [4, 5], "counts": b"d0"}, {"size": [4, 5], "counts": ["d0"]},
    {"size": [4, 5], "counts": "PPPPPP1"},
]  # fmt: skip


@pytest.mark.parametrize("segmentation", HOSTILE, ids=repr)
def test_what_is_no_segmentation_is_refused(segmentation):
    with pytest.raises(InputError, match="mend it in the annotation file"):
        mask_of(segmentation, 4, 5)


def test_the_union_grows_by_so_many_pixels_to_every_side():
    masks = np.zeros((2, 40, 50), np.uint8)
    masks[0, 10, 10] = masks[1, 38, 48] = 1
    for dilate in (0, 1, 5):
        expected = np.zeros((40, 50), np.uint8)
        for y, x in ((10, 10), (38, 48)):
            expected[y - dilate : y + dilate + 1, x - dilate : x + dilate + 1] = 1
        assert (union(masks, dilate) == expected).all()


def test_more_objects_than_bits_of_a_byte_are_each_warped_by_themselves():
    import cv2

    config = PairsConfig(
        seed=0,
        model=ModelConfig("tiny"),
        long_side=60,
        short_side=40,
        bucket=8,
        dilate=0,
        warp=WarpConfig(affine=1, perspective=1),
    )
    rng, masks = np.random.default_rng(0), np.zeros((11, 40, 60), np.uint8)
    for mask in masks:
        x, y = int(rng.integers(0, 40)), int(rng.integers(0, 25))
        mask[y : y + 15, x : x + 20] = 1  # they overlap
    notes = [{"id": k, "category_id": k % 3, "segmentation": scenes.compressed(m)} for k, m in enumerate(masks)]
    found = prepared(np.zeros((40, 60, 3), np.uint8), "", (64, 40), notes, config, 5)
    matrix = np.array(found.facts.warp["homography"]).reshape(3, 3)
    moved = [cv2.warpPerspective(m, matrix, (60, 40), flags=cv2.INTER_NEAREST) for m in masks]
    assert [dict(o) for o in found.facts.objects] == [{"id": k, "category_id": k % 3, **object_of_mask(m)} for k, m in enumerate(moved)]
    assert (found.canvas[:40, :60, 3] == np.any(moved, axis=0)).all()


def test_opencv_keeps_to_the_thread_that_asks_it():
    opencv.cv2.cache_clear()
    assert opencv.cv2().getNumThreads() == 1


@pytest.mark.parametrize("name", ["cv2", "pycocotools"])
def test_a_missing_package_is_named_with_what_to_install(name, monkeypatch):
    real = builtins.__import__
    monkeypatch.setattr(builtins, "__import__", lambda n, *a, **k: real(n, *a, **k))
    for module in [m for m in sys.modules if m.partition(".")[0] == name]:
        monkeypatch.delitem(sys.modules, module)
    monkeypatch.setitem(sys.modules, name, None)
    used = opencv.cv2 if name == "cv2" else opencv.coco_masks
    used.cache_clear()
    try:
        with pytest.raises(InputError, match=rf"needs {name} .*pip install synthset\[tracking\]"):
            used()
    finally:
        used.cache_clear()
