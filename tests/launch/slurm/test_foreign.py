"""A stage's folder may be shared, or have been received: nothing in it chooses what is run in our name."""

import dataclasses
import json
import os
import sys
from pathlib import Path

import pytest

from launch.plan.planned import PlannedStage
from launch.slurm import gate, order, stored, submit
from launch.slurm.limits import Limits
from launch.slurm.order import Live
from launch.slurm.resources import resources_of
from launch.slurm.submissions import ABANDONED, Order, path_of, read, record, take_turn
from synth.run.loop import Worker
from tests.launch.slurm.played import SCRIPTS, judge, submitted
from tests.launch.slurm.test_resources import cluster


@pytest.fixture
def texts(queue, monkeypatch):
    """What sbatch is given to read."""
    given, call = [], queue.call

    def noted(*args, **more):
        given.extend(Path(word).read_text() for word in args if args[0] == "sbatch" and word.endswith(".sbatch"))
        return call(*args, **more)

    monkeypatch.setattr(order.slurm, "call", noted)
    return given


def edited(folder, ended, **change):
    """The record of a submission, as somebody else who may write there leaves it."""
    path = path_of(folder.path, ended.number)
    raw = json.loads(path.read_text())
    raw["order"] |= change
    path.write_text(json.dumps(raw))


def test_the_words_of_a_record_are_not_run_to_finish_a_stage(folder, ended, tmp_path):
    assert Worker(folder, 0, 1).run() == 0
    (folder.path / "done.json").unlink()
    edited(folder, ended, worker=["/bin/sh", "-c", f"touch {tmp_path}/ran", "sh"])
    assert judge(folder, ended.number) == 0
    assert folder.is_done() and not (tmp_path / "ran").exists()


@pytest.mark.parametrize("which", ["script", "gate_script"])
@pytest.mark.parametrize("how", ["elsewhere", "above", "a link", "changed", "a pipe", "gone"])
def test_a_script_that_its_launcher_did_not_write_is_not_submitted_again(folder, queue, ended, texts, tmp_path, capsys, which, how):
    evil = tmp_path / "evil.sbatch"
    evil.write_text("#!/bin/sh\ntouch /tmp/mine\n")
    own = folder.path / "submissions" / getattr(Order.of(ended), which)
    if how in ("elsewhere", "above"):
        edited(folder, ended, **{which: str(evil) if how == "elsewhere" else os.path.relpath(evil, own.parent)})
    elif how == "changed":
        own.write_bytes(evil.read_bytes())
    else:
        own.unlink()
        if how == "a link":
            own.symlink_to(evil)
        elif how == "a pipe":
            os.mkfifo(own)
    before = len(queue.did("sbatch"))
    assert judge(folder, ended.number) == 65
    assert len(queue.did("sbatch")) == before and not texts
    assert "run the command of this run again, which writes its own" in capsys.readouterr().err


def test_a_gate_submits_what_it_read_whatever_becomes_of_the_file(folder, ended, texts, monkeypatch):
    read_scripts = stored.read

    def swapped(*args):
        scripts = read_scripts(*args)
        for name in ("0001.sbatch", "0001.gate.sbatch"):
            (folder.path / "submissions" / name).write_text("#!/bin/sh\ntouch /tmp/mine\n")
        return scripts

    monkeypatch.setattr(stored, "read", swapped)
    assert judge(folder, ended.number) == 0
    assert texts == [SCRIPTS.array, SCRIPTS.array, SCRIPTS.gate]


def test_a_gate_that_was_told_no_digests_submits_nothing(folder, queue, ended):
    before = len(queue.did("sbatch"))
    assert gate.judge(folder, ended.number) == 65 and len(queue.did("sbatch")) == before


def test_a_gate_behind_live_jobs_is_our_own_and_not_that_of_the_last_record(folder, queue, texts, tmp_path):
    turn = submitted(folder, queue)
    evil = tmp_path / "evil.sbatch"
    evil.write_text("#!/bin/sh\ntouch /tmp/mine\n")
    edited(folder, turn, gate_script=str(evil))
    queue.end(turn.gate)
    texts.clear()
    config = cluster()
    site = submit.Site(config, Limits(), resources_of(config, "gate", {}), "cd /x && synthset run")
    stage = PlannedStage(folder.spec, folder.path.parent, planned=True)
    submit.left_alone(stage, folder, site, Live(arrays=(turn.arrays[0].job,)), [])
    (text,) = texts
    assert "launch.slurm.gate" in text and sys.executable in text and "touch" not in text
    assert read(folder.path)[-1].order["gate_script"] == "0002.gate.sbatch"


STRANGE = {
    "a list": "[]",
    "torn": '{"number": 2',
    "deep": "[" * 100_000,
    "another number": {"number": 7},
    "jobs that are options": {"arrays": [{"job": "--user=me", "tasks": 1, "offset": 0}]},
    "a gate that is an option": {"gate": "--me"},
    "the name of other jobs": {"job_name": "training"},
    "another type": {"units": "many"},
    "an array of words": {"arrays": ["100"]},
    "no order": {"order": {"script": 3}},
    "no workers": {"order": {"script": "0001.sbatch", "gate_script": "0001.gate.sbatch", "n_jobs": 1, "workers": 0}},
    "a state of its own": {"state": "new"},
    "too many": {"n_jobs": 1e300},
}


@pytest.mark.parametrize("what", STRANGE)
def test_a_record_of_other_types_is_left_out_and_named_and_its_number_is_not_waited_for(folder, queue, ended, capsys, what):
    change = STRANGE[what]
    path = path_of(folder.path, 2)
    raw = json.loads(path_of(folder.path, 1).read_text()) | {"number": 2}
    path.write_text(change if isinstance(change, str) else json.dumps(raw | change))
    told: list[str] = []
    assert [s.number for s in read(folder.path, told.append)] == [1] and [t.partition(":")[0] for t in told] == [str(path)]
    assert take_turn(folder.path, order.settle).number == 3
    record(folder.path, dataclasses.replace(read(folder.path)[-1], state=ABANDONED))
    assert judge(folder, ended.number) == 0
    assert f"{path}: is no record of a submission" in capsys.readouterr().out


def test_the_command_of_a_record_is_shown_as_text(folder, ended, capsys):
    edited(folder, ended, heal=0, command="cd /x\x1b]0;title\x07 && run")
    assert judge(folder, ended.number) == 65
    told = capsys.readouterr().err
    assert "\x1b" not in told and "as submission 1 has it" in told and r"\x1b]0;title" in told


@pytest.mark.parametrize(
    "change",
    [{"max_array": 1}, {"heal": 10**11}, {"max_requeues": 10**11}, {"n_jobs": 10**6}, {"on_missing": "hold"}, "goes_on", "units"],
    ids=str,
)
def test_a_gate_orders_no_more_and_no_oftener_than_its_launcher_did(folder, queue, ended, capsys, change):
    """A million arrays, or jobs without end, in the name of whoever planned the run."""
    told = SCRIPTS.told(ended)
    changed = {change: 7} if isinstance(change, str) else {"order": {**ended.order, **change}}
    record(folder.path, dataclasses.replace(ended, **changed))
    before = len(queue.did("sbatch"))
    assert gate.judge(folder, ended.number, told) == 65 and len(queue.did("sbatch")) == before
    assert "0001.json: was changed since it was submitted" in capsys.readouterr().err
