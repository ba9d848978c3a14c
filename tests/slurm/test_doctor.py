"""launch/doctor.py cluster=slurm, on the devcluster: the site's own words, and the trial as a job."""

import json
import subprocess
import sys

from tests.slurm.devcluster import REPO, Cluster
from tests.slurm.launching import SMALL, blind_python, seen_by, settle

MADE = ("prompts=class_name", "captioner=none", "dataset.classes=0..3", "captions.per_class=1", "images.batch_size=2", "images.steps=2")


def doctor(cluster: Cluster, runs, *args: str, code: int = 0) -> dict[str, dict]:
    """The rows of launch/doctor.py --json by their names; asserts the exit code."""
    words = [sys.executable, str(REPO / "launch" / "doctor.py"), "--json", "cluster=slurm", f"runs_dir={runs}", *SMALL, *MADE, "export=[]"]
    done = subprocess.run([*words, *args], env=cluster.env, capture_output=True, text=True, timeout=300, cwd=runs.parent)
    assert done.returncode == code, [r for r in json.loads(done.stdout)["rows"] if r["verdict"] == "wrong"] + [done.stderr]
    return {r["what"]: r for r in json.loads(done.stdout)["rows"]}


def test_the_trial_is_a_job_on_the_partition_and_what_the_site_says_is_told(cluster: Cluster, tmp_path, disk):
    runs, python = disk / "runs", blind_python(tmp_path)
    rows = doctor(cluster, runs, f"cluster.stages.images.python={python}", "cluster.stages.images.gpu_mem_gb=24")
    settle(cluster)
    assert rows["GPUs (images)"]["verdict"] == "ok" and "gpu:4 in main" in rows["GPUs (images)"]["found"]
    assert rows["sbatch (images)"]["verdict"] == rows["sbatch (gate)"]["verdict"] == "ok" and rows["Slurm"]["verdict"] == "ok"
    assert rows["accounting"]["verdict"] == "warn", "this cluster has none"
    device = rows["device of images"]["found"]
    assert rows["device of images"]["verdict"] == "ok" and "on node" in device and "hard links work there" in device, rows
    assert "in two" not in rows["bytes of images"]["found"] and rows["bytes of images"]["verdict"] == "ok"
    assert [gpus for gpus, _ in seen_by(python)] == ["0", "0"], "both jobs were given a GPU"
    assert [p.suffix for p in (runs / ".doctor").iterdir()] == [".json"], "the folder of the trial is gone"


def test_a_partition_that_is_not_there_ends_it_before_a_job(cluster: Cluster, disk):
    rows = doctor(cluster, disk / "runs", "cluster.partition=mian", code=65)
    assert "did you mean main" in rows["partition (images)"]["fix"] and rows["sbatch (images)"]["verdict"] == "wrong"
    assert rows["trial"]["verdict"] == "unknown" and not cluster.run("squeue", "-h", "-a").stdout.strip()
