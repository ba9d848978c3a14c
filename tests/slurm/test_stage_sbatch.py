"""slurm/stage.sbatch by hand on a real Slurm: partial arrays, changed sizes, signals, requeue, exit codes."""

import pytest

from tests.lint import clean_shell
from tests.slurm.devcluster import REPO, running
from tests.stages import alone, digests, events, probe

SCRIPT = REPO / "slurm" / "stage.sbatch"


def submit(cluster, folder, *options, **env):
    return cluster.sbatch("--mem=100", "--time=20", *options, SCRIPT, folder.path, cwd=folder.path / "logs", **env)


@pytest.fixture(scope="module", autouse=True)
def short_job(cluster, tmp_path_factory):
    """A job that lives for about 45 s, submitted before the other tests and judged by the last."""
    folder = probe(tmp_path_factory.mktemp("short"), slots=4000, unit_size=4000, sleep=1.0)
    return folder, submit(cluster, folder, "-p", "short", "--time=1", "--signal=USR2@0")


def test_the_script_is_clean():
    clean_shell(SCRIPT)


def test_partial_arrays_of_changing_size_make_the_same_bytes(cluster, tmp_path):
    folder = probe(tmp_path, slots=64, sleep=0.05)
    first = submit(cluster, folder, "--array=3,7")
    cluster.wait_for("some units", lambda: len(folder.committed()) >= 3)
    second = submit(cluster, folder, "--array=0-4")
    assert set((cluster.wait_done(first) | cluster.wait_done(second)).values()) == {"COMPLETED"}
    third = submit(cluster, folder, "--array=9")  # nothing is left: it ends at once and makes nothing
    assert set(cluster.wait_done(third).values()) == {"COMPLETED"}
    assert folder.is_done() and digests(folder) == alone(tmp_path, folder)
    assert len(events(folder, "unit")) == folder.spec.n_units
    assert {e["job_idx"] for e in events(folder, "start")} == {0, 1, 2, 3, 4, 7, 9}


def test_without_an_array_it_is_one_worker(cluster, tmp_path):
    folder = probe(tmp_path, slots=8)
    job = submit(cluster, folder)
    assert cluster.wait_done(job) == {job: "COMPLETED"}
    assert digests(folder) == alone(tmp_path, folder)


def test_the_repository_is_found_although_slurm_runs_a_copy_of_the_script(cluster, tmp_path):
    folder = probe(tmp_path, slots=8)
    job = submit(cluster, folder, PYTHONPATH="/nonexistent")
    assert cluster.wait_done(job) == {job: "COMPLETED"} and folder.is_done()


def test_a_python_that_is_not_there_is_an_error_that_names_the_variable(cluster, tmp_path):
    folder = probe(tmp_path, slots=8)
    job = submit(cluster, folder, SYNTHSET_PYTHON="/nonexistent/python")
    cluster.wait_done(job)
    assert cluster.exit_codes(job) == {job: 65}
    assert "SYNTHSET_PYTHON" in (folder.path / "logs" / f"slurm-{job}.out").read_text()


def test_the_workers_exit_code_is_the_jobs(cluster, tmp_path):
    broken = probe(tmp_path, slots=4, behaviour={"1": {"raise": "bug"}})
    foreign = probe(tmp_path, slots=4, behaviour={"x": {"raise": "bug"}})
    bug, bad = submit(cluster, broken), submit(cluster, foreign)
    nothing = cluster.sbatch("--output=/dev/null", SCRIPT, tmp_path, cwd=tmp_path)
    for job in (bug, bad, nothing):
        cluster.wait_done(job)
    assert cluster.exit_codes(bug) == {bug: 70} and cluster.exit_codes(bad) == {bad: 65} and cluster.exit_codes(nothing) == {nothing: 65}


@pytest.mark.parametrize("how", ["--signal=USR2", "--signal=TERM"])
def test_a_signal_reaches_the_worker_which_keeps_its_running_batch(cluster, tmp_path, how):
    assert cluster.exit_codes(kept_batches_of(cluster, tmp_path, how)).popitem()[1] == 75


def test_plain_scancel_reaches_it_too(tmp_path):
    """TERM, and KILL after KillWait."""
    with running(NODES=1, DBD=0, EXTRA="KillWait=60") as patient:
        kept_batches_of(patient, tmp_path)


def kept_batches_of(cluster, tmp_path, *how) -> str:
    """A job whose worker drains by scancel with these words."""
    folder = probe(tmp_path, slots=400, unit_size=400, sleep=1.0)
    job = submit(cluster, folder)
    cluster.wait_for("a finished batch", lambda: folder.progress() >= 2)
    cluster.run("scancel", *how, job)
    cluster.wait_done(job)
    (stop,) = events(folder, "stop")
    assert stop["code"] == 75 and "drained" in stop["why"]
    kept = folder.progress()
    assert kept >= 2 and kept < 400
    return job


def test_a_requeued_job_takes_its_old_lease_over_at_once_and_adopts_its_batches(cluster, tmp_path):
    """On another node, where the old process cannot be looked at, and long before its lease is dead by its beat."""
    folder = probe(tmp_path, slots=24, unit_size=24, sleep=0.5, behaviour={"8": {"hang": True, "on": "node1"}})
    job = submit(cluster, folder, "-w", "node1")
    cluster.wait_for("four batches", lambda: folder.progress() >= 8)
    cluster.run("scancel", "--signal=KILL", job)
    cluster.wait_done(job)
    cluster.run("scontrol", "requeuehold", job)
    cluster.run("scontrol", "update", f"job={job}", "ReqNodeList=node2")
    cluster.run("scontrol", "release", job)
    cluster.wait_state(job, "COMPLETED", 60)
    first, second = sorted(events(folder, "start"), key=lambda e: e["time"])
    assert first["slurm"] == f"dev/{job}" and second["slurm"] == f"dev/{job}@1"
    assert events(folder, "adopted")[0]["batches"] >= 4
    assert digests(folder) == alone(tmp_path, folder)


def test_a_lease_of_a_cancelled_job_on_another_node_is_free_at_once(cluster, tmp_path):
    folder = probe(tmp_path, slots=40, unit_size=20, sleep=0.3)
    dead = submit(cluster, folder, "-w", "node1", "--array=0", SYNTHSET_FAULT="after_batch:stop@3")  # stopped: cannot drain
    cluster.wait_for("three batches", lambda: folder.progress() == 6)
    live = submit(cluster, folder, "-w", "node2", "--array=1")
    cluster.wait_for("a helper", lambda: len(folder.committed()) == 1, 40)
    cluster.run("scancel", dead)
    cluster.wait_done(live, 60)  # without squeue it would wait for 180 s without a beat
    assert digests(folder) == alone(tmp_path, folder)


def test_the_worker_says_when_it_has_fewer_cores_than_were_asked_for(cluster, tmp_path):
    folder = probe(tmp_path, slots=4)
    job = submit(cluster, folder, "--cpus-per-task=8")  # fake cores: this machine has fewer, or enough
    cluster.wait_done(job)
    (start,) = events(folder, "start")
    assert bool(events(folder, "warning")) == (start["cores"] < 8)


def test_the_worker_drains_before_the_end_of_time_and_asks_squeue_for_it(cluster, short_job):
    """`short` allows 1 minute; Slurm itself would kill only at 60 to 90 s."""
    folder, job = short_job
    cluster.wait_done(job, 90)
    assert cluster.exit_codes(job) == {job: 75}
    (deadline,) = events(folder, "deadline")
    assert 10 <= deadline["left_s"] <= 20 and "end of the job's time" in events(folder, "stop")[0]["why"]
