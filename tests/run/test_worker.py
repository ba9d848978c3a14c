"""The worker's command line: which job it is, exit codes, its parent, and that nothing of it stays behind."""

import ctypes
import os
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from synth import worker
from synth.errors import EXIT_AGAIN, InputError
from synth.host import children, scratch
from synth.keys import dump
from synth.numerics import EXACT
from synth.run.loop import Worker
from synth.store.folder import StageFolder
from synth.store.spec import StageSpec
from tests.configs import ProbeConfig
from tests.faults.farm import check, finish, left_over, plan, reference
from tests.stages import events, probe, wait_for

ROOT = Path(worker.__file__).parent.parent


def call(*args, **env) -> subprocess.CompletedProcess:
    """The worker's command line, as a scheduler runs it."""
    return subprocess.run(
        [sys.executable, "-m", "synth.worker", *map(str, args)],
        cwd=ROOT,
        env=os.environ | env,
        capture_output=True,
        text=True,
        timeout=240,
    )


# -- the command line ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("args", "env", "want"),
    [
        ((None, None), {}, (0, 1)),
        ((3, 8), {"JOB_IDX": "1", "N_JOBS": "2"}, (3, 8)),
        ((None, None), {"JOB_IDX": "1", "N_JOBS": "2"}, (1, 2)),
        ((None, None), {"JOB_IDX": "1", "SLURM_ARRAY_TASK_ID": "5", "N_JOBS": "9"}, (1, 9)),
        ((None, None), {"SLURM_ARRAY_TASK_ID": "5", "SLURM_ARRAY_TASK_COUNT": "8"}, (5, 8)),
        ((None, None), {"SLURM_ARRAY_TASK_ID": "5", "JOB_OFFSET": "1000", "N_JOBS": "2000"}, (1005, 2000)),
        (
            (None, None),
            {"SLURM_ARRAY_TASK_ID": "7", "SLURM_ARRAY_TASK_COUNT": "2"},
            (7, 8),
        ),  # --array=3,7: a wrong total is no error
        ((0, None), {"JOB_IDX": "5"}, (0, 1)),
        ((None, 4), {"JOB_IDX": "2"}, (2, 4)),
    ],
)
def test_which_job_this_is(args, env, want):
    assert worker.job_of(*args, env) == want


@pytest.mark.parametrize(
    ("args", "env"),
    [
        ((-1, 4), {}),
        ((0, 0), {}),
        ((None, None), {"JOB_IDX": ""}),
        ((None, None), {"N_JOBS": "x"}),
        ((None, None), {"SLURM_ARRAY_TASK_ID": "1-3"}),
    ],
)
def test_a_job_number_that_is_none_is_named(args, env):
    with pytest.raises(InputError, match=r"job_idx|JOB_IDX"):
        worker.job_of(*args, env)


def test_the_command_does_a_stage_and_says_0(tmp_path):
    folder = plan(tmp_path / "a")
    done = call(folder.path, "--job-idx", 1, "--n-jobs", 3)
    assert done.returncode == 0, done.stderr
    check(folder, reference(tmp_path, folder))


@pytest.mark.parametrize("case", ["no stage", "torn", "unknown kind", "config of another version", "bad job", "bad times"])
def test_bad_input_is_65_and_one_line_names_it(tmp_path, case):
    folder, args, env = plan(tmp_path), [], {}
    if case == "no stage":
        folder.path = tmp_path
    if case == "torn":
        (folder.path / "stage.json").write_bytes(b"{")
    if case == "unknown kind":
        folder = StageFolder.create(tmp_path, StageSpec("nonesuch", "x", {}, 1, 1, 1, EXACT))
    if case == "config of another version":
        folder = StageFolder.create(tmp_path, StageSpec("probe", "x", {"sise": 1}, 1, 1, 1, EXACT))
    if case == "bad job":
        args = ["--job-idx", -1]
    if case == "bad times":
        env = {"SYNTHSET_BEAT_S": "soon"}
    done = call(folder.path, *args, **env)
    assert done.returncode == 65
    assert "Traceback" not in done.stderr
    assert "stop code=65" in done.stderr or done.stderr.startswith("error: ")


def test_a_bug_before_the_first_unit_is_70_not_pythons_1(tmp_path):
    folder = StageFolder.create(tmp_path, StageSpec("probe", "x", dump(ProbeConfig()), 1, 1, 1, {}))  # numerics without threads
    done = call(folder.path)
    assert done.returncode == 70 and "Traceback" in done.stderr


def test_trouble_before_the_first_unit_is_75_in_one_line(tmp_path, monkeypatch, capfd):
    def stale(path):
        raise OSError(116, "Stale file handle")

    monkeypatch.setattr(worker.StageFolder, "open", stale)
    assert worker.main([str(tmp_path)]) == 75
    assert capfd.readouterr().err == "error: [Errno 116] Stale file handle\n"


def test_a_worker_removes_the_folders_of_those_that_were_killed_here(tmp_path, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    left = tmp_path / f"{scratch.HERE}0"
    left.mkdir()
    (left / scratch.LOCK).touch()
    assert worker.main([str(plan(tmp_path / "a").path)]) == 0 and not left.exists()


def test_a_closed_stderr_is_no_reason_to_stop_working(tmp_path):
    folder = plan(tmp_path / "a", sleep=0.01)
    with subprocess.Popen([sys.executable, "-m", "synth.worker", folder.path], cwd=ROOT, stderr=subprocess.PIPE) as process:
        process.stderr.readline()
        process.stderr.close()
        assert process.wait(240) == 0
    check(folder, reference(tmp_path, folder))


def test_a_worker_dies_with_its_parent(tmp_path):
    folder = plan(tmp_path, slots=1000, unit=10, sleep=0.05)
    code = "import subprocess, sys; subprocess.Popen(sys.argv[1:]).wait()"
    parent = subprocess.Popen(
        [sys.executable, "-c", code, sys.executable, "-m", "synth.worker", folder.path, "--die-with-parent"],
        cwd=ROOT,
        stderr=subprocess.DEVNULL,
    )
    wait_for(lambda: events(folder, "open"))
    parent.kill()
    parent.wait()
    wait_for(lambda: events(folder, "stop"))
    assert [e["code"] for e in events(folder, "stop")] == [75]
    wait_for(lambda: left_over(folder) == [])


def test_a_worker_whose_parent_is_already_gone_does_not_begin(tmp_path):
    folder = plan(tmp_path)
    done = call(folder.path, "--die-with-parent", SYNTHSET_PARENT_PID="999999999")
    assert done.returncode == 75 and folder.committed() == set()


# -- what stays behind ---------------------------------------------------------------------------------------------------


def test_tombstones_fill_their_slots_and_nothing_shifts(tmp_path):
    folder = plan(tmp_path, slots=30, behaviour={"0": {"tombstone": "a"}, "12": {"tombstone": "b"}, "29": {"tombstone": "ü"}})
    finish(folder)
    assert [s.slot for s in folder.samples()] == [s for s in range(30) if s not in (0, 12, 29)]
    assert folder.done()["tombstones"] == 3
    with folder.reader(2) as reader:
        assert reader.index.tombstones == {29: "ü"}


def test_a_worker_leaves_no_open_file_and_no_thread(tmp_path):
    import threading

    def fds():
        return {os.readlink(p) for p in Path("/proc/self/fd").iterdir() if os.path.lexists(p)}

    for behaviour in ({}, {"13": {"raise": "bug"}}, {"13": {"raise": "input"}}, {"13": {"raise": "broken"}}):
        folder = plan(tmp_path, slots=200, behaviour=behaviour)
        before, threads = fds(), set(threading.enumerate())
        Worker(folder, 0, 1).run()
        assert not [f for f in fds() - before if str(tmp_path) in f]
        assert not set(threading.enumerate()) - threads  # one of an earlier test may end meanwhile


def test_a_worker_puts_signal_handlers_back(tmp_path):
    before = signal.getsignal(signal.SIGTERM)
    assert Worker(plan(tmp_path), 0, 1).run() == 0
    assert signal.getsignal(signal.SIGTERM) == before


def test_prctl_numbers_are_those_of_this_kernel():
    assert ctypes.CDLL(None).prctl(children.PR_SET_PDEATHSIG, 0) == 0


def test_a_worker_that_is_given_less_gpus_than_were_asked_for_leaves_its_node_and_computes_nothing(tmp_path, monkeypatch):
    monkeypatch.setenv("SYNTHSET_GPUS", "1")
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    monkeypatch.setenv("SLURMD_NODENAME", "node7")
    folder = probe(tmp_path)
    assert Worker(folder, 0, 1).run() == EXIT_AGAIN and folder.progress() == 0
    device = events(folder, "device")
    assert device[0]["node"] == "node7" and "1 GPU was asked for this worker, and it is given 0" in device[0]["why"]
