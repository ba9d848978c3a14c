import json
import os
import shutil
import time
from dataclasses import replace

import pytest

from launch import clean
from launch.show.removable import Asked, find
from launch.show.stages import find_stages
from launch.slurm import submissions
from synth.errors import EXIT_AGAIN, EXIT_OK, InputError
from synth.numerics import EXACT
from synth.run.loop import Worker
from synth.store import leases
from synth.store.folder import StageFolder
from synth.store.leases import Owner
from synth.store.spec import StageSpec, Upstream
from tests.stages import probe

OLD = 86400 * 30


def on(root, name, kind, *upstream, whole=True):
    """A stage that is made of others; its units are files that nobody reads."""
    ups = tuple(Upstream(os.path.relpath(u.path, root / "x"), u.spec.fingerprint) for u in upstream)
    spec = StageSpec(name, kind, {"name": name}, 4, 4, 4, EXACT, upstream={"images": ups} if ups else {}, framing="jsonl")
    folder = StageFolder.create(root, spec)
    if whole:
        folder.unit_path(0).parent.mkdir(exist_ok=True)
        folder.unit_path(0).write_text("a unit\n")
        folder.mark_done({"units": 1, "slots": 4, "samples": 4, "tombstones": 0})
    if kind == "image_folder":
        folder.out_dir.mkdir(parents=True)
        (folder.out_dir / "a.png").write_bytes(b"a picture")
    return folder


@pytest.fixture
def runs(tmp_path):
    """runs/birds: captions -> images -> filter and an export of images; another filter that nobody wants. All old."""
    root = tmp_path / "runs" / "birds"
    captions = on(root, "captions", "captions")
    images = on(root, "images", "images", captions)
    export = on(root, "image_folder", "image_folder", images)
    wanted = on(root, "balance", "balance", images)
    unwanted = on(root, "near_duplicates", "near_duplicates", wanted)
    aged(tmp_path / "runs")
    made = {f.spec.name: f for f in (captions, images, export, wanted, unwanted)}
    return made | {"root": root}


def aged(folder, seconds=OLD):
    for path in [folder, *folder.rglob("*")]:
        os.utime(path, (time.time() - seconds,) * 2, follow_symlinks=False)


def run(*argv):
    return clean.main([str(a) for a in argv])


def names(root):
    return sorted(p.name.rpartition("-")[0] for p in root.glob("[!.]*") if (p / "stage.json").is_file())


def test_nothing_goes_without_yes_and_only_leftovers_of_whole_stages_go_with_it(tmp_path, capsys):
    folder = probe(tmp_path / "runs" / "p")
    assert Worker(folder, 0, 1).run() == 0
    part, lease = folder.part_path(3, "w-1-abc", 0), folder.lease_path(3)
    for left in (part, lease):
        left.parent.mkdir(parents=True, exist_ok=True)
        left.write_bytes(b"left by a worker that was killed")
    before = {p: p.read_bytes() for p in folder.path.rglob("*") if p.is_file()}
    assert run(tmp_path / "runs") == EXIT_OK
    said = capsys.readouterr().out
    assert "parts and leases of a whole stage" in said and "in 2 files; nothing was removed: add --yes" in said
    assert {p: p.read_bytes() for p in folder.path.rglob("*") if p.is_file()} == before
    assert run(tmp_path / "runs", "--yes") == EXIT_OK and "removed 1 of 1" in capsys.readouterr().out
    assert {p: p.read_bytes() for p in folder.path.rglob("*") if p.is_file()} == {p: b for p, b in before.items() if p not in (part, lease)}
    assert run(tmp_path / "runs", "--yes") == EXIT_OK and capsys.readouterr().out == "nothing to remove\n"


def test_parts_of_a_stage_that_is_not_whole_and_reports_of_units_that_are_to_come_stay(tmp_path, capsys):
    folder = probe(tmp_path / "runs" / "p")
    assert Worker(folder, 0, 1).run() == 0
    folder.unit_path(2).unlink()
    (folder.path / "done.json").unlink()
    part = folder.part_path(2, "w-1-abc", 0)
    part.parent.mkdir(parents=True, exist_ok=True)
    part.write_bytes(b"half a unit")
    for unit in (1, 2):
        folder.report_failure(unit, {"error": "no", "traceback": "", "host": "a", "device": "cpu"})
    (folder.path / "logs" / "1.log").write_text("old")
    aged(folder.path)
    (folder.path / "logs" / "2.log").write_text("new")
    os.utime(folder.path / "logs" / "2.log", (time.time() - 86400,) * 2)
    os.utime(folder.path / "logs", (time.time() - OLD,) * 2)
    assert run(tmp_path / "runs", "--older-than", "7", "--yes") == EXIT_OK
    assert part.exists() and sorted(folder.failures()) == [2]
    assert [p.name for p in (folder.path / "logs").iterdir()] == ["2.log"]
    assert "removed 2 of 2" in capsys.readouterr().out


def test_stages_that_no_export_is_made_of_go_from_the_end_of_their_chain(runs, capsys):
    root = runs["root"]
    assert run(root.parent, "--unused") == EXIT_OK
    said = capsys.readouterr().out
    assert "near_duplicates" in said and "birds/balance" in said and "birds/images" not in said and "captions-" not in said
    assert run(root.parent, "--unused", "--yes") == EXIT_OK
    assert names(root) == ["captions", "image_folder", "images"] and not list(root.glob(".removing-*"))


def test_a_stage_that_another_dataset_or_a_source_is_made_of_stays_also_when_one_dataset_alone_is_cleaned(runs):
    other = runs["root"].parent / "cats"
    on(other, "image_folder", "image_folder", runs["near_duplicates"])
    aged(other)
    assert run(runs["root"], "--unused", "--yes") == EXIT_OK
    assert names(runs["root"]) == ["balance", "captions", "image_folder", "images", "near_duplicates"]


def test_a_dataset_without_an_export_keeps_its_stages(tmp_path, capsys):
    on(tmp_path / "runs" / "birds", "images", "images")
    aged(tmp_path)
    assert run(tmp_path / "runs", "--unused", "--yes") == EXIT_OK
    assert names(tmp_path / "runs" / "birds") == ["images"]
    assert "birds: has no export, so no stage of it is called unused" in capsys.readouterr().out


def test_no_stage_goes_while_one_cannot_be_read_that_may_be_made_of_it(runs, capsys):
    broken = runs["root"].parent / "cats" / "images-0123456789ab"
    broken.mkdir(parents=True)
    (broken / "stage.json").write_text("{")
    assert run(runs["root"].parent, "--unused", "--yes") == EXIT_OK
    assert len(names(runs["root"])) == 5 and "cannot be read" in capsys.readouterr().out
    assert run(runs["root"].parent, "--keep-exports-only", "--yes") == EXIT_OK
    assert len(names(runs["root"])) == 5


def test_a_lease_keeps_its_stage_while_it_may_be_somebody_s(runs):
    folder = runs["near_duplicates"]
    (folder.path / "done.json").unlink()
    folder.unit_path(0).unlink()
    lease = leases.create(folder.lease_path(0), 0, 0, replace(Owner.me(), boot="another machine"))
    lease.beat()
    aged(folder.path)
    os.utime(lease.path)
    assert "(live)" in clean.in_use(folder)
    aged(folder.path, 3600)
    assert "(silent)" in clean.in_use(folder)
    aged(folder.path)
    assert clean.in_use(folder) == "" and run(runs["root"], "--unused", "--yes") == EXIT_OK and len(names(runs["root"])) == 3


def test_a_stage_that_somebody_works_on_is_left_alone(runs, capsys, monkeypatch):
    folder = runs["near_duplicates"]
    (folder.path / "done.json").unlink()
    folder.unit_path(0).unlink()
    (folder.path / "events" / "w-1-abc.jsonl").write_text('{"event": "start", "job_idx": 0}\n')  # a worker that takes no unit yet
    assert run(runs["root"], "--unused", "--yes") == EXIT_OK
    said = capsys.readouterr().out
    assert "kept" in said and "somebody wrote there" in said and len(names(runs["root"])) == 5, "what it is made of stays, too"
    aged(folder.path)
    one = submissions.intend(folder.path, 1)
    submissions.record(folder.path, replace(one, state=submissions.SUBMITTED, arrays=(submissions.Array("12", 4),)))
    aged(folder.path)
    monkeypatch.setattr("synth.host.slurm.seen", lambda *a, **k: None)
    assert "Slurm does not answer here" in clean.in_use(folder)
    assert run(runs["root"], "--unused", "--yes") == EXIT_OK and len(names(runs["root"])) == 5
    monkeypatch.setattr("synth.host.slurm.seen", lambda *a, **k: [])
    with monkeypatch.context() as hiding:  # a job of somebody else, where a site shows nobody the jobs of others
        hiding.setattr("synth.host.slurm.hides_jobs", lambda: True)
        hiding.setattr("os.geteuid", lambda: 1000)
        hiding.setattr("launch.slurm.order.user", lambda: "bob")
        assert "(PrivateData)" in clean.in_use(folder)
    assert run(runs["root"], "--unused", "--yes") == EXIT_OK and len(names(runs["root"])) == 3


def test_the_end_of_a_project_keeps_exports_alone_and_refuses_while_one_is_not_whole(runs, capsys):
    root, export = runs["root"], runs["image_folder"]
    (export.path / "done.json").unlink()
    assert run(root.parent, "--keep-exports-only", "--yes") == EXIT_OK
    assert len(names(root)) == 5 and "is not whole; complete it, or remove its folder" in capsys.readouterr().out
    export.mark_done({"units": 1, "slots": 4, "samples": 4, "tombstones": 0})
    os.rename(export.out_dir, export.out_dir.with_name("gone"))
    assert run(root.parent, "--keep-exports-only", "--yes") == EXIT_OK
    assert len(names(root)) == 5 and "what it wrote is not there" in capsys.readouterr().out
    os.rename(export.out_dir.with_name("gone"), export.out_dir)
    assert run(root.parent, "--keep-exports-only", "--yes") == EXIT_OK
    assert names(root) == [] and (export.out_dir / "a.png").read_bytes() == b"a picture"
    assert [p.name for p in root.iterdir()] == ["exports"]


def test_an_interrupted_clean_leaves_no_half_stage_and_the_next_one_goes_on(runs, monkeypatch, capsys):
    root = runs["root"]
    real = shutil.rmtree

    def killed(path, *args, **more):
        next(p for p in sorted(path.rglob("*")) if p.is_file()).unlink()
        raise KeyboardInterrupt

    monkeypatch.setattr(shutil, "rmtree", killed)
    with pytest.raises(KeyboardInterrupt):
        run(root, "--unused", "--yes")
    monkeypatch.setattr(shutil, "rmtree", real)
    assert len(find_stages(root, pytest.fail)) == 3 and len(list(root.glob(".removing-*"))) == 2
    assert run(root, "--yes") == EXIT_OK
    assert "left by a clean that was interrupted" in capsys.readouterr().out and not list(root.glob(".removing-*"))


def test_a_stage_with_a_place_of_its_own_is_wanted_like_an_export(runs, capsys):
    root = runs["root"]
    judge = on(root, "judge", "judge", runs["images"])
    spec = StageSpec(
        "judge_report", "judge_report", {"out": ""}, 4, 4, 4, EXACT, {"judge": (Upstream(f"../{judge.path.name}", judge.spec.fingerprint),)}
    )
    report = StageFolder.create(root, spec)
    aged(root.parent)
    assert run(root.parent, "--unused", "--yes") == EXIT_OK
    assert names(root) == ["captions", "image_folder", "images", "judge", "judge_report"]
    assert run(root.parent, "--keep-exports-only", "--yes") == EXIT_OK
    assert len(names(root)) == 5 and "judge_report" in capsys.readouterr().out
    report.unit_path(0).parent.mkdir(exist_ok=True)
    report.unit_path(0).write_text("a unit\n")
    report.mark_done({"units": 1, "slots": 4, "samples": 4, "tombstones": 0})
    assert run(root.parent, "--keep-exports-only", "--yes") == EXIT_OK
    assert len(names(root)) == 5 and "what it wrote is not there" in capsys.readouterr().out
    report.out_dir.mkdir(parents=True)
    assert run(root.parent, "--keep-exports-only", "--yes") == EXIT_OK and names(root) == []


def test_the_end_of_a_project_goes_on_wherever_it_was_interrupted(runs, monkeypatch):
    root, real = runs["root"], clean.replace
    moved = []

    def killed_behind_the_first(source, target):
        real(source, target)
        moved.append(source)
        raise KeyboardInterrupt

    monkeypatch.setattr(clean, "replace", killed_behind_the_first)
    for n in range(1, 6):
        with pytest.raises(KeyboardInterrupt):
            run(root.parent, "--keep-exports-only", "--yes")
        assert len(moved) == n and len(names(root)) == 5 - n
    assert moved[-1].name.startswith("image_folder")
    assert run(root.parent, "--yes") == EXIT_OK
    assert [p.name for p in root.iterdir()] == ["exports"]


def test_what_cannot_be_removed_is_told_and_asks_for_another_try(runs, monkeypatch, capsys):
    monkeypatch.setattr(clean, "replace", lambda *a: (_ for _ in ()).throw(PermissionError(13, "Permission denied", "images")))
    assert run(runs["root"], "--unused", "--yes") == EXIT_AGAIN
    assert "not removed: " in capsys.readouterr().out and len(names(runs["root"])) == 5


def test_links_are_not_followed_and_linked_stages_are_left_alone(runs, tmp_path):
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / "mine.txt").write_text("mine")
    folder = runs["near_duplicates"]
    (folder.path / "logs" / "link").symlink_to(elsewhere)
    assert run(runs["root"], "--unused", "--yes") == EXIT_OK
    assert (elsewhere / "mine.txt").read_text() == "mine"
    shutil.move(runs["images"].path, elsewhere / "images")
    runs["images"].path.symlink_to(elsewhere / "images")
    assert run(runs["root"], "--keep-exports-only", "--yes") == EXIT_OK
    assert (elsewhere / "images" / "stage.json").is_file() and len(names(runs["root"])) == 3


def test_a_file_with_another_name_frees_no_bytes_and_programs_get_the_same_facts(runs, capsys):
    unit = runs["near_duplicates"].unit_path(0)
    unit.write_bytes(bytes(1 << 20))
    os.link(unit, runs["root"] / "another name")
    assert run(runs["root"], "--unused", "--json") == EXIT_OK
    facts = json.loads(capsys.readouterr().out)
    assert [r["whole"] for r in facts["removals"]] == [True, True] and sum(r["bytes"] for r in facts["removals"]) < 1 << 20
    os.unlink(runs["root"] / "another name")
    found = find(runs["root"], Asked(unused=True), clean.in_use)
    assert sum(r.size.bytes for r in found.removals) >= 1 << 20


def test_bad_input_is_told_by_name(tmp_path, capsys):
    with pytest.raises(InputError, match="no stage here"):
        find(tmp_path, Asked(), clean.in_use)
    for argv in (
        ["--older-than", "soon"],
        ["--older-than", "-1"],
        ["--older-than", "nan"],
        ["--unused", "--keep-exports-only"],
        ["--json", "--yes"],
    ):
        with pytest.raises(SystemExit):
            run(tmp_path, *argv)
        assert "usage" in capsys.readouterr().err
