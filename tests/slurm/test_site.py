"""A site with rules of its own: accounts, a limit of jobs in the queue, a partition for GPU jobs alone, a comment that is demanded."""

import json
from pathlib import Path

import pytest

from launch.slurm.submissions import read
from tests.slurm.devcluster import Cluster, give
from tests.slurm.launching import jobs, launch, settle, stage, stages, wait_whole

CHAIN = ("recipe=probe_chain", "probe.slots=24", "probe.unit_size=4", "cluster.n_jobs=6")
RULES = Path(__file__).parent / "job_submit.lua"
PARTITIONS = "\n".join(f"PartitionName={name} Nodes=ALL MaxTime=08:00:00" for name in ("gpus", "told", "secret Hidden=YES"))


@pytest.fixture(scope="module")
def site():
    yield from give(NODES=1, DBD=1, LUA=RULES, EXTRA=f"AccountingStorageEnforce=limits,qos\n{PARTITIONS}")


def limit(site: Cluster, most: int) -> None:
    """Of jobs that we may have in the queue; -1: none."""
    site.run("sacctmgr", "-i", "modify", "user", site.run("id", "-un").stdout.strip(), "set", f"MaxSubmitJobs={most}")


def listed(site: Cluster, fields: str) -> list[str]:
    return site.run("squeue", "-h", "-a", "-o", fields).stdout.split()


def test_a_full_queue_leaves_alone_what_is_in_it_and_refuses_nothing_for_good(site, tmp_path):
    runs = tmp_path / "runs"
    said = launch(site, runs, *CHAIN, "cluster.account=nope", code=65)
    assert "cluster.account=nope" in said and not runs.exists()
    limit(site, 10)
    hog = site.sbatch("--exclusive", "--output=/dev/null", "--wrap", "sleep 300")  # what comes behind it waits
    try:
        said = launch(site, runs, *CHAIN, "cluster.account=DEV")
        assert sum(a.tasks + 1 for s in stages(runs) for a in read(s.path)[0].arrays) == 9 and "you may have 10 in the queue)" in said, said
        said = launch(site, runs, *CHAIN, "cluster.account=DEV")
        assert said.count("left alone") == 3, said
        said = launch(site, tmp_path / "others", "recipe=probe", "cluster.account=DEV", code=75)
        assert "no room in the queue" in said and "not submitted" in said
    finally:
        site.run("scancel", hog)
        limit(site, -1)
    wait_whole(site, runs)
    settle(site)


def test_half_a_gpu_site_refuses_a_gate_before_the_first_array_and_takes_gates_by_keys_of_their_own(site, tmp_path):
    runs = tmp_path / "runs"
    own = ("cluster.partition=gpus", "cluster.stages.probe.gpus_per_job=1", "+cluster.extra.exclusive=true")
    said = launch(site, runs, *CHAIN, *own, code=65)
    assert "gate: Slurm refuses it: Partition gpus takes jobs with GPUs only" in said and "cluster.cpu.partition" in said
    assert "cluster.srun_extra.asynk (first): srun refuses it" in launch(site, runs, *CHAIN, "+cluster.srun_extra.asynk=true", code=65)
    assert not runs.exists() and not listed(site, "%i")
    more = ("cluster.cpu.partition=told", "+cluster.extra.comment=mine", "cluster.account=project-of-the-web-site", "cluster.time=90")
    launch(site, runs, *CHAIN, *own, *more, "cluster.n_jobs=1")
    found = {line.partition("|")[0].rpartition(".")[2]: line.split("|")[1:] for line in listed(site, "%j|%P|%a|%k|%l|%h")}
    assert found == {"0": ["gpus", "dev", "mine", "1:30:00", "NO"], "gate": ["told", "dev", "mine", "10:00", "OK"]}
    wait_whole(site, runs)
    settle(site)


def test_a_gate_that_meets_a_full_queue_waits_in_it_and_goes_on(site, tmp_path):
    runs = tmp_path / "runs"
    quick = {"SYNTHSET_GATE_PAUSE_S": "2"}
    stuck = "probe.behaviour={63:{hang:true,times:1}}"  # it is not whole before it is cancelled
    launch(site, runs, "recipe=probe", "probe.slots=64", "probe.sleep=1", stuck, "cluster.n_jobs=2", "cluster.partition=secret", **quick)
    folder = stage(runs, "probe")
    array, gate = jobs(folder)
    limit(site, 1)
    try:
        site.run("scancel", array)
        (folder.path / "logs" / "probe-63-0").touch()
        waits = site.wait_for("the gate to wait", lambda: "BeginTime" in listed(site, "%r") and listed(site, "%i"))
        assert waits == [gate] and not (folder.path / "missing.json").exists()
    finally:
        limit(site, -1)
    wait_whole(site, runs)
    settle(site)
    log = (folder.path / "logs" / f"gate-{gate}.log").read_text()
    assert "no room in the queue (AssocMaxSubmitJobLimit): back into it" in log and "submitted again" in log
    assert [json.loads(p.read_text())["state"] for p in sorted((folder.path / "submissions").glob("*.json"))] == ["submitted"] * 2
