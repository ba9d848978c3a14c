"""Names that others wrote, in units, records, configs and folders: nothing outside an export or a stage is written, moved or followed."""

import io
import json
import os
from pathlib import Path
from types import SimpleNamespace

import h5py
import numpy as np
import pytest
from PIL import EpsImagePlugin, Image

from launch.verify import verify
from synth.errors import EXIT_BAD_INPUT, EXIT_OK, InputError
from synth.export.hdf5.file import plain
from synth.export.hdf5.layouts import put
from synth.host.children import guarded
from synth.numerics import EXACT
from synth.run.findings import Check, Findings
from synth.run.place import Pages
from synth.store.events import EventLog
from synth.store.folder import StageFolder
from synth.store.framing import UnitIndex, frame, seal
from synth.store.names import classes_of
from synth.store.out_folder import CLAIM, MARKER, OutFolder
from synth.store.samples import Sample
from synth.store.spec import StageSpec, canonical
from synth.verify.repair import repair
from synth.verify.units import decode_problems
from tests.configs import CaptionsTxtConfig, ContactSheetConfig, ImageFolderConfig
from tests.export.conftest import png
from tests.fixtures_images import child, commit_units, work
from tests.stages import probe

MINE = "alias ls=ls\n"


@pytest.fixture
def home(tmp_path) -> Path:
    """A folder of somebody's files, some of which an export could take for its own."""
    (tmp_path / "home" / "escape").mkdir(parents=True)
    for name in (".bashrc", "escape/.bashrc", "escape.png", "0.png"):
        (tmp_path / "home" / name).write_text(MINE)
    return tmp_path / "home"


def untouched(home: Path) -> bool:
    return {p.relative_to(home).as_posix(): p.read_text() for p in home.rglob("*") if p.is_file()} == dict.fromkeys(
        (".bashrc", "escape/.bashrc", "escape.png", "0.png"), MINE
    )


def export(images: StageFolder, out: Path | str) -> StageFolder:
    return child(images.path.parent, "image_folder", ImageFolderConfig(out=str(out)), {"images": [images]}, 26, 8, 4)


def problems(folder: StageFolder, deep: bool = False, mend: bool = False) -> list[str]:
    return [str(p) for found, _ in verify(folder.path, deep, mend, lambda *_: None) for p in found]


def with_names(folder: StageFolder, number: int, key: str, ext: str) -> None:
    """Give the first picture of a unit another key and extension, with all digests right."""
    path, unit = folder.unit_path(number), folder.unit(number)
    with folder.reader(number) as reader:
        index = reader.index
        start = max(o + n for e in index.samples for o, n in e.files.values())
        data = reader.raw(0, start + -start % 512)
    first = index.samples[0]
    files = {ext if e == "png" else e: at for e, at in first.files.items()}
    entries = (first._replace(key=key, files=files), *index.samples[1:])
    path.write_bytes(data + seal("tar", UnitIndex(number, unit.start, len(unit), entries, index.tombstones, index.inputs), len(data))[0])


def with_record(folder: StageFolder, number: int, **facts) -> None:
    """Other facts in the first record of a unit, with all digests right."""
    unit = folder.unit(number)
    with folder.reader(number) as reader:
        index, raw = reader.index, [reader.raw(*e.files["json"]) for e in reader.index.samples]
    raw[0] = canonical({**json.loads(raw[0]), **facts})
    batch = frame("jsonl", [Sample(e.slot, e.key, {"json": data}) for e, data in zip(index.samples, raw, strict=True)])
    end, _ = seal("jsonl", UnitIndex(number, unit.start, len(unit), batch.entries, index.tombstones, index.inputs), len(batch.data))
    folder.unit_path(number).write_bytes(batch.data + end)


# -- units -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("key", "ext"), [("../../home/escape/", "bashrc"), ("../../home/escape", "png"), ("0", "../../../home/0.png")])
def test_a_unit_whose_names_lead_elsewhere_is_refused_before_anything_is_written(images, home, capfd, key, ext):
    with_names(images, 0, key, ext)
    folder = export(images, home.parent / "out")
    assert work(folder) == EXIT_BAD_INPUT and untouched(home) and not list((home.parent / "out").rglob("*.*g"))
    assert "000000.tar: sample 0 (slot 0): its " in capfd.readouterr().err
    (found,) = problems(images)
    assert str(images.unit_path(0)) in found and ("its key" in found or "its extension" in found) and "--repair" in found
    assert problems(images, mend=True) and not images.unit_path(0).exists() and (images.path / "aside" / "000000.tar").exists()


@pytest.mark.parametrize("name", ["../home/0.png", "/etc/hostname", "a/../../../home/0.png"])
def test_a_record_that_names_a_file_elsewhere_is_found_and_its_repair_touches_nothing_there(images, home, name):
    folder = export(images, home.parent / "out")
    assert work(folder) == EXIT_OK
    with_record(folder, 1, file_name=name, bytes=len(MINE))
    found = problems(folder, mend=True)
    assert any(str(folder.unit_path(1)) in p and "its file_name is" in p for p in found)
    assert untouched(home) and not folder.unit_path(1).exists()
    assert work(folder) == EXIT_OK and not problems(folder, deep=True)


def test_pages_whose_sample_lists_files_elsewhere_are_found_and_their_repair_touches_nothing_there(images, home):
    folder = export(images, home.parent / "out")
    assert work(folder) == EXIT_OK
    with_record(folder, 0, files={"../home/0.png": [len(MINE), "0" * 64]})

    class Some(Pages):
        def whole(self) -> dict:
            return {}

    findings = Findings(str(folder.path), "image_folder", False)
    Some(folder).verify(Check(folder.out_dir, False, findings))
    assert findings.bad_units()[0] == 0 and "its files is" in str(findings.problems[0])
    repair(folder, findings)
    assert untouched(home) and not folder.unit_path(0).exists()


@pytest.mark.parametrize("facts", [{"label": []}, {"seed": 2**70}, {"caption": 1}, {"width": "4"}, {"label_names": [1]}], ids=repr)
def test_records_of_other_types_end_an_export_as_bad_input(images, home, facts, capfd):
    with images.reader(0) as reader:
        files = {e.slot: dict(reader.files(e)) for e in reader.index.samples}
        inputs, tombstones = reader.index.inputs, reader.index.tombstones
    files[0]["json"] = canonical({**json.loads(files[0]["json"]), **facts})
    batch = frame("tar", [Sample(slot, f"{slot:09d}", f) for slot, f in sorted(files.items())])
    images.unit_path(0).write_bytes(batch.data + seal("tar", UnitIndex(0, 0, 8, batch.entries, tombstones, inputs), len(batch.data))[0])
    assert work(export(images, home.parent / "out")) == EXIT_BAD_INPUT
    assert f"sample 000000000: its {next(iter(facts))}" in capfd.readouterr().err


@pytest.mark.parametrize("made", [CaptionsTxtConfig, ContactSheetConfig], ids=["captions_txt", "contact_sheet"])
@pytest.mark.parametrize(("key", "ext"), [("usercustomize", "py"), ("captions", "py"), ("contact_sheet", "pth")])
def test_an_export_of_whole_files_writes_those_of_its_kind_alone(images, home, made, key, ext, capfd):
    kind, role = ("captions_txt", "captions") if made is CaptionsTxtConfig else ("contact_sheet", "images")
    up = images.upstream("captions")[0] if role == "captions" else images
    folder = child(images.path.parent, kind, made(out=str(home / "site")), {role: [up]})
    commit_units(folder, [Sample(0, key, {ext: b"import os"})])
    assert work(folder) == EXIT_BAD_INPUT and not list((home / "site").glob("[!.]*")) and not (home / "site" / f"{key}.{ext}").exists()
    assert f"000000.tar: holds {key}.{ext}, which {kind} does not write" in capfd.readouterr().err
    (home / "site" / MARKER).write_bytes((home / "site" / CLAIM).read_bytes())
    assert any("does not write" in p for p in problems(folder, mend=True)) and not folder.unit_path(0).exists()


@pytest.mark.parametrize("ext", ["py", "pth", "zzz"])
def test_what_is_called_like_no_picture_is_none(images, home, ext, capfd):
    with_names(images, 0, "usercustomize", ext)
    assert work(export(images, home.parent / "out")) == EXIT_BAD_INPUT and not list((home.parent / "out").rglob(f"*.{ext}"))
    assert f"sample usercustomize: has .{ext} for a picture" in capfd.readouterr().err


@pytest.mark.parametrize(("name", "fine"), [(".config", False), (".bashrc", False), (".synthset.part", True), (".nfs0001", True)])
def test_a_folder_with_hidden_files_of_somebody_is_not_empty(images, home, name, fine):
    (home.parent / "fresh").mkdir()
    (home.parent / "fresh" / name).mkdir()
    assert work(export(images, home.parent / "fresh")) == (EXIT_OK if fine else EXIT_BAD_INPUT)


# -- configs ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("classes", [[{"index": "/../../escape", "name": "a"}, {"index": 0, "name": "a"}], [{"index": 0, "name": []}],
                                     [{"index": True, "name": "a"}], [{"index": 0, "name": "a"}] * 2, "ab", [None]], ids=repr)  # fmt: skip
def test_classes_of_a_foreign_config_are_judged_before_they_name_folders(tmp_path, classes):
    folder = StageFolder.create(tmp_path, StageSpec("captions", "captions", {"dataset": {"classes": classes}}, 1, 1, 1, EXACT))
    with pytest.raises(InputError, match=r"stage\.json: dataset\.classes\[\d\] is no class"):
        classes_of(folder)


# -- links -----------------------------------------------------------------------------------------------------------


def test_a_link_in_an_export_that_leads_out_is_refused_by_name_and_never_followed(images, home, capfd):
    folder, out = export(images, home.parent / "out"), home.parent / "out"
    OutFolder(folder).claim()
    (out / "red_panda").symlink_to(home)
    assert work(folder) == EXIT_BAD_INPUT and untouched(home)
    assert f"{out / 'red_panda'}: is a link that leads out of the folder, to {home}" in capfd.readouterr().err
    (out / "red_panda").unlink()
    assert work(folder) == EXIT_OK
    (out / "red_panda").rename(home.parent / "elsewhere")
    (out / "red_panda").symlink_to(home.parent / "elsewhere")
    found = problems(folder, deep=True, mend=True)
    assert len(found) == 1 and "leads out of the folder" in found[0]
    assert len(list((home.parent / "elsewhere").iterdir())) == 2 and (out / "red_panda").is_symlink(), "nothing was moved"


def test_what_is_set_aside_does_not_pass_through_a_link(images, home):
    out = home.parent / "exports" / "out"
    folder = export(images, out)
    assert work(folder) == EXIT_OK
    bad = sorted(out.glob("*/*.png"))[0]
    bad.write_bytes(b"torn")
    out.with_name("out.aside").symlink_to(home)
    findings = problems(folder, mend=True)
    assert len(findings) == 1 and untouched(home) and len(list(home.iterdir())) == 4 and bad.read_bytes() == b"torn"
    out.with_name("out.aside").unlink()
    assert work(folder) == EXIT_OK
    bad.write_bytes(b"torn")
    assert problems(folder, mend=True) and not bad.exists() and (out.with_name("out.aside") / bad.relative_to(out)).exists()


@pytest.mark.parametrize("place", ["exports", "exports/image_folder-{hash}"])
def test_a_place_that_nobody_chose_is_not_reached_by_a_link_out_of_the_dataset(images, home, place, capfd):
    folder = export(images, "")
    where = images.path.parent / place.format(hash=folder.spec.fingerprint[:8])
    (images.path.parent / "exports").rename(home.parent / "table")  # of captions.json
    where.parent.mkdir(exist_ok=True)
    where.symlink_to(home)
    assert work(folder) == EXIT_BAD_INPUT and untouched(home) and len(list(home.iterdir())) == 4
    told = capfd.readouterr().err
    assert f"{where}: is a link that leads out of the folder, to {home}; remove it; to keep exports on another disk, set export." in told
    problems(folder, mend=True)
    assert untouched(home) and len(list(home.iterdir())) == 4
    where.unlink()
    (home.parent / "else").mkdir()
    chosen = export(images, home.parent / "linked")
    (home.parent / "linked").symlink_to("else")
    assert work(folder) == work(chosen) == EXIT_OK


def test_a_link_inside_an_export_is_followed(images, home):
    folder, out = export(images, home.parent / "out"), home.parent / "out"
    OutFolder(folder).claim()
    (out / "other").mkdir()
    (out / "red_panda").symlink_to("other")
    assert work(folder) == EXIT_OK and len(list((out / "other").iterdir())) == 2


def test_a_file_that_is_a_link_is_no_file_of_the_export(images, home):
    folder, out = export(images, home.parent / "out"), home.parent / "out"
    assert work(folder) == EXIT_OK
    mine = out / "red_panda" / "000000000.png"
    (home.parent / "copy.png").write_bytes(mine.read_bytes())
    mine.unlink()
    mine.symlink_to(home.parent / "copy.png")
    assert any(f"{mine}: is a link" in p for p in problems(folder, deep=True, mend=True))
    assert work(folder) == EXIT_OK and not mine.is_symlink() and mine.read_bytes() == png(0) == (home.parent / "copy.png").read_bytes()


def test_files_on_their_way_do_not_pass_through_a_link(images, home, capfd):
    folder, out = export(images, home.parent / "out"), home.parent / "out"
    out.mkdir()
    (out / ".synthset.part").symlink_to(home)
    assert work(folder) == EXIT_BAD_INPUT and untouched(home) and ".synthset.part: is a link that leads out" in capfd.readouterr().err


@pytest.mark.parametrize("place", ["units", "leases", "parts/000", "failed", "events", "aside", "units/000"])
def test_a_folder_of_a_stage_that_is_a_link_out_of_it_is_refused_by_name(tmp_path, place):
    folder = probe(tmp_path / "runs")
    (tmp_path / "elsewhere").mkdir()
    if (folder.path / place).is_dir():
        (folder.path / place).rmdir()
    (folder.path / place).symlink_to(tmp_path / "elsewhere")
    with pytest.raises(InputError, match=rf"{place}: is a link that leads out of the folder, to {tmp_path / 'elsewhere'}"):
        StageFolder.open(folder.path)
    assert any("is a link that leads out" in p for p in problems(folder))


def test_a_stage_that_is_reached_by_a_link_is_a_stage(tmp_path):
    folder = probe(tmp_path / "runs", slots=4)
    (tmp_path / "here").symlink_to(folder.path)
    assert work(StageFolder.open(tmp_path / "here")) == EXIT_OK and not problems(folder, deep=True)


def test_logs_and_events_are_not_added_to_what_a_link_leads_to(tmp_path, home):
    (tmp_path / "logs").mkdir()
    (tmp_path / "events").mkdir()
    for place in ("logs/worker.log", "events/w.jsonl"):
        (tmp_path / place).symlink_to(home / ".bashrc")
    with pytest.raises(InputError, match=r"worker\.log: is a link; remove it"):
        guarded(["true"], tmp_path / "logs" / "worker.log")
    log = EventLog(tmp_path, "w")
    log.write("start")
    log.close()
    assert untouched(home)


# -- inside files ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["../escape.png", "/escape.png", "a//b", "a\0b", ""])
def test_no_dataset_is_named_so_that_who_takes_the_file_apart_writes_elsewhere(tmp_path, name):
    with h5py.File(tmp_path / "f.h5", "w") as f, pytest.raises(InputError, match="mend the name"):
        put(f, name, b"1", plain())


def test_a_picture_is_decoded_by_what_starts_no_other_program(monkeypatch):
    eps, started = io.BytesIO(), []
    Image.fromarray(np.zeros((4, 4, 3), np.uint8)).save(eps, "EPS")
    monkeypatch.setattr(EpsImagePlugin, "Ghostscript", lambda *a, **k: started.append(a) or Image.new("RGB", (4, 4)).im)
    assert "does not decode" in decode_problems(eps.getvalue(), {})[0] and not started


def test_what_a_repository_lists_is_fetched_into_its_folder_alone(tmp_path):
    from launch.plan.fetching import Hub, Record

    info = SimpleNamespace(siblings=[SimpleNamespace(rfilename=n, size=1) for n in ("/etc/model.safetensors", "config.json")], sha="1")
    hub = object.__new__(Hub)
    with pytest.raises(InputError, match="is no relative name; nothing of it is fetched"):
        hub._download(SimpleNamespace(repo="a/b", variant=""), info, tmp_path / "model", Record("a/b", "main", "1"))
    assert not os.listdir(tmp_path)
