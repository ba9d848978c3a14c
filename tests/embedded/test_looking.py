"""The models that look at pictures, as the stages of layout labels load and ask them, on scenes that they were not trained on.

Bounds lie below what tests/bench/quality.py measures on 200 scenes (synth/embedded/README.md): they catch a model that does not load, is
another, or is asked in another way than it was trained.
"""

import dataclasses

import numpy as np
import pytest
from PIL import Image

from synth.embedded.pictures.render import FOLDER, Item, Scene, classes, render
from tests.bench import quality_layout as quality

MODELS = FOLDER.parent / "models"


@pytest.fixture(scope="module")
def scenes():
    return quality.new_scenes(16)


@pytest.fixture(scope="module")
def clip():
    return quality.clip_model(MODELS / "tiny_clip")


def test_clip_tells_the_classes_and_the_backgrounds_apart(clip):
    places = ("meadow", "snow", "night sky", "red background")
    drawn = [Scene(places[i % 4], (Item(cls, drawing=i % 4, size="large"),)) for i, cls in enumerate(classes())]
    images = np.stack([render(scene, 32, 32).image for scene in drawn])
    labels = np.array([(i, quality.backgrounds.NAMES.index(places[i % 4])) for i in range(len(drawn))])
    right = quality.zero_shot(clip, images, labels)
    assert right[0] >= 0.85 and right[1] >= 0.9, right


def test_clip_tags_scenes_of_several_objects(clip, scenes):
    odds = clip.probabilities(quality.features(clip, [p.image for p in scenes]), clip.classes(classes(), [quality.TEMPLATE]))
    shown = np.array([[cls in p.classes for cls in classes()] for p in scenes])
    for least, recall, precision in ((0.03, 0.9, 0.2), (0.15, 0.75, 0.4)):  # the default of tagger=[tiny_clip] is the first
        said = odds >= least
        assert (said & shown).sum() / shown.sum() >= recall and (said & shown).sum() / said.sum() >= precision


def test_what_clip_says_of_a_picture_does_not_hang_on_its_size(clip):
    scene = Scene("lake", (Item("sailboat", size="large"),))
    near = [clip.preparation(Image.fromarray(render(scene, side, side).image)) for side in (64, 256)]
    first, second = clip.pictures(near)
    assert first @ second > 0.95


def test_the_detector_finds_the_tags_of_a_scene(scenes):
    assert quality.average_precision(scenes, quality.boxes_of(MODELS / "tiny_owlv2", scenes), lambda p, n: not p.small(n)) >= 0.9


def test_the_detector_finds_nothing_of_a_tag_that_is_not_there(scenes):
    asked = [dataclasses.replace(p, classes=("telephone", "zebra")) for p in scenes]
    assert sum(map(len, quality.boxes_of(MODELS / "tiny_owlv2", asked, 0.2))) <= 1


def test_the_segmenter_cuts_out_what_is_in_a_box(scenes):
    masks = quality.masks_of(MODELS / "tiny_sam", scenes, [p.boxes for p in scenes])
    assert np.mean([quality.iou(m, t) for own, p in zip(masks, scenes, strict=True) for m, t in zip(own, p.masks, strict=True)]) >= 0.75


def test_the_captioner_names_what_is_in_a_box(scenes):
    captions = quality.captions_of(MODELS / "tiny_florence2", scenes)
    pairs = [pair for own, p in zip(captions, scenes, strict=True) for pair in zip(own, p.classes, strict=True)]
    assert np.mean([cls in text.rstrip(".").split() for text, cls in pairs]) >= 0.8, pairs
    assert all(text.startswith("A") and text.endswith(".") for text, _ in pairs)


def test_every_model_that_ships_is_told_of():
    told = (FOLDER.parent / "README.md").read_text()
    assert not [path.name for path in MODELS.iterdir() if path.name not in told]
