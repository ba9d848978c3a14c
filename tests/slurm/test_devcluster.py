"""The devcluster itself: jobs, fake GPUs, and the ways in which a node is lost."""

import os
import signal

import pytest

from tests.lint import clean_shell
from tests.slurm.devcluster import SCRIPT, NoCluster, running, start


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
    with running(NODES=2, DBD=0) as cluster:
        job = cluster.sbatch("-w", "node1", "--time=20", "--output=/dev/null", "--wrap", "exec sleep 600")
        other = cluster.sbatch("-w", "node2", "--time=20", "--output=/dev/null", "--wrap", "exec sleep 601")
        cluster.wait_state(job, "RUNNING")
        cluster.wait_state(other, "RUNNING")
        sleeper = lambda seconds: [p for p in cluster.processes() if _cmdline(p) == f"sleep {seconds}"]  # noqa: E731
        cluster.wait_for("both jobs to sleep", lambda: sleeper(600) and sleeper(601))

        cluster.control("crash", "node1")
        assert not sleeper(600) and sleeper(601)
        cluster.control("kill-slurmd", "node2")
        assert sleeper(601)
        assert not any(_cmdline(p).startswith("slurmd ") for p in cluster.processes())

        cluster.control("start-node", "node1")
        cluster.control("start-node", "node2")
        assert sleeper(601)  # slurmd came back in time: its job was kept
        cluster.control("restart-ctld")
        cluster.wait_for("the kept job", lambda: cluster.states(other) == {other: "RUNNING"})


def test_plain_nodes_without_namespaces(tmp_path):
    with running(NODES=1, DBD=0, NS=0) as cluster:
        job = cluster.sbatch("--time=20", "--output=/dev/null", "--wrap", "exec sleep 602")
        cluster.wait_state(job, "RUNNING")
        cluster.control("crash", "node1")
        assert not any(_cmdline(p) == "sleep 602" for p in cluster.processes())


def test_down_leaves_no_process_and_clean_no_file():
    try:
        cluster, stop = start(NODES=2, DBD=0)
    except NoCluster as e:
        if os.environ.get("CI"):
            raise
        pytest.skip(str(e))
    job = cluster.sbatch("--time=20", "--output=/dev/null", "--wrap", "sleep 603 & sleep 603")
    cluster.wait_state(job, "RUNNING")
    assert len(cluster.processes()) >= 5
    cluster.control("down")
    left = cluster.processes()
    for pid in left:
        os.kill(pid, signal.SIGKILL)
    stop()
    assert not left and not cluster.path.exists()


def _cmdline(pid: int) -> str:
    try:
        with open(f"/proc/{pid}/cmdline", "rb") as f:
            return f.read().replace(b"\0", b" ").decode(errors="replace").strip()
    except OSError:
        return ""
