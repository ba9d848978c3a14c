"""What is loaded beside a plain folder: variants, another VAE, LoRA, single-file checkpoints, the safety checker."""

import io
import json
import pickle
import re
import shutil
import zipfile
from dataclasses import replace

import pytest

from synth.errors import EXIT_OK, InputError
from synth.images.models import CONFIG, LORA, MODEL, VAE
from synth.images.schedulers import check_scheduler
from synth.keys import WrongKey
from synth.numerics import EXACT
from synth.store.identity import identity
from synth.store.spec import InputFile
from tests.configs import ImagesConfig, ModelConfig
from tests.fixtures_images import captions_json_stage, captions_stage, child, judged, work
from tests.images import tiny
from tests.images.checkpoints import single_file
from tests.images.loras import make_lora
from tests.images.test_models import CAPTIONS, seeded

PLAIN = ImagesConfig(3, ModelConfig("tiny"), guidance_scale=2.0, steps=2, height=16, width=16)


@pytest.fixture(scope="module")
def sd(tmp_path_factory):
    return tiny.build("sd", tmp_path_factory.mktemp("sd") / "sd")


@pytest.fixture
def copy(sd, tmp_path):
    return shutil.copytree(sd, tmp_path / "copy")


def opened(paths, batch=2, **model):
    from synth.images.pipeline import open_family

    config = replace(PLAIN, model=replace(PLAIN.model, **model))
    return open_family(judged(paths, config), config, EXACT, batch)


def drawn(family):
    return family.draw(family.embed(CAPTIONS[:2]), seeded(1, 2))


def rename_to_variant(folder, *components, variant="fp16"):
    for file in [f for c in components for f in (folder / c).glob("*.safetensors")]:
        file.rename(file.with_name(file.name.replace(".safetensors", f".{variant}.safetensors")))


def test_a_folder_of_one_variant_alone_is_loaded_as_it_is(sd, copy):
    rename_to_variant(copy, "unet", "vae", "text_encoder")
    assert judged({MODEL: copy}, PLAIN).variant == "fp16"
    assert (drawn(opened({MODEL: copy})) == drawn(opened({MODEL: sd}))).all()


def test_a_variant_beside_the_plain_weights_is_a_choice(sd, copy):
    for c in ("unet", "vae", "text_encoder"):
        other = shutil.copytree(copy / c, copy / f"{c}_2")
        rename_to_variant(copy, f"{c}_2")
        for file in other.glob("*.safetensors"):
            shutil.move(file, copy / c)
        shutil.rmtree(other)
    assert judged({MODEL: copy}, PLAIN).variant == ""
    assert judged({MODEL: copy}, replace(PLAIN, model=ModelConfig("t", variant="fp16"))).variant == "fp16"
    opened({MODEL: copy}, variant="fp16")
    with pytest.raises(InputError, match=r"model\.variant=bf16"):
        judged({MODEL: copy}, replace(PLAIN, model=ModelConfig("t", variant="bf16")))


def test_variants_that_do_not_go_together_are_told(copy):
    rename_to_variant(copy, "unet")
    rename_to_variant(copy, "vae", variant="bf16")
    with pytest.raises(InputError, match=r"the variants bf16, fp16; choose one with model\.variant"):
        judged({MODEL: copy}, PLAIN)


def test_another_vae_decodes(sd, tmp_path):
    import torch

    torch.manual_seed(5)
    tiny.vae().save_pretrained(tmp_path / "vae")
    own, other = opened({MODEL: sd}), opened({MODEL: sd, VAE: tmp_path / "vae"})
    assert abs(drawn(own) - drawn(other)).max() > 2 / 255
    torch.manual_seed(5)
    tiny.vae(channels=8).save_pretrained(tmp_path / "wide")
    with pytest.raises(InputError, match="has 8 latent channels, the model sd has 4"):
        judged({MODEL: sd, VAE: tmp_path / "wide"}, PLAIN)
    with pytest.raises(InputError, match=r"model\.vae: .* has no config\.json"):
        judged({MODEL: sd, VAE: sd}, PLAIN)


def test_a_vae_whose_latents_are_of_another_scale_is_refused(sd, tmp_path):
    """SDXL's fits Stable Diffusion 1 in shape, and would draw washed-out pictures."""
    tiny.vae(scaling_factor=0.13025).save_pretrained(tmp_path / "xl")
    with pytest.raises(InputError, match=r"has scaling_factor=0\.13025, but the model sd was trained with 0\.18215"):
        judged({MODEL: sd, VAE: tmp_path / "xl"}, PLAIN)


def test_loras_are_added_to_the_weights_each_times_its_own_weight(copy):
    first, second = (copy.parent / f"{name}.safetensors" for name in ("first", "second"))
    a, b = make_lora(copy, first, 1), make_lora(copy, second, 2)
    plain = opened({MODEL: copy})
    both = opened({MODEL: copy, f"{LORA}0": first, f"{LORA}1": second}, loras=(0.5, -2.0))
    weights = dict(both.pipe.unet.named_parameters())
    assert not [k for k in weights if "lora" in k]
    for name, module in plain.pipe.unet.named_modules():
        if name in a:
            wanted = module.weight + 0.5 * a[name] - 2.0 * b[name]
            assert (weights[f"{name}.weight"] - wanted).abs().max() < 1e-5
    assert a and abs(drawn(plain) - drawn(both)).max() > 2 / 255


def test_a_lora_that_does_not_fit_is_named(copy, sd, tmp_path):
    import torch
    from safetensors.torch import save_file

    save_file(
        {"unet.nothing.lora_A.weight": torch.zeros(2, 2), "unet.nothing.lora_B.weight": torch.zeros(2, 2)},
        tmp_path / "odd.safetensors",
    )
    with pytest.raises(InputError, match=r"model\.lora: .*odd\.safetensors"):
        opened({MODEL: copy, f"{LORA}0": tmp_path / "odd.safetensors"}, loras=(1.0,))
    (tmp_path / "torn.safetensors").write_bytes((tmp_path / "odd.safetensors").read_bytes()[:-4])
    with pytest.raises(InputError, match="torn"):
        judged({MODEL: sd, f"{LORA}0": tmp_path / "torn.safetensors"}, replace(PLAIN, model=ModelConfig("t", loras=(1.0,))))


def test_a_lora_of_which_a_part_fits_nothing_is_refused(copy, tmp_path):
    """diffusers adds what it knows and passes over the rest."""
    import torch
    from safetensors.torch import load_file, save_file

    file = copy.parent / "whole.safetensors"
    make_lora(copy, file, 1)
    tensors = load_file(file)
    layers = sum("lora_A" in name for name in tensors)
    foreign = {f"unet.elsewhere.to_q.lora_{side}.weight": torch.ones(2, 2) for side in "AB"}
    save_file(tensors | foreign, tmp_path / "half.safetensors")
    with pytest.raises(InputError, match=rf"half\.safetensors.*1 of its {layers + 1} layers do not fit the unet"):
        opened({MODEL: copy, f"{LORA}0": tmp_path / "half.safetensors"}, loras=(1.0,))
    words = {f"text_encoder.text_model.encoder.layers.7.self_attn.q_proj.lora_{side}.weight": torch.ones(2, 2) for side in "AB"}
    save_file(tensors | words, tmp_path / "text.safetensors")
    with pytest.raises(InputError, match=r"text\.safetensors does not fit StableDiffusionPipeline"):
        opened({MODEL: copy, f"{LORA}0": tmp_path / "text.safetensors"}, loras=(1.0,))


@pytest.mark.parametrize("scale", ["scaled_fp8", "unet.conv.scale_weight", "unet.conv.weight_scale"])
def test_weights_whose_scales_would_be_dropped_are_refused(copy, scale):
    import torch
    from safetensors.torch import load_file, save_file

    file = copy / "unet" / "diffusion_pytorch_model.safetensors"
    save_file(load_file(file) | {scale: torch.ones(1)}, file)
    with pytest.raises(InputError, match="scales of their own"):
        judged({MODEL: copy}, PLAIN)


@pytest.mark.parametrize(
    ("tensors", "metadata", "said"),
    [
        (["v_pred"], None, "predicting v, but .*scheduler_config.json says epsilon"),
        ([], {"modelspec.predict_key": "v"}, "predicting v"),
        (["ztsnr"], None, "zero signal"),
        (["edm_mean", "edm_std"], None, "EDM's noise levels, but .* is of DDIMScheduler"),
    ],
)
def test_a_checkpoint_that_says_how_it_was_trained_is_not_drawn_in_another_way(configs, tmp_path, tensors, metadata, said):
    import torch
    from safetensors.torch import save_file

    file = tmp_path / "model.safetensors"
    save_file({name: torch.ones(1) for name in ["weight", *tensors]}, file, metadata)
    with pytest.raises(InputError, match=said):
        judged({MODEL: file, CONFIG: configs}, PLAIN)


@pytest.mark.parametrize(
    ("own", "prediction", "name"),
    [("EDMEulerScheduler", "epsilon", "euler"), ("EDMDPMSolverMultistepScheduler", "epsilon", "dpm++2m"), ("SCMScheduler", "", "lcm"),
     ("DPMSolverMultistepScheduler", "flow_prediction", "euler"), ("DDIMScheduler", "sample", "plms")],
)  # fmt: skip
def test_a_scheduler_that_knows_other_noise_levels_than_the_model_is_refused(own, prediction, name):
    with pytest.raises(WrongKey, match=f"scheduler={re.escape(name)}"):
        check_scheduler(name, own, 4, prediction=prediction)
    check_scheduler("default", own, 4, prediction=prediction)


@pytest.fixture
def configs(copy):
    """The folder without its weights."""
    for file in copy.rglob("*.safetensors"):
        file.unlink()
    return copy


@pytest.mark.parametrize("form", ["ckpt", "old ckpt", "safetensors"])
def test_a_single_file_checkpoint_draws_the_same_pictures_offline(form, sd, configs, tmp_path, monkeypatch):
    import socket

    import torch
    from safetensors.torch import save_file

    plain = opened({MODEL: sd})
    file = tmp_path / f"v1-5.{form.split()[-1]}"
    state = single_file(plain.pipe)
    if form == "safetensors":
        save_file(state, file)
    else:
        torch.save({"state_dict": state, "global_step": 7}, file, _use_new_zipfile_serialization=form == "ckpt")
    monkeypatch.setattr(socket.socket, "connect", lambda *a: pytest.fail("asked the network"))
    with pytest.raises(InputError, match=r"model\.config must name a folder"):
        judged({MODEL: file}, PLAIN)
    paths = {MODEL: file, CONFIG: configs}
    assert judged(paths, PLAIN).checkpoint == file
    assert (drawn(opened(paths)) == drawn(plain)).all()


class Trap:
    """Unpickling it writes a file."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return open, (str(self.path), "w")


def test_a_checkpoint_that_holds_code_is_refused_and_the_code_not_run(sd, configs, tmp_path):
    import torch

    file, victim = tmp_path / "evil.ckpt", tmp_path / "ran"
    torch.save({"state_dict": single_file(opened({MODEL: sd}).pipe), "callbacks": Trap(victim)}, file)
    with pytest.raises(InputError, match=r"evil\.ckpt: holds Python objects .* use its \.safetensors"):
        opened({MODEL: file, CONFIG: configs})
    file.write_bytes(pickle.dumps(Trap(victim), protocol=2))
    with pytest.raises(InputError, match=r"evil\.ckpt: not a whole checkpoint"):
        judged({MODEL: file, CONFIG: configs}, PLAIN)
    assert not victim.exists()


def test_a_torn_checkpoint_is_told_without_loading_it(configs, tmp_path):
    file = tmp_path / "v1-5.ckpt"
    with zipfile.ZipFile(file, "w") as z:
        z.writestr("archive/data.pkl", b"x" * 5000)
    file.write_bytes(file.read_bytes()[:-30])
    with pytest.raises(InputError, match=r"v1-5\.ckpt: not a whole checkpoint"):
        judged({MODEL: file, CONFIG: configs}, PLAIN)
    zip_ok = tmp_path / "ok.ckpt"
    with zipfile.ZipFile(zip_ok, "w") as z:
        z.writestr("a", b"x")
    with pytest.raises(InputError, match=r"model\.config: .* is no folder"):
        judged({MODEL: zip_ok, CONFIG: tmp_path / "nowhere"}, PLAIN)


@pytest.fixture
def checked(copy):
    """The tiny model with a tiny random safety checker that refuses every picture, or (threshold 2) none."""
    import torch
    from diffusers.pipelines.stable_diffusion.safety_checker import StableDiffusionSafetyChecker
    from transformers import CLIPConfig, CLIPImageProcessor

    tower = {"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "projection_dim": 8}
    torch.manual_seed(0)
    checker = StableDiffusionSafetyChecker(
        CLIPConfig(vision_config=tower | {"image_size": 16, "patch_size": 8}, text_config=tower, projection_dim=8)
    )
    for name in ("concept_embeds", "special_care_embeds"):
        getattr(checker, name).data = torch.randn(getattr(checker, name).shape)
    checker.save_pretrained(copy / "safety_checker")
    CLIPImageProcessor(size={"shortest_edge": 16}, crop_size={"height": 16, "width": 16}).save_pretrained(copy / "feature_extractor")
    index = json.loads((copy / "model_index.json").read_text())
    index |= {
        "safety_checker": ["stable_diffusion", "StableDiffusionSafetyChecker"],
        "feature_extractor": ["transformers", "CLIPImageProcessor"],
    }
    (copy / "model_index.json").write_text(json.dumps(index))
    return copy


@pytest.fixture(scope="module")
def table(tmp_path_factory):
    root = tmp_path_factory.mktemp("captions") / "runs" / "toys"
    made = captions_json_stage(root, [captions_stage(root, CAPTIONS)], len(CAPTIONS))
    assert work(made) == EXIT_OK
    return made


@pytest.mark.parametrize("mode", ["off", "blank", "drop"])
def test_what_the_safety_checker_refuses_is_said_never_silent(mode, checked, table, monkeypatch):
    import numpy as np
    from PIL import Image

    from synth.images import safety

    asked = []
    real = safety.SafetyChecker.flagged
    # random weights refuse at random: the second picture of each batch is refused here, after the true checker was asked
    monkeypatch.setattr(
        safety.SafetyChecker,
        "flagged",
        lambda self, x: (asked.append(len(real(self, x))), [i % 2 == 1 for i in range(len(x))])[1],
    )
    inputs = {MODEL: InputFile(str(checked), identity(checked))}
    config = replace(PLAIN, model=ModelConfig("tiny", safety_checker=mode))
    folder = child(table.path.parent, "images", config, {"captions": [table]}, 4, 4, 2, inputs)
    assert work(folder) == EXIT_OK
    found = {s.slot: (s.json(), np.asarray(Image.open(io.BytesIO(s.read("png"))))) for s in folder.samples()}
    with folder.reader(0) as reader:
        tombstones = dict(reader.index.tombstones)
    assert asked == ([] if mode == "off" else [2, 2])
    assert tombstones == (dict.fromkeys((1, 3), "refused by the safety checker") if mode == "drop" else {})
    assert {k: r["blanked"] for k, (r, _) in found.items()} == {k: mode == "blank" and k % 2 == 1 for k in found}
    assert all((pixels.max() == 0) == record["blanked"] and record["safety_checker"] == mode for record, pixels in found.values())


def test_the_safety_checker_itself_sees_the_pictures(checked):
    import torch

    family = opened({MODEL: checked}, safety_checker="drop")
    weights = family.safety.checker.concept_embeds_weights.data
    pictures = torch.rand(3, 3, 16, 16, generator=torch.Generator().manual_seed(0))
    weights.fill_(-2.0)  # any similarity is above it
    assert family.flagged(pictures) == [True] * 3
    weights.fill_(2.0)  # none is
    family.safety.checker.special_care_embeds_weights.data.fill_(2.0)
    before = pictures.clone()
    assert family.flagged(pictures) == [False] * 3 and (pictures == before).all()


def test_a_safety_checker_whose_weights_are_torn_is_told(checked):
    file = next((checked / "safety_checker").glob("*.safetensors"))
    file.write_bytes(file.read_bytes()[:-10])
    config = replace(PLAIN, model=ModelConfig("tiny", safety_checker="drop"))
    with pytest.raises(InputError, match="safety_checker"):
        judged({MODEL: checked}, config)
    judged({MODEL: checked}, PLAIN)


def test_a_pipeline_that_draws_from_the_global_generator_is_an_error(sd, monkeypatch):
    import torch

    family = opened({MODEL: sd})
    decode = family.pipe.vae.decode
    monkeypatch.setattr(family.pipe.vae, "decode", lambda *a, **k: (torch.randn(1), decode(*a, **k))[1])
    with pytest.raises(RuntimeError, match="StableDiffusionPipeline draws noise from the global generator"):
        drawn(family)
