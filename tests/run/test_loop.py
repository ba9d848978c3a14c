"""The loop: drains, units taken from relatives, inputs, tombstones."""

import signal
import time

import pytest

from synth.keys import dump
from synth.numerics import EXACT
from synth.run.probe import Probe
from synth.store import leases
from synth.store.folder import StageFolder
from synth.store.identity import file_identity
from synth.store.parts import finished_batches
from synth.store.spec import InputFile, StageSpec, Upstream
from tests.configs import ProbeConfig
from tests.faults.farm import SLOW, Child, check, finish, plan, reference, run
from tests.stages import events, wait_for

# -- drains --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("sig", [signal.SIGTERM, signal.SIGINT, signal.SIGUSR2])
def test_a_drain_keeps_the_running_batch_and_lets_the_unit_go(tmp_path, sig):
    folder = plan(tmp_path / "a", slots=30, unit=30, batch=3)
    inside, signalled = tmp_path / "inside", tmp_path / "signalled"

    def patch():
        compute = Probe.compute

        def held(self, state, slots):
            if slots.start == 6:
                inside.touch()
                wait_for(signalled.exists)
            return compute(self, state, slots)

        Probe.compute = held

    child = Child(folder, patch=patch)
    wait_for(inside.exists)
    child.signal(sig)
    signalled.touch()
    assert child.wait() == 75
    (part,) = (folder.path / "parts").rglob("*.tar")
    assert len(finished_batches(part)) == 3
    assert f"drained on {sig.name}; 1 units to do: run the same command again" in child.text()
    begun = time.monotonic()
    finish(folder, env=SLOW)  # at once: it does not wait until the lease looks dead
    assert time.monotonic() - begun < 50
    assert [e["batches"] for e in events(folder, "adopted")] == [3]
    check(folder, reference(tmp_path, folder))


def test_a_drain_while_the_queue_is_full_keeps_all_computed_batches(tmp_path):
    folder = plan(tmp_path / "a", slots=90, unit=90, batch=3)
    full, signalled = tmp_path / "full", tmp_path / "signalled"

    def patch():
        compute, encode = Probe.compute, Probe.encode

        def computed(self, state, slots):
            if slots.start == 9:
                full.touch()
            return compute(self, state, slots)

        def held(self, state, item):
            wait_for(signalled.exists)
            return encode(self, state, item)

        Probe.compute, Probe.encode = computed, held

    child = Child(folder, patch=patch)
    wait_for(full.exists)
    child.signal(signal.SIGTERM)
    signalled.touch()
    assert child.wait() == 75
    (part,) = (folder.path / "parts").rglob("*.tar")
    assert len(finished_batches(part)) == 4  # the one being written, two in the queue, one that waits to be queued


def test_a_drain_between_units_and_while_lingering_is_75_or_done(tmp_path):
    folder = plan(tmp_path, slots=10)
    owner = leases.Owner(**vars(leases.Owner.me()) | {"boot": "another"})
    leases.create(folder.lease_path(0), 0, 0, owner)
    child = Child(folder, env=SLOW)  # waits for the other one
    wait_for(lambda: events(folder, "start"))
    time.sleep(0.2)
    child.signal(signal.SIGTERM)
    assert child.wait(240) == 75


def test_a_worker_that_drains_before_it_finished_the_stage_says_75(tmp_path):
    folder = plan(tmp_path, slots=10)
    assert run(folder, fault="after_commit:term") == 75
    assert folder.is_whole() and not folder.is_done()
    finish(folder, env=SLOW)


# -- relatives and inputs ------------------------------------------------------------------------------------------------


def test_growing_slots_links_the_finished_units_of_the_smaller_run_and_only_those(tmp_path):
    small = plan(tmp_path / "a", slots=35)
    finish(small)
    small.unit_path(1).unlink()  # not made, or lost
    large = plan(tmp_path / "a", slots=62)
    finish(large)
    assert sorted(e["unit"] for e in events(large, "linked")) == [0, 2]  # 3 was a short one
    assert sorted(e["unit"] for e in events(large, "unit")) == [1, 3, 4, 5, 6]
    assert large.unit_path(0).stat().st_ino == small.unit_path(0).stat().st_ino
    check(large, reference(tmp_path / "b", large))


def test_a_whole_relative_is_linked_without_opening_the_stage(tmp_path):
    finish(plan(tmp_path, slots=60))
    smaller = plan(tmp_path, slots=20)
    finish(smaller)
    assert events(smaller, "open") == [] and len(events(smaller, "linked")) == 2


def upstreamed(root, fingerprint: str) -> StageFolder:
    spec = StageSpec("probe", "probe", dump(ProbeConfig()), 30, 10, 3, EXACT, {"rows": (Upstream("../x", fingerprint),)})
    return StageFolder.create(root, spec)


def test_units_are_linked_from_a_stage_of_another_upstream_where_their_rows_agree(tmp_path):
    def rows(changed):
        def patch():
            Probe.unit_inputs = lambda self, unit: "new rows" if unit.number in changed else f"rows of {unit.number}"

        return patch

    a, b = upstreamed(tmp_path, "one"), upstreamed(tmp_path, "two")
    assert a.path != b.path
    assert run(a, patch=rows(())) == 0
    assert run(b, patch=rows((1,))) == 0
    assert sorted(e["unit"] for e in events(b, "linked")) == [0, 2]
    assert [e["unit"] for e in events(b, "unit")] == [1]


def test_an_input_that_changed_after_planning_is_65_and_named(tmp_path):
    weights = tmp_path / "weights.bin"
    weights.write_bytes(b"one")
    spec = StageSpec(
        "probe",
        "probe",
        dump(ProbeConfig()),
        30,
        10,
        3,
        EXACT,
        inputs={"weights": InputFile(str(weights), file_identity(weights))},
    )
    folder = StageFolder.create(tmp_path / "a", spec)
    weights.write_bytes(b"two")
    child = Child(folder)
    assert child.wait() == 65
    assert "weights.bin: input 'weights' changed" in child.text()
    weights.unlink()
    child = Child(folder)
    assert child.wait() == 65 and "weights.bin" in child.text()
    weights.write_bytes(b"one")
    finish(folder, env=SLOW)
