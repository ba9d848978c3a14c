"""Encoders against transformers: what is made of pictures and texts, how pictures are made ready, and folders that are refused."""

import json
import shutil

import numpy as np
import pytest
from PIL import Image

from synth.errors import InputError
from synth.features.encoders import ENCODERS, TextEncoder, encoder_of
from synth.features.preparing import Preparation
from tests.features.tiny import build_tiny_dinov2
from tests.fixtures_clip import build_tiny_clip
from tests.layout.towers import build_tiny_siglip

SIZES = ((20, 30), (33, 77), (64, 28), (28, 28))  # width, height


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    root = tmp_path_factory.mktemp("models")
    with_registers = build_tiny_dinov2(root / "dinov2_with_registers", registers=True)
    builders = {"clip": build_tiny_clip, "siglip": build_tiny_siglip, "dinov2": build_tiny_dinov2}
    return {name: build(root / name) for name, build in builders.items()} | {"dinov2_with_registers": with_registers}


def images() -> list[Image.Image]:
    return [Image.fromarray(np.random.default_rng(n).integers(0, 255, (h, w, 3), np.uint8)) for n, (w, h) in enumerate(SIZES)]


@pytest.mark.parametrize("name", ["clip", "siglip"])
def test_probabilities_are_those_of_the_library(name, folders):
    import torch
    import transformers

    mine = encoder_of(folders[name])(folders[name], 3, "float32")
    texts = ["dog", "red sofa"]
    pixels = np.stack([mine.preparation(image) for image in images()])
    found = mine.probabilities(mine.pictures(list(pixels)), mine.texts(texts))
    theirs = getattr(transformers, mine.loaded_as).from_pretrained(folders[name]).eval()
    tokens = mine._tokenizer(texts, padding="max_length", truncation=True, max_length=mine.length, return_tensors="pt")
    with torch.no_grad():
        logits = theirs(pixel_values=torch.from_numpy(pixels), **{k: tokens[k] for k in mine.text_inputs}).logits_per_image
    expected = logits.softmax(-1) if name == "clip" else logits.sigmoid()
    assert np.abs(found - expected.numpy()).max() < 1e-5


@pytest.mark.parametrize("name", ["dinov2", "dinov2_with_registers"])
def test_features_of_dinov2_are_the_class_token_of_the_library(name, folders):
    import torch
    from transformers import AutoModel, BitImageProcessorPil

    cls = encoder_of(folders[name])
    assert not cls.reads_texts and not issubclass(cls, TextEncoder)
    mine = cls(folders[name], 3, "float32")
    found = mine.pictures([mine.preparation(image) for image in images()])
    pixels = BitImageProcessorPil.from_pretrained(folders[name])(images(), return_tensors="pt")["pixel_values"]
    with torch.no_grad():
        theirs = torch.nn.functional.normalize(AutoModel.from_pretrained(folders[name]).eval()(pixel_values=pixels).pooler_output, dim=-1)
    assert found.shape == (len(SIZES), 32) and np.abs(found - theirs.numpy()).max() < 1e-5


@pytest.mark.parametrize(("name", "processor"), [("siglip", "SiglipImageProcessorPil"), ("dinov2", "BitImageProcessorPil")])
@pytest.mark.parametrize("more", [{}, {"resample": 2, "image_mean": [0.1, 0.2, 0.3]}])
def test_pictures_are_made_ready_as_the_library_does(name, processor, more, folders, tmp_path):
    import transformers

    folder = with_settings(folders[name], tmp_path, more)
    mine, theirs = encoder_of(folder).check(folder), getattr(transformers, processor).from_pretrained(folder)
    for image in images():
        assert np.allclose(mine(image), theirs(image, return_tensors="np")["pixel_values"][0], atol=1e-6)


def test_a_picture_of_any_shape_is_prepared_in_little_memory_as_its_middle(monkeypatch):
    scaled, resize = [], Image.Image.resize

    def noted(self, size, *args, **more):
        scaled.append(size)
        return resize(self, size, *args, **more)

    monkeypatch.setattr(Image.Image, "resize", noted)
    image = Image.fromarray(np.random.default_rng(0).integers(0, 255, (2, 600, 3), np.uint8))
    prepared = Preparation(16)(image)
    assert np.array_equal(prepared, Preparation(16)(image.crop((284, 0, 316, 2))))
    assert Preparation(16)(Image.new("L", (1, 200_000))).shape == (3, 16, 16)
    assert max(map(max, scaled)) == 16 * 16


def with_settings(model, tmp_path, more):
    folder = shutil.copytree(model, tmp_path / "model")
    file = folder / "preprocessor_config.json"
    file.write_text(json.dumps((json.loads(file.read_text()) if file.exists() else {}) | more))
    return folder


@pytest.mark.parametrize(
    ("name", "more", "said"),
    [
        ("clip", {"do_center_crop": False}, "do_center_crop is not true"),
        ("clip", {"crop_size": 16, "size": {"shortest_edge": 8}}, "cuts 16 pixels out of pictures of 8"),
        ("dinov2", {"crop_size": {"height": 63}}, "cuts 63 pixels out of pictures of 33"),
        ("dinov2", {"crop_size": 30}, "no multiple of its patches of 7"),
        ("dinov2", {"resample": "bicubic"}, "resample is 'bicubic', no filter of Pillow"),
        ("siglip", {"resample": 9}, "resample is 9, no filter of Pillow"),
        ("siglip", {"rescale_factor": 1}, "rescale_factor is 1"),
    ],
)
def test_a_folder_that_prepares_pictures_in_another_way_is_refused(name, more, said, folders, tmp_path):
    folder = with_settings(folders[name], tmp_path, more)
    with pytest.raises(InputError, match=said):
        encoder_of(folder)


def test_another_model_is_refused_with_those_that_are_known(folders, tmp_path):
    folder = shutil.copytree(folders["clip"], tmp_path / "model")
    (folder / "config.json").write_text(json.dumps({"model_type": "bert"}))
    with pytest.raises(InputError, match="a model of type 'bert', known are " + ", ".join(ENCODERS)):
        encoder_of(folder)


def test_a_folder_of_half_a_model_is_refused(folders, tmp_path):
    folder = shutil.copytree(folders["dinov2"], tmp_path / "model")
    (folder / "model.safetensors").unlink()
    with pytest.raises(InputError, match="no weights"):
        encoder_of(folder)
