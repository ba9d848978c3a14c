"""A node is lost, and another one loses its slurmd while its worker lives on (split brain): the same bytes, no sample twice."""

from tests.slurm.devcluster import running
from tests.slurm.test_stage_sbatch import submit
from tests.stages import alone, digests, events, probe


def test_a_crashed_node_and_a_split_brain_only_delay_a_stage(tmp_path):
    stuck = {str(20 * unit + 6): {"hang": True, "on": "node1"} for unit in range(6)}  # three batches into whichever unit it takes
    folder = probe(tmp_path, slots=120, unit_size=20, sleep=0.5, behaviour=stuck)

    def finished(node):  # batches in parts of its worker
        workers = [e["worker"] for e in events(folder, "start") if e["node"] == node]
        return sum(p.read_bytes().count(b"\n") for worker in workers for p in folder.path.glob(f"parts/*/*.{worker}.*.idx"))

    def ours():
        return [e for e in events(folder, "unit") if e["outcome"] == "ours"]

    with running(NODES=3, DBD=0) as cluster:
        jobs = [submit(cluster, folder, "-w", f"node{n}", f"--array={n}") for n in (1, 2)]
        cluster.wait_for("two workers at work", lambda: len(events(folder, "open")) == 2 and finished("node1") == 3)
        cluster.control("crash", "node1")
        cluster.control("kill-slurmd", "node2")
        # what the controller does by itself after SlurmdTimeout and some more; said at once, the test is quick
        cluster.run("scontrol", "update", "NodeName=node1,node2", "State=DOWN", "Reason=lost")
        cluster.wait_for("both jobs to be requeued", lambda: [set(cluster.states(j).values()) for j in jobs] == [{"PENDING"}] * 2)
        alive = folder.progress()
        cluster.wait_for("the worker without a slurmd to go on", lambda: folder.progress() > alive or folder.is_done())
        helper = submit(cluster, folder, "-w", "node3", "--array=0,3")
        assert set(cluster.wait_done(helper, 90).values()) == {"COMPLETED"}
        assert folder.is_done()
        adopted = events(folder, "adopted")
        assert max((e["batches"] for e in adopted), default=0) >= 3, "the crashed worker's finished batches were made again"
        cluster.wait_for("the last word of who made the last unit", lambda: len(ours()) >= folder.spec.n_units)
        assert len(ours()) == folder.spec.n_units and not any(e["outcome"] == "differs" for e in events(folder, "unit"))
    assert digests(folder) == alone(tmp_path, folder)
