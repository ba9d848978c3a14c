"""Planning of LoRAs that a run trains: where their stage stands, which real pictures are of which class, what is refused."""

import json
import shutil
from dataclasses import replace
from types import SimpleNamespace

import pytest

from launch.plan.datasets import dataset_of
from launch.show.dry_run import memory_line
from synth.errors import InputError
from tests.fixtures_clip import build_tiny_clip
from tests.images import tiny
from tests.images.pictures import image_folder
from tests.launch.plan.test_graph import stage
from tests.lora.planned import CLASSES, point


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    root, built = tmp_path_factory.mktemp("tiny models"), {}

    def get(name: str):
        if name not in built:
            built[name] = tiny.build(name, root / name)
        return built[name]

    return get


@pytest.fixture
def planned(tmp_path, folder):
    """Plans a run of real pictures {folder of a class: pictures}."""

    def plan(real, *overrides, model="sd"):
        root = image_folder(tmp_path / f"real{len(list(tmp_path.iterdir()))}", real)
        return point(tmp_path, folder(model), root, *overrides)

    return plan


def test_the_stage_stands_before_pictures_and_is_in_what_they_are_known_by(planned, tmp_path, folder):
    made = planned(dict.fromkeys(CLASSES, 4))
    lora, images = stage(made, "lora"), stage(made, "images")
    assert lora.folder in images.upstream and not lora.upstream
    assert (lora.spec.slots, lora.spec.unit_size, lora.spec.config["legs"]) == (9, 3, [2, 2, 1])
    assert [c["index"] for c in images.spec.config["model"]["trained"]] == [0, 1, 2]
    plain = stage(point(tmp_path, folder("sd"), None), "images")
    assert "lora" not in plain.spec.upstream and "trained" not in plain.spec.config["model"]
    lighter = planned(dict.fromkeys(CLASSES, 4), "lora.weight=0.5")
    assert stage(lighter, "lora").folder == lora.folder and stage(lighter, "images").folder != images.folder


def test_what_only_draws_trains_no_other_loras(planned):
    first, *others = (
        stage(planned(dict.fromkeys(CLASSES, 4), *more), "lora").folder
        for more in ((), ("images.guidance_scale=2",), ("model.safety_checker=off",), ("captions.seed=9",), ("model.dtype=float32",))
    )
    assert set(others) == {first}


def test_one_lora_of_all_classes_is_one_unit(planned):
    spec = stage(planned(dict.fromkeys(CLASSES, 4), "lora.scope=all"), "lora").spec
    assert (spec.slots, spec.n_units) == (3, 1)


def test_classes_meet_by_name_by_index_and_as_exports_call_their_folders(planned):
    made = planned({"CAT": 3, "red_fox": 4, "2": 5, "walrus": 1})
    lora = stage(made, "lora").spec
    assert [(c["index"], c["name"], c["pictures"]) for c in lora.config["classes"]] == [(0, "cat", 3), (1, "red fox", 4), (2, "owl", 5)]
    assert lora.settings["notes"] == ["lora.real: of no class of this run: 1 class ('walrus') of the source"]


def test_classes_with_fewer_pictures_than_asked_for_are_named(planned):
    notes = stage(planned({"cat": 2, "red fox": 3, "owl": 1}), "lora").spec.settings["notes"]
    assert notes == ["lora.per_class=3: there are fewer real pictures of 2 classes ('cat (2)', 'owl (1)')"]


def test_pictures_that_cannot_be_used_are_counted_and_named(tmp_path, folder):
    real = image_folder(tmp_path / "real", CLASSES, each=3)
    (real / "cat" / "3.png").write_bytes(b"")
    spec = stage(point(tmp_path, folder("sd"), real), "lora").spec
    assert spec.settings["notes"] == ["lora.real: left out: 1 picture ('cat/3.png: empty file')"]
    assert [c["pictures"] for c in spec.config["classes"]] == [3, 3, 3]


def test_a_class_without_a_picture_is_an_error_or_drawn_plainly(planned):
    with pytest.raises(InputError, match=r"lora\.real=.*: no real picture of 1 class \('owl'\); add some.*lora\.missing=plain"):
        planned({"cat": 3, "red fox": 3})
    made = planned({"cat": 3, "red fox": 3}, "lora.missing=plain")
    assert stage(made, "lora").spec.settings["notes"] == ["lora.missing=plain: no real picture of 1 class ('owl')"]
    assert [c["file"] for c in stage(made, "images").spec.config["model"]["trained"]] == [True, True, False]
    with pytest.raises(InputError, match="no real picture of 3 classes"):
        planned({"walrus": 3}, "lora.missing=plain")


def test_two_folders_of_one_class_are_refused(planned):
    with pytest.raises(InputError, match=r"'cat' and '0' are both class 0|'0' and 'cat' are both class 0"):
        planned({"cat": 3, "0": 3, "red fox": 3, "owl": 3})


@pytest.mark.parametrize(
    ("model", "said"),
    [
        ("flux_dev", r"LoRAs of FluxPipeline \(flux_dev\) are not trained here; use a Stable Diffusion 1, 2 or XL model"),
        ("sd3", r"LoRAs of StableDiffusion3Pipeline \(sd3\) are not trained here"),
        ("lcm", r"LoRAs of LatentConsistencyModelPipeline \(lcm\) are not trained here"),
    ],
)
def test_models_that_are_not_trained_here_are_refused_by_name(model, said, planned):
    option = {"flux_dev": "flux_dev", "sd3": "sd3"}.get(model, "diffusers")
    with pytest.raises(InputError, match=rf"lora\.real=.*: {said}"):
        planned(dict.fromkeys(CLASSES, 3), f"model={option}", model=model)


def test_sdxl_is_trained_and_a_distilled_one_with_a_word_of_caution(planned):
    assert "notes" not in stage(planned(dict.fromkeys(CLASSES, 3), "model=sdxl", model="sdxl"), "lora").spec.settings
    turbo = stage(planned(dict.fromkeys(CLASSES, 3), "model=sdxl_turbo", "images.guidance_scale=0", model="sdxl_turbo"), "lora")
    assert turbo.spec.settings["notes"][0].startswith("lora.real: sdxl_turbo draws in 1 steps, for which it was distilled")


@pytest.mark.parametrize(
    ("file", "key", "value", "said"),
    [
        ("unet/config.json", "time_cond_proj_dim", 32, "is distilled .its U-Net takes the guidance scale., which training would undo"),
        (
            "model_index.json",
            "vae",
            ["diffusers", "AutoencoderTiny"],
            "has a UNet2DConditionModel and a AutoencoderTiny, which are not trained",
        ),
        ("scheduler/scheduler_config.json", "prediction_type", "flow_prediction", "predicts flow_prediction by DDIMScheduler"),
    ],
)
def test_what_training_would_undo_or_does_not_know_is_refused(file, key, value, said, folder, tmp_path):
    shutil.copytree(folder("sd"), tmp_path / "odd")
    path = tmp_path / "odd" / file
    path.write_text(json.dumps(json.loads(path.read_text()) | {key: value}))
    with pytest.raises(InputError, match=said):
        point(tmp_path, tmp_path / "odd", image_folder(tmp_path / "real", CLASSES))


@pytest.mark.parametrize(
    ("keys", "said"),
    [
        (["model.lora_by_class=/loras"], "model.lora_by_class names LoRAs of classes, too; leave one of them out"),
        (["recipe=probe"], "recipe probe draws no pictures from captions"),
        (["lora.size=20"], r"lora\.size=20: sd computes multiples of 8 pixels; use 16 or 24"),
        (["cluster.gpu_mem_gb=0.0001"], "does not fit: its weights are .* use GPUs with more memory"),
    ],
)
def test_what_cannot_be_is_refused(keys, said, planned, monkeypatch):
    monkeypatch.setattr("launch.plan.gpu_memory.uses_gpu", lambda kind, config: kind == "lora")
    with pytest.raises(InputError, match=said):
        planned(dict.fromkeys(CLASSES, 3), *keys)


def test_what_is_known_of_its_memory_is_said_and_what_is_not_too(planned, monkeypatch):
    monkeypatch.setattr("launch.plan.gpu_memory.uses_gpu", lambda kind, config: kind == "lora")
    lora = stage(planned(dict.fromkeys(CLASSES, 3), "cluster.gpu_mem_gb=24"), "lora")
    line = memory_line(SimpleNamespace(spec=lora.spec), lora.spec.settings["memory"])
    assert line.startswith(
        "weights of 0.0 GB in bfloat16 on a GPU of 24 GB (cluster.gpu_mem_gb); what a step needs beside them is not known"
    )


def test_pictures_of_a_class_that_was_not_trained_are_refused(planned, monkeypatch):
    monkeypatch.setattr("launch.plan.lora.dataset_of", lambda dataset: dataset_without_owl(dataset))
    with pytest.raises(InputError, match=r"the captions are of 1 class \('owl'\), which no LoRA is trained for"):
        planned(dict.fromkeys(CLASSES, 3))


def dataset_without_owl(dataset):
    chosen = dataset_of(dataset)
    return replace(chosen, classes=chosen.classes[:2])


def test_pictures_of_the_test_set_teach_nothing(tmp_path, folder):
    """The accuracy would be told by what the model was shown."""
    real, test = (image_folder(tmp_path / name, CLASSES, each=3) for name in ("real", "test"))
    for file in test.glob("*/*.png"):
        file.write_bytes(file.read_bytes() + b"another")
    shutil.copy(test / "owl" / "0.png", real / "owl" / "3.png")
    judged = f"judge.test={test}", f"features.model={build_tiny_clip(tmp_path / 'clip')}"
    with pytest.raises(InputError, match=r"lora\.real=.*: 1 of its pictures are in judge\.test, too, byte by byte, and would teach"):
        point(tmp_path, folder("sd"), real, *judged)
    (real / "owl" / "3.png").unlink()
    assert stage(point(tmp_path, folder("sd"), real, *judged), "judge")
    with pytest.raises(InputError, match=r"it holds the pictures of judge\.test"):
        point(tmp_path, folder("sd"), test, *judged)
