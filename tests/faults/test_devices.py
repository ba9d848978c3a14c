"""A bad device ends its worker, is named, and harms no unit that others can make; a bad unit is found out all the same."""

import gc
import json
import os
import weakref

import pytest

from synth.errors import OutOfDeviceMemory
from synth.run.loop import Worker
from synth.run.probe import Probe
from tests.faults.farm import FAST, SLOW, Child, digests, finish, plan, reference, run
from tests.stages import events, wait_for

SICK, WELL = SLOW | {"CUDA_VISIBLE_DEVICES": "1"}, SLOW | {"CUDA_VISIBLE_DEVICES": "0"}


def every(n: int, how: dict) -> dict:
    return {str(slot): how for slot in range(n)}


@pytest.mark.parametrize("how", ["memory", "device"])
def test_a_device_on_which_every_forward_fails_ends_its_worker_at_once(tmp_path, how):
    folder = plan(tmp_path / "a", slots=100, behaviour=every(100, {"raise": how, "on": "gpu 1"}))
    child = Child(folder, env=SICK)
    assert child.wait() == 75 and "Device to avoid" in child.text()
    assert len(events(folder, "open")) == 1 and folder.set_aside() == []
    (left,) = events(folder, "device")
    assert left["place"] == "gpu 1" and left["host"] and ("out of memory" in left["why"] or "EXECUTION_FAILED" in left["why"])
    finish(folder, env=FAST | {"CUDA_VISIBLE_DEVICES": "0"})  # the other device: its leases were let go
    assert digests(folder) == reference(tmp_path, plan(tmp_path / "b", slots=100))


@pytest.mark.parametrize("where", ["encode", "open"])
def test_a_device_that_fails_beside_the_loop_or_while_the_model_loads_is_told_too(tmp_path, where):
    folder = plan(tmp_path, slots=100)

    def patch():
        def fails(self, *args):
            raise RuntimeError("CUDA error: unspecified launch failure")

        setattr(Probe, where, fails)

    assert run(folder, env=SICK, patch=patch) == 75
    assert len(events(folder, "device")) == 1 and len(folder.failures()) == (1 if where == "encode" else 0)
    finish(folder, env=SLOW | {"CUDA_VISIBLE_DEVICES": "0"})


@pytest.mark.parametrize("how", ["memory", "device", "bug"])
def test_of_two_workers_the_one_with_the_bad_device_leaves_and_the_other_makes_all(tmp_path, how):
    folder = plan(tmp_path / "a", slots=100, sleep=0.01, behaviour=every(100, {"raise": how, "on": "gpu 1"}))

    def patch():  # the well one computes nothing until the other has left
        compute = Probe.compute

        def held(self, state, slots):
            wait_for(lambda: events(folder, "device"))
            return compute(self, state, slots)

        Probe.compute = held

    sick, well = (
        Child(folder, 0, 2, env=FAST | {"CUDA_VISIBLE_DEVICES": "1"}),
        Child(folder, 1, 2, env=FAST | {"CUDA_VISIBLE_DEVICES": "0"}, patch=patch),
    )
    assert (sick.wait(), well.wait()) == (75, 0), sick.text() + well.text()
    finish(folder)
    assert folder.set_aside() == [] and len(events(folder, "device")) == 1
    assert digests(folder) == reference(tmp_path, plan(tmp_path / "b", slots=100))


def test_a_worker_that_only_fails_leaves_after_three_units_and_says_so(tmp_path):
    folder = plan(tmp_path, slots=1000, behaviour=every(1000, {"raise": "bug"}))
    codes = []
    for n in (1, 2):
        child = Child(folder, env=SICK)
        codes.append(child.wait())
        assert len(folder.failures()) == 3 * n and "the last 3 units failed one after the other" in child.text()
    assert codes == [75, 70] and len(events(folder, "device")) == 1  # nothing ever worked, and two met the same: the stage is to blame


def test_where_nothing_works_by_ever_other_errors_three_workers_find_it_out(tmp_path):
    folder = plan(tmp_path, slots=1000)

    def patch():
        def fails(self, state, slots):
            raise RuntimeError(f"an error of process {'x' * (os.getpid() % 1000)}")

        Probe.compute = fails

    assert [run(folder, env=SICK, patch=patch) for _ in range(3)] == [75, 75, 70]


@pytest.mark.parametrize(("env", "codes"), [({"CUDA_VISIBLE_DEVICES": ""}, [70]), ({"CUDA_VISIBLE_DEVICES": "1"}, [75, 70])])
def test_many_bad_units_are_set_aside_at_once_on_cores_and_on_a_gpu_when_a_second_worker_meets_the_same(tmp_path, env, codes):
    folder = plan(tmp_path, slots=40, unit=1, batch=1, behaviour={str(slot): {"raise": "bug"} for slot in range(10, 40)})
    assert [run(folder, env=SLOW | env) for _ in codes] == codes
    assert folder.set_aside() == [*range(10, 40)] == folder.missing()
    assert sum(map(len, folder.failures().values())) == 90 and len(events(folder, "device")) == codes.count(75)


def test_a_unit_that_was_set_aside_long_ago_does_not_switch_the_suspicion_off(tmp_path):
    folder = plan(
        tmp_path, slots=100, behaviour={"13": {"raise": "bug"}} | {str(s): {"raise": "bug", "on": "gpu 1"} for s in range(40, 100)}
    )
    assert Child(folder, env=WELL, fault="after_commit:kill@3").wait() == -9
    for n in (1, 2, 3):
        folder.report_failure(1, {"host": "another", "device": f"gpu {n}", "error": "RuntimeError: bad"})
    assert folder.set_aside() == [1]
    assert run(folder, env=SICK) == 75 and len(events(folder, "device")) == 1
    assert folder.set_aside() == [1]


def test_units_that_others_set_aside_meanwhile_are_no_fault_of_the_device(tmp_path):
    folder = plan(tmp_path, slots=60, behaviour={str(10 * unit): {"raise": "bug"} for unit in (2, 3, 4)})

    def patch():
        report = type(folder).report_failure

        def and_others(self, unit, failure):
            first = report(self, unit, failure)
            for n in (2, 3):
                report(self, unit, failure | {"host": f"another {n}"})
            return first

        type(folder).report_failure = and_others

    assert run(folder, env=SICK, patch=patch) == 70
    assert folder.set_aside() == [2, 3, 4] == folder.missing() and events(folder, "device") == []


def test_failures_with_units_made_between_them_are_no_suspicion(tmp_path):
    folder = plan(tmp_path, slots=100, behaviour={str(10 * unit): {"raise": "bug"} for unit in (1, 3, 5, 7)})
    assert run(folder) == 70
    assert folder.set_aside() == [1, 3, 5, 7] == folder.missing() and events(folder, "device") == []


def test_a_unit_that_is_bad_on_every_device_is_set_aside_when_a_second_one_agrees(tmp_path):
    folder = plan(tmp_path, behaviour={"13": {"raise": "bug"}})
    assert Child(folder, env=WELL, fault="after_commit:kill").wait() == -9  # so that the stage has seen another device
    child = Child(folder, env=SICK)
    assert child.wait() == 75 and "units [1] failed 3 times here; another device is to try them" in child.text()
    assert folder.set_aside() == [] and len(folder.failures()[1]) == 3
    assert run(folder, env=WELL) == 70
    assert folder.set_aside() == [1] == folder.missing() and len(folder.failures()[1]) == 4


def test_a_unit_that_no_other_device_ever_tries_is_set_aside_in_the_end(tmp_path):
    folder = plan(tmp_path, behaviour={"13": {"raise": "bug"}})
    assert Child(folder, env=WELL, fault="after_commit:kill").wait() == -9
    assert [run(folder, env=SICK) for _ in range(3)] == [75, 70, 70]
    assert folder.set_aside() == [1] and len(folder.failures()[1]) == 6


def test_a_unit_that_breaks_every_device_lets_all_others_be_made_first(tmp_path):
    folder = plan(tmp_path, behaviour={"3": {"raise": "device"}})
    codes = [run(folder, env=env) for env in (SICK, SICK, WELL, WELL)]
    assert codes == [75, 75, 75, 70]
    assert folder.missing() == [0] == folder.set_aside()
    reports = [json.loads(p.read_text()) for p in folder.failures()[0]]
    assert [r["device"] for r in reports] == ["gpu 1", "gpu 1", "gpu 0"] and all(r["sticky"] and r["host"] for r in reports)


def test_one_failing_report_a_device_error_however_many_units_were_in_the_queue(tmp_path):
    folder = plan(tmp_path, slots=100, unit=1, batch=1)

    def patch():
        def fails(self, *args):
            raise RuntimeError("CUDA error: an illegal memory access was encountered")

        Probe.encode = fails

    assert run(folder, patch=patch) == 75
    assert sum(map(len, folder.failures().values())) == 1


class Model:
    """What a worker must not hold twice: in a reference cycle, as compiled calls and hooks make them."""

    def __init__(self):
        self.forward = self.call

    def call(self, slots):
        rows = [self] * len(slots)  # noqa: F841 (the frame of the error holds it)
        raise MemoryError("no room")


def test_a_stage_that_is_opened_anew_has_let_its_model_go_before(tmp_path, monkeypatch):
    alive, models, compute, encode = [], [], Probe.compute, Probe.encode

    def open_(self):
        alive.append(sum(m() is not None for m in models))
        self.model = Model()
        models.append(weakref.ref(self.model))

    def compute_(self, state, slots):
        if len(models) < 3 and slots.start >= 12:
            try:
                state["model"].forward(slots)
            except MemoryError as e:
                raise OutOfDeviceMemory("does not fit") from e
        return compute(self, {}, slots)

    patches = {
        "open": open_,
        "begin": lambda self, unit: {"model": self.model},  # what a unit's batches share holds it, too
        "compute": compute_,
        "encode": lambda self, state, item: encode(self, {}, item),
        "close": lambda self: setattr(self, "model", None),
    }
    folder = plan(tmp_path / "a")
    gc.collect()
    gc.disable()  # nothing is let go by chance
    try:
        with monkeypatch.context() as patched:
            for name, what in patches.items():
                patched.setattr(Probe, name, what)
            assert Worker(folder, 0, 1).run() == 0
    finally:
        gc.enable()
    assert alive == [0, 0, 0] and len(events(folder, "open")) == 3
    assert digests(folder) == reference(tmp_path, plan(tmp_path / "b"))
