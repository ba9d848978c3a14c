"""Training on pictures: it learns, it is the same again, and after a kill; folders that are no classifiers are refused."""

import io
import json
import math

import numpy as np
import pytest
import torch
import transformers
from PIL import Image
from safetensors.torch import load_file, save_file

from synth.errors import InputError
from synth.judge import finetune
from synth.judge.classifiers import open_classifier
from synth.judge.finetune import Recipe, Training, middle_box, random_box
from synth.judge.numbers.answers import accuracy
from synth.judge.numbers.rows import Unmeasurable
from synth.numerics import EXACT

TINY = {"embedding_size": 8, "hidden_sizes": [8, 16], "depths": [1, 1], "layer_type": "basic"}
RECIPE = Recipe(epochs=6, batch=16, side=24, learning_rate=1e-2, seed=3)


def drawn(n: int, seed: int) -> tuple[list[bytes], np.ndarray]:
    """Stripes that lie, that stand, and that cross; of any colour and place."""
    rng, files, labels = np.random.default_rng(seed), [], np.arange(n) % 3
    for label in labels:
        y, x = np.mgrid[:32, :36] + rng.integers(0, 8)
        light = [y % 8 < 4, x % 8 < 4, (x + y) % 8 < 4][label]
        pixels = np.where(light[..., None], rng.integers(128, 256, 3), rng.integers(0, 128, 3)) + rng.normal(0, 12, (32, 36, 3))
        out = io.BytesIO()
        Image.fromarray(pixels.clip(0, 255).astype(np.uint8)).save(out, "PNG")
        files.append(out.getvalue())
    return files, labels


TRAIN, LABELS = drawn(72, 1)
TEST, TEST_LABELS = drawn(41, 2)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    path = tmp_path_factory.mktemp("resnet")
    transformers.ResNetConfig(**TINY).save_pretrained(path)
    return path


def begun(folder, recipe=RECIPE, labels=LABELS, n_classes=3):
    return Training(folder, TRAIN, labels, n_classes, recipe, EXACT)


@pytest.fixture(scope="module")
def trained(folder):
    training = begun(folder)
    losses = [training.epoch() for _ in range(RECIPE.epochs)]
    return training, losses, training.answers(TEST)


def test_it_learns(trained):
    _, losses, answers = trained
    assert losses[-1] < losses[0] / 2
    assert accuracy(answers, TEST_LABELS) > 0.8
    np.testing.assert_allclose(answers.sum(1), 1, atol=1e-5)


def test_killed_after_any_epoch_and_taken_up_it_gives_the_same_bytes(trained, folder, tmp_path):
    for done in (1, 4):
        first = begun(folder)
        for _ in range(done):
            first.epoch()
        first.save(tmp_path / "state", "key")
        again = begun(folder)
        assert again.load(tmp_path / "state", "key", done)
        losses = [again.epoch() for _ in range(RECIPE.epochs - done)]
        assert losses == trained[1][done:]
        assert again.answers(TEST).tobytes() == trained[2].tobytes()


def test_what_was_kept_of_another_training_or_is_torn_is_not_taken(trained, folder, tmp_path):
    path, again = tmp_path / "state", begun(folder)
    assert not again.load(path, "key", 6)
    trained[0].save(path, "key")
    assert not again.load(path, "another key", 6)
    assert not again.load(path, "key", 5)
    for data in (path.read_bytes()[:-50], b"", b"PK", b"not a checkpoint", json.dumps({"key": "key"}).encode()):
        path.write_bytes(data)
        assert not again.load(path, "key", 6)
    torch.save({"key": "key", "done": 6, "model": {}, "optimizer": {}}, path)
    assert not again.load(path, "key", 6)
    assert again.done == 0


def test_an_answer_depends_on_no_neighbour(trained):
    training, _, answers = trained
    np.testing.assert_allclose(training.answers(TEST[20:27]), answers[20:27], atol=1e-6)
    np.testing.assert_allclose(training.answers(TEST[:1]), answers[:1], atol=1e-6)


def test_another_seed_trains_another_model(trained, folder):
    other = begun(folder, Recipe(epochs=6, batch=16, side=24, learning_rate=1e-2, seed=4))
    assert other.epoch() != trained[1][0]


def test_the_learning_rate_rises_and_falls(folder):
    training = begun(folder)
    rates = [training.rate(step) for step in range(training.steps * RECIPE.epochs)]
    top = rates.index(max(rates))
    assert training.steps == 72 // 16
    assert rates[: top + 1] == sorted(rates[: top + 1])
    assert rates[top:] == sorted(rates[top:], reverse=True)
    assert max(rates) == RECIPE.learning_rate
    assert rates[-1] < RECIPE.learning_rate / 50


def test_cuts_lie_inside_and_have_the_areas_and_shapes_that_are_asked_for():
    rng = np.random.default_rng(0)
    for size in ((36, 32), (500, 30), (1, 1), (7, 300)):
        for _ in range(50):
            left, top, right, bottom = random_box(size, 0.35, rng)
            assert 0 <= left < right <= size[0]
            assert 0 <= top < bottom <= size[1]
    boxes = np.array([random_box((400, 400), 0.35, rng) for _ in range(500)])
    w, h = boxes[:, 2] - boxes[:, 0], boxes[:, 3] - boxes[:, 1]
    assert 0.34 < (w * h).min() / 160_000 < 0.4
    assert 0.74 < (w / h).min() < 0.8
    assert 1.25 < (w / h).max() < 1.34
    assert middle_box((64, 32)) == (18, 2, 46, 30)


def test_a_broken_picture_is_named(folder):
    training = Training(folder, [*TRAIN[:16], TRAIN[16][:60]], LABELS[:17], 3, Recipe(epochs=1, batch=17, side=24), EXACT)
    with pytest.raises(InputError, match=r"train: picture 16: .*; leave it out"):
        training.epoch()


def test_nothing_to_learn_and_labels_that_do_not_fit(folder):
    with pytest.raises(Unmeasurable, match="nothing to tell apart"):
        begun(folder, labels=np.zeros(72, np.int64))
    with pytest.raises(InputError, match=r"72 pictures need as many labels in 0\.\.1"):
        begun(folder, n_classes=2)
    with pytest.raises(Unmeasurable, match="test: there are no pictures"):
        begun(folder).answers([])


def test_a_training_that_diverges_is_no_answer(folder):
    wild = begun(folder, Recipe(epochs=1, batch=8, side=24, learning_rate=1e36, warm_up=0))
    with pytest.raises(InputError, match="diverged in epoch 0"):
        wild.epoch()


# -- models --------------------------------------------------------------------------------------------------------------


@pytest.fixture
def whole(tmp_path):
    """A folder of a classifier of 5 classes, weights and all."""
    transformers.ResNetForImageClassification(transformers.ResNetConfig(**TINY, num_labels=5)).save_pretrained(tmp_path / "whole")
    (tmp_path / "whole" / "preprocessor_config.json").write_text(json.dumps({"size": {"shortest_edge": 40}, "image_mean": [0.5] * 3}))
    return tmp_path / "whole"


def test_a_folder_keeps_its_weights_and_gets_a_new_head(whole):
    found = open_classifier(whole, 3, None, seed=0)
    stored, now = load_file(whole / "model.safetensors"), found.model.state_dict()
    changed = {name for name in now if name not in stored or not torch.equal(stored[name], now[name])}
    assert changed == {"classifier.1.weight", "classifier.1.bias"}
    assert (found.side, found.mean, found.std) == (40, (0.5, 0.5, 0.5), (0.229, 0.224, 0.225))
    again = open_classifier(whole, 3, None, seed=0).model.state_dict()
    assert all(torch.equal(again[name], now[name]) for name in now)
    assert not torch.equal(open_classifier(whole, 3, None, seed=1).model.state_dict()["classifier.1.weight"], now["classifier.1.weight"])


def test_a_backbone_gets_a_head_too(whole, tmp_path):
    transformers.ResNetModel.from_pretrained(whole).save_pretrained(tmp_path / "backbone")
    assert open_classifier(tmp_path / "backbone", 3, 24, seed=0).model(torch.zeros(1, 3, 24, 24)).logits.shape == (1, 3)


def test_a_folder_that_lacks_weights_is_refused(whole):
    weights = load_file(whole / "model.safetensors")
    lost = next(name for name in weights if name.endswith("convolution.weight"))
    save_file({n: w for n, w in weights.items() if n != lost}, whole / "model.safetensors", {"format": "pt"})
    with pytest.raises(InputError, match=r"its files lack .*which is no head"):
        open_classifier(whole, 3, None, seed=0)


def test_folders_that_are_no_classifier_are_refused(whole, tmp_path):
    with pytest.raises(InputError, match=r"config\.json"):
        open_classifier(tmp_path, 3, None, seed=0)
    (tmp_path / "text").mkdir()
    (tmp_path / "text" / "config.json").write_text(json.dumps({"model_type": "llama"}))
    with pytest.raises(InputError, match="cannot load it as an image classifier"):
        open_classifier(tmp_path / "text", 3, None, seed=0)
    (whole / "preprocessor_config.json").write_text(json.dumps({"size": {"shortest_edge": "big"}}))
    with pytest.raises(InputError, match="no number of pixels"):
        open_classifier(whole, 3, None, seed=0)


def test_a_side_that_a_model_does_not_take_is_refused(tmp_path):
    transformers.ViTConfig(
        hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=16, image_size=16, patch_size=8
    ).save_pretrained(tmp_path)
    assert open_classifier(tmp_path, 3, None, seed=0).side == 16
    with pytest.raises(InputError, match="takes no pictures of 24 pixels"):
        open_classifier(tmp_path, 3, 24, seed=0)


def test_without_a_folder_it_is_a_resnet_18():
    model = open_classifier(None, 10, None, seed=0).model
    assert 11.1e6 < sum(p.numel() for p in model.parameters()) < 11.3e6
    assert math.isclose(finetune.SHRUNK, 224 / 256)
