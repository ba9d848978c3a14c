"""The batch scripts, against golden files: python -m tests.launch.slurm.test_script writes them anew."""

import difflib
import io
import os
import socket
import subprocess
import sys
import tarfile
from dataclasses import replace
from pathlib import Path

import pytest

from launch.plan.container import PYXIS_SETUP, Container, srun_words, wrapped
from launch.plan.mounts import Mount
from launch.slurm import frozen
from launch.slurm.frozen import archive
from launch.slurm.script import ArrayScript, GateScript, Header, array_text, gate_text
from synth.host.container import IMAGE
from synth.host.source import SOURCE
from tests.lint import clean_shell

GOLDEN = Path(__file__).parent / "golden"
HOSTILE = 'it\'s "a" $HOME `id` \\ % # ; & \n\ttwo'
HEADER = Header(
    "images-0123456789ab",
    "/runs/cars/images-0123456789ab/logs/%A_%a.log",
    {"array": "0-7%4", "time": "4:00:00", "gres": "gpu:1", "requeue": True, "account": None},
)
PLAIN = ArrayScript(
    header=HEADER,
    stage="/runs/cars/images-0123456789ab",
    upstream=("/runs/cars/captions-00",),
    command="cd /work && python launch/run.py cluster=slurm",
    worker=("/venv/bin/python", "-u", "-m", "synth.worker"),
    n_jobs=8,
    gpus=1,
    cpus=4,
    max_requeues=1000,
    env={"PYTHONPATH": "/repo"},
)
NODE = replace(PLAIN, workers=4, gpus=2, modules=("cuda/12", "gcc"), setup=("source /site/env.sh",), upstream=())
CORES = replace(PLAIN, gpus=0, max_requeues=0)
MOUNTS = [Mount("/runs/cars", "/runs/cars", True), Mount("/models", "/models")]
INSIDE = ("python3", "-u", "-m", "synth.worker")
SIF, SQSH = Container("/img.sif", "apptainer"), Container("/img.sqsh", "pyxis", args=("--container-writable",))
APPTAINER = replace(PLAIN, worker=wrapped(SIF, MOUNTS, INSIDE, True, ["MY_KEY"]), env={IMAGE: '{"image": "/img.sif"}'})
PYXIS = replace(PLAIN, worker=INSIDE, srun=srun_words(SQSH, MOUNTS), setup=("true", *PYXIS_SETUP), env={})
NASTY = replace(
    NODE,
    header=Header(HOSTILE.replace("\n", " "), "/a b/it's 100%%/%A_%a.log", {"comment": HOSTILE.replace("\n", " "), "array": "0-1"}),
    stage=f"/runs/{HOSTILE}",
    upstream=(f"/runs/{HOSTILE}", "/plain"),
    command=f"python launch/run.py '{HOSTILE}'",
    worker=("/my python's/bin/python", "-m", HOSTILE),
    env={"A": HOSTILE, "B": ""},
)
GATE = GateScript(
    replace(HEADER, flags={"time": "0:30:00"}),
    "/runs/cars/images-0123456789ab",
    ("/venv/bin/python", "python3"),
    ("-P", "-m", "launch.slurm.gate"),
    {"PYTHONPATH": "/repo"},
)
FROZEN = ("/runs/cars/images-0123456789ab/submissions/code-0123456789ab.tar.gz", "01" * 32)
TEXTS = {
    "array": lambda: array_text(PLAIN),
    "whole_node": lambda: array_text(NODE),
    "cores": lambda: array_text(CORES),
    "apptainer": lambda: array_text(APPTAINER),
    "apptainer_node": lambda: array_text(replace(APPTAINER, workers=2)),
    "pyxis": lambda: array_text(PYXIS),
    "pyxis_node": lambda: array_text(replace(PYXIS, workers=2)),
    "frozen": lambda: array_text(replace(PLAIN, frozen=FROZEN, commands="/opt/slurm/bin")),
    "hostile": lambda: array_text(NASTY),
    "gate": lambda: gate_text(GATE),
    "frozen_gate": lambda: gate_text(replace(GATE, frozen=FROZEN)),
    "hostile_gate": lambda: gate_text(replace(GATE, stage=HOSTILE, env={"A": HOSTILE}, setup=("true",))),
}


@pytest.mark.parametrize("name", TEXTS)
def test_the_text_is_the_golden_file(name):
    golden, text = GOLDEN.joinpath(f"{name}.sbatch").read_text(), TEXTS[name]()
    diff = "".join(difflib.unified_diff(golden.splitlines(True), text.splitlines(True), "golden", "now"))
    assert not diff, f"\n{diff}\nif this is wanted: python -m tests.launch.slurm.test_script"


@pytest.mark.parametrize("name", TEXTS)
def test_bash_and_shellcheck_have_nothing_to_say(name, tmp_path):
    script = tmp_path / "script.sbatch"
    script.write_text(TEXTS[name]())
    clean_shell(script)


def run(script: ArrayScript, tmp_path: Path, *args: str, srun: str = 'exec "${@:6}"', **env: str) -> subprocess.CompletedProcess:
    """Run the text with an srun that is a line of shell (its first five words are srun's own options)."""
    shim = tmp_path / "bin"
    shim.mkdir(exist_ok=True)
    for name, body in {
        "srun": srun,
        "squeue": "echo RUNNING",
        "scontrol": f'echo "$@" >>{tmp_path}/scontrol',
        "sleep": ":",
    }.items():
        (shim / name).write_text(f"#!/bin/bash\n{body}\n")
        (shim / name).chmod(0o755)
    path = tmp_path / "script.sbatch"
    path.write_text(array_text(script))
    clean = {"PATH": f"{shim}:{os.environ['PATH']}", "HOME": "/nowhere"}
    return subprocess.run(["bash", path, *args], env=clean | env, capture_output=True, text=True)


def stage(tmp_path: Path, name: str, done: bool) -> str:
    folder = tmp_path / name
    folder.mkdir()
    if done:
        (folder / "done.json").write_text("{}")
    return str(folder)


def test_hostile_values_reach_the_worker_as_they_are(tmp_path):
    own, up = stage(tmp_path, 'it\'s "x" $HOME', False), stage(tmp_path, "up `id`", True)
    script = replace(
        PLAIN,
        stage=own,
        upstream=(up,),
        env={"A": HOSTILE},
        worker=("python3", "-c", "import os, sys; print(repr([os.environ['A'], *sys.argv[1:]]))"),
    )
    done = run(script, tmp_path, "16", "24", SLURM_ARRAY_TASK_ID="3")
    assert repr([HOSTILE, own, "--job-idx", "19", "--n-jobs", "24"]) in done.stdout, done.stderr


def test_nothing_begins_on_an_upstream_that_is_not_whole_and_the_command_is_named(tmp_path):
    own, up = stage(tmp_path, "own", False), stage(tmp_path, "up", False)
    done = run(replace(PLAIN, stage=own, upstream=(up,), command=HOSTILE, setup=("touch began",)), tmp_path)
    assert done.returncode == 65 and up in done.stderr and HOSTILE in done.stderr and "began" not in os.listdir()


def test_a_stage_that_is_done_needs_no_worker(tmp_path):
    done = run(replace(PLAIN, stage=stage(tmp_path, "own", True), upstream=()), tmp_path, srun="exit 9")
    assert done.returncode == 0 and "done already" in done.stdout


@pytest.mark.parametrize(("code", "restarts", "requeued"), [(75, "0", True), (75, "1000", False), (0, "0", False), (70, "0", False)])
def test_a_drained_job_goes_back_into_the_queue_a_bounded_number_of_times(tmp_path, code, restarts, requeued):
    script = replace(PLAIN, stage=stage(tmp_path, "own", False), upstream=())
    env = {"SLURM_ARRAY_JOB_ID": "11", "SLURM_ARRAY_TASK_ID": "3", "SLURM_RESTART_COUNT": restarts}
    done = run(script, tmp_path, srun=f"exit {code}", **env)
    assert done.returncode == code
    log = tmp_path / "scontrol"
    assert (log.read_text() == "requeue 11_3\n") if requeued else not log.exists()


def test_a_node_that_two_workers_left_as_bad_is_left_to_the_gate(tmp_path):
    own = Path(stage(tmp_path, "own", False))
    (own / "events").mkdir()
    script, host = replace(PLAIN, stage=str(own), upstream=()), socket.gethostname().partition(".")[0]
    left = '{"event": "start"}\n{"event": "device", "why": "bad"}\n'
    for n, requeues in enumerate((1, 2, 2)):
        done = run(script, tmp_path, srun="exit 75", SLURM_ARRAY_JOB_ID="7", SLURM_ARRAY_TASK_ID="3")
        assert done.returncode == 75 and not done.stderr
        assert (tmp_path / "scontrol").read_text() == "requeue 7_3\n" * requeues
        (own / "events" / f"{host}-{n}-abc.jsonl").write_text(left)
        (own / "events" / f"another-{n}-abc.jsonl").write_text(left)


def test_a_frozen_job_runs_from_its_copy_and_leaves_nothing_of_it(tmp_path):
    """Whatever lies there now: a copy that is not what was submitted is not run, and sources that changed do not matter."""
    (tmp_path / "clone" / "synth").mkdir(parents=True)
    (tmp_path / "clone" / "launch").mkdir()
    (tmp_path / "clone" / "synth" / "__init__.py").write_text("says = 'as submitted'\n")
    copy = archive(tmp_path / "clone")
    frozen.write(tmp_path, copy)
    (tmp_path / "clone" / "synth" / "__init__.py").write_text("says = 'edited'\n")
    script = replace(
        PLAIN,
        stage=stage(tmp_path, "own", False),
        upstream=(),
        env={"PYTHONPATH": str(tmp_path / "clone")},
        worker=(sys.executable, "-P", "-c", "import os, synth; print(synth.says, os.listdir(os.path.dirname(synth.__file__) + '/..'))"),
        frozen=(str(tmp_path / copy.name), copy.sha256),
    )
    place = tmp_path / "tmp"
    place.mkdir()
    done = run(script, tmp_path, TMPDIR=str(place))
    assert "as submitted" in done.stdout and "packages.json" in done.stdout and "lock" in done.stdout, done.stdout + done.stderr
    assert done.returncode == 0 and not os.listdir(place)
    (tmp_path / copy.name).write_bytes(copy.data[:-1])
    done = run(script, tmp_path, TMPDIR=str(place))
    assert done.returncode == 65 and "not what was submitted" in done.stderr and "as submitted" not in done.stdout
    (tmp_path / copy.name).unlink()
    assert run(script, tmp_path, TMPDIR=str(place)).returncode == 65 and not os.listdir(place)


def test_a_copy_that_was_damaged_is_written_again_by_the_command_of_its_run(tmp_path):
    (tmp_path / "synth").mkdir()
    (tmp_path / "synth" / "__init__.py").touch()
    copy = archive(tmp_path)
    for there in (b"", copy.data[:-1], bytes(len(copy.data)), 2 * copy.data):
        (tmp_path / copy.name).write_bytes(there)
        frozen.write(tmp_path, copy)
        assert (tmp_path / copy.name).read_bytes() == copy.data
    before = (tmp_path / copy.name).stat().st_ino
    frozen.write(tmp_path, copy)  # whole: jobs may read it at this moment
    assert (tmp_path / copy.name).stat().st_ino == before


def test_a_copy_holds_all_files_that_modules_read_beside_themselves():
    """Those of the other folders are named by keys: plans have their whole paths."""
    by_key = ("synth/embedded/", "synth/captions/tables/", "synth/captions/datasets/", "synth/layout/words/", "synth/story/honeybee.txt")
    files = {str(p.relative_to(SOURCE)) for p in (SOURCE / "synth").rglob("*") if p.is_file() and "__pycache__" not in p.parts}
    beside = {name for name in files if not name.endswith(".py") and not name.startswith(by_key)}
    with tarfile.open(fileobj=io.BytesIO(archive().data)) as tar:
        assert beside and beside <= set(tar.getnames())


@pytest.mark.parametrize("names", ["0,1,2,3,4,5,6,7", "MIG-GPU-a/1/0,MIG-b,MIG-c,MIG-d,GPU-e,GPU-f,GPU-g,GPU-h"])
def test_workers_of_one_job_share_its_gpus(tmp_path, names):
    worker = ("bash", "-c", 'echo "$CUDA_VISIBLE_DEVICES $SYNTHSET_JOB_GPUS $*"', "w")
    script = replace(NODE, stage=stage(tmp_path, "own", False), worker=worker, setup=(), modules=())
    each = 'for SLURM_PROCID in 0 1 2 3; do export SLURM_PROCID; "${@:6}"; done'
    done = run(script, tmp_path, "0", "16", srun=each, SLURM_ARRAY_TASK_ID="1", CUDA_VISIBLE_DEVICES=names)
    lines = [line for line in done.stdout.splitlines() if "--job-idx" in line]
    assert [line.split()[0] for line in lines] == [",".join(names.split(",")[n : n + 2]) for n in (0, 2, 4, 6)], done.stdout + done.stderr
    assert {line.split()[1] for line in lines} == {names}
    assert [line.split("--job-idx ")[1] for line in lines] == [f"{i} --n-jobs 16" for i in (4, 5, 6, 7)]


def test_a_worker_takes_the_gpus_that_slurm_gave_to_its_task_alone_and_none_of_another(tmp_path):
    """--gpus-per-task or --gpu-bind: each task sees its own, counted from 0. Without as many on the node it is another's."""
    worker = ("bash", "-c", 'echo "gpus=$CUDA_VISIBLE_DEVICES asked=$SYNTHSET_GPUS $*"', "w")
    script = replace(NODE, workers=2, gpus=1, stage=stage(tmp_path, "own", False), worker=worker, setup=(), modules=())
    each = 'export SLURM_NTASKS=2; for SLURM_PROCID in 0 1; do export SLURM_PROCID; "${@:6}"; done'
    for on_node, seen in (("2", ["gpus=0", "gpus=0"]), ("1", ["gpus=0", "gpus="])):
        done = run(script, tmp_path, srun=each, CUDA_VISIBLE_DEVICES="0", SLURM_GPUS_ON_NODE=on_node)
        lines = [line.split() for line in done.stdout.splitlines() if "--job-idx" in line]
        assert [line[0] for line in lines] == seen and {line[1] for line in lines} == {"asked=1"}, done.stdout + done.stderr


if __name__ == "__main__":
    GOLDEN.mkdir(exist_ok=True)
    for key, make in TEXTS.items():
        (GOLDEN / f"{key}.sbatch").write_text(make())
