"""The preview: now and then, beside the device, and never in the way."""

import os

import numpy as np
from PIL import Image

from synth.images.preview import COLUMNS, GAP, ROWS, TILE, Preview, grid, shrink

FULL = COLUMNS * ROWS


def tile(value: int, size=(8, 8)) -> np.ndarray:
    return np.full((*size, 3), value, np.uint8)


def test_a_grid_is_written_when_it_is_full_and_again_only_when_it_is_due(tmp_path):
    now = [0.0]
    preview = Preview(tmp_path / "preview.png", 60, clock=lambda: now[0])
    for n in range(FULL):
        assert not preview.path.exists()
        preview.add(tile(n))
    found = np.asarray(Image.open(preview.path))
    assert found.shape == (ROWS * (8 + GAP) + GAP, COLUMNS * (8 + GAP) + GAP, 3)
    assert found[GAP, GAP].tolist() == [0] * 3 and found[-GAP - 1, -GAP - 1].tolist() == [FULL - 1] * 3
    preview.path.unlink()
    for now[0], written in ((59, False), (61, True)):
        for _ in range(FULL):
            preview.add(tile(1))
        assert preview.path.exists() == written
    assert list(tmp_path.iterdir()) == [preview.path]


def test_what_was_collected_is_written_at_the_end(tmp_path):
    preview = Preview(tmp_path / "preview.png", 60)
    preview.add(tile(7))
    preview.write()
    assert Image.open(preview.path).size == (8 + 2 * GAP, 8 + 2 * GAP)


def test_the_few_pictures_of_the_end_do_not_replace_a_full_grid(tmp_path):
    now = [0.0]
    preview = Preview(tmp_path / "preview.png", 60, clock=lambda: now[0])
    for _ in range(FULL):
        preview.add(tile(1))
    os.utime(preview.path, (0, 0))  # long ago
    before, now[0] = preview.path.read_bytes(), 100.0
    preview.add(tile(2))
    preview.write()
    assert preview.path.read_bytes() == before


def test_zero_means_none(tmp_path):
    preview = Preview(tmp_path / "preview.png", 0)
    for _ in range(FULL):
        preview.add(tile(7))
    preview.write()
    assert list(tmp_path.iterdir()) == []


def test_a_fresh_grid_of_another_worker_stays(tmp_path):
    other, mine = (Preview(tmp_path / "preview.png", 60) for _ in range(2))
    other.add(tile(1))
    other.write()
    before = other.path.read_bytes()
    mine.add(tile(2))
    mine.write()
    assert other.path.read_bytes() == before


def test_a_disk_that_refuses_is_no_error(tmp_path):
    preview = Preview(tmp_path / "gone" / "preview.png", 60)
    preview.add(tile(1))
    preview.write()
    assert not preview.path.exists()


def test_large_pictures_are_shrunk_and_odd_shapes_fit():
    assert max(shrink(tile(9, (512, 300))).shape) <= TILE and (shrink(tile(9, (512, 300))) == 9).all()
    assert shrink(tile(9, (3000, 1))).shape[0] <= TILE
    sheet = grid([tile(0, (4, 8)), tile(0, (8, 4))])
    assert sheet.shape == (8 + 2 * GAP, 2 * (8 + GAP) + GAP, 3)
