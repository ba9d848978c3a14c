"""Why jobs end decides what gates do, and stands in their verdict: on a real Slurm."""

import json
import sys
from pathlib import Path

import pytest

from launch import status
from launch.slurm.submissions import read
from tests.slurm.devcluster import has_cgroups, running
from tests.slurm.launching import launch, settle, stage, stages, wait_whole

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


OVER = {"EXTRA": "JobAcctGatherParams=OverMemoryKill\nJobAcctGatherFrequency=task=1"}
WAYS = {"slurm": OVER} | ({"kernel": {"CGROUPS": 1}} if has_cgroups() else {})  # that of the kernel by its records: tests/launch/slurm


@pytest.fixture(scope="module", params=WAYS)
def tight(request):
    """(who kills, a cluster on which what needs too much memory is killed).

    Neither calls such a job OUT_OF_MEMORY: both end srun, and the job is FAILED.
    """
    with running(NODES=1, DBD=0 if request.param == "kernel" else 1, **WAYS[request.param]) as cluster:
        yield request.param, cluster


def test_memory_that_is_killed_for_is_raised_once_and_then_told_with_its_figure(tight, tmp_path):
    killer, cluster = tight
    runs = tmp_path / "runs"
    asked, needed = (8, ("probe.sleep=30",)) if killer == "slurm" else (60, ("probe.behaviour={1:{allocate:400000000}}",))
    launch(cluster, runs, *FEW, *needed, f"cluster.stages.probe.mem={asked}M", "cluster.n_jobs=1")
    first = stage(runs, "first")
    said = verdict(cluster, first)
    assert [s.mem for s in read(first.path)] == ["", f"{2 * asked}M"]
    assert f"needed more memory than the {2 * asked}M that they may use" in said["why"], said
    assert f"cluster.stages.probe.mem={4 * asked}M" in said["why"] and "before a worker began" not in said["why"], said


if "kernel" in WAYS:  # elsewhere by its records alone

    @pytest.mark.parametrize("tight", ["kernel"], indirect=True)
    def test_a_kill_that_a_worker_outlives_is_neither_a_want_of_memory_nor_in_the_way_of_a_verdict(tight, tmp_path):
        """srun ends with 1 whatever the worker ends with, once the kernel has killed anything of its step: what runs before it, here."""
        _, cluster = tight
        hungry = tmp_path / "hungry.sh"
        hungry.write_text(f"#!/bin/sh\n{sys.executable} -c 'bytearray(1 << 29)'\nexit 0\n")
        hungry.chmod(0o755)
        args = (*FEW, "cluster.stages.probe.mem=100M", f"+cluster.srun_extra.task-prolog={hungry}")
        launch(cluster, tmp_path / "well", *args)
        bad = ",".join(f"{slot}:{{raise:input}}" for slot in range(8))
        launch(cluster, tmp_path / "bad", *args, f"probe.behaviour={{{bad}}}")
        wait_whole(cluster, tmp_path / "well")
        for well in stages(tmp_path / "well"):
            log = next((well.path / "logs").glob("*_0.log"))
            cluster.wait_for("srun's last word", lambda log=log: "Out Of Memory" in log.read_text())  # behind the worker, which is done
            assert len(read(well.path)) == 1
        refused = stage(tmp_path / "bad", "first")
        said = verdict(cluster, refused)
        assert len(read(refused.path)) == 1 and "raises as asked" in said["why"] and "memory" not in said["why"]
