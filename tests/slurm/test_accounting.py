"""A site with accounting: sacct answers for jobs that squeue has forgotten, and a submit limit is what a site would say."""

import sys

from tests.slurm.devcluster import running
from tests.slurm.test_stage_sbatch import submit
from tests.stages import probe

ASK = "import sys; from synth.host.slurm import accounted; print(accounted(sys.argv[1:]))"


def test_sacct_knows_how_jobs_ended_and_limits_are_enforced(tmp_path):
    folder = probe(tmp_path, slots=8, behaviour={"1": {"raise": "bug"}})
    with running(NODES=1, DBD=1, EXTRA="AccountingStorageEnforce=limits") as cluster:
        job = submit(cluster, folder)
        cluster.wait_done(job)
        expected = str({job: "FAILED"})
        # it is written with some delay, so it is polled, never read once
        cluster.wait_for("sacct to know it", lambda: cluster.run(sys.executable, "-c", ASK, job).stdout.strip() == expected)

        user = cluster.run("id", "-un").stdout.strip()
        cluster.run("sacctmgr", "-i", "modify", "user", user, "set", "MaxSubmitJobs=2")
        refused = cluster.run("sbatch", "--array=0-4", "--wrap", "true", check=False)
        assert refused.returncode and "AssocMaxSubmitJobLimit" in refused.stderr
