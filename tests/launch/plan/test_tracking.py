"""recipe=tracking as it is planned: keys, buckets, units, exports."""

import copy
import json
import subprocess

import pytest

from launch.config.compose import Composer, typed
from launch.plan import annotated
from launch.plan.graph import plan_point
from launch.plan.tracking import units
from synth.errors import InputError
from synth.store.identity import LISTED
from tests.launch.conftest import command, environment
from tests.launch.plan.test_graph import stage
from tests.tracking.annotated_sets import image, plain, square, write

TEXTS = {"annotations": [{"image_id": 1, "caption": "a cat"}]}
EXPORTS = ["hdf5_parts", "hdf5", "annotations", "pairs_page"]


@pytest.fixture(scope="module")
def composed():
    """recipe=tracking dataset=lvis, composed once: that is slow."""
    return typed(Composer().compose(["recipe=tracking", "dataset=lvis", "tracking.min_area=144"]))


@pytest.fixture
def planned(composed, tmp_path):
    """Plans a set of three images with the embedded model, and some keys changed."""
    write(tmp_path / "set", plain(), TEXTS)

    def plan(changes=None, folder="set"):
        config = copy.deepcopy(composed)
        paths = {"annotations": "annotations.json", "images": "images", "captions": "captions.json"}
        for key, value in ({f"dataset.{k}": str(tmp_path / folder / v) for k, v in paths.items()} | (changes or {})).items():
            *groups, name = key.split(".")
            part = config
            for group in groups:
                part = part[group] if isinstance(part, dict) else getattr(part, group)
            assert hasattr(part, name)
            object.__setattr__(part, name, value)  # config classes are frozen
        annotated._joined.cache_clear()
        return plan_point(config)

    return plan


@pytest.fixture
def pairs(planned):
    return lambda *args, **more: stage(planned(*args, **more), "pairs").spec


def on_the_command_line(*overrides):
    return plan_point(typed(Composer().compose(list(overrides))))


def test_the_recipe_is_pairs_and_three_exports(planned):
    point = planned()
    assert [s.name for s in point.stages] == ["pairs", *EXPORTS]
    spec, config = point.stages[0].spec, point.stages[0].spec.config
    assert (spec.slots, spec.ends, spec.unit_size, spec.batch) == (3, (1, 2, 3), 1, 1), "two buckets, and an image without objects"
    assert (config["long_side"], config["short_side"], config["bucket"], config["height"], config["width"]) == (
        96,
        64,
        32,
        64,
        96,
    )
    assert (config["min_area"], config["dilate"], config["format"], config["save_size"], config["guidance_scale"]) == (
        144.0,
        14,
        "jpg",
        0,
        2.0,
    )
    assert [c["name"] for c in config["dataset"]["classes"]] == ["cat", "yeti", "dog"] and config["dataset"]["n_classes"] == 10
    assert set(spec.inputs) == {"model", "annotations", "images"} and spec.inputs["images"].identity == LISTED
    assert set(spec.files) == {"annotated.jsonl.gz", "annotated.index.json", "annotated.head.json"}
    export = stage(point, "annotations").spec.config
    assert (export["min_area"], export["min_variant_area"], export["min_side"], export["segmentations"]) == (
        144.0,
        1024.0,
        1.0,
        False,
    )
    assert stage(point, "pairs_page").spec.config == {"out": "", "max_images": 200, "sheet": 12}


def test_planning_twice_gives_the_same_stage_and_what_decides_changes_it(pairs, tmp_path):
    first = pairs().fingerprint
    assert pairs().fingerprint == first
    (tmp_path / "set" / "images" / "unrelated.png").write_bytes(b"x")
    assert pairs().fingerprint == first
    (tmp_path / "set").rename(tmp_path / "moved")
    assert pairs(folder="moved").fingerprint == first, "paths are in no fingerprint"
    assert pairs({"tracking.warp.flip": 0.0}, folder="moved").fingerprint != first
    data = plain()
    data["annotations"][0]["category_id"] = 9
    write(tmp_path / "moved", data, TEXTS)
    assert pairs(folder="moved").fingerprint != first


@pytest.mark.parametrize(
    ("buckets", "variants", "unit_size", "ends", "largest"),
    [
        ((((96, 64), 5), ((64, 96), 2), (None, 1)), 1, 2, (2, 4, 5, 7, 8), 2),
        ((((96, 64), 5), (None, 1)), 3, 8, (6, 12, 15, 18), 6),  # whole images: 8 is rounded down to 6
        ((((96, 64), 2), (None, 1)), 5, 2, (5, 10, 15), 5),  # one image at least
        ((((96, 64), 2),), 1, 100, (2,), 2),
    ],
)
def test_a_unit_holds_whole_images_of_one_bucket(buckets, variants, unit_size, ends, largest):
    found = annotated.Joined(None, None, {}, "", None, buckets, 0, 0, 0)
    assert units(found, variants, unit_size) == (ends, largest)


def test_variants_make_slots_and_names_that_must_be_free(pairs, tmp_path):
    write(tmp_path / "set", plain() | {"images": [image(1), image(2), image(3, file_name="001_v1.jpg")]}, TEXTS)
    assert pairs({"tracking.unit_size": 4}).slots == 3
    with pytest.raises(InputError, match=r"'001_v1\.jpg' .* what a variant of '001\.jpg' .* will be called"):
        pairs({"tracking.variants": 2})


def test_without_captions_there_is_no_guidance(pairs, tmp_path):
    assert pairs({"dataset.captions": None}).config["guidance_scale"] == 0.0
    write(tmp_path / "set", plain(), {"annotations": [{"image_id": 1, "caption": " "}]})
    with pytest.raises(InputError, match=r"dataset\.captions: .*none of its captions is of an image.*it holds no text"):
        pairs()


def _with_scheduler(world, config: dict) -> None:
    """The model's folder with another scheduler: diffusers takes the class that model_index.json names."""
    (world.path / "sd" / "scheduler" / "scheduler_config.json").write_text(json.dumps(config))
    index = world.path / "sd" / "model_index.json"
    index.write_text(json.dumps(json.loads(index.read_text()) | {"scheduler": ["diffusers", config["_class_name"]]}))


@pytest.mark.parametrize("own", ["LMSDiscreteScheduler", "SASolverScheduler"])
def test_a_model_whose_scheduler_would_draw_wrong_pairs_is_drawn_with_ddim(own, pairs, world):
    _with_scheduler(world, {"_class_name": own})
    assert pairs({"model.path": f"{world.path}/sd", "tracking.size": [64, 64]}).config["scheduler"] == "ddim"


def test_a_model_whose_scheduler_is_pndm_begins_in_the_middle_with_ddim(pairs, world):
    _with_scheduler(world, {"_class_name": "PNDMScheduler", "skip_prk_steps": True})
    more = {
        "model.path": f"{world.path}/sd",
        "model.native_pair_size": None,
        "model.native_height": 128,
        "model.native_width": 128,
    }
    config = pairs(more).config
    assert config["scheduler"] == "ddim"
    assert (config["long_side"], config["short_side"], config["bucket"]) == (192, 128, 16), (
        "1.5 and 1 times the native size; 8 latents of 2 pixels"
    )
    for name in ("pndm", "plms"):
        with pytest.raises(InputError, match=f"tracking.scheduler={name}: PNDMScheduler .*begin in the middle; use ddim"):
            pairs(more | {"tracking.scheduler": name})


def test_steps_are_the_models_own_unless_a_preset_or_the_user_says_others(pairs):
    names = ("scheduler", "steps")
    assert [pairs().config[n] for n in names] == ["default", 20]
    assert [pairs({"model.native_steps": 50}).config[n] for n in names] == ["default", 50]
    assert [pairs({"tracking.preset": "fast", "model.native_steps": 50}).config[n] for n in names] == ["dpm++2m", 20]
    assert [pairs({"tracking.preset": "fast", "tracking.steps": 30}).config[n] for n in names] == ["dpm++2m", 30]


@pytest.mark.parametrize(
    ("key", "value", "says"),
    [
        ("tracking.variants", 0, "tracking.variants=0: must be from 1 to 10000"),
        ("tracking.noise_strength", 1.5, "tracking.noise_strength=1.5: must be from 0 to 1"),
        ("tracking.noise_strength", float("nan"), "tracking.noise_strength=nan: must be from 0 to 1"),
        ("tracking.harmonize", 37, "tracking.harmonize=37: steps=20 and noise_strength=0.75 are 15 steps"),
        ("tracking.noise_strength", 0.04, "tracking.noise_strength=0.04: none of steps=20 is run"),
        ("tracking.harmonize", 15, "tracking.harmonize=15: .* are 15 steps"),
        ("tracking.size", [100, 512], r"tracking.size=\[100, 512\]: .* long at least as large as short"),
        ("tracking.noise_strength", 0.0, "tracking.noise_strength=0: none of steps=20 is run"),
        ("tracking.max_area", float("inf"), "tracking.max_area=inf: must be from 0 to"),
        ("tracking.min_area", 1e9, "tracking.min_area=1e.09: not below max_area"),
        ("tracking.dilate", -1, "tracking.dilate=-1: must be"),
        ("tracking.bucket", 12, "tracking.bucket=12: tiny_sd computes multiples of 8 pixels; use 8 or 16"),
        ("tracking.size", [64, 96], r"tracking.size=\[64, 96\]: must be \[long, short\]"),
        ("tracking.size", 64, r"tracking.size=\[64\]: must be"),
        ("tracking.warp.scale", [2.0, 1.0], r"tracking.warp.scale=\[2, 1\]: must be \[low, high\]"),
        ("tracking.warp.rotate", [1.0, 2.0, 3.0], r"tracking.warp.rotate=\[1, 2, 3\]: must be \[low, high\]"),
        ("tracking.warp.flip", 2.0, "tracking.warp.flip=2: must be from 0 to 1"),
        ("tracking.quality", 0, "tracking.quality=0: must be from 1 to 100"),
        ("tracking.on_bad", "skip", "tracking.on_bad=skip: use one of error, drop"),
        ("tracking.scheduler", "nix", "tracking.scheduler=nix: use one of"),
        ("tracking.preset", "paper", "tracking.preset=paper: tiny_sd has no paper's settings"),
        ("tracking.eta", 0.5, "tracking.eta=0.5: scheduler=default .* does not read it"),
        ("dataset.classes", ["cat"], "dataset.classes: pairs keep all categories"),
        ("export.hdf5.layout", "packed", "export.hdf5.layout=packed: .* use export.hdf5.layout=keyed"),
        ("export.annotations.min_side", -1.0, "export.annotations.min_side=-1: must be 0 or more"),
        ("export.pairs_page.sheet", 0, "export.pairs_page.sheet=0: must be 1 or more"),
    ],
)
def test_what_cannot_be_is_named_by_its_key(planned, key, value, says):
    with pytest.raises(InputError, match=says):
        planned({key: value})


@pytest.mark.parametrize(
    ("overrides", "says"),
    [
        ("dataset=lvis", "dataset=lvis: has annotated images and no list of classes.*recipe=tracking"),
        ("recipe=tracking dataset=lvis", "dataset.annotations: not set"),
        ("recipe=tracking dataset=pictures", "dataset=pictures: has no annotated images.*dataset=scenes"),
        ("recipe=tracking export=[hdf5,webdataset]", "export=webdataset: .* its exports are hdf5, annotations, pairs_page"),
        ("recipe=tracking filter=[balance]", "filter=balance: .* use filter="),
        ("export=[annotations]", "export=annotations: is made of tracking pairs"),
        ("export=[pairs_page]", "export=pairs_page: is made of tracking pairs"),
    ],
)
def test_annotated_datasets_are_for_pairs_and_pairs_are_for_their_own_exports(overrides, says):
    with pytest.raises(InputError, match=says):
        on_the_command_line(*overrides.split())


def test_thresholds_that_are_null_are_the_datasets_own(planned):
    native = {"native_min_area": 200.0, "native_dilate": 5, "native_min_variant_area": 50.0}
    point = planned({"tracking.min_area": None} | {f"dataset.{k}": v for k, v in native.items()})
    assert (point.stages[0].spec.config["min_area"], point.stages[0].spec.config["dilate"]) == (200.0, 5)
    assert stage(point, "annotations").spec.config["min_variant_area"] == 50.0


def test_what_is_left_out_and_what_is_strange_is_told(pairs, tmp_path):
    texts = {"annotations": [{"image_id": 99, "caption": "a"}, {"image_id": 1, "caption": "b"}]}
    write(tmp_path / "set", plain() | {"annotations": [square(1, 1, area=-1)]}, texts)
    settings = pairs({"tracking.on_bad": "drop"}).settings
    assert [n.split(": ", 1)[1].split(" ")[:2] for n in settings["notes"]] == [
        ["1", "annotations"],
        ["1", "captions"],
        ["no", "image"],
    ]
    assert settings["notes"][0].endswith("annotations[0] (id 1 of image 1), '001.jpg': its area is -1")
    assert "3 images without an object to keep are stored as they are" in settings["price"]


def test_a_dry_run_shows_how_many_images_have_no_object_and_writes_nothing(tmp_path):
    write(tmp_path / "set", plain(), TEXTS)
    paths = {"annotations": "annotations.json", "images": "images", "captions": "captions.json"}
    toy = [
        "recipe=tracking",
        "dataset=lvis",
        "tracking.min_area=144",
        *(f"dataset.{k}={tmp_path}/set/{v}" for k, v in paths.items()),
    ]

    def tree():
        return {str(p): p.stat().st_mtime_ns for p in sorted(tmp_path.rglob("*"))}

    before = tree()
    done = subprocess.run(command(*toy, "dry_run=true"), cwd=tmp_path, env=environment(), capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    assert "1 image without an object to keep is stored as it is" in done.stdout and "nothing was written" in done.stdout
    assert tree() == before
