"""The group `model` at plan time: native values, parts, LoRA, checkpoints; nothing is loaded to judge them."""

import json
from dataclasses import replace
from functools import cache
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save_file

from launch.config.compose import CONF, Composer, typed
from launch.plan.models import NATIVE, PlannedModel, plan_model
from synth.errors import InputError
from synth.keys import WrongKey, check
from tests.configs import ImagesConfig
from tests.images import tiny

LAYER = "mid_block.attentions.0.transformer_blocks.0.attn1.to_q"  # of the tiny U-Net, 32 x 32
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


def write_lora(file, layer=f"unet.{LAYER}", width=32, up="lora_B"):
    """The form of a LoRA of rank 2, of zeros; width: columns of the layer."""
    shapes = {"lora_A": (2, width), up: (32, 2)}
    save_file({f"{layer}.{side}.weight": np.zeros(shape, np.float32) for side, shape in shapes.items()}, file)


@pytest.mark.parametrize(
    ("value", "weights"),
    [
        ("'{file}'", (1.0,)),
        ("['{file}','{file}']", (1.0, 1.0)),
        ("[{{path:'{file}',weight:0.5}}]", (0.5,)),
        ("{{path:'{file}',weight:-2}}", (-2.0,)),
    ],
)
def test_loras_are_files_with_weights(value, weights, folder, tmp_path):
    file = tmp_path / "style.safetensors"
    write_lora(file)
    found = planned("model=sd15", f"model.path='{folder('sd')}'", f"model.lora={value.format(file=file)}")
    assert found.config.loras == weights
    assert [r for r in found.inputs if r.startswith("model_lora")] == [f"model_lora_{i}" for i in range(len(weights))]


@pytest.mark.parametrize(
    ("layer", "said"),
    [
        ({"layer": "unet.elsewhere.to_q"}, r"1 of its 1 layers do not fit the unet of StableDiffusionPipeline \(elsewhere\.to_q\)"),
        ({"width": 64}, "1 of its 1 layers do not fit the unet"),
        ({"up": "beside"}, r"without unet\..*to_q\.lora_B\.weight"),
    ],
)
def test_a_lora_that_does_not_fit_is_refused_when_it_is_planned(layer, said, folder, tmp_path):
    write_lora(tmp_path / "odd.safetensors", **layer)
    with pytest.raises(InputError, match=rf"odd\.safetensors.*{said}"):
        planned("model=sd15", f"model.path='{folder('sd')}'", f"model.lora='{tmp_path}/odd.safetensors'")


def test_weights_of_a_model_are_no_lora(folder):
    file = next((folder("sd") / "unet").glob("*.safetensors"))
    with pytest.raises(InputError, match="holds no LoRA"):
        planned("model=sd15", f"model.path='{folder('sd')}'", f"model.lora='{file}'")


CLASSES = {0: "red panda", 3: "crane", 7: "crane", 9: "Great Owl"}


@pytest.fixture
def by_class(folder, tmp_path):
    """Plans model.lora_by_class of a folder of such files; more: further words of it, and keys."""

    def plan(*files, more="", keys=(), classes=CLASSES):
        for file in files:
            (tmp_path / file).parent.mkdir(exist_ok=True)
            write_lora(tmp_path / file)
        model = model_of("model=sd15", f"model.path='{folder('sd')}'", f"model.lora_by_class={{path:'{tmp_path}'{more}}}", *keys)
        return plan_model(model, classes)

    return plan


FOUR = ("Red_Panda.safetensors", "3.safetensors", "crane~7.safetensors", "great owl/pytorch_lora_weights.safetensors")


def test_loras_of_classes_are_found_by_name_index_or_folder(by_class):
    found = by_class(*FOUR, "walrus.safetensors", more=",weight:0.5")
    assert [(c.index, c.name, c.weight, c.file) for c in found.config.adapters] == [(i, n, 0.5, True) for i, n in CLASSES.items()]
    places = {role: "/".join(Path(i.path).parts[-2:]) for role, i in found.inputs.items() if role.startswith("model_adapter_")}
    assert list(places) == [f"model_adapter_{i}" for i in (3, 0, 7, 9)] and places["model_adapter_9"] == FOUR[3]
    assert found.notes == ("model.lora_by_class: of no class of this run: 1 file ('walrus.safetensors')",)
    assert found.folder.adapters.keys() == CLASSES.keys()


def test_a_class_without_a_lora_is_an_error_or_drawn_plainly(by_class):
    with pytest.raises(WrongKey, match=r"no file of 1 class \('red panda'\); did you mean redpanda\?; add red panda\.safetensors, or"):
        by_class(*FOUR[1:], "redpanda.safetensors")
    found = by_class(more=",missing:plain")
    assert [c.file for c in found.config.adapters] == [False, True, True, True]
    assert "the model alone draws 1 class ('red panda')" in found.notes[0]


@pytest.mark.parametrize(
    ("files", "more", "said"),
    [
        (("crane.safetensors",), "", r"crane is the name of classes \[3, 7\]; call the file by the index"),
        ((*FOUR, "red panda.safetensors"), "", r"Red_Panda and red panda are both of class 0"),
        ((*FOUR, "great owl/b.safetensors"), "", "holds 2 LoRA files"),
        ((), ",missing:plain", "no file of 4 classes"),
        (FOUR, ",missing:no", "missing 'no': use one of error, plain"),
        (FOUR, ",weight:x", "weight 'x' is not a number"),
        (FOUR, ",wieght:1", "is no folder of LoRAs"),
    ],
)
def test_folders_of_loras_that_cannot_be_are_refused(files, more, said, by_class):
    with pytest.raises(InputError, match=said):
        by_class(*files, more=more)


def test_loras_of_classes_need_classes_and_their_text_encoders_the_device(by_class, tmp_path):
    for classes, why in ((None, "not drawn by class"), ({}, "captions say of no class")):
        with pytest.raises(WrongKey, match=why):
            by_class(*FOUR, classes=classes)
    write_lora(tmp_path / "3.safetensors", layer="text_encoder.text_model.encoder.layers.0.self_attn.q_proj")
    with pytest.raises(WrongKey, match=r"text_offload=true: .*3\.safetensors changes text encoders"):
        by_class(FOUR[0], *FOUR[2:], keys=("model.text_offload=true",))


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
