"""Owners that stop, are taken over, wake and go on; takers and committers that race. Leases save work, the commit gives safety."""

import itertools
import multiprocessing
import os
import signal

import pytest

from synth.run.probe import Probe
from synth.store import leases
from synth.store.commit import Outcome, commit
from synth.store.events import read_events
from synth.store.folder import StageFolder
from synth.store.framing import frame
from synth.store.leases import Owner
from synth.store.parts import PartWriter
from tests.faults.farm import FAST, SLOW, Child, check, claims_only, digests, finish, left_over, plan, reference
from tests.stages import wait_for

FORK = multiprocessing.get_context("fork")


def inodes(folder: StageFolder) -> dict[int, tuple[int, int]]:
    return {u: (s.st_ino, s.st_mtime_ns) for u in folder.committed() for s in [folder.unit_path(u).stat()]}


@pytest.mark.parametrize(
    ("point", "links"),
    [
        *itertools.product(
            ["after_lease", "before_batch_line", "after_batch", "after_index", "before_link", "after_link", "after_commit"],
            [True, False],
        ),
        ("after_claim", False),  # links need no claim
    ],
)
def test_an_owner_stopped_and_woken_after_a_takeover_changes_nothing(tmp_path, point, links):
    patch = None if links else claims_only
    folder = plan(tmp_path / "a", slots=25, links=links)
    sleeper = Child(folder, env=FAST, fault=f"{point}:stop@2", patch=patch)
    assert sleeper.wait_stopped()
    finish(folder, patch=patch)  # waits until the stopped one looks dead, takes its unit over, and completes the stage
    want = reference(tmp_path, folder)
    check(folder, want)
    before = inodes(folder)
    sleeper.signal(signal.SIGCONT)
    assert sleeper.wait() == 0, sleeper.text()
    check(folder, want)
    assert inodes(folder) == before
    finish(folder, patch=patch)
    assert inodes(folder) == before


def test_the_woken_owner_says_that_another_worker_was_first(tmp_path):
    folder = plan(tmp_path / "a", slots=10)
    sleeper = Child(folder, env=FAST, fault="before_link:stop")
    assert sleeper.wait_stopped()
    finish(folder)
    sleeper.signal(signal.SIGCONT)
    assert sleeper.wait() == 0
    assert sorted(e["outcome"] for e in read_events(folder.path) if e["event"] == "unit") == ["ours", "theirs"]


def test_an_old_owner_that_writes_on_while_the_unit_is_done_again_harms_neither(tmp_path):
    folder = plan(tmp_path / "a", slots=60, unit=60, batch=3, sleep=0.02)
    old = Child(folder, env=FAST, fault="after_batch:stop@5")
    assert old.wait_stopped()
    new = Child(folder, env=FAST, fault="after_batch:stop@12")
    assert new.wait_stopped()  # it took over, adopted, and stands in the middle of the unit
    adopted = [e["batches"] for e in read_events(folder.path) if e["event"] == "adopted"]
    assert adopted == [5]
    old.signal(signal.SIGCONT)
    assert old.wait() == 0, old.text()
    new.signal(signal.SIGCONT)
    assert new.wait() == 0, new.text()
    finish(folder)
    check(folder, reference(tmp_path, folder))


def test_a_stopped_owner_of_a_small_claim_is_helped_not_waited_for(tmp_path):
    folder = plan(tmp_path / "a", slots=10, links=False)
    sleeper = Child(folder, env=FAST, fault="after_claim:stop", patch=claims_only)
    assert sleeper.wait_stopped()
    part = next(p for p in (folder.path / "parts" / "000").iterdir() if p.suffix == ".tar")
    inode = part.stat().st_ino
    finish(folder, patch=claims_only)
    assert folder.unit_path(0).stat().st_ino == inode  # the claimed part became the unit, by another worker's hand
    sleeper.signal(signal.SIGCONT)
    assert sleeper.wait() == 0
    check(folder, reference(tmp_path, folder))


def together(n: int, what, *args) -> list:
    """What n processes return that do `what(number, barrier, *args)` at one moment."""
    barrier, answers = FORK.Barrier(n), FORK.SimpleQueue()

    def child(i):
        answers.put((i, what(i, barrier, *args)))

    children = [FORK.Process(target=child, args=(i,)) for i in range(n)]
    for c in children:
        c.start()
    got = dict(answers.get() for _ in range(n))
    for c in children:
        c.join(120)
        assert c.exitcode == 0
    return [got[i] for i in range(n)]


def _take(i, barrier, folder, generations):
    owner, won = Owner.me(), []
    for g in range(generations):
        barrier.wait(240)
        if lease := leases.create(folder.lease_path(7), 7, g, owner):
            won.append(g)
            lease.close()
    return won


def test_exactly_one_of_many_takers_gets_a_generation_of_a_lease(tmp_path):
    folder = plan(tmp_path)
    won = together(6, _take, folder, 60)
    assert sorted(itertools.chain.from_iterable(won)) == list(range(60))
    assert leases.newest_generations(folder.lease_path(7).parent) == {7: 59}


def _commit(i, barrier, folder, patch, same_bytes):
    if patch:
        patch()
    probe, outcomes = Probe(folder), []
    for number in range(folder.spec.n_units):
        unit = folder.unit(number)
        writer = PartWriter(folder.part_path(number, f"w{i}", 0), folder.framing)
        for slots in folder.spec.batches(unit):
            writer.append(frame(folder.framing, [probe.encode(None, (s, {} if same_bytes else {"size": 100 + i})) for s in slots]))
        digest = writer.seal(number, unit.start, len(unit), "")
        barrier.wait(240)
        outcomes.append(commit(folder, writer.path, number, digest).value)
        writer.clean()
        barrier.wait(240)
        inode = folder.unit_path(number).stat().st_ino
        barrier.wait(240)
        outcomes[-1] += f" {inode}"
    return outcomes


@pytest.mark.parametrize(("links", "patch"), [(True, None), (False, None), (False, claims_only)])
def test_one_of_many_commits_of_a_unit_wins_and_is_never_replaced(tmp_path, links, patch):
    folder = plan(tmp_path / "a", slots=150, unit=5, links=links)
    outcomes = together(4, _commit, folder, patch, True)
    for of_unit in zip(*outcomes, strict=True):
        words = [o.split()[0] for o in of_unit]
        assert set(words) <= {"ours", "theirs"}
        assert words.count("ours") == 1 or (patch and words.count("ours") == 0)  # a helper may have renamed the winner's part for it
        assert len({o.split()[1] for o in of_unit}) == 1
    check(folder, reference(tmp_path, folder))
    assert list((folder.path / "parts").rglob("*.tar*")) == []


@pytest.mark.parametrize(("links", "patch"), [(True, None), (False, claims_only)])
def test_commits_of_different_bytes_leave_one_and_tell_the_others(tmp_path, links, patch):
    folder = plan(tmp_path / "a", slots=50, unit=5, links=links)
    outcomes = together(3, _commit, folder, patch, False)
    for number, of_unit in enumerate(zip(*outcomes, strict=True)):
        words = [o.split()[0] for o in of_unit]
        assert words.count(Outcome.DIFFERS.value) == 2
        with folder.reader(number) as reader:
            assert all(reader.verify(e) for e in reader.index.samples)


def test_a_living_owner_is_not_disturbed(tmp_path):
    folder, over = plan(tmp_path / "a", slots=10, batch=2), tmp_path / "over"

    def patch():
        compute = Probe.compute

        def held(self, state, slots):
            wait_for(over.exists)
            return compute(self, state, slots)

        Probe.compute = held

    owner = Child(folder, env={"SYNTHSET_BEAT_S": "0.05", "SYNTHSET_DEAD_AFTER_S": "5"}, patch=patch)
    wait_for(lambda: any((folder.path / "leases").rglob("*.g0")))
    other = Child(folder, 5, 6, env=SLOW)  # no lingerer: it finds nothing for itself and leaves
    assert other.wait() == 0
    assert owner.poll() is None
    over.touch()
    assert owner.wait() == 0
    assert [e["event"] for e in read_events(folder.path)].count("unit") == 1
    assert left_over(folder) == []


def test_a_reused_pid_is_not_taken_for_the_owner(tmp_path):
    folder = plan(tmp_path)
    me = Owner.me()
    assert not me.is_gone()
    assert Owner(**vars(me) | {"start": str(int(me.start) - 1)}).is_gone()
    assert not Owner(**vars(me) | {"boot": "another/pid:[1]", "pid": 999_999_999}).is_gone()
    assert Owner(**vars(me) | {"pid": 999_999_999}).is_gone()
    assert os.path.exists(folder.path) and digests(folder) == {}
