"""A node whose device is bad: its workers leave, and the gate submits what is missing without it."""

from launch.slurm.submissions import read
from tests.slurm.devcluster import running
from tests.slurm.launching import jobs, launch, settle, stage, wait_whole
from tests.stages import events


def test_a_gate_leaves_out_a_node_that_its_workers_left(tmp_path):
    runs, slots = tmp_path / "runs", 48
    bad = ",".join(f"{slot}:{{raise:device,on:node2}}" for slot in range(slots) if slot != 44)
    bad += ",44:{hang:true,on:node1,times:1}"  # so that the stage is not whole before its jobs are cancelled
    with running(NODES=2, CPUS=2, DBD=0) as cluster:
        args = ("recipe=probe", f"probe.slots={slots}", "probe.unit_size=4", "probe.sleep=2", f"probe.behaviour={{{bad}}}")
        launch(cluster, runs, *args, "cluster.n_jobs=4", "cluster.requeue=false")
        folder = stage(runs, "probe")
        cluster.wait_for("both workers of node2 to leave", lambda: len(events(folder, "device")) == 2, 90)
        assert {e["node"] for e in events(folder, "device")} == {"node2"} and folder.set_aside() == []
        cluster.run("scancel", jobs(folder)[0])
        (folder.path / "logs" / "probe-44-0").touch()  # its one time, should it not have come so far
        wait_whole(cluster, runs)
        settle(cluster)
        second = read(folder.path)[1]
        assert second.excluded == ("node2",)
        later = [e for e in events(folder, "start") if e["time"] > second.created]
        assert later and {e["node"] for e in later} == {"node1"}
        log = "".join(p.read_text() for p in (folder.path / "logs").glob("gate-*.log"))
        assert "bad device on node2, left by 2 workers" in log and "left out from now on: node2" in log
