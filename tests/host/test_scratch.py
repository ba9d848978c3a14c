import os
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from launch.slurm.stored import handed
from synth.host.scratch import HERE, LOCK, Scratch, sweep

HOLDS = "import time; from synth.host.scratch import Scratch; s = Scratch(); print(s.path, flush=True); time.sleep(60)"


@pytest.fixture(autouse=True)
def _place(tmp_path_factory, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", tempfile.mkdtemp(dir="/tmp"))


def test_a_folder_is_ours_alone_and_goes():
    made = Scratch()
    assert made.path.stat().st_mode & 0o777 == 0o700
    made.remove()
    assert not made.path.exists()


def test_a_script_in_sbatch_s_hands_lies_in_one():
    with handed("#!/bin/sh\n") as script:
        assert script.parent.name.startswith(HERE) and (script.parent / LOCK).exists()  # so it goes, were its maker killed
        assert script.parent.stat().st_mode & 0o777 == 0o700 and script.read_text() == "#!/bin/sh\n"
    assert not script.parent.exists()


def test_the_next_one_removes_what_a_killed_process_left_and_not_what_the_living_hold():
    top = tempfile.gettempdir()
    held = [
        subprocess.Popen([sys.executable, "-c", HOLDS], stdout=subprocess.PIPE, text=True, env=os.environ | {"TMPDIR": top})
        for _ in range(2)
    ]
    dead, living = (Path(p.stdout.readline().strip()) for p in held)
    held[0].send_signal(signal.SIGKILL)
    held[0].wait()
    assert dead.exists()
    made = Scratch()
    assert not dead.exists() and living.exists()
    made.remove()
    held[1].kill()
    held[1].wait()


def test_what_is_not_such_a_folder_of_ours_stays(tmp_path):
    top = Path(tempfile.gettempdir())
    (top / f"{HERE}compiled-0").mkdir()
    (top / f"{HERE}file").write_text("x")
    (tmp_path / "far").mkdir()
    (tmp_path / "far" / LOCK).write_text("")
    (top / f"{HERE}link").symlink_to(tmp_path / "far")
    sweep(top)
    assert sorted(p.name for p in top.glob(f"{HERE}*")) == [f"{HERE}compiled-0", f"{HERE}file", f"{HERE}link"]
    assert (tmp_path / "far" / LOCK).exists()


def test_a_place_that_is_too_long_for_a_socket_is_not_taken(monkeypatch):
    long = Path(tempfile.gettempdir(), "x" * 90)
    long.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(long))
    made = Scratch()
    assert made.path.parent == Path("/tmp")
    made.remove()


def test_where_files_cannot_be_locked_a_folder_is_made_and_never_swept(monkeypatch):
    def none(*args):
        raise OSError(38, "Function not implemented")

    monkeypatch.setattr("synth.host.scratch.fcntl.flock", none)
    made = Scratch()
    Scratch().remove()
    assert made.path.exists()
    made.remove()
    assert not made.path.exists()


def test_what_another_machine_made_stays(monkeypatch):
    monkeypatch.setattr("synth.host.scratch.HERE", "synthset-other-")
    other = Scratch()
    os.close(other._held)  # its process is gone
    monkeypatch.undo()
    sweep(other.path.parent)
    assert other.path.exists()
