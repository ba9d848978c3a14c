"""A device that workers left as bad: two fresh processes, then none; the others do its work."""

import io
import signal

import pytest
from rich.console import Console

from launch.local import supervisor
from launch.local.node import Machine, run
from launch.local.sequence import Stop, in_order
from launch.local.supervisor import Devices, Slot, Supervisor
from launch.show.progress import Bars
from synth.kinds import GPU
from tests.stages import digests, events, probe


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    monkeypatch.setattr(supervisor, "BACK_OFF", 0.01)


@pytest.fixture
def patient(monkeypatch):
    """The other workers stand still while a device gets its fresh processes, however long those take to start."""
    left_device = Supervisor._left_device

    def noted(self, slot, *args):
        left_device(self, slot, *args)
        for _, process in self.running:
            process.send_signal(signal.SIGCONT if self._is_retired(slot) else signal.SIGSTOP)

    monkeypatch.setattr(Supervisor, "_left_device", noted)


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
def test_a_bad_device_gets_two_fresh_processes_and_the_others_do_its_work(tmp_path, patient, how):
    folder = probe(tmp_path / "a", slots=240, sleep=0.1, behaviour=sick(240, how))
    devices = Devices()
    codes, said = supervised(folder, "0", "1", devices=devices)
    assert codes.count(0) == 2 and len(codes) == 2 and folder.is_done() and folder.set_aside() == []
    assert len([e for e in events(folder, "start") if e["devices"] == "1"]) == 3
    assert said.count("a fresh process there") == 2
    assert "is bad, and was left 3 times: it gets no process any more. " in said and "/logs/local-" in said
    assert devices.is_retired(("1",)) and not devices.is_retired(("0",)) and not devices.is_retired(None)
    assert digests(folder) == digests_of(tmp_path)


def digests_of(tmp_path) -> list[str]:
    """What the well device makes alone."""
    twin = probe(tmp_path / "b", slots=240)
    assert supervised(twin, "0")[0] == [0]
    return digests(twin)


@pytest.fixture
def gpus(monkeypatch):
    """A machine with two GPUs, as a launcher counts them, and a probe that computes on them."""
    monkeypatch.setattr("launch.local.node.visible_gpus", lambda **_: ("0", "1"))
    monkeypatch.setattr("launch.plan.devices.device_of", lambda kind: GPU)


def launched(*folders) -> tuple[list, str]:
    """Outcomes of a launcher, and what it printed."""
    console = Console(file=io.StringIO(), width=300)
    return run(Machine(), in_order(folders), console), console.file.getvalue()


def test_without_a_good_device_the_stage_ends_with_75_and_the_reason(tmp_path, gpus):
    folder = probe(tmp_path, behaviour={str(slot): {"raise": "device"} for slot in range(40)})
    (outcome,), said = launched(folder)
    assert outcome.code == 75 and "every device here was left as bad" in said and "CUDNN_STATUS_EXECUTION_FAILED" in said
    assert len(events(folder, "start")) == 6 and folder.set_aside() == []


def test_a_stage_of_one_unit_moves_on_to_a_gpu_that_is_well(tmp_path, gpus):
    folder = probe(tmp_path, slots=4, behaviour=sick(4, "device", on="gpu 0"))
    (outcome,), said = launched(folder)
    assert outcome.code == 0 and folder.is_done() and "0 is bad, and was left 3 times: it gets no process any more." in said
    assert [e["devices"] for e in events(folder, "start")] == ["0", "0", "0", "1"]


def test_a_device_that_is_well_again_keeps_its_worker(tmp_path):
    folder = probe(tmp_path, behaviour={"5": {"raise": "device", "times": 2}})
    codes, said = supervised(folder, "1")
    assert codes == [0] and said.count("left a bad device") == 2 and folder.is_done()


def test_a_worker_on_cores_that_only_fails_gives_every_unit_three_tries_and_ends_with_70(tmp_path):
    folder = probe(tmp_path, behaviour={str(slot): {"raise": "bug"} for slot in range(40)})
    said: list[str] = []
    with Bars(Console(quiet=True)) as bars:
        bars.begin("probe", 40, 0, "")
        codes = Supervisor(folder, [Slot(0)], 1, Stop(), said.append).run(bars)
    assert codes == [70] and folder.set_aside() == [*range(10)] and events(folder, "device") == []


def test_the_launcher_remembers_bad_devices_from_stage_to_stage_and_goes_on_with_the_rest(tmp_path, gpus, patient):
    stages = [probe(tmp_path, slots=120, sleep=0.1, behaviour=sick(120, "device")), probe(tmp_path, seed=7)]
    outcomes, _ = launched(*stages)
    assert [o.code for o in outcomes] == [0, 0]
    assert {e["devices"] for e in events(stages[1], "start")} == {"0"}

    (outcome,), _ = launched(probe(tmp_path, seed=8, behaviour={str(s): {"raise": "device"} for s in range(40)}))
    assert outcome.code == 75 and "Device to avoid" in outcome.message


def test_of_several_gpus_a_worker_all_are_judged_together():
    devices = Devices()
    for _ in range(3):
        devices.leave(("0", "1"))
    assert devices.is_retired(("0", "1")) and not devices.is_retired(("0",)) and not devices.is_retired(("2", "3"))


def test_a_bad_gpu_takes_no_good_one_with_it_where_workers_have_several(tmp_path, gpus, monkeypatch):
    monkeypatch.setattr("launch.plan.devices.processes_of", lambda kind, config: 2)
    folder, devices = probe(tmp_path), Devices()
    for _ in range(3):
        devices.leave(("0",))
    pool, n_jobs = Machine().pool(folder, ("0", "1", "2"), 10, devices.is_retired)
    assert [slot.gpus for slot in pool] == [("1", "2")] and n_jobs == 1
    assert Machine().pool(folder, ("0", "1"), 10, devices.is_retired) == ([], 0)
    assert Machine(n_gpus=2).pool(folder, ("0", "1", "2"), 10, devices.is_retired) == ([], 0)  # N_GPUS gives the first two


def test_a_device_is_judged_anew_after_a_worker_that_made_units(tmp_path):
    bad = {str(slot): {"raise": "device", "times": 1} for slot in range(0, 40, 8)}  # of every second unit
    devices = Devices()
    codes, said = supervised(probe(tmp_path, behaviour=bad), "1", devices=devices)
    assert codes == [0] and said.count("left a bad device") == 5 and not devices.is_retired(("1",))


@pytest.mark.parametrize(("lived", "retired"), [(supervisor.LIVED, False), (1.0, True)])
def test_a_device_is_judged_anew_after_a_worker_that_lived_long(tmp_path, lived, retired):
    now, devices = [0.0], Devices()
    slot = Slot(0, ("1",))
    keeper = Supervisor(probe(tmp_path), [slot], 1, Stop(), print, clock=lambda: now[0], devices=devices)
    for _ in range(3):
        slot.started, now[0] = now[0], now[0] + lived
        keeper._left_device(slot, "CUDA error", 0, "log")
    assert devices.is_retired(("1",)) is retired


@pytest.mark.parametrize(("second", "says"), [("1", True), ("0", False)])
def test_workers_that_share_a_gpu_are_named_where_it_has_no_memory_left(tmp_path, second, says):
    said: list[str] = []
    pool = [Slot(0, ("1",)), Slot(1, (second,))]
    Supervisor(probe(tmp_path), pool, 2, Stop(), said.append)._left_device(pool[0], "others hold 40.0 of the device's 80.0 GiB", 0, "log")
    assert ("cluster.n_jobs gives this GPU to 2 workers" in said[0]) is says
