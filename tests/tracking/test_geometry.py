"""Boxes, masks and images that disagree are told when a run is planned, each by its kind."""

import io

import h5py
import numpy as np
import pytest
from PIL import Image

from launch.plan.tracking import notes
from synth.errors import InputError
from synth.images.heads import Head, head_of
from synth.tracking.coco import Rle
from synth.tracking.geometry import (
    ANOTHER_SIZE,
    APART,
    CORNERS,
    EMPTY,
    MASK_OUTSIDE,
    OUTSIDE,
    TURNED,
    extent,
    wrong_box,
    wrong_mask,
    wrong_size,
)
from synth.tracking.preparing import decoded
from tests.launch.plan.test_annotated import dataset_at, join, listed
from tests.tracking.annotated_sets import image, plain, square, write


def polygon(x, y, w, h):
    return [[x, y, x + w, y, x + w, y + h, x, y + h]]


def runs(mask):
    """Uncompressed run-length code of [H, W]."""
    flat = np.asarray(mask, bool).T.ravel()
    ends = [*np.flatnonzero(np.diff(flat, prepend=False)), flat.size]
    return Rle((mask.shape[0], mask.shape[1]), [int(n) for n in np.diff([0, *ends])])


@pytest.mark.parametrize(
    ("box", "kind"),
    [
        ([0, 0, 96, 64], ""),
        ([-1.5, 0, 98, 65], ""),  # rounding
        ([40, 30, 90, 60], CORNERS),
        ([40, 30, 90, 20], OUTSIDE),  # no corners: 20 is above 30
        ([-9, 5, 20, 20], OUTSIDE),
        ([400, 300, 500, 400], OUTSIDE),
    ],
)
def test_a_box_lies_in_its_image(box, kind):
    assert wrong_box(box, 96, 64)[0] == kind


@pytest.mark.parametrize(
    ("box", "segmentation", "kind"),
    [
        ([10, 10, 30, 20], polygon(10, 10, 30, 20), ""),
        ([8, 8, 34, 24], polygon(10, 10, 30, 20), ""),  # by another hand
        ([10, 10, 3, 3], polygon(11, 11, 1, 1), ""),  # a few pixels are no matter
        ([10, 10, 40, 30], polygon(10, 10, 30, 20), CORNERS),
        ([60, 40, 30, 20], polygon(10, 10, 30, 20), APART),
        ([10, 10, 30, 20], polygon(10, 10, 300, 20), MASK_OUTSIDE),
        ([10, 10, 30, 20], [*polygon(10, 10, 5, 5), *polygon(35, 25, 5, 5)], ""),
    ],
)
def test_a_box_is_that_of_its_polygons(box, segmentation, kind):
    assert wrong_mask(box, segmentation, 96, 64)[0] == kind


def test_the_extent_of_runs_is_that_of_the_mask():
    rng = np.random.default_rng(0)
    for _ in range(200):
        mask = np.zeros((rng.integers(1, 9), rng.integers(1, 9)), np.uint8)
        mask[rng.random(mask.shape) < rng.random() ** 2] = 1
        ys, xs = np.nonzero(mask)
        expected = (xs.min(), ys.min(), xs.max() + 1, ys.max() + 1) if len(xs) else None
        assert extent(runs(mask)) == expected
    assert wrong_mask([0, 0, 5, 5], runs(np.zeros((64, 96), np.uint8)), 96, 64)[0] == EMPTY


@pytest.mark.parametrize(
    ("head", "kind"),
    [
        (Head(96, 64), ""),
        (Head(96, 64, 6), ""),  # annotated as it is stored
        (Head(64, 96, 6), ""),  # annotated as it is shown
        (Head(64, 96), ANOTHER_SIZE),
        (Head(192, 128, 8), ANOTHER_SIZE),
        (Head(96, 64, 3), TURNED),  # upside down: either
        (Head(96, 64, 2), TURNED),
    ],
)
def test_the_size_tells_whether_annotations_are_of_the_picture_as_it_is_turned(head, kind):
    assert wrong_size(head, 96, 64)[0] == kind
    assert wrong_size(Head(64, 64, 5), 64, 64)[0] == TURNED


# -- the first bytes of a picture --------------------------------------------------------------------------------------


def encoded(width, height, form="JPEG", orientation=None, **save):
    out, pixels = io.BytesIO(), np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8)
    if orientation:
        save["exif"] = Image.Exif()
        save["exif"][0x0112] = orientation
    Image.fromarray(pixels).save(out, form, **save)
    return out.getvalue()


@pytest.mark.parametrize("form", ["JPEG", "PNG", "WEBP", "BMP", "TIFF"])
@pytest.mark.parametrize("orientation", [None, 3, 6])
def test_heads_are_those_that_pillow_sees(form, orientation):
    if form == "BMP":
        orientation = None
    data, asked = encoded(96, 64, form, orientation), []

    def read(offset, size):
        asked.append((offset, size))
        return data[offset : offset + size]

    head = head_of(read, len(data))
    if form == "TIFF":  # Pillow turns it when it is decoded
        assert head == Head(*((64, 96) if orientation == 6 else (96, 64)))
    else:
        assert head == Head(96, 64, orientation or 1)
    if form == "JPEG" and not orientation:
        assert asked == [(0, 4096)]


def test_of_a_large_picture_its_beginning_is_read_alone():
    data, asked = encoded(400, 300, "PNG", 6), []
    head = head_of(lambda offset, size: (asked.append(size), data[offset : offset + size])[1], len(data))
    assert head == Head(400, 300, 6) and len(data) > 200_000 and sum(asked) < 80_000


def test_a_large_profile_before_the_size_is_stepped_over_and_what_is_no_picture_has_no_head():
    data = encoded(40, 24, icc_profile=bytes(60_000))
    assert head_of(lambda offset, size: data[offset : offset + size], len(data)) == Head(40, 24)
    for bad in (b"", b"x" * 99, b"\xff\xd8", data[:300], b"\xff\xd8" + b"\xff" * 9000):
        assert head_of(lambda offset, size, bad=bad: bad[offset : offset + size], len(bad)) is None


# -- when a run is planned ---------------------------------------------------------------------------------------------


def annotated(folder, pictures, annotations, declared=None):
    """A set of real pictures: id -> bytes; declared: id -> (width, height) where it is not 96 x 64."""
    images = [image(i, *(declared or {}).get(i, (96, 64))) for i in pictures]
    write(folder, plain() | {"images": images, "annotations": annotations})
    for i, data in pictures.items():
        (folder / "images" / f"{i:03d}.jpg").write_bytes(data)
    return folder


def corners(number, image_id, x, y, w, h):
    return square(number, image_id, bbox=[x, y, x + w, y + h], area=float(w * h), segmentation=polygon(x, y, w, h))


def test_a_file_of_corner_boxes_is_told_as_that_with_the_numbers_of_each_kind(tmp_path):
    bad = [corners(2, 1, 10, 10, 30, 20), corners(3, 1, 50, 30, 30, 20), square(4, 1, bbox=[-30, 0, 20, 20]), square(5, 1)]
    folder = annotated(tmp_path, {1: encoded(96, 64)}, bad)
    with pytest.raises(InputError, match=r"its bbox \[10, 10, 40, 30\] .* as x1, y1, x2, y2 it is") as e:
        join(folder)
    assert f"(2 more of the annotations cannot be used; in all: 2 {CORNERS}, 1 {OUTSIDE})" in str(e.value)
    found = join(folder, drop=True)
    assert [a["id"] for row in listed(tmp_path, found).rows(0, 9) for a in row.annotations] == [5]
    assert f"are left out: 2 {CORNERS}, 1 {OUTSIDE}; a run lists them" in notes(dataset_at(), found)[0]


@pytest.mark.parametrize("h5", [False, True])
def test_turned_images_fit_their_annotations_or_are_told(tmp_path, h5):
    pictures = {1: encoded(64, 96, orientation=6), 2: encoded(96, 64, orientation=6), 3: encoded(96, 64, orientation=3), 4: encoded(96, 65)}
    folder = annotated(tmp_path, pictures, [square(i, i) for i in pictures])
    if h5:
        with h5py.File(folder / "images.h5", "w") as f:
            for i, data in pictures.items():
                f[f"{i:03d}.jpg"] = np.frombuffer(data, np.uint8)
    images = folder / "images.h5" if h5 else None
    with pytest.raises(InputError, match=r"'003.jpg' is turned by EXIF \(orientation 3\), and its size does not tell .*exiftran") as e:
        join(folder, images=images)
    assert f"in all: 1 {ANOTHER_SIZE}, 1 {TURNED}" in str(e.value)
    found = join(folder, drop=True, images=images)
    assert found.turned == (1, 1) and found.left_out == 2
    said = notes(dataset_at(), found)
    assert "1 image taken as shown" in said[1] and "readers must turn them" in said[1] and "1 image taken as stored" in said[2]


def test_an_image_in_the_place_of_another_of_its_size_is_told(tmp_path):
    def dataset(seed):
        pixels = np.random.default_rng(seed).integers(0, 256, (64, 96, 3), dtype=np.uint8)
        write(tmp_path, plain() | {"images": [image(1) | {"file_name": "001.bmp"}], "annotations": [square(1, 1)]})
        Image.fromarray(pixels).save(tmp_path / "images" / "001.bmp")
        return join(tmp_path)

    from synth.tracking.sources import open_source

    first = dataset(1)
    (row,) = listed(tmp_path, first).rows(0, 1)
    source = open_source(tmp_path / "images")
    assert not decoded(source, row)[1].reason
    assert dataset(2).identity != first.identity
    assert decoded(source, row)[1].reason == "changed since the stage was planned (its content did)"
    assert dataset(1).identity == first.identity
