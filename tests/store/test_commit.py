"""Commit: first wins, on file systems with and without hard links."""

import errno
import os

import pytest

from synth.errors import InputError, StoreError
from synth.store import commit as module
from synth.store import files
from synth.store.commit import Outcome, commit, link_from_relative
from synth.store.framing import frame
from synth.store.parts import PartWriter
from synth.store.samples import Sample
from tests.faults.farm import plan

WAYS = ["links", "rename", "claim", "plain claim"]


@pytest.fixture(params=WAYS)
def folder(tmp_path, request, monkeypatch):
    """A stage of one-slot units on a file system that can do a little less each time."""
    monkeypatch.setattr(module, "CLAIM_PATIENCE", 0.2)
    if request.param in ("claim", "plain claim"):
        monkeypatch.setattr(module, "rename_once", lambda a, b: None)
    if request.param == "plain claim":
        monkeypatch.setattr(os, "symlink", lambda a, b: (_ for _ in ()).throw(OSError(errno.EPERM, "no symlinks")))
    return plan(tmp_path, slots=4, unit=1, links=request.param == "links")


def sealed(folder, worker: str, unit=0, data=b"same"):
    """(path of a sealed part, its digest)."""
    w = PartWriter(folder.part_path(unit, worker, 0), "tar", 1)
    w.append(frame("tar", [Sample(unit, "k", {"x": data})]))
    return w.path, w.seal(unit, unit, 1, "")


def test_the_first_commit_wins_and_the_second_is_dropped(folder):
    a, b, c = sealed(folder, "a"), sealed(folder, "b"), sealed(folder, "c", data=b"other")
    assert commit(folder, a[0], 0, a[1]) is Outcome.OURS
    inode = folder.unit_path(0).stat().st_ino
    assert commit(folder, b[0], 0, b[1]) is Outcome.THEIRS
    assert commit(folder, c[0], 0, c[1]) is Outcome.DIFFERS
    assert folder.unit_path(0).stat().st_ino == inode
    assert [p for p in (folder.path / "parts").rglob("*") if p.is_file()] == []
    assert [p.name for p in folder.unit_path(0).parent.iterdir()] == ["000000.tar"]


def test_a_part_that_an_adopter_removed_after_its_commit_counts_as_theirs(folder):
    a, b = sealed(folder, "a"), sealed(folder, "b")
    commit(folder, a[0], 0, a[1])
    b[0].unlink()
    assert commit(folder, b[0], 0, b[1]) is Outcome.THEIRS


def test_a_part_that_vanished_before_the_unit_exists_is_an_error(folder):
    a = sealed(folder, "a")
    a[0].unlink()
    with pytest.raises(FileNotFoundError):
        commit(folder, a[0], 0, a[1])
    assert folder.committed() == set()
    b = sealed(folder, "b")
    assert commit(folder, b[0], 0, b[1]) is Outcome.OURS


@pytest.mark.parametrize("folder", WAYS[1:], indirect=True)  # links need no claim
def test_a_claim_of_a_dead_worker_is_finished_by_the_next(folder):
    a, b = sealed(folder, "a"), sealed(folder, "b")
    inode = a[0].stat().st_ino
    module._make_claim(a[0].with_name("000000.tar.claim"), a[0].name)
    outcome = commit(folder, b[0], 0, b[1])
    if module.rename_once(a[0], a[0].with_name("x")) is None:
        assert outcome is Outcome.THEIRS and folder.unit_path(0).stat().st_ino == inode
    assert folder.committed() == {0}


@pytest.mark.parametrize("folder", WAYS[1:], indirect=True)
@pytest.mark.parametrize("content", ["", "000000.gone.0.tar"])
def test_a_claim_that_names_nothing_blocks_nobody_for_long(folder, content):
    a = sealed(folder, "a")
    a[0].with_name("000000.tar.claim").write_text(content)
    assert commit(folder, a[0], 0, a[1]) is Outcome.OURS
    assert folder.committed() == {0}


def test_a_lost_answer_of_a_network_file_system_is_a_commit_of_ours(tmp_path):
    folder = plan(tmp_path, slots=4, unit=1)
    path, digest = sealed(folder, "a")
    folder.unit_path(0).parent.mkdir()
    os.link(path, folder.unit_path(0))  # the server did it; its client asks again
    assert commit(folder, path, 0, digest) is Outcome.OURS


def test_a_stage_moved_to_a_file_system_without_links_still_commits(tmp_path, monkeypatch):
    folder = plan(tmp_path, slots=4, unit=1)
    monkeypatch.setattr(os, "link", lambda a, b: (_ for _ in ()).throw(OSError(errno.EPERM, "no links")))
    a, b = sealed(folder, "a"), sealed(folder, "b")
    assert commit(folder, a[0], 0, a[1]) is Outcome.OURS
    assert commit(folder, b[0], 0, b[1]) is Outcome.THEIRS


def test_links_inside_one_folder_only_are_no_links(tmp_path, monkeypatch):
    real = os.link

    def beegfs(a, b):
        if os.path.dirname(a) != os.path.dirname(b):
            raise OSError(errno.EXDEV, "hard links across folders")
        real(a, b)

    assert files.hard_links_work(tmp_path, tmp_path)
    monkeypatch.setattr(os, "link", beegfs)
    folder = plan(tmp_path, slots=4, unit=1)
    assert folder.links is False
    a = sealed(folder, "a")
    assert commit(folder, a[0], 0, a[1]) is Outcome.OURS


def test_a_refusing_disk_is_a_store_error_and_leaves_no_unit(tmp_path, monkeypatch):
    folder = plan(tmp_path, slots=4, unit=1)
    a = sealed(folder, "a")
    monkeypatch.setattr(os, "link", lambda a, b: (_ for _ in ()).throw(OSError(errno.EDQUOT, "Disk quota exceeded")))
    with pytest.raises(StoreError, match="quota"):
        commit(folder, a[0], 0, a[1])
    assert folder.committed() == set()


def test_an_existing_unit_that_is_torn_is_named_not_replaced(tmp_path):
    folder = plan(tmp_path, slots=4, unit=1)
    a = sealed(folder, "a")
    folder.unit_path(0).parent.mkdir()
    folder.unit_path(0).write_bytes(b"torn")
    with pytest.raises(InputError, match=r"000000\.tar: not a whole unit"):
        commit(folder, a[0], 0, a[1])
    assert folder.unit_path(0).read_bytes() == b"torn"


@pytest.mark.parametrize("fails", [0, errno.EMLINK, errno.EXDEV])
def test_a_unit_of_a_relative_is_linked_or_copied(tmp_path, monkeypatch, fails):
    small, large = plan(tmp_path, slots=2, unit=1), plan(tmp_path, slots=4, unit=1)
    a = sealed(small, "a")
    commit(small, a[0], 0, a[1])
    if fails:
        monkeypatch.setattr(os, "link", lambda a, b: (_ for _ in ()).throw(OSError(fails, "")))
    assert link_from_relative(large, [small], 1, "") is None
    assert link_from_relative(large, [small], 3, "") is None
    assert link_from_relative(large, [small], 0, "other rows") is None
    assert link_from_relative(large, [small], 0, "").path == small.path
    assert large.unit_path(0).read_bytes() == small.unit_path(0).read_bytes()
    assert (large.unit_path(0).stat().st_ino == small.unit_path(0).stat().st_ino) == (not fails)
    before = large.unit_path(0).stat().st_ino
    assert link_from_relative(large, [small], 0, "")
    assert large.unit_path(0).stat().st_ino == before
    assert [p for p in (large.path / "parts").rglob("*") if p.is_file()] == []


def test_a_torn_unit_of_a_relative_is_not_taken(tmp_path):
    small, large = plan(tmp_path, slots=2, unit=1), plan(tmp_path, slots=4, unit=1)
    small.unit_path(0).parent.mkdir()
    small.unit_path(0).write_bytes(b"torn")
    assert link_from_relative(large, [small], 0, "") is None
    assert large.committed() == set()
