"""Trouble of the machine is no fact about what others wrote: no reader calls a picture bad, gone or without a caption for want of a disk,
a descriptor, a mount or a package."""

import errno
import io
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image

from synth.errors import InputError, StoreError, errno_of, not_trouble, refused
from synth.images.decode import decode
from synth.images.sources.read import ListedSource, read_file
from synth.store import trees
from synth.tracking.sources import open_source
from tests.faults.test_trouble import shim, troubled  # noqa: F401 (a fixture)

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def given(tmp_path_factory):
    folder = tmp_path_factory.mktemp("given")
    child(folder, "MAKE")
    return folder


def child(folder, what, env=None):
    command = [sys.executable, "-m", "tests.faults.readers", str(folder), what]
    return subprocess.run(command, cwd=ROOT, env=env, check=True, stdout=subprocess.PIPE, timeout=300).stdout


@pytest.mark.parametrize("fault", ["eio", "estale"])
def test_no_reader_tells_trouble_of_a_file_system_as_a_fact(shim, given, tmp_path, fault):  # noqa: F811
    answers = json.loads(child(given, "CALL", troubled(shim, given, fault, 40_000, 1, tmp_path / "log")))
    wrong = {(name, said) for name, all_said in answers.items() for said in all_said if said not in ("", "again")}
    assert not wrong
    assert sum(said == "again" for all_said in answers.values() for said in all_said) > 20
    assert all("" in answers[name] for name in answers if name not in ("hdf5", "hdf5 to merge"))


def test_no_reader_tells_the_want_of_descriptors_as_a_fact(given):
    answers = json.loads(child(given, "NO_FILES"))
    assert answers == {name: ["again"] for name in answers}


@pytest.mark.parametrize("how", ["gone", "empty"])
def test_a_mount_that_vanished_says_nothing_of_the_pictures(tmp_path, how):
    root = tmp_path / "mount"
    (root / "cat").mkdir(parents=True)
    (root / "cat" / "a.png").write_bytes(b"x")
    source = open_source(root)
    shutil.rmtree(root)
    if how == "empty":
        (root / "lost+found").mkdir(parents=True)
    with pytest.raises(StoreError, match="mount"):
        source.read("cat/a.png", 1)
    with pytest.raises(StoreError, match="mount"):
        read_file(root / "cat" / "a.png", 1, root)
    with pytest.raises(StoreError, match="mount"):
        ListedSource(root, None, (), {}).check()
    if how == "empty":
        with pytest.raises(StoreError, match="mount"):
            source.check("cat/a.png")


def test_one_picture_that_is_gone_among_others_is_a_fact(tmp_path):
    (tmp_path / "b.png").write_bytes(b"x")
    assert read_file(tmp_path / "a.png", 1, tmp_path) == "is not there any more"


@pytest.mark.parametrize(
    "code", [errno.EACCES, errno.EPERM, errno.EIO, errno.ESTALE, errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.ETIMEDOUT]
)
def test_what_may_not_be_read_here_may_be_read_elsewhere(tmp_path, monkeypatch, code):
    def refuse(*args, **more):
        raise OSError(code, os.strerror(code))

    (tmp_path / "a.png").write_bytes(b"x")
    monkeypatch.setattr(os, "open", refuse)
    with pytest.raises(StoreError):
        read_file(tmp_path / "a.png", 1, tmp_path)


def heif(brand=b"heic"):
    return b"\0\0\0\x18ftyp" + brand + bytes(40)


@pytest.mark.parametrize(
    ("data", "install"),
    [(heif(), "pillow-heif"), (heif(b"avif"), "Pillow 11.3"), (b"\xff\x0a" + bytes(40), "pillow-jxl-plugin")],
    ids=["heif", "avif", "jxl"],
)
def test_a_picture_that_another_pillow_reads_is_no_broken_one(without_decoders, data, install):
    with pytest.raises(InputError, match=f"which nothing here reads: install {install}"):
        decode(data, 8, 8, "stretch")
    with pytest.raises(InputError, match=r"x\.jpg: is a picture of the format"), trees.naming("x.jpg"):
        trees.decoded(data)
    assert decode(b"GIF8 no picture", 8, 8, "stretch").reason == "not a picture"


def test_a_pillow_without_a_decoder_is_told_as_such(monkeypatch):
    out = io.BytesIO()
    Image.new("RGB", (8, 8)).save(out, "JPEG")

    def no_decoder(*args, **more):
        raise OSError("decoder jpeg not available")

    monkeypatch.setattr(Image, "_getdecoder", no_decoder)
    with pytest.raises(trees.NoDecoder, match="format jpeg"):
        decode(out.getvalue(), 8, 8, "stretch")


def test_trouble_is_known_whatever_wraps_it():
    told = KeyError("Unable to open object (file read failed: time = .., errno = 5, error message = 'Input/output error', buf = 0x1)")
    assert errno_of(told) == errno.EIO and refused(told) and refused(OSError(errno.ESTALE, "x"))
    assert errno_of(Exception("I/O error: Stale file handle (os error 116)")) == errno.ESTALE
    try:
        try:
            raise OSError(errno.EIO, "x")
        except OSError as e:
            raise ValueError("torn") from e
    except ValueError as e:
        with pytest.raises(StoreError):
            not_trouble("f", e)
        assert not refused(e)  # where nobody asks what it came of, it may be a bug
    assert errno_of(ValueError("errno = 5")) is None and not refused(InputError("(os error 5)"))
    not_trouble("f", OSError("cannot identify image file"))
