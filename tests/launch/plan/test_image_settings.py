"""Presets, the guidance interval and how a stage is worked on, at plan time."""

import pytest

from synth.errors import InputError


def images(world, *overrides, model="sd15"):
    """The planned images stage of a command line."""
    return next(s for s in world.point(f"model={model}", *overrides).stages if s.name == "images").spec


def chosen(spec) -> tuple:
    return tuple(spec.config[k] for k in ("scheduler", "steps", "guidance_scale"))


def test_a_preset_fills_only_keys_that_are_null(world):
    assert chosen(images(world)) == ("default", 50, 7.5)
    assert chosen(images(world, "images.preset=paper")) == ("ddim", 50, 2.0)
    assert chosen(images(world, "images.preset=fast")) == ("dpm++2m", 20, 7.5)
    assert chosen(images(world, "images.preset=fast", "images.steps=7", "images.scheduler=ddim")) == ("ddim", 7, 7.5)


def test_a_preset_is_the_settings_that_it_names_and_nothing_else(world):
    named = images(world, "images.preset=fast")
    assert named.fingerprint == images(world, "images.scheduler=dpm++2m", "images.steps=20").fingerprint


@pytest.mark.parametrize(
    ("overrides", "said"),
    [
        (["images.preset=quick"], "images.preset=quick: use one of paper, fast, or null"),
        (["images.preset=paper", "+model.paper.stepz=4"], "model.paper=stepz: unknown keys"),
        (["images.guidance_interval=[0.2]"], "images.guidance_interval=[0.2]: is no share of the schedule; use [lo, hi]"),
        (["images.guidance_interval=[0.2,0.8]", "images.guidance_scale=1"], "guidance_scale=1 never computes"),
        (["images.on_oom=ignore"], "images.on_oom=ignore: use one of auto, fail, split"),
        (["images.save_size=100000"], "images.save_size=100000: must be from 0 to 16383"),
        (
            ["images.eta=0.5", "images.scheduler=unipc"],
            "images.eta=0.5: scheduler=unipc (UniPCMultistepScheduler) does not read it",
        ),
        (["images.vae_batch=-1"], "images.vae_batch=-1"),
        (["images.preview_every=-1"], "images.preview_every=-1"),
        (["images.height=20"], "images.height=20: sd computes multiples of 8 pixels; use 16 or 24"),
        (["images.width=4"], "images.width=4: sd computes multiples of 8 pixels; use 8"),
        (["images.scheduler=ddmi"], "images.scheduler=ddmi: use one of default, ddim, pndm"),
        (["images.format=gif"], "images.format=gif: use one of png, jpg, webp"),
        (["images.steps=0"], "images.steps=0: must be 1 or more"),
        (["images.save_size=-1"], "images.save_size=-1: must be from 0"),
    ],
)
def test_settings_that_cannot_be_are_refused_before_anything_is_written(world, overrides, said):
    with pytest.raises(InputError) as e:
        images(world, *overrides)
    assert said in str(e.value)
    assert not world.runs.exists()


@pytest.fixture
def flux(tmp_path_factory):
    from tests.images import tiny

    path = tmp_path_factory.mktemp("flux") / "flux"
    tiny.build("flux_dev", path)
    return f"model.path={path}"


def test_attention_kernels_are_in_the_fingerprint_where_they_are_chosen_and_only_there(world, flux):
    usual, chosen = (images(world, flux, *more, model="flux_dev") for more in ([], ["model.attention_backend=_native_flash"]))
    assert "attention_backend" not in usual.config["model"] and chosen.config["model"]["attention_backend"] == "_native_flash"
    assert usual.fingerprint != chosen.fingerprint
    assert images(world, flux, "model.attention_backend=null", model="flux_dev").fingerprint == usual.fingerprint


@pytest.mark.parametrize(
    ("overrides", "said"),
    [
        (["model.attention_backend=sage2"], "model.attention_backend=sage2: use one of native, _native_math"),
        (
            ["numerics=fast", "model.attention_backend=flash"],
            "needs the package flash_attn, which is not installed; install it",
        ),
        (
            ["model.attention_backend=sage"],
            "numerics=exact does not promise its bytes; use one of native, _native_math, _native_efficient, _native_flash, or",
        ),
        (["model.attention_backend=_native_cudnn"], "model.attention_backend=_native_cudnn: numerics=exact does not promise"),
        (
            ["numerics=reference", "model.attention_backend=_native_flash"],
            "numerics=reference does not promise its bytes; use one of native, _native_math, _native_efficient, or",
        ),
    ],
)
def test_attention_kernels_that_cannot_be_are_refused_before_anything_is_written(world, flux, overrides, said):
    with pytest.raises(InputError) as e:
        images(world, flux, *overrides, model="flux_dev")
    assert said in str(e.value)
    assert not world.runs.exists()


def test_a_model_that_does_not_let_its_attention_be_chosen_says_so(world):
    with pytest.raises(InputError) as e:
        images(world, "model.attention_backend=native")
    assert "model.attention_backend=native: the denoiser of StableDiffusionPipeline (sd) does not let its attention be chosen" in str(
        e.value
    )


def test_a_model_without_a_paper_s_settings_says_so(world):
    with pytest.raises(InputError, match="tiny_sd has no paper's settings"):
        images(world, "images.preset=paper", model="tiny")


def test_how_a_stage_is_worked_on_is_no_part_of_its_fingerprint(world):
    plain = images(world)
    other = images(world, "images.on_oom=split", "images.preview_every=0", "model.text_offload=true")
    assert other.fingerprint == plain.fingerprint and other.settings != plain.settings
    assert [images(world, f"numerics={n}").settings["on_oom"] for n in ("exact", "reference", "fast")] == ["fail", "fail", "split"]
    assert images(world, "numerics=fast", "images.on_oom=fail").settings["on_oom"] == "fail"
    assert images(world, "images.vae_batch=2").fingerprint != plain.fingerprint
