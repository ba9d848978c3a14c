"""A model folder is judged before anything is loaded, and the message names the file and the fix."""

import json
import os
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

import synth
from synth.errors import EXIT_BAD_INPUT, InputError
from synth.images.encode import stored_size
from synth.images.model_folder import inspect
from synth.images.schedulers import check_scheduler
from tests.configs import ImagesConfig, ModelConfig
from tests.fixtures_images import images_stage, judged, work

EMBEDDED = Path(synth.__file__).parent / "embedded" / "models" / "tiny_sd"


@pytest.fixture
def model(tiny_sd, tmp_path):
    return shutil.copytree(tiny_sd, tmp_path / "model")


def cut(path, size):
    path.write_bytes(path.read_bytes()[:size])


def edit(path, **changes):
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


WEIGHTS = "unet/diffusion_pytorch_model.safetensors"
DAMAGE = {
    "no index": (lambda m: (m / "model_index.json").unlink(), "model_index.json"),
    "torn index": (lambda m: cut(m / "model_index.json", 40), "model_index.json"),
    "no class": (lambda m: edit(m / "model_index.json", _class_name=None), "_class_name"),
    "no component": (lambda m: shutil.rmtree(m / "vae"), "vae: missing"),
    "no config": (lambda m: (m / "unet" / "config.json").unlink(), "unet/config.json"),
    "no scheduler config": (lambda m: (m / "scheduler" / "scheduler_config.json").unlink(), "scheduler: has none of"),
    "no tokenizer": (lambda m: [p.unlink() for p in (m / "tokenizer").iterdir()], "tokenizer: has none of"),
    "no weights": (lambda m: (m / WEIGHTS).unlink(), "unet: holds no weights"),
    "weights torn at the end": (lambda m: cut(m / WEIGHTS, -100), WEIGHTS),
    "weights torn in the header": (lambda m: cut(m / WEIGHTS, 100), WEIGHTS),
    "weights empty": (lambda m: cut(m / WEIGHTS, 0), WEIGHTS),
    "weights too long": (lambda m: (m / WEIGHTS).write_bytes((m / WEIGHTS).read_bytes() + b"x"), WEIGHTS),
    "weights of zeros": (lambda m: (m / WEIGHTS).write_bytes(bytes(1000)), WEIGHTS),
    "a header of 200 MB": (
        lambda m: ((m / WEIGHTS).write_bytes((200 << 20).to_bytes(8, "little")), os.truncate(m / WEIGHTS, 300 << 20)),
        "a header of",
    ),
    "a shard index of another kind": (
        lambda m: (m / "unet" / "x.safetensors.index.json").write_text('{"weight_map": [1]}'),
        "weight_map",
    ),
    "a Git LFS pointer": (
        lambda m: (m / WEIGHTS).write_text("version https://git-lfs.github.com/spec/v1\noid sha256:0"),
        WEIGHTS,
    ),
}


@pytest.mark.parametrize("damage", DAMAGE)
def test_a_damaged_folder_is_named(damage, model):
    how, words = DAMAGE[damage]
    how(model)
    with pytest.raises(InputError, match=words) as e:
        inspect(model)
    assert str(model) in str(e.value) and "fetch" in str(e.value)


def test_a_shard_that_an_index_names_must_be_there(model):
    (model / "unet" / "x.safetensors.index.json").write_text(json.dumps({"weight_map": {"a": "x-00001-of-00002.safetensors"}}))
    with pytest.raises(InputError, match=r"x-00001-of-00002\.safetensors: missing"):
        inspect(model)


def test_a_whole_folder_says_what_it_is(tiny_sd):
    found = inspect(tiny_sd)
    assert (found.pipeline, found.scheduler, found.vae_factor) == ("StableDiffusionPipeline", "DDIMScheduler", 2)
    with pytest.raises(InputError, match="use StableDiffusionPipeline or another"):
        inspect(tiny_sd, "FluxPipeline")
    with pytest.raises(InputError, match="no such model folder"):
        inspect(tiny_sd / "nowhere")


def test_a_model_that_changed_after_planning_is_refused(table, model, tmp_path, capsys):
    folder = images_stage(tmp_path / "runs" / "toys", table, model, 4)
    edit(model / "scheduler" / "scheduler_config.json", beta_end=0.02)
    assert work(folder) == EXIT_BAD_INPUT
    assert "changed since" in capsys.readouterr().err


def test_noise_prediction_schedulers_are_refused_for_flow_matching_models():
    check_scheduler("default", "FlowMatchEulerDiscreteScheduler")
    with pytest.raises(InputError, match="flow matching"):
        check_scheduler("ddim", "FlowMatchEulerDiscreteScheduler")


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        (
            {"eta": 0.5},
            "img2img.eta=0.5: scheduler=default (DPMSolverMultistepScheduler) does not read it; use scheduler=ddim",
        ),
        ({"steps": 1001}, "img2img.steps=1001: the model was trained on 1000 noise levels"),
        ({"height": 33}, "img2img.height=33: tiny_sd computes multiples of 8 pixels; use 32 or 40"),
    ],
)
def test_settings_that_the_model_cannot_follow_are_told_by_the_keys_of_the_stage(asked, said):
    config = replace(ImagesConfig(0, ModelConfig("tiny"), height=32, width=32), **asked)
    for img2img, expected in ((True, said), (False, said.replace("img2img.", "images."))):
        with pytest.raises(InputError) as e:
            judged({"model": EMBEDDED}, config, img2img, "img2img" if img2img else "images")
        assert expected in str(e.value)
    judged({"model": EMBEDDED}, replace(config, eta=0.5, scheduler="ddim", steps=1000, height=32))


def test_stored_size_keeps_proportions():
    assert stored_size(512, 512, 256) == (256, 256)
    assert stored_size(768, 512, 256) == (384, 256)
    assert stored_size(512, 768, 0) == (512, 768)


def test_modules_load_nothing_heavy():
    modules = "images.stage images.pipeline images.families captions.captions_json export.image_folder export.contact_sheet"
    code = (
        f"import sys; [__import__('synth.' + m) for m in '{modules}'.split()]; "
        "print(sorted({'torch','diffusers','transformers','hydra','submitit'} & set(sys.modules)))"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "[]\n"


def test_a_folder_that_brings_code_of_its_own_is_refused_and_the_code_is_not_run(tmp_path):
    folder = tmp_path / "model"
    shutil.copytree(EMBEDDED, folder)
    index = json.loads((folder / "model_index.json").read_text())
    index["unet"] = ["modeling", index["unet"][1]]
    (folder / "model_index.json").write_text(json.dumps(index))
    (folder / "unet" / "modeling.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w')")
    with pytest.raises(InputError, match=r"unet: brings code of its own \(modeling\.py\), which is not run"):
        inspect(folder)
    assert not (tmp_path / "ran").exists()
