"""Everything that goes wrong on a cluster, in one run at once; then the same command again."""

import hashlib
from collections import Counter
from pathlib import Path

from launch.slurm.submissions import read
from synth.store.events import read_events
from tests.slurm.devcluster import Cluster, running
from tests.slurm.launching import jobs, launch, local, settle, stage, stages, wait_whole, whole

ARGS = ("recipe=probe_chain", "probe.slots=144", "probe.unit_size=4", "probe.batch_size=2")
ON_SLURM = (
    "probe.sleep=2",
    "cluster.n_jobs=9",
    "cluster.partition=preempt",
    "cluster.exclude=node3",
    "cluster.stages.gate.partition=main",
)


def test_lost_nodes_split_brain_three_ways_of_preemption_cancel_requeue_and_a_controller_that_restarts(tmp_path):
    runs = tmp_path / "runs"
    with running(NODES=4, CPUS=3, DBD=0) as cluster:
        launch(cluster, runs, *ARGS, *ON_SLURM)
        first = stage(runs, "first")
        script = first.path / "submissions" / "0001.sbatch"
        by_hand = [
            cluster.sbatch("-p", p, "-w", "node3", "--exclude=", f"--array={a}", "--output=/dev/null", script, "9", "12")
            for p, a in (("grace", "0-1"), ("cancel", "2"))
        ]
        array = jobs(first)[0]
        cluster.wait_for("work on all nodes", lambda: first.progress() >= 4 and len(busy(cluster)) == 4, 90)

        on_node4 = sorted(task for task, node in nodes_of(cluster, array).items() if node == "node4")
        cluster.run("scancel", on_node4[0])
        cluster.run("scontrol", "requeue", on_node4[1])
        sleep = ("-p", "main", "--exclusive", "--time=5", "--output=/dev/null", "--wrap", "sleep 3")
        vips = [cluster.sbatch("-w", node, *sleep) for node in ("node3", "node4")]  # they preempt all that runs there
        cluster.control("crash", "node1")
        cluster.control("kill-slurmd", "node2")  # its jobs live on, and Slurm starts them once more elsewhere
        cluster.control("restart-ctld")
        launch(cluster, runs, *ARGS, *ON_SLURM)  # in the middle of it all
        for vip in vips:
            cluster.wait_done(vip, 120)
        cluster.wait_for("the lost nodes to be noticed", lambda: "down" in cluster.run("sinfo", "-h", "-n", "node1", "-o", "%t").stdout, 60)
        cluster.control("start-node", "node1")
        cluster.control("start-node", "node2")
        cluster.wait_for("an end, good or bad", lambda: whole(runs) or not cluster.run("squeue", "-h").stdout.strip(), 300)
        launch(cluster, runs, *ARGS, *ON_SLURM)
        wait_whole(cluster, runs, 120)
        cluster.run("scancel", *by_hand, check=False)
        settle(cluster)

    local(cluster, tmp_path / "local", *ARGS, "probe.sleep=2", n_jobs=12)  # the sleep is part of what the next stage reads
    assert digests(runs) == digests(tmp_path / "local")
    for folder in stages(runs):
        events = list(read_events(folder.path))
        made = Counter(e["unit"] for e in events if e["event"] == "unit" and e["outcome"] == "ours")
        # a worker that is killed between a commit and its line leaves one out
        cut = {e["worker"] for e in events if e["event"] == "start"} - {e["worker"] for e in events if e["event"] == "stop"}
        assert set(made) <= set(range(folder.spec.n_units)) and folder.spec.n_units - len(made) <= len(cut)
        assert set(made.values()) == {1}
        assert not [e for e in events if e["event"] == "failed"]
    for before, after in (("first", "second"), ("second", "third")):
        ended = min(e["time"] for e in read_events(stage(runs, before).path) if e["event"] == "done")
        assert ended <= min(e["time"] for e in read_events(stage(runs, after).path) if e["event"] == "start")


def test_a_time_limit_drains_and_requeues_and_never_ends_a_run(cluster, tmp_path):
    """The least limit that Slurm has, one minute, and more work than fits into it."""
    runs = tmp_path / "runs"
    args = ("recipe=probe", "probe.slots=120", "probe.unit_size=4", "probe.sleep=2", "cluster.n_jobs=1", "cluster.heal=0")
    launch(cluster, runs, *args, "cluster.stages.probe.time='1:00'")
    wait_whole(cluster, runs, 240)
    settle(cluster)
    folder = stage(runs, "probe")
    codes = [e["code"] for e in read_events(folder.path) if e["event"] == "stop"]
    assert sorted(codes)[0] == 0 and 75 in codes and set(codes) == {0, 75}
    assert len(read(folder.path)) == 1  # the job itself went back into the queue


def digests(runs: Path) -> dict[str, str]:
    """stage/unit -> sha256."""
    return {
        f"{s.spec.name}/{u}": hashlib.sha256(s.unit_path(u).read_bytes()).hexdigest() for s in stages(runs) for u in range(s.spec.n_units)
    }


def busy(cluster: Cluster) -> set[str]:
    return set(cluster.run("squeue", "-h", "-r", "-t", "R", "-o", "%N").stdout.split())


def nodes_of(cluster: Cluster, job: str) -> dict[str, str]:
    """ "11_3" -> node, of the running tasks of a job."""
    return dict(line.split() for line in cluster.run("squeue", "-h", "-r", "-t", "R", "-j", job, "-o", "%i %N").stdout.splitlines())
