"""launch/node.py: several machines without a scheduler on one folder."""

import doctest
import errno
import io
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from rich.console import Console

from launch.local import supervisor
from launch.local.idle import READINGS, Idle, Reading, Thresholds, parse
from launch.local.node import Machine, run
from launch.local.sequence import Stop, in_order, run_in_order, wait_for_upstream
from launch.local.supervisor import Slot, Supervisor, back_off
from launch.node import read_machine
from launch.show.progress import Bars
from synth.errors import InputError
from synth.keys import dump
from synth.numerics import EXACT
from synth.store import leases
from synth.store.events import read_events
from synth.store.folder import StageFolder
from synth.store.spec import StageSpec, Upstream
from tests.configs import ProbeConfig
from tests.launch.conftest import REPO, environment
from tests.processes import wait_gone
from tests.stages import alone, digests, probe

NODE = REPO / "launch" / "node.py"


def command(*words) -> list[str]:
    return [sys.executable, str(NODE), *map(str, words)]


def start(folder: StageFolder, node: int = 0, nodes: int = 1, n_gpus: str = "2", **env: str) -> subprocess.Popen:
    settings = {"NODE_IDX": str(node), "TOTAL_NODES": str(nodes), "N_GPUS": n_gpus}
    return subprocess.Popen(
        command(folder.path), env=environment() | settings | env, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )


def until(condition, seconds: float = 240) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "timed out"
        time.sleep(0.02)


def named(folder, event) -> list[dict]:
    return [e for e in read_events(folder.path) if e["event"] == event]


# -- what is decided --------------------------------------------------------------------------------------------------------


def test_jobs_of_all_machines_are_numbered_without_gap_or_overlap():
    numbers = [j for node in range(3) for j in Machine(node, 3).jobs(8)[0]]
    assert numbers == list(range(24)) and Machine(2, 3).jobs(8)[1] == 24


@pytest.mark.parametrize(
    ("machine", "kind", "gpus", "expected"),
    [
        (Machine(), "images", ["0", "1"], [("0",), ("1",)]),
        (Machine(n_gpus=1), "images", ["5", "7"], [("5",)]),
        (Machine(), "image_folder", ["0", "1"], [None] * 6),
        (Machine(), "images", [], [None] * 6),
        (Machine(n_gpus=3), "probe", ["0"], [None] * 3),
    ],
)
def test_each_worker_has_a_gpu_of_its_own_and_without_gpus_a_number_counts_plain_workers(machine, kind, gpus, expected):
    assert machine.places(kind, {}, gpus, n_cores=6) == expected


def test_a_captioner_of_several_shards_takes_as_many_gpus_a_worker():
    config = {"captioner": {"model_parallel": 2}}
    assert Machine().places("captions", config, list("0123"), 8) == [("0", "1"), ("2", "3")]
    with pytest.raises(InputError, match="takes 2 GPUs"):
        Machine(n_gpus=1).places("captions", config, list("0123"), 8)


def test_more_gpus_than_there_are_is_an_error_that_says_how_many_there_are():
    with pytest.raises(InputError, match="CUDA shows 2 GPUs"):
        Machine(n_gpus=8).places("images", {}, ["0", "1"], 8)


def test_settings_come_from_the_environment_and_the_command_line_wins():
    machine, left = read_machine(
        ["recipe=probe", "gpus=idle", "N_GPUS=4", "idle_memory=500"], {"NODE_IDX": "1", "TOTAL_NODES": "2", "N_GPUS": "8"}
    )
    assert machine == Machine(1, 2, 4, Thresholds(10, 500)) and left == ["recipe=probe"]
    for bad in (["gpus=some"], ["N_GPUS=many"], ["NODE_IDX=2", "TOTAL_NODES=2"], ["N_GPUS=0"]):
        with pytest.raises(InputError):
            read_machine(bad, {})


def test_restarts_wait_longer_and_longer_and_not_for_ever():
    assert [back_off(n) for n in range(1, 5)] == [2, 4, 8, 16] and back_off(50) == 120
    assert doctest.testmod(supervisor).failed == 0


# -- idle GPUs --------------------------------------------------------------------------------------------------------------


def test_nvidia_smi_lines_are_read_and_a_gpu_that_does_not_say_counts_as_busy():
    first, second = parse("0, GPU-8c5e, 3, 1024\n1, GPU-77aa, [N/A], 12\nno devices\n")
    assert first == Reading("0", "GPU-8c5e", 3.0, 1024.0) and not Thresholds().allow(second)


def test_a_gpu_is_idle_after_several_quiet_readings_and_its_own_workers_do_not_count():
    quiet, busy = Reading("0", "a", 0, 400), Reading("1", "b", 90, 400)
    idle = Idle(lambda: [quiet, busy], Thresholds())
    looks = [idle.look() for _ in range(READINGS)]
    assert looks[:-1] == [[], []] and looks[-1] == [quiet]
    assert idle.look(mine=["0"]) == []
    assert Thresholds(memory=100).allow(quiet) is False


def test_workers_start_one_by_one_as_gpus_become_idle(tmp_path, monkeypatch):
    monkeypatch.setattr("launch.local.supervisor.READ", 0.05)
    folder = probe(tmp_path, slots=40, sleep=0.4)
    readings = []  # (when, whether the second GPU was idle)

    def read():
        begun = bool(named(folder, "start"))  # the second one is busy until the worker of the first one has begun
        readings.append((time.monotonic(), begun))
        return [Reading("0", "a", 0, 0), Reading("1", "b", 0 if begun else 95, 0)]

    pool = [Slot(0, ("0",)), Slot(1, ("1",))]
    with Bars(Console(quiet=True)) as bars:
        bars.begin("probe", 40, 0, "")
        codes = Supervisor(folder, pool, 2, Stop(), print, Idle(read, Thresholds())).run(bars)
    starts = sorted(named(folder, "start"), key=lambda e: e["time"])
    assert codes == [0, 0] and [e["devices"] for e in starts] == ["0", "1"]
    before = [idle for when, idle in readings if when <= pool[1].started]
    assert before.count(False) >= READINGS and before[-READINGS:] == [True] * READINGS
    assert digests(folder) == alone(tmp_path, folder)


def test_workers_see_their_own_gpus_by_the_order_of_the_bus_and_on_cores_none(tmp_path, monkeypatch):
    given = []

    def tied(module, words, log, env, keep=()):
        given.append(env)
        return subprocess.Popen(["true"])

    monkeypatch.setattr("launch.local.supervisor.children.tied", tied)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "3,4")
    monkeypatch.delenv("CUDA_DEVICE_ORDER", raising=False)
    folder = probe(tmp_path, slots=8)
    with Bars(Console(quiet=True)) as bars:
        bars.begin("probe", 8, 0, "")
        Supervisor(folder, [Slot(0, ("4",)), Slot(1)], 2, Stop(), print).run(bars)
    assert [(env["CUDA_VISIBLE_DEVICES"], env.get("CUDA_DEVICE_ORDER")) for env in given] == [("4", "PCI_BUS_ID"), ("", None)]


def test_a_machine_is_not_asked_for_gpus_that_no_stage_needs(tmp_path, monkeypatch):
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    monkeypatch.setattr("launch.local.node.visible_gpus", lambda **_: pytest.fail("was asked"))
    (outcome,) = run(Machine(n_gpus=1, idle=Thresholds()), in_order([probe(tmp_path, slots=8)]), Console(quiet=True))
    assert outcome.code == 0


@pytest.mark.parametrize(
    ("error", "code", "said"),
    [(OSError(errno.ESTALE, "Stale file handle"), 75, "Stale file handle"), (FileNotFoundError(2, "No such file"), 70, "Traceback")],
)
def test_an_error_of_a_file_while_a_stage_runs_is_told_as_trouble_or_shown_whole(tmp_path, error, code, said):
    def work(*_):
        raise error

    (outcome,) = run_in_order(in_order([probe(tmp_path, slots=8)]), work, Stop(), Console(quiet=True))
    assert outcome.code == code and said in outcome.message and ("Traceback" in outcome.message) is (code == 70)


# -- whole machines ---------------------------------------------------------------------------------------------------------


def test_two_machines_share_a_stage_and_both_end_when_it_is_whole(tmp_path):
    folder = probe(tmp_path, slots=40, sleep=0.5)  # a machine that comes late finds work for both of its workers ..
    held = leases.create(folder.lease_path(0), 0, 0, leases.Owner.me())  # .. and the stage not whole
    nodes = [start(folder, n, 2) for n in (0, 1)]
    until(lambda: len(named(folder, "start")) == 4)
    held.release()
    assert [n.wait(240) for n in nodes] == [0, 0]
    assert {e["job_idx"] for e in named(folder, "start")} == {0, 1, 2, 3} and {e["n_jobs"] for e in named(folder, "start")} == {4}
    assert folder.is_done() and digests(folder) == alone(tmp_path, folder)


def test_a_dead_worker_is_started_again(tmp_path):
    folder = probe(tmp_path, slots=90, sleep=0.15)
    node = start(folder, n_gpus="1")
    until(lambda: folder.progress() >= 4)
    (first,) = named(folder, "start")
    os.kill(first["pid"], signal.SIGKILL)
    out = node.communicate(timeout=240)[0]
    assert node.returncode == 0 and "starting it again" in out
    assert len(named(folder, "start")) == 2 and digests(folder) == alone(tmp_path, folder)


def test_a_worker_that_dies_again_and_again_is_given_up(tmp_path, monkeypatch):
    monkeypatch.setattr("launch.local.supervisor.BACK_OFF", 0.01)
    monkeypatch.setattr("launch.local.supervisor.RESTARTS", 2)
    monkeypatch.setenv("SYNTHSET_FAULT", "after_lease:kill")
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    folder, console = probe(tmp_path), Console(file=io.StringIO(), width=200)
    (outcome,) = run(Machine(n_gpus=1), in_order([folder]), console)
    assert outcome.code == 75 and "3 times in a row" in console.file.getvalue()


def test_a_worker_that_dies_while_the_stage_moves_on_is_not_given_up(tmp_path, monkeypatch):
    monkeypatch.setattr("launch.local.supervisor.BACK_OFF", 0.01)
    monkeypatch.setattr("launch.local.supervisor.RESTARTS", 1)
    monkeypatch.setenv("SYNTHSET_FAULT", "after_commit:kill")
    folder, console = probe(tmp_path, slots=16), Console(file=io.StringIO(), width=200)
    (outcome,) = run(Machine(n_jobs=1), in_order([folder]), console)
    text = console.file.getvalue()
    assert outcome.code == 0 and text.count("was killed by SIGKILL; starting it again") == 4 and "given up" not in text


def test_workers_may_share_gpus_and_are_no_more_than_there_are_units(tmp_path):
    images = probe(tmp_path)
    pool, n_jobs = Machine(1, 2, n_jobs=3).pool(images, ["0"], 2)
    assert [s.job_idx for s in pool] == [3, 4] and n_jobs == 6 and [bool(s.options) for s in pool] == [True, False]


def test_the_first_ctrl_c_drains_all_workers(tmp_path):
    folder = probe(tmp_path, slots=4000, unit_size=2000, sleep=0.3)
    node = start(folder)
    until(lambda: len(named(folder, "start")) == 2 and folder.progress() >= 4)
    node.send_signal(signal.SIGINT)
    out = node.communicate(timeout=240)[0]
    assert node.returncode == 75 and "once more: kill them" in out
    assert [e["code"] for e in named(folder, "stop")] == [75, 75] and folder.progress() >= 4


def test_the_workers_of_a_killed_machine_end_and_another_machine_goes_on(tmp_path):
    folder = probe(tmp_path, slots=48, unit_size=24, sleep=0.2)
    first = start(folder, 0, 2)
    until(lambda: folder.progress() >= 4)
    pids = [e["pid"] for e in named(folder, "start")]
    first.kill()
    first.communicate()
    second = start(folder, 1, 2)
    assert second.wait(240) == 0
    wait_gone(pids)
    assert digests(folder) == alone(tmp_path, folder)


def chain(root: Path) -> list[StageFolder]:
    """A probe stage and one that says it reads it."""
    first = probe(root, slots=16, sleep=0.2)
    upstream = {"probe": (Upstream(f"../{first.path.name}", first.spec.fingerprint),)}
    second = StageSpec("probe", "second", dump(ProbeConfig(seed=1)), 8, 4, 2, EXACT, upstream)
    return [first, StageFolder.create(root, second)]


def test_stages_run_in_order_whatever_the_order_of_their_names(tmp_path):
    first, second = chain(tmp_path)
    done = subprocess.run(command(second.path, first.path, "N_GPUS=2"), env=environment(), capture_output=True, text=True, timeout=240)
    assert done.returncode == 0, done.stdout + done.stderr
    assert min(e["time"] for e in named(second, "start")) >= max(e["time"] for e in named(first, "done"))


def test_a_stage_waits_for_an_upstream_that_others_make(tmp_path):
    first, second = chain(tmp_path)
    waiting = subprocess.Popen(
        command(second.path, "N_GPUS=1"), env=environment(), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    assert any("waits for probe" in line for line in waiting.stdout)
    assert waiting.poll() is None and not second.committed()
    assert subprocess.run(command(first.path, "N_GPUS=2"), env=environment(), capture_output=True).returncode == 0
    waiting.communicate(timeout=240)
    assert waiting.returncode == 0


def test_an_upstream_that_cannot_become_whole_ends_the_wait(tmp_path):
    first, second = chain(tmp_path)
    for unit in range(first.spec.n_units):
        for _ in range(3):
            first.report_failure(unit, {"error": "x"})
    said = []
    assert wait_for_upstream(second, Stop(), said.append) == 70 and "set aside" in said[0]


def test_a_recipe_is_planned_and_run_by_two_machines(world):
    words = ["recipe=probe", f"runs_dir={world.runs}", "N_GPUS=2", "TOTAL_NODES=2"]
    nodes = [subprocess.Popen(command(*words, f"NODE_IDX={n}"), env=environment(), stdout=subprocess.DEVNULL) for n in (0, 1)]
    assert [n.wait(240) for n in nodes] == [0, 0]
    (folder,) = [StageFolder.open(p.parent) for p in world.runs.glob("*/*/stage.json")]
    assert folder.is_done()


def test_bad_words_are_refused_before_anything_starts(tmp_path):
    folder = probe(tmp_path)
    for words in ([tmp_path], [folder.path, "seed=1"], ["recipe=nonsense"], [folder.path, "N_GPUS=x"]):
        done = subprocess.run(command(*words), env=environment(), capture_output=True, text=True)
        assert done.returncode == 65 and done.stderr, words
    assert not named(folder, "start")
    assert "NODE_IDX" in subprocess.run(command("--help"), env=environment(), capture_output=True, text=True).stdout
