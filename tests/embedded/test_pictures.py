import dataclasses
import json
import re
from pathlib import Path

import numpy as np
import pytest

from synth.embedded.pictures import backgrounds, grammar
from synth.embedded.pictures.render import FOLDER, Item, Scene, classes, drawings, render, tight_box

EXAMPLES = json.loads((FOLDER / "examples.json").read_text())
SECOND = {"class_background": "background", "class_relation": "relation"}


def words(text: str) -> list[str]:
    return re.findall(r"[\w'-]+", text.lower())


def three_objects() -> Scene:
    return Scene(
        "meadow",
        (Item("cat", 1, place=(0.3, 0.5, 0.5)), Item("dog", 0, place=(0.5, 0.55, 0.4)), Item("rocket", 2, "small", "right")),
        variant=3,
    )


@pytest.mark.parametrize("size", [(32, 32), (64, 96), (200, 130)])
def test_boxes_are_the_tight_boxes_of_the_masks(size):
    made = render(three_objects(), *size)
    assert made.image.shape == (*size, 3) and made.image.dtype == np.uint8 and made.masks.shape == (3, *size)
    for box, mask in zip(made.boxes, made.masks, strict=True):
        rows, columns = np.nonzero(mask)
        assert box == (columns.min(), rows.min(), np.ptp(columns) + 1, np.ptp(rows) + 1)


def test_a_later_object_takes_the_pixels_of_an_earlier_one():
    made = render(three_objects(), 64, 64)
    assert not (made.masks.sum(0) > 1).any()
    alone = render(dataclasses.replace(three_objects(), items=three_objects().items[:1]), 64, 64)
    assert made.masks[0].sum() < alone.masks[0].sum()


def test_an_object_that_is_wholly_covered_or_outside_has_an_empty_box():
    covered = Scene(
        "snow",
        (Item("apple", place=(0.5, 0.5, 0.1)), Item("pizza", place=(0.5, 0.5, 1.0)), Item("cat", place=(-3.0, 0.5, 0.5))),
    )
    made = render(covered, 48, 48)
    assert made.boxes[0] == made.boxes[2] == (0, 0, 0, 0) and not made.masks[[0, 2]].any()


def test_the_same_scene_is_the_same_picture_and_another_variant_another():
    scene = three_objects()
    assert (render(scene, 40, 40).image == render(scene, 40, 40).image).all()
    assert (render(scene, 40, 40).image != render(dataclasses.replace(scene, variant=4), 40, 40).image).any()


def test_rendering_leaves_the_global_generator_alone():
    np.random.seed(0)  # noqa: NPY002 (it is the subject)
    before = np.random.get_state()[1].copy()  # noqa: NPY002
    render(grammar.sample(np.random.default_rng(0)).scene, 32, 32)
    assert (np.random.get_state()[1] == before).all()  # noqa: NPY002


@pytest.mark.parametrize("size", [(1, 1), (1, 77), (3, 2), (17, 31), (300, 40)])
@pytest.mark.parametrize("background", backgrounds.NAMES)
def test_every_background_renders_at_odd_sizes(size, background):
    made = render(Scene(background, (Item("frog", size="large"),)), *size)
    assert made.image.shape == (*size, 3) and made.boxes[0] == tight_box(made.masks[0])


@pytest.mark.parametrize(
    ("scene", "size", "word"),
    [
        (Scene("moon", ()), (8, 8), "beach"),
        (Scene("snow", (Item("unicorn"),)), (8, 8), "apple"),
        (Scene("snow", (Item("cat", size="vast"),)), (8, 8), "small"),
        (Scene("snow", ()), (0, 8), "1 x 1"),
    ],
)
def test_an_error_names_what_is_allowed(scene, size, word):
    with pytest.raises((KeyError, ValueError), match=word):
        render(scene, *size)


def test_every_class_has_training_and_held_out_drawings_of_different_artists():
    assert len(classes()) == 20 and set(json.loads((FOLDER / "classes.json").read_text())["superclass"]) == set(classes())
    for cls in classes():
        assert len(drawings(cls)) == 4 and drawings(cls, held_out=True)
        artists = [{path.name.split(".")[1] for path in drawings(cls, held_out)} for held_out in (False, True)]
        assert not artists[0] & artists[1]


def test_positions_move_the_object_and_sizes_scale_it():
    def box(size, position):
        return render(Scene("snow", (Item("apple", 0, size, position),)), 64, 64).boxes[0]

    lefts = [box("small", p)[0] for p in ("left", "centre", "right")]
    heights = [box(s, "centre")[3] for s in ("small", "medium", "large")]
    assert lefts == sorted(set(lefts)) and heights == sorted(set(heights))


def test_captions_name_class_size_position_and_background_as_drawn():
    rng = np.random.default_rng(0)
    for index in range(600):
        cls = classes()[index % 20]
        made = grammar.sample(rng, cls)
        item, text = made.scene.items[0], made.caption
        assert re.search(rf" {cls}\b", text) and text[0].isupper() and text.endswith(".") and "  " not in text
        assert made.scene.background.split()[0] in text.lower()
        assert any(w in words(text) for w in grammar.SIZE_WORDS[item.size]) == made.says_size
        assert any(f" {side}" in text for side in ("left", "right")) == made.says_position
        if made.says_position:
            assert f" {item.position}" in text


def test_the_grammar_gives_the_same_captions_for_the_same_seed():
    first, second = ([grammar.sample(np.random.default_rng(7)).caption for _ in range(5)] for _ in range(2))
    assert first == second


@pytest.mark.parametrize(("words_", "expected"), [("apple", "an apple"), ("Boeing 707", "a Boeing 707"), ("A340", "an A340")])
def test_article_fits_the_next_letter(words_, expected):
    assert grammar.article(words_) == expected


@pytest.mark.parametrize("mode", ["class", "class_background", "class_relation"])
def test_at_least_forty_examples_a_mode_name_their_class_and_place(mode):
    assert len(EXAMPLES[mode]) >= 40
    for example in EXAMPLES[mode]:
        assert example["class"] in classes() and "\n" not in example["caption"]
        for key in ("class", SECOND.get(mode)):
            if key:
                assert re.search(rf"\b{example[key]}\b", example["caption"], re.IGNORECASE), example
        if mode == "class_background":
            assert example["background"] in backgrounds.NAMES
        if mode == "class_relation":
            assert example["relation"] in grammar.RELATIONS
    if mode == "class_relation":
        assert {e["relation"] for e in EXAMPLES[mode]} == set(grammar.RELATIONS)


def test_no_two_examples_share_their_first_four_words_or_their_frame():
    seen = {}
    nouns = {*classes(), *(word for name in backgrounds.NAMES for word in name.split())}
    for examples in EXAMPLES.values():
        for example in examples:
            first = tuple(words(example["caption"])[:4])
            frame = tuple("_" if word in nouns else word for word in words(example["caption"]))
            for key in (first, ("frame", *frame)):
                assert key not in seen, (seen[key], example)
                seen[key] = example


def test_backgrounds_json_lists_what_the_renderer_can_paint():
    table = json.loads((Path(FOLDER) / "backgrounds.json").read_text())
    assert set(table["*"]) == set(backgrounds.NAMES)
