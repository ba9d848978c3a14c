"""What a site with accounting says before anything is queued: accounts that are one's own, and how many jobs one may queue."""

from launch.slurm.submissions import read
from tests.slurm.devcluster import running
from tests.slurm.launching import launch, settle, stages, wait_whole

CHAIN = ("recipe=probe_chain", "probe.slots=24", "probe.unit_size=4", "cluster.n_jobs=6")


def test_a_wrong_account_is_refused_and_a_submit_limit_is_kept_to(tmp_path):
    runs = tmp_path / "runs"
    with running(NODES=1, DBD=1, EXTRA="AccountingStorageEnforce=limits") as cluster:
        said = launch(cluster, runs, *CHAIN, "cluster.account=nope", code=65)
        assert "cluster.account=nope" in said and not runs.exists()
        user = cluster.run("id", "-un").stdout.strip()
        cluster.run("sacctmgr", "-i", "modify", "user", user, "set", "MaxSubmitJobs=9")
        said = launch(cluster, runs, *CHAIN)
        assert sum(a.tasks + 1 for s in stages(runs) for a in read(s.path)[0].arrays) <= 9, said
        wait_whole(cluster, runs)
        settle(cluster)
