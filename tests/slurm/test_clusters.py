"""Two clusters behind one slurmdbd, with numbers of their own: what is submitted to one of them from the other is found again there."""

import json
import sys

from tests.slurm.devcluster import REPO, running
from tests.slurm.launching import jobs, launch, settle, stage

CHAIN = ("recipe=probe_chain", "until=second", "probe.slots=8", "probe.unit_size=4", "cluster.n_jobs=2")


def test_a_run_on_another_cluster_is_submitted_once_watched_and_cancelled_there(tmp_path):
    runs = tmp_path / "runs"
    with running(NODES=1, DBD=1) as near, running(NODES=1, DBD=1, CLUSTER="far", JOIN=near.path) as far:

        def command(name, *words):
            return near.run(sys.executable, REPO / "launch" / name, runs, *words)

        others = [near.sbatch("--output=/dev/null", "--wrap", "sleep 300") for _ in range(6)]  # of the same numbers
        slow = (*CHAIN, "probe.sleep=600")
        said = launch(near, runs, *slow, SLURM_CLUSTERS="far")
        assert "SLURM_CLUSTERS=far" in said and said.count("on cluster far") == 2 and "(your default) pays" in said, said
        first, second = stage(runs, "first"), stage(runs, "second")
        mine = jobs(first) + jobs(second)
        assert set(mine) & set(others) and {s["cluster"] for s in map(record, (first, second))} == {"far"}
        assert launch(near, runs, *slow).count("left alone") == 2
        assert jobs(first) + jobs(second) == mine

        far.wait_for("work", lambda: far.states(mine[0]).get(f"{mine[0]}_1") == "RUNNING")

        def told():  # it does not wait for a controller that is slow to answer
            seen = {s["name"]: s["slurm"] for s in json.loads(command("status.py", "--json").stdout)}
            return seen["first"]["tasks"].items() >= {f"far/{mine[0]}_{i}": "RUNNING" for i in range(2)}.items()

        far.wait_for("status to tell of the other cluster", told)
        done = command("cancel.py")
        assert f"cancelled: {mine[0]} of cluster far" in done.stdout
        settle(far)
        assert {state for job in others for state in near.states(job).values()} <= {"RUNNING", "PENDING"}


def record(folder):
    return json.loads((folder.path / "submissions" / "0001.json").read_text())
