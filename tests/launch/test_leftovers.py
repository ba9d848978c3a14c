"""What a run leaves below TMPDIR: nothing when it ends, and nothing that the next one does not remove when it is killed."""

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from synth.host.scratch import HERE
from tests.launch.conftest import REPO, RUN
from tests.processes import below, wait_gone
from tests.stages import wait_for

FEW = ("dataset.classes=0..1", "captions.total=4", "captioner.max_gen_len=16", "until=captions", "cluster.n_jobs=1")
OFFERED = ("torchinductor_",)  # torch's own cache, one for each user, made by its import


def command(place: Path, *words: str) -> subprocess.Popen:
    env = os.environ | {"PYTHONPATH": str(REPO), "TMPDIR": str(place / "t"), "CUDA_VISIBLE_DEVICES": ""}
    (place / "t").mkdir(exist_ok=True)
    with open(place / "log", "ab") as log:
        return subprocess.Popen([sys.executable, str(RUN), f"runs_dir={place}/runs", *FEW, *words], env=env, stdout=log, stderr=log)


def left(place: Path) -> list[str]:
    return sorted(p.name for p in (place / "t").iterdir() if not p.name.startswith(OFFERED))


def ranks(launcher: int) -> list[int]:
    return below(launcher, "synth.captions.llama.ranks")


@pytest.fixture
def place():
    """Short: unix sockets lie below it."""
    path = Path(tempfile.mkdtemp(prefix="left-", dir="/tmp"))
    yield path
    shutil.rmtree(path)


def test_a_run_that_is_killed_leaves_nothing_that_stays_and_one_that_ends_nothing(place):
    killed = command(place)
    found = wait_for(lambda: ranks(killed.pid))
    killed.kill()  # its worker drains: the ranks are killed with it
    for pid in (killed.pid, *found):
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    killed.wait()
    wait_gone(found)
    wait_for(lambda: all(name.startswith(HERE) for name in left(place)))
    assert command(place).wait(240) == 0, (place / "log").read_text()[-2000:]
    wait_for(lambda: not left(place))


def test_a_launcher_that_is_killed_while_it_plans_leaves_nothing_that_stays(place):
    code = (
        "import os, signal, sys; sys.argv = ['run.py']\n"
        "from launch.run import Session\n"
        "s = Session(); s._multirun = True\n"
        "with s.scratch(): os.kill(os.getpid(), signal.SIGKILL)"
    )
    (place / "t").mkdir()
    env = os.environ | {"PYTHONPATH": str(REPO), "TMPDIR": str(place / "t")}
    subprocess.run([sys.executable, "-c", code], env=env, check=False)
    assert len(left(place)) == 1
    sweeps = "from synth.host.scratch import Scratch; Scratch().remove()"
    subprocess.run([sys.executable, "-c", sweeps], env=env, check=True)
    assert left(place) == []
