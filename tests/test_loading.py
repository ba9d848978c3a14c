"""Weights of which a part is missing are bad input, whoever loads them: they would be filled at random, anew in every worker."""

import shutil

import pytest

from synth.captions.hf.engine import HfEngine
from synth.errors import InputError
from synth.features.encoders import Clip
from synth.images.models import CONFIG, MODEL
from synth.images.pipeline import open_family
from synth.numerics import EXACT
from tests.captions import tiny_hf
from tests.configs import CaptionerConfig, ImagesConfig, ModelConfig
from tests.fixtures_clip import build_tiny_clip
from tests.fixtures_images import judged
from tests.images import tiny
from tests.images.checkpoints import single_file

CONFIG_OF_IMAGES = ImagesConfig(3, ModelConfig("tiny"), guidance_scale=2.0, steps=2, height=16, width=16)


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    return tiny.build("sd", tmp_path_factory.mktemp("sd") / "sd")


@pytest.fixture
def sd(built, tmp_path):
    return shutil.copytree(built, tmp_path / "sd")


def changed(file, change):
    """Write a .safetensors file anew, its tensors as change(name) calls them; None leaves one out."""
    from safetensors.torch import load_file, save_file

    save_file({new: tensor for name, tensor in load_file(file).items() if (new := change(name))}, file, {"format": "pt"})


def added(file, name):
    import torch
    from safetensors.torch import load_file, save_file

    save_file(load_file(file) | {name: torch.ones(1)}, file, {"format": "pt"})


def opened(folder, **more):
    return open_family(judged({MODEL: folder} | more, CONFIG_OF_IMAGES), CONFIG_OF_IMAGES, EXACT, 1)


def test_a_text_encoder_that_was_saved_with_another_prefix_is_not_drawn_with_random_weights(sd):
    changed(sd / "text_encoder" / "model.safetensors", lambda name: f"transformer.{name}")
    with pytest.raises(InputError, match=r"text_encoder: holds no .* of CLIPTextModel.*filled at random; it holds instead transformer\."):
        opened(sd)


@pytest.mark.parametrize(
    ("component", "file", "gone"),
    [
        ("unet", "diffusion_pytorch_model", "down_blocks.1.attentions.0.transformer_blocks.0.attn2.to_k.weight"),
        ("vae", "diffusion_pytorch_model", "decoder.conv_in.weight"),
        ("text_encoder", "model", "final_layer_norm.bias"),
    ],
)
def test_one_missing_tensor_of_any_component_is_named(sd, component, file, gone):
    changed(sd / component / f"{file}.safetensors", lambda name: None if name.endswith(gone) else name)
    with pytest.raises(InputError, match=rf"{component}: holds no .*{gone.rpartition('.')[0]}"):
        opened(sd)


def test_a_single_file_that_lacks_a_tensor_is_named(built, sd, tmp_path):
    from safetensors.torch import save_file

    state = single_file(opened(built).pipe)
    file = tmp_path / "model.safetensors"
    save_file({k: v for k, v in state.items() if not k.startswith("model.diffusion_model.input_blocks.0.0")}, file)
    for weights in sd.rglob("*.safetensors"):
        weights.unlink()
    with pytest.raises(InputError, match=r"model\.safetensors"):
        opened(file, **{CONFIG: sd})


def test_what_a_file_holds_beside_is_told_and_not_used(sd, capsys):
    import torch
    from safetensors.torch import load_file, save_file

    file = sd / "unet" / "diffusion_pytorch_model.safetensors"
    save_file(load_file(file) | {"extra.weight": torch.ones(1)}, file, {"format": "pt"})
    opened(sd)
    assert "UNet2DConditionModel has no place for extra.weight: not used" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("component", "file", "extra"),
    [
        ("unet", "diffusion_pytorch_model", "mid_block.attentions.0.transformer_blocks.0.attn1.to_q.gate.weight"),
        ("unet", "diffusion_pytorch_model", "conv_in.weight_scale_2"),
        ("text_encoder", "model", "text_model.encoder.layers.2.mlp.fc1.weight"),
        ("vae", "diffusion_pytorch_model", "decoder.mid_block.resnets.0.extra_norm.weight"),
    ],
)
def test_what_would_have_changed_a_part_of_the_model_is_refused(component, file, extra, sd):
    added(sd / component / f"{file}.safetensors", extra)
    with pytest.raises(InputError, match=rf"{component}: holds .*{extra.rpartition('.')[0].removeprefix('text_model.')}.*has no place"):
        opened(sd)


def test_buffers_of_old_versions_and_parts_of_another_class_are_left_out(sd, capsys):
    added(sd / "text_encoder" / "model.safetensors", "text_model.embeddings.position_ids")
    added(sd / "text_encoder" / "model.safetensors", "visual_projection.weight")
    opened(sd)


@pytest.mark.parametrize(
    ("keep", "name", "said"),
    [
        (True, "mid_block.attentions.0.transformer_blocks.0.attn1.to_q.lora_A.weight", "holds an adapter beside its weights"),
        (True, "up_blocks.1.attentions.0.transformer_blocks.0.attn2.processor.to_k_ip.weight", "holds an adapter beside its weights"),
        (
            False,
            "lora_unet_mid_block_attentions_0_proj_in.lora_down.weight",
            "is an adapter .LoRA: lora_unet.* and no model; give it",
        ),
    ],
)
def test_an_adapter_in_a_models_place_or_beside_its_weights_is_told_when_planned(keep, name, said, sd):
    file = sd / "unet" / "diffusion_pytorch_model.safetensors"
    if not keep:
        changed(file, lambda name: None)
    added(file, name)
    with pytest.raises(InputError, match=said):
        judged({MODEL: sd}, CONFIG_OF_IMAGES)


def test_a_whole_model_loads_and_the_libraries_are_left_as_they_were(built):
    import diffusers
    import transformers

    before = [base.__dict__["from_pretrained"] for base in (transformers.PreTrainedModel, diffusers.ModelMixin)]
    opened(built)
    assert before == [base.__dict__["from_pretrained"] for base in (transformers.PreTrainedModel, diffusers.ModelMixin)]


def test_a_language_model_that_lacks_a_layer_is_named(tmp_path):
    folder = tiny_hf.save(tmp_path / "lm")
    changed(folder / "model.safetensors", lambda name: None if name == "model.layers.1.mlp.up_proj.weight" else name)
    captioner = CaptionerConfig(max_batch_size=2, max_seq_len=64, max_gen_len=8)
    with pytest.raises(InputError, match=r"lm: holds no model\.layers\.1\.mlp\.up_proj\.weight of LlamaForCausalLM"):
        HfEngine(captioner, folder, EXACT).start()


def test_a_clip_model_that_lacks_its_projection_is_named(tmp_path):
    folder = build_tiny_clip(tmp_path / "clip")
    changed(folder / "model.safetensors", lambda name: None if name == "visual_projection.weight" else name)
    with pytest.raises(InputError, match=r"holds no visual_projection\.weight of CLIPModel"):
        Clip(folder, 2, "float32")
