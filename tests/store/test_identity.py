"""Content identity of inputs: of what is in them, not of where they lie or when they were written."""

import json
import os
import time

import numpy as np
import pytest
from safetensors.numpy import save_file

from synth.errors import InputError
from synth.store import identity as store
from synth.store import remembered
from synth.store.identity import SMALL, file_identity, folder_identity, identity, to_read


def test_identity_is_of_the_content_alone(tmp_path):
    (tmp_path / "a").write_bytes(b"one")
    (tmp_path / "b").write_bytes(b"one")
    os.utime(tmp_path / "b", (1, 1))
    assert file_identity(tmp_path / "a") == file_identity(tmp_path / "b")
    (tmp_path / "b").write_bytes(b"two")
    assert file_identity(tmp_path / "a") != file_identity(tmp_path / "b")


@pytest.fixture(autouse=True)
def cache(tmp_path_factory, monkeypatch):
    """An empty cache of identities."""
    home = tmp_path_factory.mktemp("cache")
    monkeypatch.setenv("XDG_CACHE_HOME", str(home))
    return home


@pytest.fixture
def big(tmp_path, monkeypatch):
    """A file of three blocks, the last not full, that was written long ago."""
    monkeypatch.setattr(store, "BLOCK", 1 << 22)
    file = tmp_path / "model.safetensors"
    file.write_bytes(bytes(SMALL + 1000))
    return file


def aged(monkeypatch):
    """From here on files that were just written count as old."""
    monkeypatch.setattr(remembered, "FRESH", -1.0)


@pytest.mark.parametrize("at", [0, (1 << 20) + 5, 5 << 20, SMALL - (70 << 10), SMALL + 900])
def test_every_byte_of_a_large_file_counts(big, at):
    before = file_identity(big)
    with open(big, "r+b") as f:
        f.seek(at)
        f.write(b"x")
    assert file_identity(big) != before


def test_a_large_file_that_is_longer_by_nothing_but_zeros_is_another_one(big):
    before = file_identity(big)
    big.write_bytes(bytes(SMALL + 1001))
    assert file_identity(big) != before


def test_two_networks_that_differ_in_one_matrix_differ(tmp_path):
    """Weights that were trained further: equal names, sizes, header and ends."""
    rng = np.random.default_rng(0)
    tensors = {f"layer{i}": rng.standard_normal((512, 512), np.float32) for i in range(12)}
    save_file(tensors, tmp_path / "a.safetensors")
    tensors["layer6"] = tensors["layer6"] + 1e-3
    save_file(tensors, tmp_path / "b.safetensors")
    a, b = tmp_path / "a.safetensors", tmp_path / "b.safetensors"
    assert a.stat().st_size == b.stat().st_size > SMALL
    assert file_identity(a) != file_identity(b)


def test_identity_does_not_depend_on_threads_or_on_what_is_remembered(big, monkeypatch):
    cold = file_identity(big)
    monkeypatch.setattr(store, "THREADS", 1)
    assert file_identity(big) == cold
    aged(monkeypatch)
    assert file_identity(big) == cold == file_identity(big)


def test_what_was_hashed_is_not_read_again(big, monkeypatch, cache):
    aged(monkeypatch)
    known = file_identity(big)
    assert to_read(big) == 0
    monkeypatch.setattr(store, "_hash", lambda *args: pytest.fail("read again"))
    assert file_identity(big) == known
    assert oct(remembered.folder().stat().st_mode & 0o777) == "0o700"
    (entry,) = remembered.folder().iterdir()
    assert json.loads(entry.read_bytes())["file"] == str(big)


def test_a_change_that_keeps_size_and_mtime_is_seen(big, monkeypatch):
    aged(monkeypatch)
    before, status = file_identity(big), big.stat()
    with open(big, "r+b") as f:
        f.seek(5 << 20)
        f.write(b"x")
    os.utime(big, ns=(status.st_atime_ns, status.st_mtime_ns))
    assert file_identity(big) != before


def test_a_file_of_the_future_is_remembered_too(big, monkeypatch):
    """Archives unpack with any mtime."""
    now = time.time()
    monkeypatch.setattr(remembered.time, "time", lambda: now + 60)
    os.utime(big, (now + 1e6, now + 1e6))
    file_identity(big)
    assert to_read(big) == 0


def test_a_file_that_cannot_be_read_is_told_before_others_are_hashed(tmp_path, monkeypatch):
    monkeypatch.setattr(store, "BLOCK", 1 << 20)
    (tmp_path / "a").write_bytes(bytes(SMALL + 1000))
    os.mkfifo(tmp_path / "b")
    hashed = []
    own = store._hash
    monkeypatch.setattr(store, "_hash", lambda *args: (hashed.append(args), time.sleep(0.05), own(*args))[-1])
    with pytest.raises(InputError, match="FIFO"):
        identity(tmp_path)
    assert len(hashed) <= store.THREADS


def test_a_file_that_was_just_written_is_not_remembered(big):
    file_identity(big)
    assert to_read(big) == big.stat().st_size


@pytest.mark.parametrize("entry", [b"", b"{", b"[]", b'{"seen": 1}', b'{"seen": null, "identity": "x"}', b"[" * 100_000])
def test_a_damaged_memory_costs_time_and_nothing_else(big, monkeypatch, entry):
    aged(monkeypatch)
    known = file_identity(big)
    (file,) = remembered.folder().iterdir()
    file.write_bytes(entry)
    assert file_identity(big) == known


def test_a_cache_that_cannot_be_written_costs_time_and_nothing_else(big, monkeypatch, cache):
    aged(monkeypatch)
    (cache / "synthset").write_text("in the way")
    assert file_identity(big) == file_identity(big)


def test_progress_counts_the_bytes_that_are_read(big, tmp_path):
    (tmp_path / "small").write_bytes(b"1")
    told = []
    identity(tmp_path, told.append)
    assert sum(told) == to_read(tmp_path) == big.stat().st_size


def test_a_pipe_or_a_device_is_no_input(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    for path, what in ((tmp_path / "pipe", "FIFO"), ("/dev/zero", "device")):
        with pytest.raises(InputError, match=what):
            file_identity(path)


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
