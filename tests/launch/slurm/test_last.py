"""The last gate of a run tells its user, once; with a queue that is played (tests/slurm does it on a real one)."""

import dataclasses

import pytest

from launch.config.notify import NotifyConfig
from launch.slurm import gate, last
from launch.slurm.last import Notice, forget, notice_of, tell_end, told_otherwise
from launch.slurm.submissions import read, record
from synth.run.loop import Worker
from tests.launch.slurm.played import ORDER, SCRIPTS, submitted
from tests.stages import probe


@pytest.fixture
def run(tmp_path, queue, monkeypatch):
    """Two stages, neither of which reads the other; both are submitted with a command that writes into a file."""
    monkeypatch.setattr(last, "PATIENCE", 0.0)
    monkeypatch.setattr(last, "all_done", lambda stages, all_done=last.all_done: all_done(stages, 0.0))
    folders = [probe(tmp_path / "runs" / "cars", slots=4, seed=n) for n in range(2)]
    notify = NotifyConfig(command=f'echo "$SYNTHSET_OUTCOME $SYNTHSET_DATASET $SYNTHSET_WHY" >>{tmp_path}/told', timeout_s=20)
    notice = notice_of(notify, [f.path for f in folders], [], "synthset report")
    for folder in folders:
        submitted(folder, queue, wanted=dataclasses.replace(ORDER, notice=notice))
    return folders


def end(folder, code, digests=None):
    (mine,) = read(folder.path)
    said = []
    tell_end(folder, mine, SCRIPTS.told(mine) if digests is None else digests, code, said.append)
    return said


def told(folder):
    file = folder.path.parents[2] / "told"
    return file.read_text().splitlines() if file.exists() else []


def test_the_gate_that_finds_all_whole_runs_it_and_no_other_does(run):
    first, second = run
    assert Worker(first, 0, 1).run() == 0
    assert end(first, 0) == [] and told(first) == []
    assert Worker(second, 0, 1).run() == 0
    assert end(second, 0) == ["notify.command was run"] and told(first) == ["done cars "]
    assert end(first, 0) == [] and told(first) == ["done cars "]
    forget(read(first.path)[0].order["notice"])  # the same command again
    assert end(first, 0) == ["notify.command was run"]


def test_the_gate_that_gives_a_stage_up_tells_why_once(run):
    first, second = run
    assert end(first, 0) == [] and end(first, 75) == [], "more jobs are on their way"
    (first.path / "missing.json").write_text('{"why": "all is lost"}')
    assert end(first, 65) == ["notify.command was run"] and end(second, 65) == []
    assert told(first) == ["failed cars all is lost"]


def test_a_gate_that_crashes_tells_so_and_crashes_all_the_same(run, monkeypatch):
    first, _ = run
    (mine,) = read(first.path)
    monkeypatch.setattr(gate, "decide", lambda *args, **more: 1 // 0)
    with pytest.raises(ZeroDivisionError):
        gate.judge_and_tell(first, mine.number, SCRIPTS.told(mine), ())
    (line,) = told(first)
    assert line.startswith("failed cars its gate ended by an error: ZeroDivisionError")


def test_a_command_that_its_launcher_did_not_order_is_not_run(run):
    first, _ = run
    (mine,) = read(first.path)
    digests = SCRIPTS.told(mine)
    notice = dict(mine.order["notice"]) | {"command": f"touch {first.path}/owned"}
    record(first.path, dataclasses.replace(mine, order=dict(mine.order) | {"notice": notice}))
    (said,) = end(first, 65, digests)
    assert said.startswith("warning: notify.command was not run: ") and "was changed since it was submitted" in said
    assert not (first.path / "owned").exists()


def test_an_order_without_it_has_the_digest_that_it_had(run):
    from launch.slurm.stored import _ordered

    (mine,) = read(run[0].path)
    older = {k: v for k, v in mine.order.items() if k != "notice"}
    without = dataclasses.replace(mine, order=older | {"notice": {}})
    assert _ordered(without) == _ordered(dataclasses.replace(mine, order=older)) != _ordered(mine)
    assert end_of(run[0], without) == []


def end_of(folder, mine):
    said = []
    tell_end(folder, mine, SCRIPTS.told(mine), 65, said.append)
    return said


def test_only_stages_that_no_other_reads_end_a_run(run):
    first, second = run
    notice = notice_of(NotifyConfig(command="x", timeout_s=1), [first.path, second.path], [first.path], "")
    assert Notice.of(notice).last == (str(second.path),) and notice_of(NotifyConfig(command=None, timeout_s=1), [first.path], [], "") == {}
    assert told_otherwise(second, notice, read(second.path)).startswith("; notify.command is that of the jobs in the queue")
    assert (
        told_otherwise(first, notice, read(first.path))
        == told_otherwise(second, read(second.path)[0].order["notice"], read(second.path))
        == ""
    )
