"""launch/export.py: exports planned from a stage folder alone; and exports of two stages in a run."""

import h5py
import pytest

from launch.export import main
from synth.errors import EXIT_BAD_INPUT, EXIT_OK
from synth.host.source import interpreter


def exported(images, *words, monkeypatch):
    monkeypatch.setattr("sys.argv", ["launch/export.py", str(images.path), *words])
    return main([str(images.path), *words])


def test_a_stage_folder_is_enough_and_twice_does_nothing(images, tmp_path, monkeypatch, capsys):
    words = ["export=[hdf5]", f"export.hdf5.out={tmp_path / 'out'}", "cluster.n_jobs=1"]
    assert exported(images, *words, monkeypatch=monkeypatch) == EXIT_OK
    with h5py.File(tmp_path / "out" / "images.h5") as f:
        assert len(f) == 25
    assert str(images.path) in (tmp_path / "out" / "README.md").read_text()
    before = (tmp_path / "out" / "images.h5").stat().st_mtime_ns
    capsys.readouterr()
    assert exported(images, *words, monkeypatch=monkeypatch) == EXIT_OK
    assert "done already" in capsys.readouterr().out and (tmp_path / "out" / "images.h5").stat().st_mtime_ns == before


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["seed=2", "export=[hdf5]"], f"seed=2: {interpreter()} launch/export.py takes export"),
        (["export=[]"], "nothing to export"),
        (["export=[hdf5]", "export.hdf5.layout=flat"], "export.hdf5.layout=flat"),
        (["export=[hdf5]", "export.hdf5.partition=0"], "export.hdf5.partition=0"),
        (["export=[hdf6]"], "hdf5"),
    ],
)
def test_bad_settings_are_named_before_anything_is_planned(images, monkeypatch, capsys, words, said):
    before = sorted(p.name for p in images.path.parent.iterdir())
    assert exported(images, *words, monkeypatch=monkeypatch) == EXIT_BAD_INPUT
    captured = capsys.readouterr()
    assert said in captured.out + captured.err
    assert sorted(p.name for p in images.path.parent.iterdir()) == before


def test_a_stage_without_pictures_and_one_that_is_not_whole_are_refused(images, monkeypatch, capsys):
    table = images.upstream("captions")[0]
    assert exported(table, "export=[hdf5]", monkeypatch=monkeypatch) == EXIT_BAD_INPUT
    assert "holds no pictures" in capsys.readouterr().err
    images.unit_path(1).unlink()
    assert exported(images, "export=[hdf5]", monkeypatch=monkeypatch) == EXIT_BAD_INPUT
    captured = capsys.readouterr()
    assert "not whole" in captured.out + captured.err


def test_only_hdf5_computes_its_partitions_too(world):
    point = world.point("export=[image_folder,hdf5]", "only=[hdf5]")
    assert [s.name for s in point.chosen()] == ["hdf5_parts", "hdf5"]
    parts, merged = point.chosen()
    assert merged.upstream[-1] == parts.folder or parts.folder in merged.upstream
