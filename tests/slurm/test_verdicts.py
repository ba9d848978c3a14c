"""Why jobs end decides what gates do, and stands in their verdict: on a real Slurm."""

import json
from pathlib import Path

import pytest

from launch import status
from launch.slurm.submissions import read
from tests.slurm.devcluster import running
from tests.slurm.launching import launch, settle, stage

FEW = ("recipe=probe_chain", "until=second", "probe.slots=8", "probe.unit_size=4", "cluster.n_jobs=2")


def verdict(cluster, folder) -> dict:
    cluster.wait_for("the verdict", lambda: (folder.path / "missing.json").exists(), 90)
    settle(cluster)
    return json.loads((folder.path / "missing.json").read_text())


def test_bad_input_is_not_submitted_again_and_status_tells_it_with_its_log(cluster, tmp_path, capsys):
    runs = tmp_path / "runs"
    bad = ",".join(f"{slot}:{{raise:input}}" for slot in range(8))
    launch(cluster, runs, *FEW, f"probe.behaviour={{{bad}}}")
    first = stage(runs, "first")
    said = verdict(cluster, first)
    assert len(read(first.path)) == 1 and "raises as asked" in said["why"] and "no tries left" not in said["why"]
    log = said["why"].rpartition("its log: ")[2].rstrip(")")
    assert "raises as asked" in Path(log).read_text()
    assert status.main([str(runs), "--no-slurm"]) == 0
    told = "".join(capsys.readouterr().out.split())
    assert "givenup:slot" in told and "".join(said["command"].split()) in told
    gate = next((first.path / "logs").glob("gate-*.log")).read_text()
    assert "Mend that, then run" in gate and not stage(runs, "second").progress()


@pytest.mark.parametrize(
    ("broken", "says"),
    [("cluster.python=/nowhere/python", "No such file or directory"), ("cluster.modules=[cuda/12]", "module: command not found")],
)
def test_jobs_that_never_began_are_told_by_their_last_lines_by_a_gate_that_needs_nothing_of_theirs(cluster, tmp_path, broken, says):
    runs = tmp_path / "runs"
    launch(cluster, runs, *FEW, broken)
    first = stage(runs, "first")
    said = verdict(cluster, first)
    tried = read(first.path)
    assert 1 <= len(tried) <= 2 and "ended before a worker began" in said["why"] and says in said["why"], said["why"]
    assert len(tried) == 1 or tried[1].excluded  # one node alone had them: once more, without it
    assert not stage(runs, "second").progress()


def test_memory_that_slurm_kills_for_is_raised_once_and_then_told_with_its_figure(tmp_path):
    """Without cgroups Slurm looks at what jobs use, kills them itself, and calls them FAILED: only their logs tell."""
    runs = tmp_path / "runs"
    with running(NODES=1, EXTRA="JobAcctGatherParams=OverMemoryKill\nJobAcctGatherFrequency=task=1") as cluster:
        slow = ("probe.sleep=30", "cluster.stages.probe.mem=8M")
        launch(cluster, runs, *FEW, *slow)
        first = stage(runs, "first")
        said = verdict(cluster, first)
        assert [s.mem for s in read(first.path)] == ["", "16M"]
        assert "needed more memory than the 16M that they may use" in said["why"] and "cluster.stages.probe.mem=32M" in said["why"], said
