"""Encoders against transformers: what is made of pictures and texts, how pictures are made ready, and folders that are refused."""

import numpy as np
import pytest
from PIL import Image

from synth.features.encoders import Clip, Siglip
from synth.features.preparing import Preparation
from tests.layout.towers import build_tiny_siglip


@pytest.fixture(scope="module")
def tiny_siglip(tmp_path_factory):
    return build_tiny_siglip(tmp_path_factory.mktemp("models") / "siglip")


@pytest.mark.parametrize(("model", "tower"), [("tiny_clip", Clip), ("tiny_siglip", Siglip)])
def test_probabilities_are_those_of_the_library(model, tower, request):
    import torch
    import transformers

    path = request.getfixturevalue(model)
    mine = tower(path, 4, "float32")
    images = [Image.fromarray(np.random.default_rng(n).integers(0, 255, (20, 30, 3), np.uint8)) for n in range(3)]
    texts = ["dog", "red sofa"]
    pixels = np.stack([mine.preparation(image) for image in images])
    found = mine.probabilities(mine.pictures(list(pixels)), mine.texts(texts))
    theirs = getattr(transformers, tower.loaded_as).from_pretrained(path).eval()
    tokens = mine._tokenizer(texts, padding="max_length", truncation=True, max_length=mine.length, return_tensors="pt")
    with torch.no_grad():
        logits = theirs(pixel_values=torch.from_numpy(pixels), **{k: tokens[k] for k in mine.text_inputs}).logits_per_image
    expected = logits.softmax(-1) if tower is Clip else logits.sigmoid()
    assert np.abs(found - expected.numpy()).max() < 1e-5


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
