"""cluster.container on this machine, by an Apptainer that is a shell script: workers drain, die with their launcher, leave bad devices."""

import io
import os
import shlex
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from rich.console import Console

from launch.local import supervisor
from launch.local.contained import Contained
from launch.local.sequence import Stop
from launch.local.supervisor import Devices, Slot, Supervisor
from launch.plan.container import Container
from launch.show.progress import Bars
from synth.host import contained
from synth.host.children import is_alive
from synth.store.events import read_events
from synth.store.folder import StageFolder
from tests.launch.local.test_bad_devices import sick
from tests.launch.local.test_local import until
from tests.launch.plan.test_container import SIF, program
from tests.slurm.test_containers import APPTAINER
from tests.stages import events, probe

ROOT = Path(__file__).resolve().parents[3]
SLOW = ["probe.slots=60", "probe.unit_size=4", "probe.batch_size=1", "probe.sleep=0.3", "cluster.n_jobs=1"]


@pytest.fixture
def image(tmp_path, monkeypatch) -> Path:
    """A .sif, and an apptainer in PATH that starts this Python with a clean environment."""
    fake = APPTAINER.format(log=tmp_path / "apptainer.log", code=shlex.quote(str(ROOT)), python=shlex.quote(sys.executable))
    program(tmp_path / "bin", "apptainer", fake)
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}:{os.environ['PATH']}")
    path = tmp_path / "a.sif"
    path.write_bytes(SIF)
    return path


def start(tmp_path: Path, image: Path, *words: str, command: str = "run") -> subprocess.Popen:
    line = [sys.executable, str(ROOT / "launch" / f"{command}.py"), "recipe=probe", f"runs_dir={tmp_path / 'runs'}", *words]
    line += [f"cluster.container={image}"]
    env = os.environ | {"CUDA_VISIBLE_DEVICES": ""}
    return subprocess.Popen(line, env=env, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, cwd=tmp_path)


def begun(tmp_path: Path) -> StageFolder:
    def there():
        found = list(tmp_path.glob("runs/probe/probe-*/stage.json"))
        folder = StageFolder.open(found[0].parent) if found else None
        return folder if folder and folder.progress() > 2 else None

    return until(there)


def worker_of(folder: StageFolder) -> int:
    return next(e["pid"] for e in read_events(folder.path) if e["event"] == "start")


def test_a_run_in_a_container_makes_what_a_run_on_the_host_makes_and_dry_run_says_where(tmp_path, image):
    small = ["probe.slots=8", "probe.unit_size=4", "cluster.n_jobs=1"]
    dry = start(tmp_path, image, *small, "dry_run=true").communicate(timeout=240)[0]
    assert f"workers run in {image} (apptainer, sha256:" in dry and "torch" in dry
    process = start(tmp_path, image, *small)
    assert process.communicate(timeout=240)[0] and process.returncode == 0
    folder = StageFolder.open(next(tmp_path.glob("runs/probe/probe-*")))
    (told,) = [e for e in read_events(folder.path) if e["event"] == "image"]
    assert told["image"] == str(image) and told["inside"]["versions"]["python"] and not list(events(folder, "warning"))


@pytest.mark.parametrize("command", ["run", "node"])
def test_ctrl_c_drains_the_worker_inside(tmp_path, image, command):
    process = start(tmp_path, image, *SLOW, command=command)
    folder = begun(tmp_path)
    worker = worker_of(folder)
    process.send_signal(signal.SIGINT)
    said = process.communicate(timeout=240)[0]
    assert process.returncode == 75 and "drained" in said, said
    assert not is_alive(worker) and not folder.is_done()
    assert {e["code"] for e in read_events(folder.path) if e["event"] == "stop"} == {75}


def test_the_worker_inside_drains_when_its_launcher_is_killed(tmp_path, image):
    process = start(tmp_path, image, *SLOW)
    folder = begun(tmp_path)
    worker = worker_of(folder)
    process.kill()
    process.communicate()
    until(lambda: not is_alive(worker))
    assert [e["why"].partition(";")[0] for e in read_events(folder.path) if e["event"] == "stop"] == ["drained on SIGTERM"]


def test_a_worker_drains_when_its_standard_input_ends(tmp_path):
    """However its launcher ended: all that a container of a daemon sees of it is this pipe."""
    folder = probe(tmp_path, slots=60, sleep=0.3)
    command = [sys.executable, "-P", "-m", "synth.worker", str(folder.path), "--die-with-input"]
    worker = subprocess.Popen(command, stdin=subprocess.PIPE, stderr=subprocess.DEVNULL, env=os.environ | {"PYTHONPATH": str(ROOT)})
    until(lambda: folder.progress() > 0)
    worker.stdin.close()
    assert worker.wait(240) == 75 and not folder.is_done()


def test_a_bad_device_is_known_though_the_worker_is_another_process(tmp_path, image, monkeypatch):
    monkeypatch.setattr(supervisor, "BACK_OFF", 0.01)
    folder, said, devices = probe(tmp_path / "a", slots=4, behaviour=sick(4, "device")), [], Devices()
    inside = Contained(Container(str(image), "apptainer", facts={"digest": "sha256:0"}))
    with Bars(Console(file=io.StringIO())) as bars:
        bars.begin("probe", folder.spec.slots, 0, "")
        codes = Supervisor(folder, [Slot(0, ("1",))], 1, Stop(), said.append, devices=devices, contained=inside).run(bars)
    assert devices.is_retired(("1",)) and len(events(folder, "start")) == 3, said
    assert codes == [0] and "left a bad device" in said[0]


def test_a_container_that_was_killed_for_its_memory_ends_its_process_the_same_way():
    command = [sys.executable, "-c", f"from synth.host.contained import main; main({['bash', '-c', 'exit 137']!r})"]
    assert subprocess.run(command, env=os.environ | {"PYTHONPATH": str(ROOT)}).returncode == -signal.SIGKILL
    assert contained.main(["/not/there"]) == 127


def test_debugging_in_this_process_refuses_a_container(tmp_path, image):
    process = start(tmp_path, image, "cluster=debug")
    said = process.communicate(timeout=240)[0]
    assert process.returncode == 65 and "cluster=debug runs in the calling process, on the host; use cluster=local" in said
    assert not (tmp_path / "runs").exists()
