"""The annotated scenes that ship with the project: what the files say, and that their script makes them."""

import contextlib
import io
import json
import re
from collections import Counter

import h5py
import numpy as np
import pytest
from PIL import Image
from pycocotools.coco import COCO

from synth.embedded.pictures import backgrounds
from synth.embedded.pictures.render import classes, tight_box
from synth.embedded.train import scenes
from synth.embedded.train.scene_captions import plural

FOLDER = scenes.FOLDER


@pytest.fixture(scope="module")
def again():
    """All scenes, drawn anew."""
    return [scenes.made(number) for number in range(1, scenes.IMAGES + 1)]


@pytest.fixture(scope="module")
def coco():
    with contextlib.redirect_stdout(io.StringIO()):
        return COCO(str(FOLDER / "annotations.json"))


def stored(name: str) -> np.ndarray:
    with h5py.File(FOLDER / "images.h5") as f:
        return np.asarray(Image.open(io.BytesIO(np.array(f[name]))))


def test_the_script_makes_the_same_annotations_and_captions(again):
    assert scenes.lines(scenes.annotations(again)) == (FOLDER / "annotations.json").read_bytes()
    assert scenes.lines(scenes.captions_file(again)) == (FOLDER / "captions.json").read_bytes()
    with h5py.File(FOLDER / "images.h5") as f:
        assert set(f) == {scenes.file_name(s.number) for s in again} and all(d.dtype == np.uint8 and d.ndim == 1 for d in f.values())


@pytest.mark.parametrize("number", [1, 7, 12, 40, 55, 200])
def test_a_picture_is_that_of_its_scene_and_the_same_whenever_it_is_drawn(again, number):
    made = again[number - 1]
    assert scenes.jpeg(scenes.made(number).rendered.image) == scenes.jpeg(made.rendered.image)
    seen = stored(scenes.file_name(number))
    assert seen.shape == (made.height, made.width, 3)
    assert np.abs(seen.astype(int) - made.rendered.image).mean() < 4  # what JPEG loses


def test_pycocotools_gives_every_mask_back_to_the_pixel(again, coco):
    made = {scenes.file_name(s.number): s for s in again}
    assert len(coco.getImgIds()) == 200 and len(coco.getAnnIds()) > 400
    for image in coco.loadImgs(coco.getImgIds()):
        expected = [m for _, m, _ in scenes._objects(made[image["file_name"]])]
        found = coco.loadAnns(coco.getAnnIds(imgIds=image["id"]))
        assert len(found) == len(expected)
        for annotation, mask in zip(found, expected, strict=True):
            assert (coco.annToMask(annotation).astype(bool) == mask).all(), annotation["id"]
            assert tuple(annotation["bbox"]) == tight_box(mask) and annotation["area"] == mask.sum()


def test_the_set_has_what_real_files_have(coco):
    rows = list(coco.anns.values())
    kinds = Counter("polygons" if isinstance(r["segmentation"], list) else type(r["segmentation"]["counts"]).__name__ for r in rows)
    assert kinds["polygons"] > 300 and kinds["str"] > 20 and kinds["list"] >= 3
    assert sum(len(r["segmentation"]) > 1 for r in rows if isinstance(r["segmentation"], list)) >= 10  # objects in several parts
    assert sum(r["iscrowd"] for r in rows) == 4 and sum(r["area"] <= 144 for r in rows) >= 20
    sizes = Counter((i["width"], i["height"]) for i in coco.imgs.values())
    assert set(sizes) == {(96, 64), (64, 96), (80, 64), (64, 64)} and min(sizes.values()) >= 15
    usable = {r["image_id"] for r in rows if r["area"] > 144 and not r["iscrowd"]}
    assert 4 <= 200 - len(usable) <= 10
    assert {c["frequency"] for c in coco.cats.values()} == {"r", "c", "f"}
    for c in coco.cats.values():
        own = [r for r in rows if r["category_id"] == c["id"]]
        assert (c["instance_count"], c["image_count"]) == (len(own), len({r["image_id"] for r in own}))
    for image in coco.imgs.values():
        there = {r["category_id"] for r in rows if r["image_id"] == image["id"]}
        assert len(image["neg_category_ids"]) == 2 and not there & set(image["neg_category_ids"])
    assert sum(bool(i["not_exhaustive_category_ids"]) for i in coco.imgs.values()) == 6


def test_captions_tell_what_is_there_and_nothing_else(again):
    said: dict[int, list[str]] = {}
    for row in json.loads((FOLDER / "captions.json").read_bytes())["annotations"]:
        said.setdefault(row["image_id"], []).append(row["caption"])
    numbers = {1: "an?", 2: "two", 3: "three", 4: "four"}
    for scene in again:
        texts, there = said[scene.number], Counter(i.cls for i in scene.scene.items)
        assert len(texts) == 5
        for text in texts:
            assert scene.scene.background in text.lower(), text
            named = {c for c in classes() if re.search(rf"\b({c}|{plural(c)})\b", text.lower())}
            assert named in ({*there}, set()) and text[0].isupper() and text.endswith("."), text
        for text in texts[:2]:
            for cls, n in there.items():
                said_so = rf"\b{numbers[n]} {cls if n == 1 else plural(cls)}\b" if n < 5 else f"group of {plural(cls)}"
                assert re.search(said_so, text.lower()), text
        assert not any(b in t.lower() for t in texts for b in backgrounds.SCENES if b not in scene.scene.background)


def test_the_whole_set_is_smaller_than_a_megabyte():
    assert sum(p.stat().st_size for p in FOLDER.iterdir()) < 1_000_000
