"""Everything that goes wrong on a cluster, in one run at once; then the same command again."""

from collections import Counter

from synth.store.events import read_events
from tests.slurm.devcluster import Cluster, give
from tests.slurm.launching import jobs, launch, local, settle, stage, stages, units, wait_whole, whole

ARGS = ("recipe=probe_chain", "probe.slots=72", "probe.unit_size=4", "probe.batch_size=2", "probe.sleep=1", "cluster.n_jobs=6")


def test_lost_nodes_split_brain_preemption_cancel_requeue_time_limit_and_a_controller_that_restarts(tmp_path):
    for cluster in give(NODES=4, DBD=0):
        runs = tmp_path / "runs"
        args = (*ARGS, "cluster.partition=preempt", "cluster.stages.gate.partition=main")
        launch(cluster, runs, *args)
        first = stage(runs, "first")
        script = first.path / "submissions" / "0001.sbatch"
        graced = cluster.sbatch("-p", "grace", "-w", "node3", "--array=0-1", "--output=/dev/null", script, "6", "8")
        array = jobs(first)[0]
        cluster.wait_for("work on three nodes", lambda: first.progress() >= 4 and len(running(cluster)) >= 3, 60)

        where = nodes_of(cluster, array)
        tasks = sorted(where)
        cluster.run("scontrol", "update", f"JobId={tasks[0]}", "TimeLimit=1")
        cluster.run("scancel", tasks[1])
        cluster.run("scontrol", "requeue", tasks[2])
        vip = cluster.sbatch("-p", "main", "-w", "node3", "--exclusive", "--time=5", "--output=/dev/null", "--wrap", "sleep 4")  # preempts both kinds
        lost = [n for n in dict.fromkeys(where.values()) if n != "node3"][:2] or ["node1", "node2"]
        cluster.control("crash", lost[0])
        if len(lost) > 1:
            cluster.control("kill-slurmd", lost[1])  # its jobs live on, and Slurm starts them elsewhere
        cluster.control("restart-ctld")
        launch(cluster, runs, *args)  # in the middle of it all: nothing is submitted twice
        cluster.wait_done(vip, 90)
        for node in lost:
            cluster.control("start-node", node)
        cluster.wait_for("an end, good or bad", lambda: whole(runs) or not cluster.run("squeue", "-h").stdout.strip(), 240)
        if not whole(runs):
            launch(cluster, runs, *args)
        wait_whole(cluster, runs, 120)
        cluster.run("scancel", graced, check=False)
        settle(cluster)

    local(cluster, tmp_path / "local", *ARGS[:-1], "probe.sleep=1")
    assert units(runs) == units(tmp_path / "local")
    for folder in stages(runs):
        made = Counter(e["unit"] for e in read_events(folder.path) if e["event"] == "unit" and e["outcome"] == "ours")
        assert set(made) == set(range(folder.spec.n_units)) and set(made.values()) == {1}
        assert not [e for e in read_events(folder.path) if e["event"] == "failed"]
    for before, after in (("first", "second"), ("second", "third")):
        ended = min(e["time"] for e in read_events(stage(runs, before).path) if e["event"] == "done")
        assert ended <= min(e["time"] for e in read_events(stage(runs, after).path) if e["event"] == "start")


def running(cluster: Cluster) -> set[str]:
    return set(cluster.run("squeue", "-h", "-r", "-t", "R", "-o", "%N").stdout.split())


def nodes_of(cluster: Cluster, job: str) -> dict[str, str]:
    """"11_3" -> node, of the running tasks of a job."""
    return dict(line.split() for line in cluster.run("squeue", "-h", "-r", "-t", "R", "-j", job, "-o", "%i %N").stdout.splitlines())
