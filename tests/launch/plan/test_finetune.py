"""Planning of judge.train=finetune: where it stands, how it is cut into trainings and epochs, what is refused before anything runs."""

import json

import pytest
from PIL import Image

from synth.errors import InputError
from synth.judge.config import FinetuneConfig
from synth.keys import build
from tests.launch.plan.test_filters import clip  # noqa: F401 (a fixture)
from tests.launch.plan.test_graph import kinds, stage


@pytest.fixture
def keys(tmp_path, clip):  # noqa: F811
    for name in ("cat", "Sea_Lion"):
        (tmp_path / "test" / name).mkdir(parents=True)
        Image.new("RGB", (8, 8)).save(tmp_path / "test" / name / "a.png")
    return ("filter=[]", f"features.model={clip}", f"judge.test={tmp_path / 'test'}", "judge.train=finetune")


def test_a_training_is_a_unit_and_an_epoch_a_slot(world, keys):
    point = world.point(*keys, "judge.seeds=[3,5]", "finetune.epochs=7")
    assert kinds(point)[-3:] == ["judge", "finetune", "judge_report"]
    found = stage(point, "finetune").spec
    assert (found.slots, found.unit_size, found.batch) == (2 * 7, 7, 1)
    assert (found.config["seeds"], found.inputs) == ([3, 5], {})
    assert build(FinetuneConfig, found.config, "finetune").side is None  # the model's own
    assert set(found.upstream) == {"features", "test"}
    assert stage(point, "judge").folder == stage(world.point(*keys[:-1], "judge.seeds=[3,5]"), "judge").folder


def test_a_model_is_judged_and_is_part_of_what_it_makes(world, keys, tmp_path):
    (tmp_path / "net").mkdir()
    with pytest.raises(InputError, match=r"config\.json"):
        world.point(*keys, f"finetune.model={tmp_path / 'net'}")
    (tmp_path / "net" / "config.json").write_text(json.dumps({"model_type": "resnet"}))
    assert set(stage(world.point(*keys, f"finetune.model={tmp_path / 'net'}"), "finetune").spec.inputs) == {"model"}


@pytest.mark.parametrize(
    ("more", "said"),
    [
        (["judge.test=null", "judge.real=TEST"], "judge.train=finetune: there is no test set to ask about"),
        (["judge.train=probe"], "judge.train=probe: use one of none, finetune"),
        (["finetune.epochs=0"], "finetune.epochs=0: must be 1 or more"),
        (["finetune.model=/nowhere/net"], "finetune.model: .*/nowhere/net"),
    ],
    ids=["no test set", "a choice", "epochs", "model"],
)
def test_what_cannot_be_is_named(world, keys, tmp_path, more, said):
    with pytest.raises(InputError, match=said):
        world.point(*keys, *(word.replace("TEST", str(tmp_path / "test")) for word in more))
