"""The devcluster itself: jobs, fake GPUs, and the ways in which a node is lost."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.lint import clean_shell
from tests.slurm.devcluster import REPO, SCRIPT, Cluster, NoCluster, running, start, sweeping


def test_the_scripts_are_clean():
    clean_shell(SCRIPT)  # it sources the others


def test_a_job_runs_on_a_node_of_its_own_name(cluster):
    assert cluster.run("srun", "-N2", "--time=1", "hostname").stdout.split()
    if os.getuid() == 0:
        names = cluster.run("srun", "-N2", "--time=1", "bash", "-c", 'test "$(hostname)" = "$SLURMD_NODENAME" && hostname').stdout
        assert len(set(names.split())) == 2


def test_every_node_shows_four_gpus_and_array_tasks_get_distinct_ones(cluster, tmp_path):
    seen = cluster.run("srun", "-N3", "--gpus-per-node=4", "--time=1", "bash", "-c", "echo $CUDA_VISIBLE_DEVICES").stdout
    assert seen.split() == ["0,1,2,3"] * 3
    script = 'echo "$SLURMD_NODENAME/$CUDA_VISIBLE_DEVICES" >"$SLURM_ARRAY_TASK_ID.txt"; until [ -e go ]; do sleep 0.1; done'
    job = cluster.sbatch("--array=0-11", "--gpus-per-node=1", "--time=2", "--output=/dev/null", "--wrap", script, cwd=tmp_path)
    cluster.wait_for("12 tasks to run at once", lambda: len([p for p in tmp_path.glob("*.txt") if p.read_text()]) == 12)
    (tmp_path / "go").touch()
    cluster.wait_done(job)
    devices = {p.read_text().strip() for p in tmp_path.glob("*.txt")}
    assert devices == {f"node{n}/{gpu}" for n in (1, 2, 3) for gpu in range(4)}


def test_the_exit_code_of_a_job_is_kept(cluster):
    job = cluster.sbatch("--time=1", "--output=/dev/null", "--wrap", "exit 65")
    assert cluster.wait_done(job) == {job: "FAILED"}
    assert cluster.exit_codes(job) == {job: 65}


def test_a_job_that_preempts_cancels_in_one_partition_and_requeues_in_another(cluster):
    for partition, state in (("cancel", "PREEMPTED"), ("preempt", "PENDING")):
        low = cluster.sbatch("-p", partition, "-w", "node3", "--exclusive", "--time=20", "--output=/dev/null", "--wrap", "exec sleep 600")
        cluster.wait_state(low, "RUNNING")
        high = cluster.sbatch("-p", "main", "-w", "node3", "--exclusive", "--time=20", "--output=/dev/null", "--wrap", "sleep 600")
        cluster.wait_state(high, "RUNNING", 60)
        cluster.wait_state(low, state)
        cluster.run("scancel", high, low)
        cluster.wait_done(f"{high},{low}")


def test_nodes_are_lost_and_come_back_and_the_controller_restarts():
    """A cluster of its own, since lost nodes would disturb other tests."""
    with running(NODES=2, DBD=0, EXTRA="SlurmdTimeout=300") as cluster:  # nothing here waits for it
        job = cluster.sbatch("-w", "node1", "--time=20", "--output=/dev/null", "--wrap", "exec sleep 600")
        other = cluster.sbatch("-w", "node2", "--time=20", "--output=/dev/null", "--wrap", "exec sleep 601")
        cluster.wait_state(job, "RUNNING")
        cluster.wait_state(other, "RUNNING")
        sleeper = lambda seconds: [p for p in cluster.processes() if _cmdline(p) == f"sleep {seconds}"]  # noqa: E731
        cluster.wait_for("both jobs to sleep", lambda: sleeper(600) and sleeper(601))

        cluster.control("crash", "node1")
        cluster.wait_for("the processes of node1 to be gone", lambda: not sleeper(600))
        assert sleeper(601)
        cluster.control("kill-slurmd", "node2")
        assert sleeper(601)
        cluster.wait_for("slurmd to be gone", lambda: not any(_cmdline(p).startswith("slurmd ") for p in cluster.processes()))

        cluster.control("start-node", "node1")
        cluster.control("start-node", "node2")
        assert sleeper(601)  # slurmd came back in time: its job was kept
        cluster.control("restart-ctld")
        cluster.wait_for("the kept job", lambda: cluster.states(other) == {other: "RUNNING"})


def test_plain_nodes_without_namespaces(tmp_path):
    with running(NODES=1, DBD=0, NS=0) as cluster:
        job = cluster.sbatch("--time=20", "--output=/dev/null", "--wrap", "exec sleep 602")
        cluster.wait_state(job, "RUNNING")
        sleeps = lambda: any(_cmdline(p) == "sleep 602" for p in cluster.processes())  # noqa: E731
        cluster.wait_for("the job to sleep", sleeps)
        cluster.control("crash", "node1")
        cluster.wait_for("the job to be gone", lambda: not sleeps())


def test_down_leaves_no_process_and_clean_no_file():
    try:
        cluster, stop = start(NODES=2, DBD=0)
    except NoCluster as e:
        if os.environ.get("CI"):
            raise
        pytest.skip(str(e))
    job = cluster.sbatch("--time=20", "--output=/dev/null", "--wrap", "sleep 603 & sleep 603")
    cluster.wait_state(job, "RUNNING")
    cluster.wait_for("the processes of its job", lambda: len(cluster.processes()) >= 5)
    cluster.control("down")
    left = cluster.processes()
    for pid in left:
        os.kill(pid, signal.SIGKILL)
    stop()
    assert not left and not cluster.path.exists()


TEST_RUN = """
import sys, time
from tests.slurm.devcluster import start
cluster, stop = start(NODES=2, DBD={accounting}, NS={ns})
job = cluster.sbatch("--time=20", "--output=/dev/null", "--wrap", "setsid sleep 604 & sleep 604")
cluster.wait_state(job, "RUNNING")
print(cluster.path, flush=True)
time.sleep(600)
"""


def killed_run(accounting: int = 0, ns: int | str = "auto", keeper: bool = False) -> Cluster:
    """The cluster of a test run that was killed; keeper: what should have taken it down was killed, too."""
    code = TEST_RUN.format(accounting=accounting, ns=repr(ns))
    run = subprocess.Popen([sys.executable, "-c", code], cwd=REPO, stdout=subprocess.PIPE, text=True)
    cluster = Cluster(Path(run.stdout.readline().strip()), 0)
    cluster.wait_for("the processes of its job", lambda: len(cluster.processes()) >= 6)  # Slurm says RUNNING before they are there
    with sweeping():  # no other test run takes it down meanwhile
        if keeper:
            os.kill(int((cluster.path / "run" / "keeper.pid").read_text().split()[0]), signal.SIGKILL)
        run.kill()
        run.wait()
        run.stdout.close()
        assert not keeper or len(cluster.processes()) >= 5
    return cluster


def gone(cluster: Cluster, seconds: float = 80) -> bool:
    end = time.monotonic() + seconds
    while (cluster.processes() or cluster.path.exists()) and time.monotonic() < end:
        time.sleep(0.1)
    return not cluster.processes() and not cluster.path.exists()


@pytest.mark.parametrize(("accounting", "ns"), [(1, "auto"), (0, 0)])
def test_a_cluster_goes_with_the_test_run_that_was_killed(cluster, accounting, ns):
    assert gone(killed_run(accounting, ns))


def test_a_cluster_goes_with_the_controller_of_test_processes_that_was_killed(cluster, tmp_path):
    held = tmp_path / "held"
    words = ["-m", "pytest", "-q", "-n1", "-p", "no:cacheprovider", f"--basetemp={tmp_path / 'base'}", "tests/slurm/held.py"]
    run = subprocess.Popen([sys.executable, *words], cwd=REPO, stdout=subprocess.DEVNULL, env=os.environ | {"HELD": str(held)})
    cluster.wait_for("the cluster of the run", lambda: held.exists() and held.read_text(), 60)
    run.kill()
    run.wait()
    assert gone(Cluster(Path(held.read_text()), 0))


def test_what_a_killed_run_and_its_keeper_left_is_removed_by_the_next_one(cluster):
    left = killed_run(keeper=True)
    with running(NODES=1, DBD=0) as other:
        assert gone(left, 0)
        assert other.run("srun", "--time=1", "true").returncode == 0


def test_a_cluster_started_by_hand_outlives_the_command_that_started_it(cluster, tmp_path):
    with running(NODES=1, DBD=0, PARENT="") as by_hand:
        assert by_hand.run("srun", "--time=1", "true").returncode == 0
        assert not (by_hand.path / "run" / "keeper.pid").exists()


def _cmdline(pid: int) -> str:
    try:
        with open(f"/proc/{pid}/cmdline", "rb") as f:
            return f.read().replace(b"\0", b" ").decode(errors="replace").strip()
    except OSError:
        return ""
