"""What another version of the code wrote: refused by name where it might mean something else, never misread."""

import json

import pytest

from launch import status, verify
from synth.errors import InputError
from synth.store import framing
from synth.store.folder import StageFolder
from synth.worker import main
from tests.faults.farm import finish, plan

LATER = {
    "schema": lambda stage: stage | {"schema": 2},
    "a field": lambda stage: stage | {"weights": [0.5, 0.5]},
    "a key of the config": lambda stage: stage | {"config": stage["config"] | {"brightness": 2}},
    "a kind": lambda stage: stage | {"kind": "holograms"},
    "a framing": lambda stage: stage | {"framing": "zip"},
}


@pytest.mark.parametrize("what", LATER)
def test_a_stage_of_a_later_version_is_refused_and_named(tmp_path, capsys, what):
    folder = plan(tmp_path / "runs" / "toys")
    path = folder.path / "stage.json"
    path.write_text(json.dumps(LATER[what](json.loads(path.read_text()))))
    assert main([str(folder.path)]) == 65
    said = capsys.readouterr().err
    assert str(path) in said or "holograms" in said
    assert not list(folder.path.glob("units/*/*"))
    assert verify.main([str(tmp_path / "runs")]) == 65


def _later_magic(monkeypatch):
    monkeypatch.setattr(framing, "MAGIC", "synthset-unit-2")


def _more_in_the_index(monkeypatch):
    told = framing.UnitIndex.to_bytes
    monkeypatch.setattr(framing.UnitIndex, "to_bytes", lambda self: framing.canonical(json.loads(told(self)) | {"codec": "zstd"}))


@pytest.mark.parametrize("later", [_later_magic, _more_in_the_index])
@pytest.mark.parametrize("form", ["tar", "jsonl"])
def test_a_unit_of_a_later_version_is_refused_and_named(tmp_path, monkeypatch, capsys, later, form):
    folder = plan(tmp_path / "runs" / "toys", framing=form, slots=20)
    with monkeypatch.context() as patched:
        later(patched)
        with pytest.MonkeyPatch.context() as done:
            done.setattr(StageFolder, "is_done", lambda self: True)
            finish_without_reading(folder)
    with pytest.raises(InputError, match=r"units/000/000000.*was made by another version of synthset"):
        folder.reader(0)
    assert verify.main([str(tmp_path / "runs")]) == 65
    assert "another version of synthset" in capsys.readouterr().out
    assert status.main([str(tmp_path / "runs")]) == 0


def finish_without_reading(folder: StageFolder) -> None:
    main([str(folder.path)])
    assert folder.committed() == {0, 1}


def test_versions_of_packages_are_for_people_and_refuse_nothing(tmp_path):
    folder = plan(tmp_path / "runs" / "toys")
    path = folder.path / "stage.json"
    stage = json.loads(path.read_text())
    path.write_text(json.dumps(stage | {"versions": {"synthset": "99.0"}}))
    finish(StageFolder.open(folder.path))
