"""run.py cluster=slurm as a user calls it, on the devcluster, and what is compared with cluster=local."""

import hashlib
import shlex
import subprocess
import sys
from pathlib import Path

from launch.slurm.submissions import read
from synth.store.folder import StageFolder
from tests.slurm.devcluster import REPO, Cluster

RUN = REPO / "launch" / "run.py"
QUICK = {"SYNTHSET_BEAT_S": "1", "SYNTHSET_DEAD_AFTER_S": "8"}  # dead workers are noticed sooner
SMALL = ("cluster.cpus_per_job=1", "cluster.time='20:00'", "cluster.stages.gate.time='10:00'")


def blind_python(folder: Path) -> Path:
    """A Python whose workers do not see the devcluster's GPUs, which are links to /dev/null. `seen_by` it: what it was given."""
    program = folder / "blind_python"
    note = shlex.quote(str(folder / "given.txt"))
    program.write_text(
        f'#!/bin/bash\necho "${{CUDA_VISIBLE_DEVICES-}} $*" >>{note}\nCUDA_VISIBLE_DEVICES= SYNTHSET_GPUS= exec {sys.executable} "$@"\n'
    )
    program.chmod(0o755)
    return program


def seen_by(program: Path) -> list[tuple[str, str]]:
    """(CUDA_VISIBLE_DEVICES, arguments) of each start of a `blind_python`."""
    lines = (program.parent / "given.txt").read_text().splitlines()
    return [(gpus, words) for gpus, _, words in (line.partition(" ") for line in lines)]


def launch(cluster: Cluster, runs: Path, *args: str, code: int = 0, **env: str) -> str:
    """stdout and stderr of python launch/run.py cluster=slurm ...; asserts the exit code."""
    command = [sys.executable, str(RUN), "cluster=slurm", f"runs_dir={runs}", *SMALL, *args]
    done = subprocess.run(command, env=cluster.env | QUICK | env, capture_output=True, text=True, timeout=400, cwd=runs.parent)
    assert done.returncode == code, done.stdout + done.stderr
    return done.stdout + done.stderr


def local(cluster: Cluster, runs: Path, *args: str, n_jobs: int = 2) -> None:
    """The same on this machine."""
    command = [sys.executable, str(RUN), *args, "cluster=local", f"cluster.n_jobs={n_jobs}", f"runs_dir={runs}"]
    done = subprocess.run(
        command, env=cluster.env | {"CUDA_VISIBLE_DEVICES": ""}, capture_output=True, text=True, timeout=600, cwd=runs.parent
    )
    assert done.returncode == 0, done.stdout + done.stderr


def stages(runs: Path) -> list[StageFolder]:
    return [StageFolder.open(p.parent) for p in sorted(runs.glob("*/*/stage.json"))]


def stage(runs: Path, name: str) -> StageFolder:
    return next(s for s in stages(runs) if s.spec.name == name)


def whole(runs: Path) -> bool:
    found = stages(runs)
    return bool(found) and all(s.is_done() for s in found)


def units(runs: Path) -> dict[str, str]:
    """stage/unit -> sha256, of every unit below a runs folder."""
    return {str(p.relative_to(runs)): hashlib.sha256(p.read_bytes()).hexdigest() for p in sorted(runs.glob("*/*/units/*/*"))}


def jobs(folder: StageFolder) -> list[str]:
    """Ids of the arrays and gates of a stage, oldest first."""
    return [job for s in read(folder.path) for job in s.job_ids]


def wait_whole(cluster: Cluster, runs: Path, seconds: float = 90) -> None:
    cluster.wait_for("all stages to be whole", lambda: whole(runs), seconds)


def settle(cluster: Cluster, seconds: float = 60) -> None:
    """Wait until the queue is empty."""

    def empty() -> bool:
        done = cluster.run("squeue", "-h", "-a", check=False)
        return not done.returncode and not done.stdout.strip()

    cluster.wait_for("the queue to empty", empty, seconds)
