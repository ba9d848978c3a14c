"""Leases: one owner a generation, judged on the observer's own clock."""

import json
import os
import subprocess
import sys

import pytest

from synth.errors import InputError, StoreError
from synth.store import leases
from synth.store.leases import RECORD, Observer, Owner, Times


class Clock:
    def __init__(self):
        self.now = 1000.0

    def __call__(self):
        return self.now


def elsewhere(**kw) -> Owner:
    """An owner on another machine: only its beats tell about it."""
    return Owner(**vars(Owner.me()) | {"boot": "another", "host": "other", "pid": 1} | kw)


@pytest.fixture
def path(tmp_path):
    return tmp_path / "leases" / "000" / "000007.g0"


def observer(clock, **kw) -> Observer:
    return Observer(Times(20, 180), clock, **kw)


def test_a_generation_is_taken_once(path):
    assert leases.create(path, 7, 0, Owner.me()).generation == 0
    assert leases.create(path, 7, 0, Owner.me()) is None
    assert leases.create(path, 7, 1, Owner.me()).path.name == "000007.g1"
    assert leases.newest_generations(path.parent) == {7: 1}


def test_a_lease_is_alive_while_its_counter_moves_and_dead_when_it_stands_still(path):
    clock = Clock()
    see = observer(clock)
    lease = leases.create(path, 7, 0, elsewhere())
    assert not see.is_free(7, path, 0)
    for _ in range(20):
        clock.now += 170
        lease.beat()
        assert not see.is_free(7, path, 0)
    clock.now += 179
    assert not see.is_free(7, path, 0)
    clock.now += 2
    assert see.is_free(7, path, 0)


def test_an_observer_trusts_only_its_own_clock(path):
    lease = leases.create(path, 7, 0, elsewhere())
    os.utime(lease.path, (1, 1))  # a file server that is half a century behind
    clock = Clock()
    see = observer(clock)
    assert not see.is_free(7, path, 0)
    clock.now += 181
    assert see.is_free(7, path, 0)
    late = observer(clock)  # started later: it has to watch for itself
    assert not late.is_free(7, path, 0)


def test_a_new_generation_is_watched_anew(path):
    clock = Clock()
    see = observer(clock)
    leases.create(path, 7, 0, elsewhere())
    see.is_free(7, path, 0)
    clock.now += 200
    assert see.is_free(7, path, 0)
    leases.create(path, 7, 1, elsewhere())
    assert not see.is_free(7, path, 1)


def test_a_released_lease_is_free_at_once(path):
    see = observer(Clock())
    lease = leases.create(path, 7, 0, elsewhere())
    assert not see.is_free(7, path, 0)
    lease.release()
    assert see.is_free(7, path, 0)


def test_an_ended_process_of_this_host_is_free_at_once_and_another_boot_is_never_judged_by_pid(path):
    code = "from synth.store.leases import Owner; import json; print(json.dumps(vars(Owner.me())))"
    dead = Owner(**json.loads(subprocess.run([sys.executable, "-c", code], capture_output=True, check=True).stdout))
    see = observer(Clock())
    leases.create(path, 7, 0, dead)
    assert see.is_free(7, path, 0)
    leases.create(path, 7, 1, Owner(**vars(dead) | {"boot": "another"}))
    assert not see.is_free(7, path, 1)


def test_a_zombie_is_gone():
    pid = os.fork()
    if pid == 0:
        os._exit(0)
    os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)
    assert leases.process_start(pid) is None
    os.waitpid(pid, 0)


def test_a_process_that_proc_hides_counts_as_living(monkeypatch):
    def hidden(self):
        raise FileNotFoundError(self)

    monkeypatch.setattr(leases.Path, "read_text", hidden)
    assert leases.process_start(os.getpid()) == ""
    assert leases.process_start(999_999_999) is None


def test_a_lease_of_a_slurm_job_that_is_gone_is_free_at_once(path):
    asked = []
    see = observer(Clock(), slurm_job_gone=lambda job: asked.append(job) or True)
    leases.create(path, 7, 0, elsewhere(slurm_job="12_3"))
    assert see.is_free(7, path, 0)
    assert asked == ["12_3"]


@pytest.mark.parametrize("record", [b"", b"{", bytes(RECORD), b"[]", b"null", b'{"beat": 1}'])
def test_a_torn_lease_is_judged_by_standing_still(path, record):
    lease = leases.create(path, 7, 0, elsewhere())
    lease.path.write_bytes(record)
    clock = Clock()
    see = observer(clock)
    assert not see.is_free(7, path, 0)
    clock.now += 181
    assert see.is_free(7, path, 0)


def test_a_record_is_one_block_whatever_the_names(path):
    lease = leases.create(path, 7, 0, elsewhere(slurm_job="9" * 60, worker="w" * 80))
    for state in ("held", "released"):
        lease.beat(state)
        assert lease.path.stat().st_size == RECORD
        assert leases.parse(lease.path.read_bytes())["state"] == state


def test_an_owner_notices_that_it_was_taken_over(path):
    lease = leases.create(path, 7, 0, Owner.me())
    assert lease.check() and not lease.lost
    leases.create(path, 7, 1, Owner.me())
    assert not lease.check() and lease.lost


def test_removing_takes_older_generations_along_and_nothing_newer(path):
    held = [leases.create(path, 7, g, Owner.me()) for g in range(4)]
    held[2].remove()
    assert [p.name for p in path.parent.iterdir()] == ["000007.g3"]


def test_a_beat_after_closing_writes_nowhere(path, tmp_path):
    lease = leases.create(path, 7, 0, Owner.me())
    lease.close()
    with open(tmp_path / "other", "wb") as f:  # takes the file descriptor that was free
        lease.beat()
        lease.release()
        f.flush()
        assert (tmp_path / "other").stat().st_size == 0


def test_a_lease_that_cannot_be_written_is_not_left_and_older_ones_stay(path, monkeypatch):
    leases.create(path, 7, 0, elsewhere())

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "pwrite", full)
    with pytest.raises(StoreError, match="No space left"):
        leases.create(path, 7, 1, Owner.me())
    assert [p.name for p in path.parent.iterdir()] == ["000007.g0"]  # g0 says that there are parts to adopt


@pytest.mark.parametrize(
    "env", [{"SYNTHSET_BEAT_S": "x"}, {"SYNTHSET_BEAT_S": "0"}, {"SYNTHSET_BEAT_S": "20", "SYNTHSET_DEAD_AFTER_S": "30"}]
)
def test_times_that_would_call_the_living_dead_are_refused(env):
    with pytest.raises(InputError, match="SYNTHSET_"):
        Times.from_env(env)


def test_foreign_names_in_a_leases_folder_are_no_leases(tmp_path):
    for name in ("000001.g0", "000001.g12", "000002.gx", ".nfs000", "x.g1", "000003"):
        (tmp_path / name).touch()
    assert leases.newest_generations(tmp_path) == {1: 12}
    assert leases.newest_generations(tmp_path / "nowhere") == {}
