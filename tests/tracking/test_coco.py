"""What is found wrong in an annotation file, and how it is told."""

import json

import numpy as np
import pytest
from pycocotools import mask as coco_mask

from synth.errors import InputError
from synth.tracking.checks import LeftOut, checked_categories, checked_images, group_annotations
from synth.tracking.coco import Rle, captions_of, read
from synth.tracking.segmentation import unpacked, wrong
from tests.tracking.annotated_sets import CATEGORIES, image, plain, square, write

AREAS = (144.0, 1e9)


def grouped(folder, data, drop=False, variants=1):
    """(rows, what is left out) of a file that holds `data`."""
    file = read(write(folder, data) / "annotations.json")
    numbers = {c.id: c.id for c in checked_categories(file)}
    rows, bad = checked_images(file, variants), LeftOut(drop)
    group_annotations(file, rows, numbers, AREAS, bad)
    bad.judge("annotations")
    return rows, bad


def changed(**values):
    """The plain set with other lists."""
    return plain() | values


@pytest.mark.parametrize(
    ("data", "says"),
    [
        (b"", r"dataset\.annotations: .*annotations\.json is empty"),
        (b'{"images": [{"id": 1', "ends in the middle"),
        (b'{"images": [], "annotations": [{"area": NaN}], "categories": []}', r"byte 40.*NaN and Infinity are no JSON"),
        (b"[" * 100_000 + b"]" * 100_000, "nested too deeply|is not a COCO"),
        (b"[]", "is not a COCO or LVIS file.*Expected `object`"),
        ('{"images": []}'.encode("utf-16"), "is text in UTF-16: save it in UTF-8"),
        (b"\x89HDF\r\n", "is an HDF5 file; it must be a COCO or LVIS file"),
        (b"\x1f\x8b\x08\0", r"annotations\.json is compressed by gzip: unpack it"),
        (b"PK\x03\x04", "is a zip archive: unpack it"),
        (b"\n <!DOCTYPE html><html>", "is a web page or XML: fetch the file itself"),
        (b"version https://git-lfs.github.com/spec/v1\n", "is a pointer of Git LFS.*git lfs pull"),
        (b"\xff{", "is not JSON in UTF-8 at byte 0"),
        (b'{"images": [{"id": 1, "file_name": "\\ud83d"}]}', r"holds half of a character in .*ud83d.*a lone surrogate is no text"),
        (changed(images=[image(1 << 53, file_name="a.jpg")]),
         r"images\[0\] .*Expected `int` <= 9007199254740991 - at `\$\.images\[0\]\.id`"),
        (changed(categories=[{"id": 10**30, "name": "cat"}]), r"Expected `int` <= 9007199254740991 - at `\$\.categories\[0\]\.id`"),
        ({"images": [], "annotations": []}, "missing required field `categories`"),
        (changed(images={"1": image(1)}), r"Expected `array`, got `object` - at `\$\.images`"),
        (changed(images=[]), "images is empty"),
        (changed(categories=[]), "categories is empty"),
        (changed(categories=[*CATEGORIES, CATEGORIES[0]]), "category id 3 is there twice: 'cat' and 'cat'"),
        (changed(categories=[{"id": "3", "name": "cat"}]), r"categories\[0\]: Expected `int`, got `str` - at `\$\.categories\[0\]\.id`"),
        (changed(categories=[{"id": 3, "name": " "}]), r"categories\[0\] \(id 3, name ' '\): .*not empty"),
        (changed(images=[image(1), image(1, file_name="b.jpg"), image(1, file_name="c.jpg")]),
         r"image id 1 is there twice: .*\(1 more such\)"),
        (changed(images=[image(1), {"id": 2, "file_name": "b.jpg", "width": 9}]),
         r"images\[1\] \(id 2\): .*missing required field `height` - at `\$\.images\[1\]`"),
        (changed(images=[image(1, 0)]), r"images\[0\] \(id 1, '001.jpg'\): is 0 x 64 pixels"),
        (changed(images=[image(1, file_name="a/x.jpg"), image(2, file_name="b/x.jpg")]),
         "'a/x.jpg' .* and 'b/x.jpg' .* one name without folders, 'x.jpg'"),
        (changed(images=[image(1, file_name="x.jpg"), image(2, file_name="x.png")]),
         "'x.jpg' .* and 'x.png' .* would have variants of one name"),
        (changed(images=[image(1, file_name="x.jpg"), image(2, file_name="x_v0.jpg")]),
         "'x_v0.jpg' .* what a variant of 'x.jpg' .* will be called"),
        (changed(images=[image(1, file_name="../x.jpg")]), "leads out of the folder"),
        (changed(images=[image(1, file_name="/etc/passwd")]), "leads out of the folder"),
        (changed(images=[image(1, file_name="a\0b.jpg")]), "holds a NUL"),
        (changed(images=[image(1, file_name="a/")]), "names a folder"),
        (changed(images=[image(1, file_name="")]), "neither file_name nor coco_url"),
        (changed(images=[image(1, file_name="\ud83d.jpg")]), "half of a character"),
        (changed(annotations=[square(1, 1), square(2, 1), square(1, 1), square(2, 1)]),
         r"annotation id 1 is there twice \(so are 1 more\)"),
    ],
)  # fmt: skip
def test_a_broken_file_is_an_error_even_when_bad_annotations_may_be_dropped(tmp_path, data, says):
    for drop in (False, True):
        with pytest.raises(InputError, match=says):
            grouped(tmp_path, data, drop)


BAD = [
    (square(7, 1, id=str(7)), r"Expected `int`, got `str` - at `\$\.annotations\[1\]\.id`"),
    (square(7, 1, id=1 << 53), r"Expected `int` <= 9007199254740991 - at `\$\.annotations\[1\]\.id`"),
    (square(7, 99), "image_id 99 is no image of the file"),
    (square(7, 1, 4), "category_id 4 is no category of the file"),
    (square(7, 1, area=-1), "its area is -1"),
    (square(7, 1, bbox=[0, 0, 1]), r"Expected `array` of length 4 - at `\$\.annotations\[1\]\.bbox`"),
    (square(7, 1, bbox=[0, 0, "1", 2]), r"at `\$\.annotations\[1\]\.bbox\[2\]`"),
    (square(7, 1, bbox=[0, 0, -1, 2]), "its bbox is -1 wide"),
    ({k: v for k, v in square(7, 1).items() if k != "area"}, "missing required field `area`"),
    (square(7, 1, area=None), "Expected `float`, got `null`"),
    (square(7, 1, segmentation=[]), "an empty list"),
    (square(7, 1, segmentation=[[0, 0, 1, 1]]), "polygon 0 of its segmentation has 2 points"),
    (
        square(7, 1, segmentation=[[0, 0, 1, 1, 2, 2], [0, 0, 1, 1, 2, 2, 3]]),
        "polygon 1 of its segmentation has 7 numbers, an odd count",
    ),
    (
        square(7, 1, segmentation=[0, 0, 1, 1, 2, 2]),
        r"Expected `array`, got `int` - at `\$\.annotations\[1\]\.segmentation\[0\]`",
    ),
    (square(7, 1, segmentation=[[0, 0, 1, 1, 2, 1e300]]), "Expected `float` <= 100000"),
    (square(7, 1, segmentation={"size": [64, 96]}), "missing required field `counts`"),
    (
        square(7, 1, segmentation={"size": [96, 64], "counts": [96 * 64]}),
        r"of size \[96, 64\] \(height, width\), its image \[64, 96\]",
    ),
    (square(7, 1, segmentation={"size": [64, 96], "counts": [64]}), "add up to 64 pixels, its image has 6,144"),
    (square(7, 1, segmentation={"size": [64, 96], "counts": [7000, -856]}), "a run of -856 pixels"),
    (square(7, 1, segmentation={"size": [64, 96], "counts": "ab c"}), "compressed run-length code is torn"),
    (square(7, 1, segmentation={"size": [64, 96], "counts": "o" * 5000}), "compressed run-length code is torn"),
    (square(7, 1, segmentation={"size": [64, 96], "counts": ""}), "add up to 0 pixels"),
    ({k: v for k, v in square(7, 1).items() if k != "segmentation"}, "no segmentation, and is large enough"),
]


@pytest.mark.parametrize(("bad", "says"), BAD)
def test_a_bad_annotation_is_named_with_its_place_or_left_out(tmp_path, bad, says):
    data = changed(annotations=[square(1, 1), bad, square(8, 1, 3, 1, area=-5)])
    with pytest.raises(InputError, match=rf"annotations\[1\].*{says}.*1 more of the annotations.*tracking.on_bad=drop"):
        grouped(tmp_path, data)
    rows, left_out = grouped(tmp_path, data, drop=True)
    assert [len(r.annotations) for r in rows.values()] == [1, 0, 0]
    assert [json.loads(line)["place"] for line in left_out.lines.splitlines()] == [1, 2]


def test_what_is_no_object_to_keep_needs_no_segmentation(tmp_path):
    small = {k: v for k, v in square(2, 1, side=12).items() if k != "segmentation"}
    crowd = square(3, 1, iscrowd=1) | {"segmentation": None}
    empty = [square(4, 1, side=12, segmentation=[]), square(5, 1, iscrowd=True, segmentation=[])]
    rows, _ = grouped(tmp_path, changed(annotations=[square(1, 1), small, crowd, *empty]))
    assert (len(rows[1].annotations), rows[1].usable, rows[1].tracks, rows[1].last_id) == (5, 1, 3, 5)


def test_iscrowd_may_be_a_number_true_false_or_null(tmp_path):
    rows, _ = grouped(tmp_path, changed(annotations=[square(n, 1, iscrowd=said) for n, said in enumerate((0, False, None, 1, True))]))
    assert (rows[1].usable, rows[1].tracks) == (3, 3)


def test_a_byte_order_mark_is_no_part_of_the_file(tmp_path):
    write(tmp_path, b"\xef\xbb\xbf" + json.dumps(plain()).encode())
    file = read(tmp_path / "annotations.json")
    assert len(file.images) == 3 and set(file.rest()) == {"info"}


def test_a_hundred_thousand_bad_annotations_are_one_short_message(tmp_path):
    with pytest.raises(InputError, match="99,999 more of the annotations") as e:
        grouped(tmp_path, changed(annotations=[square(n, 99) for n in range(100_000)]))
    assert len(str(e.value)) < 400


def test_all_three_forms_of_a_segmentation_pass(tmp_path):
    mask = np.zeros((64, 96), np.uint8)
    mask[3:40, 5:33] = 1
    packed = {"size": [64, 96], "counts": coco_mask.encode(np.asfortranarray(mask))["counts"].decode()}
    runs = {"size": [64, 96], "counts": unpacked(packed["counts"])}
    of_runs = [square(n, 1, segmentation=s, bbox=[5, 3, 28, 37]) for n, s in ((2, packed), (3, runs))]
    rows, _ = grouped(tmp_path, changed(annotations=[square(1, 1), *of_runs]))
    assert rows[1].usable == 3


def test_compressed_codes_are_unpacked_as_pycocotools_packs_them():
    rng = np.random.default_rng(0)
    for size in (1, 2, 9, 70):
        for density in (0, 0.02, 0.5, 1):
            mask = np.asfortranarray((rng.random((size, 2 * size)) < density).astype(np.uint8))
            counts = coco_mask.encode(mask)["counts"].decode()
            flat = np.concatenate([np.full(n, i % 2) for i, n in enumerate(unpacked(counts))])
            assert (flat == mask.ravel(order="F")).all()
            assert wrong(Rle((size, 2 * size), counts), 2 * size, size) == ""


def test_a_later_variant_is_not_in_the_way_of_a_name(tmp_path):
    data = changed(images=[image(1, file_name="x.jpg"), image(2, file_name="x_v1.jpg")], annotations=[])
    assert len(grouped(tmp_path, data)[0]) == 2
    with pytest.raises(InputError, match="will be called"):
        grouped(tmp_path, data, variants=2)


def test_captions_come_in_the_files_order_and_bad_ones_are_named(tmp_path):
    write(tmp_path, plain(), {"annotations": [{"image_id": 1, "id": 5, "caption": " a\ncat \n"}, {"image_id": 7, "caption": ""}]})
    assert list(captions_of(tmp_path / "captions.json")) == [(1, "a\ncat"), (7, "")]
    write(tmp_path, plain(), {"annotations": [{"image_id": 1, "id": 5, "caption": None}]})
    with pytest.raises(InputError, match=r"captions\.json: annotations\[0\] \(id 5 of image 1\): Expected `str`"):
        list(captions_of(tmp_path / "captions.json"))
    write(tmp_path, plain(), plain())
    with pytest.raises(
        InputError, match=r"annotations\[0\] .*missing required field `caption`.*dataset\.captions must be a COCO captions file"
    ):
        list(captions_of(tmp_path / "captions.json"))
    write(tmp_path, plain(), b"{}")
    with pytest.raises(InputError, match=r"dataset\.captions: .* is not a COCO captions file"):
        list(captions_of(tmp_path / "captions.json"))
