"""What a model's files tell is told when the run is planned: by file, item and the true fix, with nothing loaded."""

import json
import re
import shutil
from dataclasses import replace

import pytest

from synth.errors import InputError
from synth.images import library
from synth.images.families.generic import Generic
from synth.images.model_folder import ModelFolder, inspect
from synth.images.models import CONFIG, MODEL
from synth.images.pipeline import open_family
from synth.images.schedulers import check_own
from synth.layouts import instead
from synth.numerics import EXACT
from synth.store.identity import identity
from synth.weights import check_file, check_weights
from tests.configs import ImagesConfig, ModelConfig
from tests.fixtures_images import judged
from tests.images import tiny

CONFIG_OF_IMAGES = ImagesConfig(3, ModelConfig("tiny"), guidance_scale=2.0, steps=2, height=16, width=16)
LFS = b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 3438167540\n"
PAGE = b"<!DOCTYPE html><html><body>Access to this model is restricted</body></html>"
ZIP = b"PK\x05\x06" + bytes(18)  # an empty archive: a whole one as far as anybody looks without unpickling


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    return tiny.build("sd", tmp_path_factory.mktemp("sd") / "sd")


@pytest.fixture
def sd(built, tmp_path):
    return shutil.copytree(built, tmp_path / "sd")


def edit(path, **changes):
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def tensors(file, names, shape=(1,)):
    import torch
    from safetensors.torch import save_file

    save_file({name: torch.zeros(shape) for name in names}, file)


# -- what stands in a file's place ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "name", ["unet/diffusion_pytorch_model.safetensors", "text_encoder/pytorch_model.bin", "model_index.json", "vae/config.json"]
)
@pytest.mark.parametrize(("bytes_", "said"), [(LFS, "a pointer of Git LFS.* git lfs pull"), (PAGE, "a web page or XML: fetch the file")])
def test_a_pointer_or_a_page_in_a_files_place_is_called_what_it_is(name, bytes_, said, sd):
    for old in (sd / name).parent.glob("*.safetensors"):
        old.unlink()
    (sd / name).write_bytes(bytes_)
    with pytest.raises(InputError, match=rf"{re.escape(name)}: is {said}"):
        inspect(sd)


def test_a_torn_pickle_is_told_before_it_is_unpickled(tmp_path):
    (tmp_path / "pytorch_model.bin").write_bytes(b"PK\x03\x04" + bytes(500))
    with pytest.raises(InputError, match=r"pytorch_model\.bin: not a whole checkpoint of torch\.save"):
        check_file(tmp_path / "pytorch_model.bin")


@pytest.mark.parametrize(
    ("place", "link", "said"),
    [
        ("unet/diffusion_pytorch_model.safetensors", "../../blobs/1234", r"a link to \.\./\.\./blobs/1234, which is not there"),
        ("unet/diffusion_pytorch_model.safetensors", "diffusion_pytorch_model.safetensors", "a link that leads round in a circle"),
        ("unet", "nowhere", "unet: a link to nowhere, which is not there"),
        ("vae", "vae", "vae: a link that leads round in a circle"),
    ],
)
def test_a_link_that_leads_nowhere_is_named(place, link, said, sd):
    path = sd / place
    shutil.rmtree(path) if path.is_dir() else path.unlink()
    path.symlink_to(link)
    with pytest.raises(InputError, match=said):
        inspect(sd)


def test_a_folder_that_links_to_itself_is_read_once(sd):
    before = identity(sd)
    (sd / "unet" / "round").symlink_to(sd)
    inspect(sd)
    assert identity(sd) == before


# -- weights and what is left over beside them ---------------------------------------------------------------------------


def shards(folder, name, suffix, numbers, of, index=True):
    folder.mkdir(exist_ok=True)
    files = [f"{name}-{i:05d}-of-{of:05d}{suffix}" for i in numbers]
    for file in files:
        tensors(folder / file, [file]) if suffix == ".safetensors" else (folder / file).write_bytes(ZIP)
    if index:
        (folder / f"{name}{suffix}.index.json").write_text(json.dumps({"weight_map": {file: file for file in files}}))
    return folder


def test_shards_are_whole_by_their_own_numbers(tmp_path):
    assert check_weights(shards(tmp_path / "a", "model", ".safetensors", [1, 2, 3], 3)) == (True, frozenset())
    with pytest.raises(InputError, match=r"model-00002-of-00003\.safetensors: missing, one of 3 shards"):
        check_weights(shards(tmp_path / "b", "model", ".safetensors", [1, 3], 3))
    with pytest.raises(InputError, match=r"holds 3 shards and no model\.safetensors\.index\.json"):
        check_weights(shards(tmp_path / "c", "model", ".safetensors", [1, 2, 3], 3, index=False))


def test_an_index_that_shards_do_not_follow_is_named(tmp_path):
    folder = shards(tmp_path / "a", "model", ".safetensors", [1, 2], 2)
    index = folder / "model.safetensors.index.json"
    index.write_text(json.dumps({"weight_map": {"lost": "model-00001-of-00002.safetensors"}}))
    with pytest.raises(InputError, match=r"model-00001-of-00002\.safetensors: holds no lost, which model\.safetensors\.index\.json says"):
        check_weights(folder)


def test_shards_of_pickles_are_refused_where_nobody_loads_them(tmp_path):
    with pytest.raises(InputError, match=r"3 shards of pickles.*which diffusers does not load; save it anew with save_pretrained"):
        check_weights(shards(tmp_path / "a", "diffusion_pytorch_model", ".bin", [1, 2, 3], 3))
    check_weights(shards(tmp_path / "b", "pytorch_model", ".bin", [1, 2, 3], 3))  # transformers does


def test_an_index_of_pickles_beside_safetensors_is_left_over(sd):
    (sd / "unet" / "diffusion_pytorch_model.bin.index.json").write_text(
        '{"weight_map": {"a": "diffusion_pytorch_model-00001-of-00002.bin"}}'
    )
    (sd / "text_encoder" / "pytorch_model.bin").write_bytes(b"torn")
    assert inspect(sd).pipeline == "StableDiffusionPipeline"


def test_weights_under_a_name_that_nobody_looks_for_are_named(sd):
    file = sd / "unet" / "diffusion_pytorch_model.safetensors"
    file.rename(file.with_name("model.safetensors"))
    with pytest.raises(InputError, match=r"its weights are called model\.safetensors.*rename it diffusion_pytorch_model\.safetensors"):
        inspect(sd)


@pytest.mark.parametrize(
    ("name", "entry", "file"),
    [
        ("processor", ["transformers", "Qwen2VLProcessor"], "processor_config.json"),
        ("feature_extractor_2", ["transformers", "CLIPImageProcessor"], "processor_config.json"),
        ("guider", ["diffusers", "ClassifierFreeGuidance"], "guider_config.json"),
    ],
)
def test_settings_of_newer_libraries_are_known(name, entry, file, sd):
    (sd / name).mkdir()
    (sd / name / file).write_text("{}")
    edit(sd / "model_index.json", **{name: entry})
    assert name in inspect(sd).components


# -- another kind of model -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("files", "said"),
    [
        ({"params.json": "{}", "consolidated.00.pth": ""}, "a LLaMA in Meta's layout: captioner=llama2_7b"),
        ({"config.json": '{"architectures": ["Qwen2ForCausalLM"]}'}, "a Qwen2ForCausalLM in transformers' layout: captioner=hf"),
        (
            {"config.json": '{"_class_name": "UNet2DConditionModel"}'},
            "one component .UNet2DConditionModel. of a model: give the",
        ),
        ({"adapter_config.json": "{}", "adapter_model.safetensors": ""}, "an adapter .LoRA, by its adapter_config.json. and no model"),
        ({"snapshots/abc/model_index.json": "{}"}, "a folder of the hub's cache: give a snapshot in it, .*/snapshots/abc"),
        ({"v1-5.safetensors": ""}, "a folder with v1-5.safetensors: a single-file checkpoint is given by its own name"),
        ({"x.gguf": ""}, "a folder with x.gguf: llama.cpp takes that file"),
    ],
)
def test_a_folder_of_another_kind_is_called_what_it_is(files, said, tmp_path):
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    with pytest.raises(InputError, match=f"has no model_index.json, which a model in diffusers' layout has; it is {said}"):
        inspect(tmp_path)


def test_a_folder_that_says_nothing_gets_no_guess(tmp_path, built):
    assert instead(tmp_path) == instead(tmp_path / "nowhere") == ""
    assert "model=diffusers" in instead(built)


def test_an_original_config_is_no_model(sd, tmp_path):
    yaml = tmp_path / "v1-inference.yaml"
    yaml.write_text("model: {}")
    with pytest.raises(InputError, match=r"this is the original config of one.*give the checkpoint itself, and model\.config=FOLDER"):
        inspect(yaml)
    tensors(tmp_path / "v1-5.safetensors", ["a"])
    with pytest.raises(InputError, match=r"is the config of the original code; it must be a folder with model_index\.json"):
        inspect(tmp_path / "v1-5.safetensors", config=yaml)


def test_classes_that_diffusers_does_not_have_are_named(sd):
    import diffusers

    edit(sd / "model_index.json", unet=["diffusers", "UNet9DModel"])
    with pytest.raises(InputError, match=f"its unet is a UNet9DModel, which diffusers {diffusers.__version__} does not have"):
        inspect(sd)
    edit(sd / "model_index.json", _class_name="PaintWonderfulPipeline")
    with pytest.raises(InputError, match="is a PaintWonderfulPipeline, which diffusers"):
        inspect(sd)


def test_what_diffusers_sources_say_is_what_diffusers_is():
    import inspect as python

    import diffusers

    for name in ("StableDiffusionPipeline", "FluxPipeline", "SanaPipeline", "QwenImagePipeline", "Flux2KleinPipeline"):
        cls = getattr(diffusers, name)
        assert library.signature(name).call == set(python.signature(cls.__call__).parameters) - {"self", "kwargs"}
    assert library.signature("external") == library.Signature()
    assert all(hasattr(diffusers, name) for name in ("UNet2DConditionModel", "DDIMScheduler") if name in library.classes())


def folder_of(pipeline):
    return ModelFolder(library._root(), pipeline, (), "", 8)


@pytest.mark.parametrize(
    ("pipeline", "said"),
    [
        ("StableDiffusionInpaintPipeline", "paints into a masked picture"),
        ("FluxFillPipeline", "paints into a masked picture"),
        ("StableDiffusionImg2ImgPipeline", "draws from a picture"),
        ("StableDiffusionUpscalePipeline", "draws from a picture"),
        ("FluxControlNetPipeline", "draws from a picture"),
        ("QwenImageEditPipeline", "draws from a picture"),
        ("WanPipeline", "makes videos"),
        ("StableAudioPipeline", "makes sounds"),
        ("KandinskyV22PriorPipeline", "takes no"),
        ("StableVideoDiffusionPipeline", "makes videos"),
    ],
)
def test_a_pipeline_that_makes_something_else_is_refused(pipeline, said):
    with pytest.raises(InputError, match=rf"{pipeline} {said}"):
        Generic.check(folder_of(pipeline), CONFIG_OF_IMAGES)


@pytest.mark.parametrize(
    ("pipeline", "changes", "said"),
    [
        ("Flux2KleinPipeline", {"negative_prompt": "mud"}, "takes no negative_prompt=mud; leave negative_prompt empty"),
        ("QwenImagePipeline", {"guidance_scale": 0.5}, r"QwenImagePipeline takes 1 \(no guidance\) or more"),
        ("SanaSprintPipeline", {"negative_prompt": "mud"}, "takes no negative_prompt=mud"),
    ],
)
def test_settings_that_a_pipeline_does_not_take_are_refused(pipeline, changes, said):
    Generic.check(folder_of(pipeline), CONFIG_OF_IMAGES)
    with pytest.raises(InputError, match=said):
        Generic.check(folder_of(pipeline), replace(CONFIG_OF_IMAGES, **changes))


# -- parts that do not go together ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(("channels", "said"), [(9, "it paints into a masked picture"), (8, "it needs a picture beside the text")])
def test_a_unet_that_takes_more_than_latents_is_refused(channels, said, sd):
    edit(sd / "unet" / "config.json", in_channels=channels)
    with pytest.raises(InputError, match=rf"unet/config\.json: its U-Net takes {channels} channels, of which latents are 4: {said}"):
        judged({MODEL: sd}, CONFIG_OF_IMAGES)


def test_a_scheduler_of_another_kind_of_model_is_refused(sd):
    edit(sd / "model_index.json", scheduler=["diffusers", "FlowMatchEulerDiscreteScheduler"])
    edit(sd / "scheduler" / "scheduler_config.json", _class_name="FlowMatchEulerDiscreteScheduler")
    with pytest.raises(InputError, match="scheduler: is a FlowMatchEulerDiscreteScheduler, of flow matching, which"):
        judged({MODEL: sd}, CONFIG_OF_IMAGES)
    asks = library.signature("FluxPipeline").parts["scheduler"]
    with pytest.raises(InputError, match="is a DDIMScheduler, but FluxPipeline denoises by flow matching"):
        check_own("DDIMScheduler", {}, "FluxPipeline", asks, "flux/scheduler")
    check_own("FlowMatchHeunDiscreteScheduler", {}, "FluxPipeline", asks, "flux/scheduler")
    check_own("UniPCMultistepScheduler", {"prediction_type": "flow_prediction"}, "FluxPipeline", asks, "flux/scheduler")
    check_own("EDMEulerScheduler", {}, "StableDiffusionXLPipeline", "KarrasDiffusionSchedulers", "playground/scheduler")


def test_the_scheduler_in_the_metadata_is_the_one_that_is_made(sd):
    """Where index and config name two classes, diffusers makes the index's."""
    edit(sd / "scheduler" / "scheduler_config.json", _class_name="PNDMScheduler")
    model = judged({MODEL: sd}, CONFIG_OF_IMAGES)
    assert model.scheduler == type(open_family(model, CONFIG_OF_IMAGES, EXACT, 1).pipe.scheduler).__name__ == "DDIMScheduler"


UNET, VAE, CLIP = "model.diffusion_model.input_blocks.0.0.weight", "first_stage_model.a", "cond_stage_model.a"


@pytest.mark.parametrize(
    ("names", "shape", "said"),
    [
        ([UNET], (8, 4, 3, 3), r"holds no vae, text_encoder.*put this into it: diffusers\.UNet2DConditionModel\.from_single_file"),
        ([UNET, VAE], (8, 4, 3, 3), "holds no text_encoder"),
        ([UNET, CLIP], (8, 4, 3, 3), "holds no vae"),
        ([UNET, VAE, CLIP], (8, 9, 3, 3), r"its U-Net takes 9 channels \(latents, a mask and a masked picture: in-painting\)"),
        ([UNET, VAE, "conditioner.embedders.1.a"], (8, 4, 3, 3), "holds two text encoders.* but .* is a StableDiffusionPipeline"),
    ],
)
def test_a_single_file_that_lacks_a_part_or_is_of_another_kind_is_refused(names, shape, said, sd, tmp_path):
    tensors(tmp_path / "model.safetensors", names, shape)
    with pytest.raises(InputError, match=said):
        judged({MODEL: tmp_path / "model.safetensors", CONFIG: sd}, CONFIG_OF_IMAGES)
