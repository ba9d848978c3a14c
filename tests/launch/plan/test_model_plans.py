"""The group `model` at plan time: native values, parts, LoRA, checkpoints; nothing is loaded to judge them."""

import json
from dataclasses import replace
from functools import cache

import pytest

from launch.config.compose import CONF, Composer, typed
from launch.plan.models import NATIVE, PlannedModel, plan_model
from synth.errors import InputError
from synth.keys import check
from tests.configs import ImagesConfig
from tests.images import tiny

EMPTY = ImagesConfig(0, None, height=None, width=None, steps=None, scheduler=None, guidance_scale=None)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    root, built = tmp_path_factory.mktemp("tiny models"), {}

    def get(name: str):
        if name not in built:
            built[name] = tiny.build(name, root / name)
        return built[name]

    return get


@cache
def composer() -> Composer:
    return Composer()


def model_of(*overrides: str):
    return typed(composer().compose(list(overrides))).model


def planned(*overrides: str) -> PlannedModel:
    model = model_of(*overrides)
    check(model, "model")
    return plan_model(model)


def filled(model: PlannedModel, config) -> dict:
    """The keys of drawing that a model has values of its own for."""
    settings = model.settings(config)
    return {key: getattr(settings, key) for key in NATIVE}


def test_what_images_leave_out_is_the_models_own(folder):
    turbo = planned("model=sdxl_turbo", f"model.path='{folder('sdxl_turbo')}'")
    own = {"height": 512, "width": 512, "steps": 1, "scheduler": "default", "guidance_scale": 0.0}
    assert filled(turbo, EMPTY) == own
    chosen = replace(EMPTY, height=64, width=32, steps=3, scheduler="ddim", guidance_scale=0.0)
    assert filled(turbo, chosen) == {"height": 64, "width": 32, "steps": 3, "scheduler": "ddim", "guidance_scale": 0.0}


def test_the_fast_preset_is_refused_where_its_scheduler_does_not_fit(folder):
    fast = replace(EMPTY, preset="fast")
    assert planned("model=floyd", f"model.path='{folder('floyd')}'").settings(fast).scheduler == "dpm++2m"
    for preset, builder in (("sd3", "sd3"), ("karlo", "karlo")):
        with pytest.raises(InputError, match=r"preset=fast: dpm\+\+2m does not fit"):
            planned(f"model={preset}", f"model.path='{folder(builder)}'").settings(fast)


def test_a_size_that_no_preset_says_is_read_from_the_folders(folder):
    sd = planned("model=diffusers", f"model.path='{folder('sd')}'").settings(EMPTY)
    assert (sd.height, sd.width) == (32, 32)  # 16 latents of 2 pixels
    floyd = ["model=floyd", f"model.path='{folder('floyd')}'"]
    for part, size in (("", 8), ("stage_2", 32), ("stage_3", 128)):
        floyd += [f"model.parts.{part}.path='{folder(part.replace('stage', 'floyd'))}'"] if part else []
        assert planned(*floyd).settings(EMPTY).height == size
    flux = planned("model=diffusers", f"model.path='{folder('flux')}'")
    with pytest.raises(InputError, match=r"height=null: the folder of flux does not say its own"):
        flux.settings(EMPTY)


def test_every_preset_fits_its_own_class(folder):
    builders = {
        "sd14": "sd", "sd15": "sd", "sd21": "sd_v", "sdxl": "sdxl", "sdxl_turbo": "sdxl_turbo", "sd3": "sd3", "sd35": "sd3",
        "flux_schnell": "flux", "flux_dev": "flux_dev", "auraflow": "auraflow", "floyd": "floyd",
        "pixart_sigma": "pixart_sigma", "kolors": "kolors", "kandinsky22": "kandinsky22", "karlo": "karlo", "cogview4": "cogview4",
    }  # fmt: skip
    presets = {p.stem for p in (CONF / "model").glob("*.yaml")} - {"tiny", "diffusers"}
    assert builders.keys() <= presets
    for preset, builder in builders.items():
        model = model_of(f"model={preset}", f"model.path='{folder(builder)}'")
        found = plan_model(model)
        assert found.config.id == preset and found.config.pipeline == found.folder.pipeline
        assert model.repo and model.revision and model.licence and model.memory_gb > 0


@pytest.mark.parametrize(
    ("value", "weights"),
    [
        ("'{file}'", (1.0,)),
        ("['{file}','{file}']", (1.0, 1.0)),
        ("[{{path:'{file}',weight:0.5}}]", (0.5,)),
        ("{{path:'{file}',weight:-2}}", (-2.0,)),
    ],
)
def test_loras_are_files_with_weights(value, weights, folder):
    file = next((folder("sd") / "unet").glob("*.safetensors"))
    found = planned("model=sd15", f"model.path='{folder('sd')}'", f"model.lora={value.format(file=file)}")
    assert found.config.loras == weights
    assert [r for r in found.inputs if r.startswith("model_lora")] == [f"model_lora_{i}" for i in range(len(weights))]


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ("model.lora=3", "3 is no LoRA; write a file"),
        ("model.lora=[{weight:1}]", "is no LoRA"),
        ("model.lora=[{path:a.safetensors,weight:x}]", "weight 'x' of a.safetensors is not a number"),
        ("model.lora=a.ckpt", "a.ckpt is not a .safetensors file"),
        ("model.lora=/no/such.safetensors", "model.lora: /no/such.safetensors is not there"),
        ("model.vae=/no/such", "model.vae: /no/such is not there"),
        ("model.config=/no/such", "model.config: /no/such is not there"),
        ("model.dtype=float8", "model.dtype=float8: use one of auto, float16"),
        ("model.variant=fp16", "has no weights of model.variant=fp16"),
        ("model.safety_checker=black", "use one of off, blank"),
        ("model.safety_checker=drop", "use model.safety_checker=off"),
        ("model.pipeline=FluxPipeline", "but model.pipeline=FluxPipeline; use StableDiffusionPipeline"),
        (
            "model=sdxl; model.pipeline=auto; model.parts.refiner.path=FLUX",
            "model.parts.refiner: StableDiffusionPipeline (sd) has no",
        ),
    ],
)
def test_what_cannot_be_is_said_with_its_key(change, said, folder):
    with pytest.raises(InputError) as e:
        planned("model=sd15", f"model.path='{folder('sd')}'", *change.replace("FLUX", f"'{folder('flux')}'").split("; "))
    assert said in str(e.value)


def test_a_wrong_path_is_told_before_all_below_it_is_read(folder, tmp_path, monkeypatch):
    from launch.plan import models

    monkeypatch.setattr(models, "identity_of", lambda path: pytest.fail(f"hashed {path}"))
    (tmp_path / "holiday.jpg").write_bytes(b"x")
    with pytest.raises(InputError, match=r"model_index\.json: missing"):
        planned("model=sd15", f"model.path='{tmp_path}'")


def test_identity_of_every_input_is_part_of_the_stage(folder, tmp_path):
    refiner = tiny.build("sdxl_refiner", tmp_path / "refiner")
    words = ("model=sdxl", f"model.path='{folder('sdxl')}'", f"model.parts.refiner.path='{refiner}'")
    before = planned(*words).inputs["model_part_refiner"].identity
    config = refiner / "scheduler" / "scheduler_config.json"
    config.write_text(json.dumps(json.loads(config.read_text()) | {"beta_end": 0.02}))
    from launch.plan import inputs

    inputs.identity_of.cache_clear()  # hashed once a process; another process sees the change
    assert planned(*words).inputs["model_part_refiner"].identity != before


def test_a_config_of_the_original_scripts_is_told_as_what_it_is(tmp_path):
    (tmp_path / "v1-inference.yaml").write_text("model: {}\n")
    (tmp_path / "v1-5.ckpt").write_bytes(b"x")
    with pytest.raises(InputError, match=r"v1-inference\.yaml: a config of the original scripts .*; name a folder in diffusers' layout"):
        planned("model=sd15", f"model.path={tmp_path}/v1-5.ckpt", f"model.config={tmp_path}/v1-inference.yaml")
