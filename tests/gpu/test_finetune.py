"""Classifiers that are trained on a GPU: the same weights twice, at the sizes that users train."""

import numpy as np
import pytest
import torch
import transformers

from synth.judge.finetune import Recipe, Training
from synth.numerics import EXACT
from tests.gpu.conftest import CUDA
from tests.judge.test_finetune import LABELS, TEST, TRAIN

SIDE = 224 if CUDA else 32
MODELS = {
    "resnet18": lambda: None,  # from nothing
    "resnet50": lambda: transformers.ResNetConfig(),
    "vit": lambda: transformers.ViTConfig(image_size=SIDE, num_hidden_layers=12 if CUDA else 1),
    "convnext": lambda: transformers.ConvNextConfig(image_size=SIDE),
    "swin": lambda: transformers.SwinConfig(image_size=SIDE, window_size=7 if CUDA else 2),
}


@pytest.mark.parametrize("name", MODELS if CUDA else ["resnet18", "vit"])
def test_a_training_gives_the_same_weights_twice(name, tmp_path):
    if (config := MODELS[name]()) is not None:
        config.save_pretrained(tmp_path / name)
    recipe = Recipe(epochs=2, batch=24, learning_rate=1e-3, side=SIDE)

    def trained() -> tuple[dict[str, torch.Tensor], np.ndarray]:
        training = Training(tmp_path / name if config else None, TRAIN, LABELS, 3, recipe, EXACT)
        losses = [training.epoch() for _ in range(recipe.epochs)]
        assert np.isfinite(losses).all()
        return {key: value.clone() for key, value in training.model.state_dict().items()}, training.answers(TEST)

    (here, answers), (there, again) = trained(), trained()
    assert [key for key in here if not torch.equal(here[key], there[key])] == []
    assert np.array_equal(answers, again)
