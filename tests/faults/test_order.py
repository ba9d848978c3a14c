"""The bytes of a stage do not depend on who computes it, in which order, or how many of them there are."""

import random

import pytest

from tests.faults.farm import SLOW, Child, check, finish, plan, reference, run


@pytest.mark.parametrize("framing", ["tar", "jsonl"])
@pytest.mark.parametrize("links", [True, False])
@pytest.mark.parametrize("n_jobs", [1, 3, 8])
def test_units_are_identical_for_any_number_of_jobs_at_once(tmp_path, n_jobs, links, framing):
    folder = plan(tmp_path / "a", links=links, framing=framing, sleep=0.001, behaviour={"7": {"size": 5000}, "13": {"tombstone": "asked"}})
    children = [Child(folder, i, n_jobs, env=SLOW) for i in random.sample(range(n_jobs), n_jobs)]
    assert [c.wait() for c in children] == [0] * n_jobs
    check(folder, reference(tmp_path, folder))
    assert folder.is_done() and folder.done()["samples"] == 59 and folder.done()["tombstones"] == 1


def test_units_are_identical_when_jobs_run_one_after_the_other_in_any_order(tmp_path):
    folder = plan(tmp_path / "a", slots=95)
    first = run(folder, 5, 8)
    assert first == 0
    check(folder, reference(tmp_path, folder))  # the first job already did everybody's units: stragglers and absentees are helped


def test_jobs_3_and_7_of_16_complete_the_stage(tmp_path):
    folder = plan(tmp_path / "a", slots=170, unit=5, batch=2, sleep=0.001)
    children = [Child(folder, i, 16) for i in (3, 7)]
    assert [c.wait() for c in children] == [0, 0]
    check(folder, reference(tmp_path, folder))
    assert folder.is_done()


def test_n_jobs_may_change_while_others_work(tmp_path):
    folder = plan(tmp_path / "a", slots=200, unit=5, batch=2, sleep=0.001)
    children = [Child(folder, 0, 2), Child(folder, 4, 5), Child(folder, 1, 3), Child(folder, 0, 1)]
    assert [c.wait() for c in children] == [0] * 4
    check(folder, reference(tmp_path, folder))


def test_nothing_is_left_beside_the_units_of_a_whole_stage(tmp_path):
    folder = plan(tmp_path / "a", sleep=0.001)
    for c in [Child(folder, i, 3) for i in range(3)]:
        c.wait()
    finish(folder)
    left = [p for top in ("parts", "leases") for p in (folder.path / top).rglob("*") if p.is_file()]
    assert left == []


def test_a_stage_without_slots_is_done_at_once(tmp_path):
    folder = plan(tmp_path / "a", slots=0)
    assert run(folder) == 0 and folder.is_done()
