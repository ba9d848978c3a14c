"""What a worker takes for the length of a batch, which says whether one more would end before its job does."""

import sys
import time
import types

import pytest

from synth.host.deadline import Deadline, margin
from synth.run.loop import Worker
from synth.run.probe import Probe
from synth.run.usage import Usage
from tests.stages import events, probe

SLOW = 1.0  # seconds of a first batch, in which a stage compiles


@pytest.fixture
def compiling(monkeypatch):
    """Makes the first batch of a probe slow; says so if asked to."""

    def slow(says_so: bool) -> None:
        compute, done = Probe.compute, []

        def first_slow(self, state, slots):
            if not done:
                time.sleep(SLOW)
            done.append(slots)
            return compute(self, state, slots)

        monkeypatch.setattr(Probe, "compute", first_slow)
        monkeypatch.setattr(Probe, "warmed_up", lambda self: says_so and len(done) == 1)

    return slow


@pytest.mark.parametrize(("says_so", "code"), [(True, 0), (False, 75)])
def test_a_first_batch_that_compiled_does_not_end_a_worker_before_its_time(says_so, code, tmp_path, monkeypatch, compiling):
    """There is time for any number of short batches, and for none as long as the first."""
    compiling(says_so)
    folder = probe(tmp_path, slots=12, unit_size=4, batch=2)
    worker = Worker(folder, 0, 1)
    now = time.time()
    worker.deadline = Deadline(env={}, ask=lambda job: None, clock=lambda: now)  # time stands still
    worker.deadline.end = now + margin(SLOW) - 0.1
    assert worker.run() == code
    assert (folder.is_whole(), bool(events(folder, "deadline"))) == (says_so, not says_so)
    assert events(folder, "stop")[0]["busy_s"] >= SLOW  # it was work all the same


def test_the_longest_is_that_of_batches_alone_and_what_fails_does_not_count(monkeypatch):
    now = [0.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    usage = Usage()

    def computed(seconds: float, **how) -> None:
        with usage.computing(**how):
            now[0] += seconds

    computed(50)  # what a unit's batches share
    computed(40, usual=lambda: False)
    computed(2, usual=lambda: True)
    computed(1, usual=lambda: True)
    with pytest.raises(ValueError), usage.computing(usual=lambda: True):  # noqa: PT012
        now[0] += 9
        raise ValueError
    assert (usage.longest, usage.busy) == (2, 93)


def test_a_stage_is_told_how_many_workers_share_it(tmp_path, monkeypatch):
    told = []
    monkeypatch.setattr(Probe, "open", lambda self: told.append(self.workers))
    assert Worker(probe(tmp_path), 3, 16).run() == 0
    assert told == [16]
    assert Probe(probe(tmp_path)).workers == 1


@pytest.mark.parametrize(
    ("sliced", "fails", "facts"), [(False, False, {"energy_j": 2.5}), (True, False, {}), (False, True, {})], ids=["whole", "sliced", "lost"]
)
def test_the_energy_of_the_own_gpu_is_noted_where_it_is_counted(monkeypatch, sliced, fails, facts):
    joules, asked = [1_000_000, 1_000_000, 1_002_500], []

    def total(handle):
        if fails and len(joules) == 1:
            raise library.NVMLError("the card fell off the bus")
        return joules.pop(0)

    library = types.ModuleType("pynvml")
    library.NVMLError, library.NVML_DEVICE_MIG_ENABLE = type("NVMLError", (Exception,), {}), 1
    library.nvmlInit = lambda: None
    library.nvmlDeviceGetHandleByUUID = asked.append
    library.nvmlDeviceGetMigMode = lambda handle: [int(sliced), 0]
    library.nvmlDeviceGetTotalEnergyConsumption = total
    monkeypatch.setitem(sys.modules, "pynvml", library)
    usage = Usage()
    usage.energy.begin("8c5e-1")
    assert usage.facts() == {"busy_s": 0.0, "idle_s": 0.0} | facts
    assert asked == ["GPU-8c5e-1"]


def test_without_a_gpu_or_the_library_no_energy_is_told(monkeypatch):
    monkeypatch.setitem(sys.modules, "pynvml", None)
    for uuid in ("", "8c5e-1"):
        usage = Usage()
        usage.energy.begin(uuid)
        assert "energy_j" not in usage.facts()
