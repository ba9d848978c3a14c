"""A run that trains LoRAs draws with them: to the bytes that the same files give in model.lora_by_class and in model.lora."""

import pytest

from synth.images.stage import Images
from tests.images import tiny
from tests.images.pictures import image_folder
from tests.lora.planned import CLASSES, whole


@pytest.fixture(scope="module")
def real(tmp_path_factory):
    return image_folder(tmp_path_factory.mktemp("real") / "train", CLASSES[:2], each=4)


def pictures(folder) -> dict:
    """(class, replica) -> PNG"""
    return {(s.json()["class"], s.json()["replica"]): s.read("png") for s in folder.samples()}


@pytest.fixture(scope="module")
def by_class(tiny_sd, real, tmp_path_factory):
    return whole(tmp_path_factory.mktemp("by_class"), tiny_sd, real, "lora.missing=plain", "lora.weight=0.8")


def test_a_class_is_drawn_with_the_lora_that_was_trained_for_it(by_class, tiny_sd, tmp_path):
    given = f"model.lora_by_class={{path:'{by_class['lora'].out_dir}',weight:0.8,missing:plain}}"
    drawn = pictures(whole(tmp_path, tiny_sd, None, given)["images"])
    assert pictures(by_class["images"]) == drawn and len(drawn) == 9
    plain = pictures(whole(tmp_path, tiny_sd, None)["images"])
    assert [drawn[(name, 0)] == plain[(name, 0)] for name in CLASSES] == [False, False, True]


def test_metadata_says_which_lora_drew(by_class):
    made = {s.json()["lora"]: s.json() for s in by_class["lora"].samples()}
    told = {s.json()["class"]: s.json()["adapter"] for s in by_class["images"].samples()}
    assert told["owl"] is None, "the model alone draws a class without a real picture"
    assert told["cat"] == {"class": "cat", "digest": made["cat"]["files"]["cat.safetensors"][1], "weight": 0.8}


def test_loras_of_another_training_draw_other_pictures(by_class, tiny_sd, real):
    """Although both stages of pictures differ in nothing but what they read, no unit is linked and no picture is taken over."""
    root = by_class["lora"].path.parents[2]
    other = whole(root, tiny_sd, real, "lora.missing=plain", "lora.weight=0.8", "lora.seed=7")
    assert other["lora"].path != by_class["lora"].path and other["images"].spec.base == by_class["images"].spec.base
    first, second = pictures(by_class["images"]), pictures(other["images"])
    assert [first[(name, 0)] == second[(name, 0)] for name in CLASSES] == [False, False, True]


def test_one_lora_of_all_classes_draws_what_it_draws_in_model_lora(tiny_sd, real, tmp_path):
    made = whole(tmp_path / "all", tiny_sd, real, "lora.scope=all", "lora.missing=plain", "lora.weight=0.8")
    file = made["lora"].out_dir / "all.safetensors"
    told = [s.json() for s in made["lora"].samples()][-1]
    assert len(told["pictures"]) == 6 and {name.partition("/")[0] for name in told["pictures"]} == {"cat", "red fox"}
    drawn = pictures(whole(tmp_path / "given", tiny_sd, None, f"model.lora=[{{path:'{file}',weight:0.8}}]")["images"])
    assert pictures(made["images"]) == drawn
    adapters = {str(s.json()["adapter"]) for s in made["images"].samples()}
    assert adapters == {str({"class": "", "digest": told["files"]["all.safetensors"][1], "weight": 0.8})}


@pytest.mark.parametrize("name", ["sdxl", "sd_v"])
def test_other_models_are_trained_and_drawn_with_too(name, real, tmp_path):
    folder = tiny.build(name, tmp_path / name)
    model = "model=sdxl" if name == "sdxl" else "model=diffusers"
    made = whole(tmp_path, folder, real, model, "lora.missing=plain", "dataset.classes=0..1", "images.height=64", "images.width=64")
    losses = [s.json()["loss"] for s in made["lora"].samples()]
    assert len(losses) == 6 and all(0 < loss < 10 for loss in losses)
    plain = pictures(whole(tmp_path, folder, None, model, "dataset.classes=0..1", "images.height=64", "images.width=64")["images"])
    drawn = pictures(made["images"])
    assert drawn.keys() == plain.keys() and not set(drawn.values()) & set(plain.values())


def test_pictures_are_told_apart_by_the_bytes_of_their_loras(by_class):
    """One that was trained again with the same keys, on pictures of a stage that were made again, is another one."""
    images, lora = by_class["images"], by_class["lora"]
    stage = Images(images)
    inputs = stage.unit_inputs(images.unit(0))
    with images.reader(0) as reader:
        assert inputs == reader.index.inputs
    with lora.reader(0) as first, lora.reader(1) as second:
        assert stage._lora_digests == [first.digest, second.digest]
    stage._lora_digests = ["0" * 64]
    assert stage.unit_inputs(images.unit(0)) != inputs
