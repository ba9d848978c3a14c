"""YAML files of conf/ are read by libyaml, a user's own by OmegaConf's loader."""

import pytest
import yaml
from omegaconf import OmegaConf, _utils
from yaml.cyaml import CParser

from launch.config import yaml_files
from launch.config.compose import Composer, register
from launch.config.folders import CONF
from synth.errors import InputError


@pytest.fixture(autouse=True)
def registered():
    register()


def test_every_file_of_conf_says_the_same_by_libyaml_as_in_python():
    files = sorted(CONF.rglob("*.yaml"))
    assert len(files) > 60
    for file in files:
        with open(file, encoding="utf-8") as a, open(file, encoding="utf-8") as b:
            ours = _utils.get_yaml_loader()(a)
            assert isinstance(ours, CParser)
            assert repr(ours.get_single_data()) == repr(yaml.load(b, Loader=yaml_files._in_python())), file  # noqa: S506 (both are safe)


def test_a_file_of_the_user_s_own_is_read_as_omegaconf_reads_it(tmp_path):
    (tmp_path / "own.yaml").write_text("a: {b: 1e3, c: 2026-01-01}\n")
    with open(tmp_path / "own.yaml", encoding="utf-8") as f:
        assert not isinstance(_utils.get_yaml_loader()(f), CParser)
    assert OmegaConf.load(tmp_path / "own.yaml") == {"a": {"b": 1000.0, "c": "2026-01-01"}}
    (tmp_path / "own.yaml").write_text("a: 1\na: 2\n")
    with pytest.raises(yaml.constructor.ConstructorError, match="found duplicate key a"):
        OmegaConf.load(tmp_path / "own.yaml")


@pytest.mark.parametrize(
    ("text", "said"), [(b"a: [1, 2\n", "cannot be read: .*mine.yaml"), (b"a: 1\na: 2\n", "duplicate key a"), (b"a: \xff\n", "no UTF-8")]
)
def test_a_file_of_the_users_that_is_no_yaml_is_bad_input(tmp_path, text, said):
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "mine.yaml").write_bytes(text)
    with pytest.raises(InputError, match=said):
        Composer(str(tmp_path)).compose(["model=mine"])
