"""Content identity of inputs: of what is in them, not of where they lie or when they were written."""

import os

import pytest

from synth.errors import InputError
from synth.store.identity import SMALL, file_identity, folder_identity, identity


def test_identity_is_of_the_content_alone(tmp_path):
    (tmp_path / "a").write_bytes(b"one")
    (tmp_path / "b").write_bytes(b"one")
    os.utime(tmp_path / "b", (1, 1))
    assert file_identity(tmp_path / "a") == file_identity(tmp_path / "b")
    (tmp_path / "b").write_bytes(b"two")
    assert file_identity(tmp_path / "a") != file_identity(tmp_path / "b")


@pytest.mark.parametrize("at", [0, (1 << 20) - 1, SMALL + 900])
def test_a_large_file_is_known_by_its_size_and_ends(tmp_path, at):
    big = tmp_path / "big"
    big.write_bytes(bytes(SMALL + 1000))
    before = file_identity(big)
    with open(big, "r+b") as f:
        f.seek(at)
        f.write(b"x")
    assert file_identity(big) != before
    big.write_bytes(bytes(SMALL + 1001))
    assert file_identity(big) != before


def test_a_folder_is_known_by_names_and_contents_but_not_by_hidden_files(tmp_path):
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub" / "x.bin").write_bytes(b"1")
    (tmp_path / "y.txt").write_bytes(b"2")
    before = identity(tmp_path)
    (tmp_path / ".cache").mkdir()
    (tmp_path / ".cache" / "lock").write_bytes(b"")
    (tmp_path / ".hidden").write_bytes(b"")
    assert identity(tmp_path) == before
    assert folder_identity(tmp_path, (".txt",)) != before
    (tmp_path / "y.txt").rename(tmp_path / "z.txt")
    assert identity(tmp_path) != before


def test_what_cannot_be_read_is_named(tmp_path):
    with pytest.raises(InputError, match="nothere"):
        identity(tmp_path / "nothere")
    with pytest.raises(InputError, match="no such folder"):
        folder_identity(tmp_path / "nothere")
    with pytest.raises(InputError, match="holds no file"):
        identity(tmp_path)
