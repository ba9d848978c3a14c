"""A user's own YAML files: --config-dir before SYNTHSET_CONF before conf/."""

import os

import pytest

from launch.config.compose import Composer
from launch.config.folders import CONF, own_folders
from launch.config.usage import usage
from synth.errors import InputError

SIZES = {"flag": 3, "first": 4, "second": 5}


@pytest.fixture
def folders(tmp_path, monkeypatch):
    """Three folders with a recipe each, and one of a name that they share with conf/."""
    text = (CONF / "cluster" / "local.yaml").read_text()
    for name in SIZES:
        (tmp_path / name / "cluster").mkdir(parents=True)
        (tmp_path / name / "cluster" / f"of_{name}.yaml").write_text(text)
        (tmp_path / name / "cluster" / "debug.yaml").write_text(f"{text}\n# {name}\n".replace("n_jobs: null", f"n_jobs: {SIZES[name]}"))
    monkeypatch.setenv("SYNTHSET_CONF", os.pathsep.join([str(tmp_path / "first"), "", str(tmp_path / "second")]))
    return tmp_path


def test_the_flag_wins_over_the_variable_and_both_over_conf(folders, monkeypatch):
    assert Composer(str(folders / "flag")).compose(["cluster=debug"]).cluster.n_jobs == SIZES["flag"]
    assert Composer().compose(["cluster=debug"]).cluster.n_jobs == SIZES["first"]
    assert {"of_first", "of_second", "local"} <= set(Composer().options("cluster"))
    assert "of_flag" not in Composer().options("cluster")
    monkeypatch.delenv("SYNTHSET_CONF")
    assert Composer().options("cluster") == sorted(p.stem for p in (CONF / "cluster").glob("*.yaml"))


def test_help_lists_the_options_of_own_folders(folders):
    text = usage(["--help", "--config-dir", str(folders / "flag")])
    options = next(line for line in text.splitlines() if line.startswith("  cluster "))
    assert options.split(maxsplit=1)[1] == "debug, local*, of_first, of_flag, of_second, slurm"
    assert f"  with those of {folders / 'flag'}" in text and "of_flag" not in usage()


def test_a_folder_that_cannot_be_read_is_named(tmp_path, monkeypatch):
    (tmp_path / "file").touch()
    for env, flag, said in (
        ({}, tmp_path / "gone", f"--config-dir {tmp_path}/gone: no such folder"),
        ({"SYNTHSET_CONF": f"{tmp_path}{os.pathsep}{tmp_path}/file"}, None, f"SYNTHSET_CONF {tmp_path}/file: no such folder"),
    ):
        with pytest.raises(InputError, match=said):
            own_folders(str(flag) if flag else None, env)

    def denied(folder):
        raise PermissionError(13, "Permission denied", str(folder))

    monkeypatch.setattr("os.listdir", denied)
    with pytest.raises(InputError, match=r"SYNTHSET_CONF /secret: cannot be read \(Permission denied\)"):
        own_folders(None, {"SYNTHSET_CONF": "/secret"})
