"""What a stage folder says about itself."""

import errno
import json
import os

import pytest

from synth.errors import InputError, StoreError
from synth.store import files
from synth.store import folder as module
from synth.store.events import EventLog, read_events
from synth.store.folder import StageFolder
from tests.faults.farm import Child, finish, plan, run


def test_missing_confirms_each_absence_by_opening(tmp_path, monkeypatch):
    folder = plan(tmp_path)
    finish(folder)
    folder.unit_path(2).unlink()
    monkeypatch.setattr(type(folder), "committed", lambda self, shards=None: {0, 1})  # a stale listing
    assert folder.missing() == [2]
    assert not folder.is_whole()


def test_missing_is_patient_with_a_stale_cache(tmp_path, monkeypatch):
    folder = plan(tmp_path)
    finish(folder)
    monkeypatch.setattr(type(folder), "committed", lambda self, shards=None: set())
    answers = {}

    def stale(path):
        answers[path] = answers.get(path, 0) + 1
        return answers[path] > 2

    monkeypatch.setattr(module, "_opens", stale)
    assert folder.missing() == list(range(6))
    assert folder.missing(patience=2.0) == []


def test_what_cannot_be_asked_is_not_called_missing(tmp_path, monkeypatch):
    folder = plan(tmp_path)
    monkeypatch.setattr(os, "open", lambda *a, **k: (_ for _ in ()).throw(OSError(errno.EACCES, "Permission denied")))
    with pytest.raises(StoreError):
        folder.missing()


def test_foreign_files_are_no_units(tmp_path):
    folder = plan(tmp_path)
    shard = folder.unit_path(0).parent
    shard.mkdir()
    for name in ("000001.tar.tmp", ".000001.tar.1.tmp", "000001.jsonl", "abc.tar", "000099.tar", "000001.tar.claim"):
        (shard / name).touch()
    assert folder.committed() == set()


def test_progress_counts_units_and_the_finished_batches_of_the_best_part(tmp_path):
    folder = plan(tmp_path, slots=25, unit=10, batch=3)
    assert folder.progress() == 0
    Child(folder, fault="after_batch:kill@6").wait()  # unit 0 of four batches, then two of unit 1
    assert folder.progress() == 10 + 6
    finish(folder)
    assert folder.progress() == 25


def test_samples_yields_slots_in_order_and_opens_only_what_covers_them(tmp_path):
    folder = plan(tmp_path, slots=25, unit=10, batch=3, behaviour={"12": {"tombstone": "no"}})
    finish(folder)
    assert [s.slot for s in folder.samples()] == [s for s in range(25) if s != 12]
    folder.unit_path(0).unlink()
    assert [s.slot for s in folder.samples(11, 22)] == [11, *range(13, 22)]
    assert [s.json()["slot"] for s in folder.samples(20, 999)] == list(range(20, 25))
    assert list(folder.samples(30)) == [] == list(folder.samples(5, 5))
    with pytest.raises(InputError, match=r"000000\.tar.*run the command that made its stage again"):
        list(folder.samples(0, 3))


def test_units_set_aside_get_new_tries_and_all_their_reports_stay(tmp_path):
    folder = plan(tmp_path, behaviour={"13": {"raise": "bug"}})
    for n in (1, 2):
        assert run(folder) == 70
        assert folder.set_aside() == [1] and len(folder.failures()[1]) == 3
        assert folder.retry_set_aside() == [1]
        assert folder.set_aside() == [] == folder.retry_set_aside()
        assert len(list((folder.path / "failed").glob("*.old"))) == 3 * n


def test_reports_of_several_writers_are_all_kept(tmp_path):
    folder = plan(tmp_path)
    assert [folder.report_failure(4, {"n": n, "odd": "\udcff"}) for n in range(4)] == [1, 2, 3, 4]
    assert len(folder.failures()[4]) == 4


def test_done_json_is_a_cache_that_may_be_torn_or_gone(tmp_path):
    folder = plan(tmp_path)
    finish(folder)
    facts = folder.done()
    assert facts == {"units": 6, "slots": 60, "samples": 60, "tombstones": 0}
    (folder.path / "done.json").write_bytes(b'{"un')
    assert folder.done() == {}
    (folder.path / "done.json").unlink()
    assert run(folder) == 0
    assert folder.done() == facts


def test_relatives_differ_in_slots_or_upstream_only(tmp_path):
    a, b = plan(tmp_path, slots=10), plan(tmp_path, slots=20)
    plan(tmp_path, slots=10, seed=1)
    plan(tmp_path, slots=10, batch=4)
    assert [f.path for f in a.relatives()] == [b.path]


def test_write_once_is_first_wins_with_and_without_links(tmp_path, monkeypatch):
    assert files.write_once(tmp_path / "a", b"1") and not files.write_once(tmp_path / "a", b"2")
    monkeypatch.setattr(os, "link", lambda *a: (_ for _ in ()).throw(OSError(errno.EPERM, "no links")))
    assert files.write_once(tmp_path / "b", b"1") and not files.write_once(tmp_path / "b", b"2")
    monkeypatch.setattr(files, "rename_once", lambda *a: None)
    assert files.write_once(tmp_path / "c", b"1") and not files.write_once(tmp_path / "c", b"2")
    assert {p.name: p.read_bytes() for p in tmp_path.iterdir()} == {"a": b"1", "b": b"1", "c": b"1"}


def test_write_once_was_not_first_where_the_file_is_gone_a_moment_later(tmp_path, monkeypatch):
    monkeypatch.setattr(os, "link", lambda *a: (_ for _ in ()).throw(FileExistsError(errno.EEXIST, "File exists")))
    assert files.write_once(tmp_path / "a", b"1") is False
    assert list(tmp_path.iterdir()) == []


def test_write_atomic_replaces_whole_and_leaves_nothing_when_it_fails(tmp_path, monkeypatch):
    files.write_atomic(tmp_path / "a", b"1")
    monkeypatch.setattr(os, "fsync", lambda fd: (_ for _ in ()).throw(OSError(errno.ENOSPC, "No space left on device")))
    with pytest.raises(StoreError):
        files.write_atomic(tmp_path / "a", b"2")
    assert {p.name: p.read_bytes() for p in tmp_path.iterdir()} == {"a": b"1"}


def test_rename_once_does_not_replace(tmp_path):
    (tmp_path / "a").write_text("a")
    (tmp_path / "b").write_text("b")
    assert files.rename_once(tmp_path / "a", tmp_path / "b") is False
    assert files.rename_once(tmp_path / "a", tmp_path / "c") is True
    with pytest.raises(FileNotFoundError):
        files.rename_once(tmp_path / "a", tmp_path / "d")


def test_events_survive_torn_lines_strange_text_and_a_full_disk(tmp_path):
    (tmp_path / "events").mkdir()
    log = EventLog(tmp_path, "w")
    log.write("a", text="ü \udcff \n", path=tmp_path)
    log.close()
    log.write("after closing")
    with open(log.path, "a") as f:
        f.write('{"event": "to')
    assert [e["event"] for e in read_events(tmp_path)][:1] == ["a"]
    said = []
    full = EventLog(tmp_path / "nowhere", "w", echo=said.append)
    full.write("b")
    assert [s["event"] for s in said] == ["b", "event not stored"]


def test_a_stage_that_was_planned_before_its_framing_was_stated_goes_on(tmp_path):
    folder = plan(tmp_path, framing="jsonl")
    stated = json.loads((folder.path / "stage.json").read_bytes())
    (folder.path / "stage.json").write_text(json.dumps({k: v for k, v in stated.items() if k != "framing"}))
    with pytest.raises(InputError, match="does not say how units are framed, and there are none; remove it and run the command"):
        StageFolder.open(folder.path)
    folder.unit_path(0).parent.mkdir(parents=True)
    folder.unit_path(0).write_bytes(b"")
    assert StageFolder.open(folder.path).framing == "jsonl"  # as its units are
    assert StageFolder.create(tmp_path, folder.spec).framing == "jsonl"  # planned again: stated from now on
    assert json.loads((folder.path / "stage.json").read_bytes()) == stated


def test_a_framing_that_is_none_is_named(tmp_path):
    folder = plan(tmp_path)
    stated = json.loads((folder.path / "stage.json").read_bytes())
    (folder.path / "stage.json").write_text(json.dumps(stated | {"framing": "zip"}))
    with pytest.raises(InputError, match="framing 'zip': there are tar, jsonl"):
        StageFolder.open(folder.path)
