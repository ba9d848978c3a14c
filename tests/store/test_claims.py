"""Which unit comes next, and what one look at a folder costs."""

import pytest

from synth.store import leases
from synth.store.claims import Claims, linger
from synth.store.folder import StageFolder
from synth.store.leases import Observer, Owner, Times
from tests.faults.farm import plan
from tests.store.test_leases import Clock, elsewhere


def claims(folder, job_idx=0, n_jobs=1, clock=None, worker="w") -> Claims:
    owner = Owner(**vars(Owner.me()) | {"worker": worker})
    return Claims(folder, job_idx, n_jobs, owner, Observer(Times(20, 180), clock or Clock()))


def order(c: Claims) -> list[int]:
    taken = []
    while lease := c.next():
        taken.append(lease.unit)
        lease.close()
    return taken


def make(folder, unit) -> None:
    path = folder.unit_path(unit)
    path.parent.mkdir(exist_ok=True)
    path.touch()


def test_own_units_come_first_in_order_then_all_others_in_an_order_of_ones_own(tmp_path):
    folder = plan(tmp_path, slots=60, unit=1)
    got = order(claims(folder, 2, 6))
    assert got[:10] == list(range(2, 60, 6))
    assert sorted(got) == list(range(60)) and got[10:] != sorted(got[10:])
    other = plan(tmp_path / "b", slots=60, unit=1)
    assert order(claims(other, 2, 6, worker="another"))[10:] != got[10:]


def test_units_that_exist_are_not_claimed_even_if_they_came_after_the_listing(tmp_path):
    folder = plan(tmp_path, slots=10, unit=1)
    make(folder, 3)
    c = claims(folder)
    make(folder, 5)
    assert order(c) == [0, 1, 2, 4, 6, 7, 8, 9]
    assert not (folder.path / "leases" / "000" / "000005.g0").exists()


def test_what_a_living_worker_holds_is_waited_for_and_taken_when_it_looks_dead(tmp_path):
    folder, clock = plan(tmp_path, slots=4, unit=1), Clock()
    leases.create(folder.lease_path(2), 2, 0, elsewhere())
    c = claims(folder, clock=clock)
    assert order(c) == [0, 1, 3]
    assert c.waiting() and c.next() is None
    clock.now += 181
    lease = c.next()
    assert (lease.unit, lease.generation) == (2, 1)


def test_a_unit_that_failed_too_often_is_not_claimed(tmp_path):
    folder = plan(tmp_path, slots=4, unit=1)
    for _ in range(3):
        folder.report_failure(1, {})
    c = claims(folder)
    assert order(c) == [0, 2, 3]
    assert not c.waiting()


def test_a_unit_given_back_comes_again_at_the_end_until_its_third_failure(tmp_path):
    folder = plan(tmp_path, slots=3, unit=1)
    c = claims(folder)
    tried = []
    for _ in range(20):
        lease = c.next()
        if lease is None:
            break
        tried.append((lease.unit, lease.generation))
        lease.release()
        if lease.unit == 0:
            folder.report_failure(0, {})
            c.give_back(0)
        else:
            make(folder, lease.unit)
    assert [t for t in tried if t[0] == 0] == [(0, 0), (0, 1), (0, 2)]
    assert folder.set_aside() == [0] and not c.waiting()


def test_a_unit_that_was_taken_from_us_is_kept_in_mind(tmp_path):
    folder, clock = plan(tmp_path, slots=1, unit=1), Clock()
    c = claims(folder, clock=clock)
    ours = c.next()
    leases.create(folder.lease_path(0), 0, 1, elsewhere())
    assert not ours.check()
    ours.close()
    c.keep_in_mind(0)
    assert c.next() is None and c.waiting()
    clock.now += 181
    assert c.next().generation == 2


def test_helping_with_many_units_lists_the_folders_few_times(tmp_path, monkeypatch):
    folder = plan(tmp_path, slots=2500, unit=1)
    listings = []
    real = StageFolder.committed
    monkeypatch.setattr(StageFolder, "committed", lambda self, *a: listings.append(a) or real(self, *a))
    c = claims(folder, 7, 500)  # 5 units of its own, 2,495 of others
    assert len(order(c)) == 2500
    assert len(listings) <= 4


@pytest.mark.parametrize(("job_idx", "waits"), [(0, True), (1, True), (2, False)])
def test_only_the_first_two_jobs_linger_and_a_little_longer_than_a_dead_lease_takes(tmp_path, job_idx, waits):
    folder, clock = plan(tmp_path, slots=1, unit=1), Clock()
    leases.create(folder.lease_path(0), 0, 0, elsewhere())
    c = claims(folder, job_idx, 3, clock=clock)

    def sleep(seconds):
        clock.now += seconds

    begun = clock.now
    lease = linger(c, c.observer, lambda: False, clock, sleep)
    assert (lease is not None) == waits
    assert (180 <= clock.now - begun < 190) if waits else clock.now == begun


def test_lingering_ends_when_the_worker_drains_or_all_is_done(tmp_path):
    folder, clock = plan(tmp_path, slots=2, unit=1), Clock()
    for u in (0, 1):
        leases.create(folder.lease_path(u), u, 0, elsewhere())
    c, asked = claims(folder, clock=clock), []

    def stop():
        asked.append(1)
        return len(asked) > 3

    assert linger(c, c.observer, stop, clock, lambda s: None) is None and len(asked) == 4
    for u in (0, 1):
        make(folder, u)
    assert linger(c, c.observer, lambda: False, clock, lambda s: None) is None
    assert not c.waiting()
