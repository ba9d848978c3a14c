"""The stage `finetune`: a unit a training, a slot an epoch; taken up anywhere it gives the same bytes; judge.json tells what came of it."""

import shutil

import numpy as np
import pytest
import transformers

from synth.errors import EXIT_OK, InputError
from synth.features.sources import Found
from synth.judge import finetuning
from synth.judge.config import FinetuneConfig
from synth.judge.finetuning import PLACE, Finetune, add_finetuned
from synth.store.identity import identity
from synth.store.spec import InputFile
from tests.fixtures_images import child, work
from tests.judge.sets import features
from tests.judge.test_finetune import TINY, drawn

KINDS = ("lying", "standing", "crossing")
EPOCHS = 3
PICTURES = {"features": drawn(30, 1)[0], "test_features": drawn(18, 2)[0]}


class Drawn:
    """The pictures of a stage, as synth.features.sources reads them."""

    def __init__(self, files):
        self.files = files

    def found(self, slot):
        return Found(slot, data=self.files[slot])


@pytest.fixture
def stage(tmp_path, monkeypatch):
    """A planned stage of a judged and a test set, whose pictures are drawn here."""
    monkeypatch.setattr(finetuning, "source_of", lambda stage: Drawn(PICTURES[stage.spec.name]))
    transformers.ResNetConfig(**TINY).save_pretrained(tmp_path / "resnet")
    rows = np.eye(12)[np.arange(30) % 12]
    upstream = {
        "features": [features(tmp_path, "features", rows, np.arange(30) % 3, KINDS)],
        "test": [features(tmp_path, "test_features", rows[:18], np.arange(18) % 3, KINDS, dead=(4,))],
    }
    config = FinetuneConfig(epochs=EPOCHS, batch_size=8, learning_rate=1e-2, side=24, seeds=(0, 1))
    return child(
        tmp_path,
        "finetune",
        config,
        upstream,
        2 * EPOCHS,
        EPOCHS,
        1,
        inputs={"model": InputFile(str(tmp_path / "resnet"), identity(tmp_path / "resnet"))},
    )


def test_it_runs_through_the_worker_and_is_told_in_judge_json(stage):
    assert work(stage) == EXIT_OK
    told = [s.json() for s in stage.samples()]
    assert [(t["seed"], t["epoch"]) for t in told] == [(seed, e) for seed in (0, 1) for e in range(EPOCHS)]
    assert all(t["rows"] == 30 and t["tested"] == 17 for t in told)
    assert told[EPOCHS - 1]["loss"] < told[0]["loss"]
    assert ["accuracy" in t for t in told] == [False, False, True] * 2
    assert not (stage.path / PLACE).exists()
    facts = {"probes": {"made": {}}, "no_probes": {}}
    add_finetuned(facts, stage)
    accuracies = [t["accuracy"] for t in told if "accuracy" in t]
    assert facts["probes"]["made"]["finetune"]["value"] == pytest.approx(np.mean(accuracies), abs=1e-4)
    assert facts["probes"]["made"]["finetune"]["n"] == 17


@pytest.mark.parametrize("kept", [True, False], ids=["kept", "lost"])
def test_taken_up_in_the_middle_it_is_the_same(stage, kept):
    running = Finetune(stage)
    running.open()
    unit = stage.unit(1)
    first = running.begin(unit)
    whole = [running.compute(first, range(slot, slot + 1)) for slot in range(unit.start, unit.stop)]
    again = running.begin(unit)
    first.path.parent.mkdir(exist_ok=True)
    again.training.epoch()
    again.training.save(first.path, first.key)
    if not kept:
        shutil.rmtree(first.path.parent)
    taken_up = running.begin(unit)
    running.resume(taken_up, unit.start + 1, [])
    rest = [running.compute(taken_up, range(slot, slot + 1)) for slot in range(unit.start + 1, unit.stop)]
    samples = [[running.encode(None, item).files for item in batch] for batch in (*whole[1:], *rest)]
    assert samples[: EPOCHS - 1] == samples[EPOCHS - 1 :]


def test_nothing_to_learn_is_said_and_is_no_number(stage, monkeypatch):
    running = Finetune(stage)
    running.open()
    running.sets.made.labels[:] = 1
    state = running.begin(stage.unit(0))
    ((_, facts, rows),) = running.compute(state, range(1))
    assert rows is None
    assert "nothing to tell apart" in facts["why"]


def test_a_picture_that_is_gone_is_named(stage, monkeypatch):
    monkeypatch.setattr(Drawn, "found", lambda self, slot: Found(slot, "cat/1.png", reason="is not there"))
    running = Finetune(stage)
    running.open()
    with pytest.raises(InputError, match=r"picture \d+ \(cat/1\.png\) cannot be read any more \(is not there\); put it back"):
        running.compute(running.begin(stage.unit(0)), range(1))
