"""A device that workers left as bad: two fresh processes, then none; the others do its work."""

import io

import pytest
from rich.console import Console

from launch.local import supervisor
from launch.local.node import Machine, run
from launch.local.sequence import Stop, in_order
from launch.local.supervisor import Devices, Slot, Supervisor
from launch.show.progress import Bars
from tests.stages import digests, events, probe


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    monkeypatch.setattr(supervisor, "BACK_OFF", 0.01)


def sick(slots: int, how: str, on: str = "gpu 1", **more) -> dict:
    return {str(slot): {"raise": how, "on": on} | more for slot in range(slots)}


def supervised(folder, *gpus: str, devices: Devices | None = None) -> tuple[list[int], str]:
    """Exit codes, and what was told, of a worker a GPU."""
    said: list[str] = []
    pool = [Slot(i, (gpu,), ("--linger",) if not i else ()) for i, gpu in enumerate(gpus)]
    with Bars(Console(quiet=True)) as bars:
        bars.begin("probe", folder.spec.slots, 0, "")
        return Supervisor(folder, pool, len(gpus), Stop(), said.append, devices=devices).run(bars), "\n".join(said)


@pytest.mark.parametrize("how", ["device", "memory"])
def test_a_bad_device_gets_two_fresh_processes_and_the_others_do_its_work(tmp_path, how):
    folder = probe(tmp_path / "a", slots=240, sleep=0.1, behaviour=sick(240, how))
    devices = Devices()
    codes, said = supervised(folder, "0", "1", devices=devices)
    assert codes.count(0) == 2 and len(codes) == 2 and folder.is_done() and folder.set_aside() == []
    assert len([e for e in events(folder, "start") if e["devices"] == "1"]) == 3
    assert said.count("a fresh process there") == 2
    assert "is bad, and was left 3 times: it gets no process any more; the others do its work" in said and "/logs/local-" in said
    assert devices.is_retired(("1",)) and not devices.is_retired(("0",)) and not devices.is_retired(None)
    assert digests(folder) == digests_of(tmp_path)


def digests_of(tmp_path) -> list[str]:
    """What the well device makes alone."""
    twin = probe(tmp_path / "b", slots=240)
    assert supervised(twin, "0")[0] == [0]
    return digests(twin)


def test_without_a_good_device_the_stage_ends_with_75_and_the_reason(tmp_path):
    folder = probe(tmp_path, behaviour=sick(40, "device"))
    codes, said = supervised(folder, "1")
    assert codes == [75] and "no device is left here" in said and "CUDNN_STATUS_EXECUTION_FAILED" in said
    assert len(events(folder, "start")) == 3 and folder.set_aside() == []


def test_a_device_that_is_well_again_keeps_its_worker(tmp_path):
    folder = probe(tmp_path, behaviour={"5": {"raise": "device", "times": 2}})
    codes, said = supervised(folder, "1")
    assert codes == [0] and said.count("left a bad device") == 2 and folder.is_done()


def test_a_worker_on_cores_that_only_fails_ends_with_70_when_nothing_ever_worked(tmp_path):
    folder = probe(tmp_path, slots=400, behaviour={str(slot): {"raise": "bug"} for slot in range(400)})
    said: list[str] = []
    with Bars(Console(quiet=True)) as bars:
        bars.begin("probe", 400, 0, "")
        codes = Supervisor(folder, [Slot(0)], 1, Stop(), said.append).run(bars)
    assert codes == [70] and sum(map(len, folder.failures().values())) == 9


def test_the_launcher_remembers_bad_devices_from_stage_to_stage_and_goes_on_with_the_rest(tmp_path, monkeypatch):
    monkeypatch.setattr("launch.local.node.visible_gpus", lambda: ("0", "1"))
    monkeypatch.setattr(Machine, "places", lambda self, *args: [("0",), ("1",)])
    stages = [probe(tmp_path, slots=120, sleep=0.1, behaviour=sick(120, "device")), probe(tmp_path, seed=7)]
    console = Console(file=io.StringIO(), width=300)
    outcomes = run(Machine(), in_order(stages), console)
    assert [o.code for o in outcomes] == [0, 0]
    assert {e["devices"] for e in events(stages[1], "start")} == {"0"}

    folder = probe(tmp_path, seed=8, behaviour={str(s): {"raise": "device"} for s in range(40)})
    (outcome,) = run(Machine(), in_order([folder]), console)
    assert outcome.code == 75 and "Device to avoid" in outcome.message and "no device is left here" in console.file.getvalue()


def test_of_several_gpus_a_worker_all_are_judged_together():
    devices = Devices()
    for _ in range(3):
        devices.leave(("0", "1"))
    assert devices.is_retired(("0", "1")) and not devices.is_retired(("0",)) and not devices.is_retired(("2", "3"))
