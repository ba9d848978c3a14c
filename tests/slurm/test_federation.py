"""A federation: sbatch hands a job that is no array to all of its clusters, and the first one that has room runs it. A run stays on one."""

import json
import os
import sys
from pathlib import Path

import pytest

from tests.slurm.devcluster import REPO, running
from tests.slurm.launching import jobs, launch, settle, stage, wait_whole

CHAIN = ("recipe=probe_chain", "until=second", "probe.slots=8", "probe.unit_size=4", "cluster.n_jobs=2")
ONE = {"NODES": 1, "DBD": 1, "CPUS": 4, "FEDERATION": "both", "EXTRA": "FederationParameters=fed_display"}


@pytest.fixture(scope="module")
def federation():
    """(near, far): four cores each, and squeue of each shows the jobs of both."""
    with running(**ONE) as near, running(**ONE, CLUSTER="far", JOIN=near.path) as far:
        yield near, far


@pytest.fixture
def both(federation):
    """The same, and nothing is left in their queues: what one test leaves when it fails, the next one would wait for."""
    yield federation
    for cluster in federation:
        cluster.run("scancel", "-u", str(os.getuid()), check=False)
    settle(federation[0])  # it sees both


def siblings(cluster, job: str) -> set[str]:
    """The clusters that may begin a job."""
    told = cluster.run("scontrol", "-o", "show", "job", job).stdout
    return set(told.partition("FedViableSiblings=")[2].split()[0].split(","))


def filled(cluster, name: str) -> str:
    """A job that holds all cores of a cluster, so that what may go elsewhere does."""
    job = cluster.sbatch("-M", name, "--cpus-per-task=4", "--output=/dev/null", "--wrap", "sleep 600")
    cluster.wait_state(job, "RUNNING")
    return job


def command(cluster, name: str, *words: str | Path) -> str:
    return cluster.run(sys.executable, REPO / "launch" / name, *words).stdout


def test_a_run_stays_on_its_cluster_though_it_is_full_and_is_known_and_cancelled_from_its_sibling(both, tmp_path):
    near, far = both
    runs, slow = tmp_path / "runs", (*CHAIN, "probe.sleep=600")
    full = filled(near, "dev")
    launch(near, runs, *slow)
    first, second = stage(runs, "first"), stage(runs, "second")
    mine = jobs(first) + jobs(second)
    shared = near.sbatch("--begin=now+1hour", "--output=/dev/null", "--wrap", "true")
    assert siblings(near, shared) == {"dev", "far"}, "this is no federation"
    assert [siblings(near, job) for job in mine] == [{"dev"}] * 4
    assert launch(near, runs, *slow).count("left alone") == 2
    assert launch(far, runs, *slow).count("on cluster dev") == 2 and jobs(first) + jobs(second) == mine

    near.run("scancel", full, shared)
    near.wait_state(mine[0], "RUNNING")
    seen = {s["name"]: s["slurm"]["tasks"] for s in json.loads(command(far, "status.py", runs, "--json"))}
    assert seen["first"].items() >= {f"dev/{mine[0]}_{i}": "RUNNING" for i in range(2)}.items()
    other = far.sbatch("-M", "far", "--output=/dev/null", "--wrap", "sleep 3000")
    far.wait_state(other, "RUNNING")
    assert f"cancelled: {mine[0]} of cluster dev" in command(far, "cancel.py", runs)
    assert far.states(other) == {other: "RUNNING"}


def test_a_gate_submits_again_where_its_run_is(both, tmp_path):
    near, far = both
    runs = tmp_path / "runs"
    full = filled(far, "far")  # until all is submitted
    launch(near, runs, *CHAIN, "probe.behaviour={7:{hang:true,times:1}}", "cluster.clusters=far")  # it is not whole by itself
    far.run("scancel", full)
    first, second = stage(runs, "first"), stage(runs, "second")
    (second.path / "logs" / "probe-7-0").touch()  # its one time
    far.wait_for("the last unit to hang", lambda: (first.path / "logs" / "probe-7-0").exists())
    far.run("scancel", jobs(first)[0])
    wait_whole(near, runs)
    assert len(jobs(stage(runs, "first"))) == 4
    submitted = [json.loads(p.read_text()) for p in sorted(runs.glob("*/*/submissions/*.json"))]
    assert {s["cluster"] for s in submitted} == {"far"}
    assert all(siblings(far, job) == {"far"} for s in submitted for job in (*(a["job"] for a in s["arrays"]), s["gate"]))


def test_what_a_drained_cluster_has_dropped_is_mended_by_the_same_command(both, tmp_path):
    """A job whose turn comes while its cluster is drained in the federation is REVOKED, and what waits for it would wait for ever."""
    near, _ = both
    runs = tmp_path / "runs"

    def state(name):
        near.run("sacctmgr", "-i", "modify", "cluster", "dev", "set", f"fedstate={name}")
        near.wait_for(f"fedstate {name}", lambda: f"FedState:{name}" in near.run("scontrol", "show", "federation").stdout.split("\n")[1])

    full = filled(near, "dev")  # until all is submitted
    launch(near, runs, *CHAIN)
    gate = jobs(stage(runs, "first"))[-1]
    near.run("scontrol", "hold", gate)  # its turn comes when we say so
    near.run("scancel", full)
    state("DRAIN")
    try:
        said = launch(near, tmp_path / "others", *CHAIN, code=75)
        assert "System submissions disabled" in said and "cluster.clusters=NAME" in said
        near.run("scontrol", "release", gate)
        near.wait_for("the gate to be dropped", lambda: near.states(gate) == {gate: "REVOKED"})
    finally:
        state("ACTIVE")
    launch(near, runs, *CHAIN)
    wait_whole(near, runs)


def test_a_job_that_a_sibling_has_begun_is_not_taken_for_gone(both, tmp_path):
    """A worker that was submitted by hand, without --array: its own cluster says REVOKED, and its copies have no number."""
    near, far = both
    filled(near, "dev")
    job = near.sbatch("--job-name=by-hand", "--output=/dev/null", "--wrap", "sleep 300")
    far.wait_for("the sibling", lambda: "RUNNING" in far.run("squeue", "--local", "-h", "-j", job, "-o", "%T", check=False).stdout)
    local = ("squeue", "--local", "-h", "-t", "all", "-j", job, "-o", "%T")
    near.wait_for("its own cluster to know", lambda: "REVOKED" in near.run(*local, check=False).stdout)
    by_id, by_name = f"slurm.seen(['{job}'])", "slurm.seen(names=['by-hand'])"
    for cluster, ask, states in ((near, by_id, "RUNNING"), (far, by_id, "RUNNING"), (near, by_name, ""), (far, by_name, "RUNNING")):
        words = f"from synth.host import slurm; print(*(task.state for task in {ask}))"
        assert cluster.run(sys.executable, "-c", words).stdout.strip() == states
