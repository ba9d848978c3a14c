"""The loop when something raises: what a unit, a disk or bad input is to blame for, exit codes, nothing made is lost."""

import json
import os
import signal
import sys
import time

import pytest

from synth.errors import InputError, Killed
from synth.run.probe import Probe
from synth.store import leases
from tests.faults.farm import FAST, SLOW, Child, check, digests, finish, plan, reference, run
from tests.stages import events, wait_for

# -- errors of units -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("how", [{"raise": "bug"}, {"size": "not a number"}, {"raise": "broken"}])  # in compute, in encode, of the device
@pytest.mark.parametrize("slot", [13, 59])  # in the middle, and in the very last batch
def test_a_unit_that_fails_three_times_is_set_aside_and_the_rest_goes_on(tmp_path, how, slot):
    folder = plan(tmp_path / "a", behaviour={str(slot): how})
    child = Child(folder)
    assert child.wait() == 70
    assert folder.set_aside() == [slot // 10] == folder.missing()
    assert f"units [{slot // 10}] failed 3 times" in child.text()
    reports = [json.loads(p.read_text()) for p in folder.failures()[slot // 10]]
    assert len(reports) == 3 and all("Traceback" in r["traceback"] and r["slots"][0] <= slot < r["slots"][1] for r in reports)
    want = reference(tmp_path, plan(tmp_path / "b"))
    assert digests(folder) == {u: d for u, d in want.items() if u != slot // 10}
    assert run(folder) == 70  # again at once, without another try
    assert len(folder.failures()[slot // 10]) == 3


def test_other_workers_see_what_was_set_aside_and_say_70_too(tmp_path):
    folder = plan(tmp_path, sleep=0.002, behaviour={"13": {"raise": "bug"}})
    patient = FAST | {"SYNTHSET_DEAD_AFTER_S": "5"}  # one that is taken for dead in its try would tell of it, too
    codes = [c.wait() for c in [Child(folder, i, 3, env=patient) for i in range(3)]]
    assert 70 in codes and set(codes) <= {0, 70}
    assert len(folder.failures()[1]) == 3 and folder.missing() == [1]


@pytest.mark.parametrize("times", [1, 2])
def test_a_unit_that_fails_once_or_twice_is_tried_again_by_the_same_worker(tmp_path, times):
    folder = plan(tmp_path / "a", behaviour={"13": {"raise": "bug", "times": times}})
    assert run(folder) == 0
    assert len(folder.failures()[1]) == times
    assert digests(folder) == reference(tmp_path, plan(tmp_path / "b"))
    assert [p for p in (folder.path / "parts").rglob("*") if p.is_file()] == []


def test_batches_finished_before_an_error_are_kept_for_the_next_try(tmp_path):
    folder = plan(tmp_path, slots=30, unit=30, batch=3, behaviour={"20": {"raise": "bug", "times": 1}})
    assert run(folder) == 0
    assert [e["batches"] for e in events(folder, "adopted")] == [6]


def test_retrying_what_was_set_aside_completes_the_stage(tmp_path):
    folder = plan(tmp_path / "a", behaviour={"13": {"raise": "bug", "times": 3}})
    assert run(folder) == 70
    assert folder.retry_set_aside() == [1]
    finish(folder, env=SLOW)
    assert digests(folder) == reference(tmp_path, plan(tmp_path / "b"))


def test_kills_and_drains_do_not_count_as_failures(tmp_path):
    folder = plan(tmp_path / "a", slots=30, unit=30)
    for nth in (1, 1, 1, 1):
        assert Child(folder, fault=f"after_batch:kill@{nth}").wait() == -signal.SIGKILL
        assert Child(folder, fault="after_batch:term@1").wait() in (75, 0)
    finish(folder)
    check(folder, reference(tmp_path, folder))


@pytest.mark.parametrize("slot", [13, 59])
def test_a_killed_child_is_started_anew_and_its_unit_made_as_if_nothing_had_been(tmp_path, slot):
    folder = plan(tmp_path / "a", behaviour={str(slot): {"raise": "killed", "times": 2}})
    child = Child(folder)
    assert child.wait() == 0, child.text()
    assert [e["unit"] for e in events(folder, "killed")] == [slot // 10] * 2 and len(events(folder, "open")) == 3
    check(folder, reference(tmp_path, plan(tmp_path / "b")))  # no report in failed/


@pytest.mark.parametrize("where", ["compute", "open", "encode"])
def test_children_that_are_killed_again_and_again_end_the_worker_with_75_and_blame_no_unit(tmp_path, where):
    folder = plan(tmp_path / "a", behaviour={"13": {"raise": "killed"}} if where == "compute" else {})

    def patch():
        def killed(self, *args):
            raise Killed("the ranks died: killed by SIGKILL")

        if where != "compute":
            setattr(Probe, where, killed)
        Probe.close = lambda self: print("closed", file=sys.stderr)

    child = Child(folder, patch=patch)
    assert child.wait() == 75, child.text()
    assert folder.failures() == {} and "3 times in a row, with nothing made in between" in child.text()
    assert len(folder.committed()) == (5 if where == "compute" else 0)  # the rest of the stage is made first
    assert len(events(folder, "killed")) >= 2 and child.text().count("closed") >= 3  # what was opened by half, too
    whole = plan(tmp_path / "b")
    assert run(whole) == 0 and {u: d for u, d in digests(whole).items() if u in folder.committed()} == digests(folder)


def test_a_broken_stage_is_opened_anew_before_it_computes_again(tmp_path):
    folder = plan(tmp_path / "a", slots=300, behaviour={"13": {"raise": "broken", "times": 2}})

    def strict():  # a device that stays unusable until the stage is opened anew
        real_compute, real_open = Probe.compute, Probe.open

        def compute(self, state, slots):
            assert not getattr(self, "broken", False), "computed on a broken device"
            try:
                return real_compute(self, state, slots)
            except Exception:
                self.broken = True
                raise

        def open_(self):
            self.broken = False
            real_open(self)

        Probe.compute, Probe.open = compute, open_

    assert run(folder, patch=strict) == 0
    assert len(events(folder, "open")) == 3
    assert sum(map(len, folder.failures().values())) == 2


def test_a_stage_that_cannot_be_opened_is_70_at_once_and_blames_no_unit(tmp_path):
    folder = plan(tmp_path, slots=1000)

    def closed():
        def open_(self):
            raise RuntimeError("no such device")

        Probe.open = open_

    child = Child(folder, patch=closed)
    assert child.wait() == 70
    assert "cannot be opened here: RuntimeError: no such device" in child.text()
    assert folder.failures() == {}
    finish(folder, env=SLOW)  # its lease was let go


@pytest.mark.parametrize("where", ["unit_inputs", "begin", "compute", "encode"])
@pytest.mark.parametrize("error", [RuntimeError("bug"), SystemExit(3), OSError(36, "File name too long")])
def test_an_error_anywhere_in_a_unit_is_met_three_times_and_never_hangs_or_passes_for_done(tmp_path, where, error):
    folder = plan(tmp_path, slots=60)

    def patch():
        real = getattr(Probe, where)

        def fails(self, *args):
            slot = args[-1].start if where != "encode" else args[-1][0]
            if slot // 10 == 3:
                raise error
            return real(self, *args)

        setattr(Probe, where, fails)

    assert run(folder, patch=patch) == 70
    assert folder.set_aside() == [3] == folder.missing()


@pytest.mark.parametrize("where", ["check", "open", "unit_inputs", "begin", "compute", "encode", "finish"])
def test_bad_input_found_anywhere_is_65_and_what_was_made_stays(tmp_path, where):
    folder = plan(tmp_path / "a", slots=60)

    def patch():
        real = getattr(Probe, where)

        def fails(self, *args):
            slot = 35 if not args else args[-1].start if where != "encode" else args[-1][0]
            if slot // 10 == 3:
                raise InputError("captions.json: row 3 is torn; make it again")
            return real(self, *args)

        setattr(Probe, where, fails)

    child = Child(folder, patch=patch)
    assert child.wait() == 65
    assert "row 3 is torn" in child.text()
    assert not folder.is_done()
    check(folder, reference(tmp_path, folder), whole=False)
    finish(folder, env=SLOW)  # no lease is in the way
    check(folder, reference(tmp_path, folder))


def test_an_error_of_finishing_is_70_and_another_run_finishes(tmp_path):
    folder = plan(tmp_path)

    def patch():
        def finish_(self):
            raise RuntimeError("cannot")

        Probe.finish = finish_

    assert run(folder, patch=patch) == 70
    assert folder.is_whole() and not folder.is_done()
    finish(folder, env=SLOW)


def test_encode_failing_while_the_device_waits_for_the_queue_does_not_block(tmp_path):
    folder = plan(tmp_path, slots=300, unit=300, batch=3)

    def patch():
        def encode(self, state, item):
            time.sleep(0.05)
            raise ValueError(f"slot {item[0]}")

        Probe.encode = encode

    assert Child(folder, patch=patch).wait(240) == 70
    assert folder.set_aside() == [0]


def test_a_full_disk_met_by_the_writer_while_the_device_waits_is_75(tmp_path):
    folder = plan(tmp_path, slots=300, unit=100, batch=3)

    def patch():
        real = Probe.encode

        def encode(self, state, item):
            time.sleep(0.002)
            return real(self, state, item)

        Probe.encode = encode

    child = Child(folder, fault="before_batch_write:enospc@5", patch=patch)
    assert child.wait(240) == 75
    assert folder.failures() == {}
    wait_for(lambda: all(leases.parse(p.read_bytes())["state"] == "released" for p in (folder.path / "leases").rglob("*.g*")))


@pytest.mark.parametrize("where", ["compute", "encode"])
def test_a_full_disk_met_by_the_stage_itself_is_75_and_blames_no_unit(tmp_path, where):
    folder = plan(tmp_path)

    def patch():
        def full(self, *args):
            raise OSError(28, "No space left on device", "/tmp/scratch")

        setattr(Probe, where, full)

    assert run(folder, patch=patch) == 75
    assert folder.failures() == {}


def test_a_unit_made_twice_with_other_bytes_is_an_error_and_the_first_stays(tmp_path):
    folder = plan(tmp_path, slots=10)
    sleeper = Child(folder, env=FAST, fault="before_link:stop")
    assert sleeper.wait_stopped()

    def patch():
        real = Probe.encode

        def encode(self, state, item):
            return real(self, state, (item[0], {"size": 7}))

        Probe.encode = encode

    (folder.path / "parts" / "000").rename(folder.path / "hidden")  # nothing to adopt
    finish(folder, patch=patch)
    made = digests(folder)
    (folder.path / "hidden").rename(folder.path / "parts" / "000") if not (folder.path / "parts" / "000").exists() else [
        p.rename(folder.path / "parts" / "000" / p.name) for p in (folder.path / "hidden").iterdir()
    ]
    sleeper.signal(signal.SIGCONT)
    assert sleeper.wait() == 70
    assert "different bytes" in sleeper.text()
    assert digests(folder) == made
    assert [e["outcome"] for e in events(folder, "unit")].count("differs") == 1


def test_a_torn_unit_is_found_when_the_stage_is_finished_and_named(tmp_path):
    folder = plan(tmp_path)
    finish(folder)
    (folder.path / "done.json").unlink()
    os.truncate(folder.unit_path(3), 700)
    child = Child(folder)
    assert child.wait() == 65
    assert "000003.tar: not a whole unit" in child.text()
