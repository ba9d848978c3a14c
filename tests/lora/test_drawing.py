"""A run that trains LoRAs draws with them: to the bytes that the same files give in model.lora_by_class and in model.lora."""

import pytest

from launch.plan.loras import class_loras
from synth.images.stage import Images
from synth.store.names import folder_names
from tests.configs import ModelConfig
from tests.images import tiny
from tests.images.loras import make_lora
from tests.images.pictures import image_folder, sample, write_tar
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


def test_a_lora_of_the_model_is_in_its_weights_when_others_are_trained_and_drawn_with(by_class, tiny_sd, real, tmp_path):
    make_lora(tiny_sd, tmp_path / "style.safetensors", seed=1)
    style = f"model.lora=[{{path:'{tmp_path}/style.safetensors',weight:0.5}}]"
    keys = ("lora.missing=plain", "lora.weight=0.8", style)
    made = whole(tmp_path / "run", tiny_sd, real, *keys)
    losses = [[s.json()["loss"] for s in run["lora"].samples()] for run in (made, by_class)]
    assert all(a != b for a, b in zip(*losses, strict=True)), "it was trained on the model with it"
    given = f"model.lora_by_class={{path:'{made['lora'].out_dir}',weight:0.8,missing:plain}}"
    assert pictures(made["images"]) == pictures(whole(tmp_path / "given", tiny_sd, None, style, given)["images"])
    all_of = whole(tmp_path / "all", tiny_sd, real, *keys, "lora.scope=all")
    both = f"[{{path:'{tmp_path}/style.safetensors',weight:0.5}},{{path:'{all_of['lora'].out_dir}/all.safetensors',weight:0.8}}]"
    assert pictures(all_of["images"]) == pictures(whole(tmp_path / "both", tiny_sd, None, f"model.lora={both}")["images"])


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


def test_a_stage_of_pictures_and_tars_are_real_pictures_too(by_class, tiny_sd, tmp_path):
    stage = by_class["images"]
    made = whole(tmp_path / "stage", tiny_sd, stage.path, "lora.per_class=2", "until=lora", "lora.steps=1", "lora.save_every=1")
    told = {r["lora"]: r["pictures"] for r in (s.json() for s in made["lora"].samples())}
    assert {name: len(keys) for name, keys in told.items()} == {"cat": 2, "red_fox": 2, "owl": 2} and set(made) == {"lora"}
    of_class = {s.key: s.json()["class"] for s in stage.samples()}
    assert {of_class[key] for key in told["red_fox"]} == {"red fox"}
    members = [m for n, name in enumerate(CLASSES) for m in sample(f"a{n}", n, {"label": n, "class": name})]
    tar = write_tar(tmp_path / "real" / "0000.tar", members)
    made = whole(tmp_path / "tars", tiny_sd, tar, "lora.per_class=1", "until=lora", "lora.steps=1", "lora.save_every=1")
    assert [s.json()["pictures"] for s in made["lora"].samples()] == [["0000.tar/a0"], ["0000.tar/a1"], ["0000.tar/a2"]]


def test_files_of_classes_with_odd_names_are_found_again(tiny_sd, tmp_path):
    names = ("A/C unit", 'say "cheese"', "Crane", "crane")
    files = folder_names(dict(enumerate(names)))
    real = image_folder(tmp_path / "real", tuple(files.values()), each=1)
    (tmp_path / "odd.txt").write_text("\n".join(names))
    keys = (f"dataset.source={tmp_path}/odd.txt", "lora.steps=1", "lora.save_every=1", "until=lora")
    made = whole(tmp_path / "trained", tiny_sd, real, *keys)
    found = class_loras(ModelConfig("tiny", lora_by_class=str(made["lora"].out_dir)), dict(enumerate(names)))
    assert {index: file.stem for index, file in found.files.items()} == files


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
