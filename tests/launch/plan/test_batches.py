"""auto: what a plan settles by the memory of one GPU, what it leaves alone, and what it says cannot be."""

import json

import pytest

from launch.plan.nearest import nearest
from synth.errors import InputError
from synth.store.folder import StageFolder
from tests.images.true_shapes import by_first_block, write

TEXT = ("prompts=class_name",)


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    root = tmp_path_factory.mktemp("models")

    def model(name: str):
        return root / name if (root / name).exists() else write(name, root / name)

    return model


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    by_first_block(monkeypatch.setattr)


def images(world, models, name: str, *overrides: str):
    point = world.point(*TEXT, f"model={name}", f"model.path={models(name)}", *overrides)
    return next(s for s in point.stages if s.spec.kind == "images")


def sizes(stage) -> tuple[int, int]:
    return stage.spec.batch, stage.spec.config["vae_batch"]


def test_cores_get_what_they_always_got(world, models):
    spec = images(world, models, "sd15").spec
    assert (spec.batch, spec.config["vae_batch"], spec.settings.get("memory")) == (16, 0, None)
    same = images(world, models, "sd15", "images.batch_size=16", "images.vae_batch=0").spec
    assert spec.fingerprint == same.fingerprint
    captions = world.point().stages[0].spec
    assert (captions.batch, captions.unit_size) == (32, 32)
    assert world.point("cluster=slurm", "cluster.gpus_per_job=0").stages[0].spec.fingerprint == captions.fingerprint


@pytest.mark.parametrize(
    ("name", "gb", "batch", "vae_batch"),
    [("sd15", 24, 16, 0), ("sd15", 8, 16, 8), ("sdxl", 24, 16, 2), ("sdxl", 40, 16, 4), ("sdxl", 80, 16, 0), ("flux_dev", 40, 8, 2)],
)
def test_a_gpu_gets_the_largest_batch_that_fits_it(world, models, name, gb, batch, vae_batch):
    stage = images(world, models, name, f"cluster.gpu_mem_gb={gb}")
    assert sizes(stage) == (batch, vae_batch)
    memory = stage.spec.settings["memory"]
    assert memory["device"] <= gb and memory["gpu"] == gb and memory["source"] == "cluster.gpu_mem_gb"
    folder = StageFolder.create(world.path, stage.spec)
    plan = json.loads((folder.path / "stage.json").read_text())
    assert plan["batch"] == batch and plan["config"]["vae_batch"] == vae_batch


def test_a_larger_picture_or_a_wider_dtype_gets_a_smaller_batch(world, models):
    assert sizes(images(world, models, "sdxl", "cluster.gpu_mem_gb=40", "images.height=2048", "images.width=2048")) == (16, 1)
    assert sizes(images(world, models, "sdxl", "cluster.gpu_mem_gb=28", "images.height=2048", "images.width=2048")) == (8, 1)
    exact, plain = (images(world, models, "sd15", "cluster.gpu_mem_gb=16", f"numerics={n}") for n in ("exact", "reference"))
    assert plain.spec.batch < exact.spec.batch and plain.spec.settings["memory"]["dtype"] == "float32"


def test_a_number_stays_what_it_is_and_the_other_is_made_to_fit_it(world, models):
    assert sizes(images(world, models, "sdxl", "cluster.gpu_mem_gb=24", "images.batch_size=6")) == (6, 3)
    assert sizes(images(world, models, "sdxl", "cluster.gpu_mem_gb=24", "images.vae_batch=1")) == (16, 1)
    assert sizes(images(world, models, "sdxl", "cluster.gpu_mem_gb=24", "images.vae_batch=0")) == (2, 0)
    own = images(world, models, "flux_dev", "cluster.gpu_mem_gb=24", "images.batch_size=4")  # somebody's own word
    assert own.spec.batch == 4 and own.spec.settings["memory"]["device"] > 24


@pytest.mark.parametrize("wrong", ["0", "-1", "many", "1.5", "true", "null"])
def test_what_is_no_number_of_pictures_is_named(world, models, wrong):
    with pytest.raises(InputError, match=r"images\.batch_size=.*: auto, or a whole number, 1 or more"):
        images(world, models, "sd15", f"images.batch_size={wrong}")


def test_a_model_that_cannot_fit_is_told_before_anything_is_submitted(world, models):
    with pytest.raises(
        InputError, match=r"flux_dev in bfloat16 at 1024x1024 needs 3\d\.\d GB .* has 24 GB \(cluster.gpu_mem_gb\); use GPUs"
    ):
        images(world, models, "flux_dev", "cluster.gpu_mem_gb=24")
    with pytest.raises(InputError, match=r"numerics=exact with model.dtype=bfloat16"):
        images(world, models, "sdxl", "cluster.gpu_mem_gb=12", "numerics=reference")
    with pytest.raises(InputError, match=r"has 24 GB \(assumed"):
        images(world, models, "flux_dev", "cluster=slurm")


@pytest.mark.parametrize(
    ("more", "window", "unit"),
    [
        (("captioner.max_batch_size=auto",), 4096, 4096),  # 256 rows fit
        (("captioner.max_batch_size=40",), 640, 640),
        (("captioner.max_batch_size=8",), 256, 256),
        (("captions.unit_size=64",), 64, 64),
        (("captions.window=48",), 48, 48),
        (("captions.window=32", "captions.unit_size=128"), 32, 128),
    ],
)
def test_windows_of_gpus_are_so_large_that_tails_do_not_matter_and_so_small_that_drains_do_not_wait(world, more, window, unit):
    point = world.point("cluster.gpu_mem_gb=80", "captions.total=100000", *more)
    assert (point.stages[0].spec.batch, point.stages[0].spec.unit_size) == (window, unit)


def test_a_larger_total_takes_over_the_captions_of_a_smaller_one(world):
    few, many = (world.point("cluster.gpu_mem_gb=80", f"captions.total={n}").stages[0].spec for n in (20_000, 1_000_000))
    assert few.base == many.base and few.slots < many.slots


def test_stages_that_differ_by_their_batch_alone_are_told_apart_by_what_goes_on_with_them(world, models):
    there, asked = (images(world, models, "sdxl", f"cluster.gpu_mem_gb={gb}") for gb in (40, 24))
    StageFolder.create(there.dataset_root, there.spec)
    assert "go on with it by images.vae_batch=4" in nearest(asked)
    other = images(world, models, "sdxl", "cluster.gpu_mem_gb=24", "seed=5")
    assert "go on with it" not in nearest(other)
