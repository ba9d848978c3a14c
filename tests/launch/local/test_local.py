"""cluster=local: workers drain on ctrl-C, die with their parent, share a folder with others."""

import json
import os
import signal
import time

import pytest

from launch.plan.devices import n_workers, places
from synth.errors import worst
from synth.host.children import is_alive
from synth.store.events import read_events
from synth.store.folder import StageFolder
from tests.processes import below, standing_still

SLOW = ["probe.slots=48", "probe.unit_size=4", "probe.batch_size=1", "probe.sleep=0.3", "cluster.n_jobs=2"]  # 7 s


def workers_of(parent: int) -> list[int]:
    """Processes of synth.worker that this launcher started."""
    return below(parent, "synth.worker")


def until(condition, seconds: float = 240.0):
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        value = condition()
        if value:
            return value
        time.sleep(0.05)
    pytest.fail("it did not happen in time")


def the_stage(world) -> StageFolder | None:
    found = [p.parent for p in (world.runs / "probe").glob("probe-*/stage.json")]
    return StageFolder.open(found[0]) if found else None


def begun(world):
    return until(lambda: (folder := the_stage(world)) and folder.progress() > 2 and folder)


def starts(folder):
    return [e for e in read_events(folder.path) if e["event"] == "start"]


def test_ctrl_c_drains_with_75_and_the_same_command_completes(world):
    process = world.start(*world.probe, *SLOW)
    folder = begun(world)
    workers = workers_of(process.pid)
    assert len(workers) == 2
    process.send_signal(signal.SIGINT)
    out, _ = process.communicate(timeout=240)
    assert process.returncode == 75, out
    assert "run the same command again" in out and "recipe=probe" in out and "Traceback" not in out
    assert not any(map(is_alive, workers))
    assert not folder.is_done()
    again = world.run(*world.probe, *SLOW)
    assert again.returncode == 0, again.stdout + again.stderr
    assert folder.is_done() and folder.is_whole()


def test_a_second_ctrl_c_kills_the_workers_at_once(world):
    process = world.start(*world.probe, "probe.slots=4", "probe.behaviour={0:{hang:true,times:1}}", "cluster.n_jobs=1")
    until(lambda: the_stage(world) and (the_stage(world).path / "logs" / "probe-0-0").exists())  # it hangs in its first batch
    process.send_signal(signal.SIGINT)
    time.sleep(0.5)
    assert process.poll() is None  # it waits for the batch
    process.send_signal(signal.SIGINT)
    out, _ = process.communicate(timeout=240)
    assert process.returncode == 75, out


def test_workers_go_when_their_parent_is_killed(world):
    process = world.start(*world.probe, *SLOW)
    begun(world)
    workers = workers_of(process.pid)
    process.kill()
    process.wait()
    until(lambda: not any(map(is_alive, workers)))
    again = world.run(*world.probe, *SLOW)
    assert again.returncode == 0, again.stdout + again.stderr


def test_a_killed_worker_is_started_again(world):
    process = world.start(*world.probe, *SLOW)
    folder = begun(world)
    os.kill(workers_of(process.pid)[0], signal.SIGKILL)
    out, _ = process.communicate(timeout=240)
    assert process.returncode == 0, out
    assert "was killed by SIGKILL; starting it again" in out and folder.is_done()


def test_two_commands_on_one_folder_share_the_work(world):
    first = world.start(*world.probe, *SLOW)
    folder = begun(world)
    until(lambda: len(starts(folder)) == 2)
    commands = [first]
    try:
        with standing_still(workers_of(first.pid)):  # until those of the second command are there, too
            commands.append(world.start(*world.probe, *SLOW))
            until(lambda: len(starts(folder)) == 4)
        outs = [p.communicate(timeout=240)[0] for p in commands]
    finally:
        for command in commands:
            command.kill()  # its workers end with it
    assert [command.returncode for command in commands] == [0, 0], outs
    makers: dict[str, list[int]] = {}
    for path in (folder.path / "events").glob("*.jsonl"):
        lines = [json.loads(line) for line in path.read_text().splitlines()]
        makers[path.stem] = [e["unit"] for e in lines if e["event"] == "unit"]
    made = [u for units in makers.values() for u in units]
    assert sorted(made) == list(range(12))  # each unit once
    assert sum(bool(units) for units in makers.values()) > 2  # workers of both


def test_a_command_waits_for_units_that_only_others_hold(world):
    first = world.start(*world.probe, "probe.slots=8", "probe.unit_size=8", "probe.batch_size=1", "probe.sleep=0.5")
    begun(world)
    second = world.run(*world.probe, "probe.slots=8", "probe.unit_size=8", "probe.batch_size=1", "probe.sleep=0.5")
    first.communicate(timeout=240)
    assert (first.returncode, second.returncode) == (0, 0), second.stdout
    assert the_stage(world).is_done()


def test_places_are_gpus_or_cores_and_never_more_than_units():
    assert places(("0", "1", "2", "3"), 8, "captions", 2) == [("0", "1"), ("2", "3")]
    assert places(("0",), 8, "image_folder", 1) == [None] * 8
    assert places((), 2, "images", 1) == [None, None]
    assert (n_workers(None, 8, 3), n_workers(5, 2, 100), n_workers(None, 2, 0)) == (3, 5, 1)


def test_the_worst_code_is_a_bug_then_bad_input_then_again():
    assert worst([0, 75]) == 75 and worst([75, 65]) == 65 and worst([65, 70, 75]) == 70 and worst([]) == 0 and worst([1]) == 70


def test_what_a_worker_said_of_bad_input_stands_in_the_summary(world):
    done = world.run(*world.probe, "probe.behaviour={3:{raise:input}}")
    assert done.returncode == 65, done.stdout + done.stderr
    summary = done.stdout[done.stdout.index("samples/s") :]
    assert "slot 3 raises as asked" in summary
