"""Where images are found, in folders and HDF5 files, and how they are read."""

import hashlib
import os
import threading

import h5py
import numpy as np
import pytest

from synth.errors import InputError, StoreError
from synth.tracking.sources import Found, open_source

HOSTILE = [
    "plain.jpg",
    "two words.jpg",
    "it's.jpg",
    'say "x".jpg',
    "line\nbreak.jpg",
    "<img src=x onerror=alert(1)>.jpg",
    "größe 猫.png",
    "-rf.jpg",
    "%00.jpg",
    "..jpg",
    "a\\b.jpg",
]
ZEROS = b"\xff\xd8 ends in zeros\0\0"


@pytest.fixture
def folder(tmp_path):
    """Every hostile name at the top, one below, one twice below."""
    for name in [*HOSTILE, "sub/below.jpg", "sub/deep/own.jpg", "sub/twice.jpg", "other/twice.jpg", ".hidden/secret.jpg"]:
        (tmp_path / "images" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "images" / name).write_bytes(name.encode())
    return tmp_path / "images"


@pytest.fixture
def h5(tmp_path):
    """The same names as datasets, with both types that hold bytes, groups, and things that are no images."""
    with h5py.File(tmp_path / "images.h5", "w") as f:
        for name in [*HOSTILE, "sub/below.jpg", "sub/twice.jpg", "other/twice.jpg"]:
            if name != "..jpg":
                f[name] = np.frombuffer(name.encode(), np.uint8)
        f["text.jpg"] = np.asarray(ZEROS, dtype=f"S{len(ZEROS)}")
        f["floats.jpg"], f["words.jpg"], f["pixels.jpg"] = np.zeros(3), "text", np.zeros((2, 2), np.uint8)
        f["nothing.jpg"], f["empty.jpg"] = h5py.Empty("u1"), np.zeros(0, np.uint8)
        f["dead.jpg"], f["far.jpg"] = h5py.SoftLink("/nowhere"), h5py.ExternalLink("gone.h5", "/x")
    return tmp_path / "images.h5"


def test_any_name_is_found_in_a_folder_and_read_as_it_is(folder):
    source = open_source(folder)
    found = source.find(HOSTILE)
    assert {name: f.path for name, f in found.items()} == {name: name for name in HOSTILE}
    for name, f in found.items():
        assert source.read(f.path, f.size) == name.encode()


def test_a_name_is_looked_for_by_its_path_first_and_then_by_itself_below(folder):
    found = open_source(folder).find(["sub/twice.jpg", "elsewhere/below.jpg", "own.jpg", "twice.jpg", "nix.jpg", "secret.jpg", "x" * 300])
    assert [found[n].path for n in ("sub/twice.jpg", "elsewhere/below.jpg", "own.jpg")] == [
        "sub/twice.jpg",
        "sub/below.jpg",
        "sub/deep/own.jpg",
    ]
    assert "is 2 times in" in found["twice.jpg"].reason and "'other/twice.jpg', 'sub/twice.jpg'" in found["twice.jpg"].reason
    assert all("is not in" in found[n].reason for n in ("nix.jpg", "secret.jpg", "x" * 300))


def test_what_is_no_file_with_bytes_is_told_when_planned(folder):
    (folder / "empty.jpg").touch()
    os.mkfifo(folder / "pipe.jpg")
    (folder / "dead.jpg").symlink_to("nowhere")
    (folder / "circle").symlink_to(folder)
    (folder / "link.jpg").symlink_to(folder / "plain.jpg")
    (folder / "again").symlink_to(folder / "sub")
    found = open_source(folder).find(["empty.jpg", "pipe.jpg", "dead.jpg", "link.jpg", "sub", "nix.jpg", "own.jpg"])
    assert [found[n].reason for n in ("empty.jpg", "pipe.jpg")] == ["is an empty file", "is not a regular file"]
    assert "cannot be read" in found["dead.jpg"].reason and "is not in" in found["sub"].reason and "is not in" in found["nix.jpg"].reason
    assert found["own.jpg"].path == "again/deep/own.jpg", "a folder with two names is one folder"
    assert found["link.jpg"] == Found("link.jpg", len("plain.jpg"), sha256=hashlib.sha256(b"plain.jpg").hexdigest())


def test_a_folder_whose_name_is_no_text_is_told(tmp_path):
    os.mkdir(os.path.join(os.fsencode(tmp_path), b"\xff"))
    with open(os.path.join(os.fsencode(tmp_path), b"\xff", b"a.jpg"), "wb") as f:
        f.write(b"x")
    assert "no UTF-8" in open_source(tmp_path).find(["a.jpg"])["a.jpg"].reason


def test_images_that_change_or_go_are_reasons_and_a_folder_that_goes_is_a_store_error(folder):
    source = open_source(folder)
    (folder / "it's.jpg").write_bytes(b"other")
    (folder / "plain.jpg").unlink()
    assert "changed since" in source.read("it's.jpg", 8) and "not there any more" in source.read("plain.jpg", 9)
    folder.rename(folder.with_name("unmounted"))
    with pytest.raises(StoreError, match=r"dataset\.images: .*not there any more; mount it"):
        source.read("plain.jpg", 9)


def test_any_name_is_found_in_an_hdf5_file_with_all_its_bytes(h5):
    source = open_source(h5)
    names = [n for n in HOSTILE if n != "..jpg"]
    found = source.find([*names, "train2017/text.jpg", "below.jpg", "sub/twice.jpg"])
    assert all(source.read(found[n].path, found[n].size) == n.encode() for n in [*names, "sub/twice.jpg"])
    assert source.read(found["train2017/text.jpg"].path, len(ZEROS)) == ZEROS, "zeros at the end are kept"
    assert found["below.jpg"].path == "sub/below.jpg"
    source.close()


def test_what_holds_no_image_in_an_hdf5_file_is_told(h5):
    source = open_source(h5)
    names = [
        "floats.jpg",
        "words.jpg",
        "pixels.jpg",
        "nothing.jpg",
        "empty.jpg",
        "dead.jpg",
        "far.jpg",
        "sub",
        "twice.jpg",
        "nix.jpg",
    ]
    found = source.find(names)
    assert all("holds no image" in found[n].reason for n in names[:4]) and found["empty.jpg"].reason == "is an empty file"
    assert (
        all("is not in" in found[n].reason for n in ("dead.jpg", "sub", "nix.jpg"))
        and "another file" in found["far.jpg"].reason
        and "2 times" in found["twice.jpg"].reason
    )
    assert source.read("nix.jpg", 3) == "is not there any more" and "changed since" in source.read("plain.jpg", 3)
    assert "holds no image" in source.read("floats.jpg", 3)


def test_an_hdf5_file_lends_nothing_of_other_files(tmp_path):
    secret = tmp_path / "secret"
    secret.write_bytes(b"secret")
    os.mkfifo(tmp_path / "pipe")
    with h5py.File(tmp_path / "other.h5", "w") as f:
        f["x.jpg"] = np.zeros(6, np.uint8)
    with h5py.File(tmp_path / "images.h5", "w") as f:
        f["own.jpg"], f["soft.jpg"] = np.ones(6, np.uint8), h5py.SoftLink("/own.jpg")
        f["linked.jpg"], f["group"] = h5py.ExternalLink("other.h5", "/x.jpg"), h5py.ExternalLink("other.h5", "/")
        f["through.jpg"], f["pipe.jpg"] = h5py.SoftLink("/linked.jpg"), h5py.ExternalLink("pipe", "/x.jpg")
        f.create_dataset("raw.jpg", (6,), np.uint8, external=[(str(secret), 0, 6)])
        virtual = h5py.VirtualLayout((6,), np.uint8)
        virtual[:] = h5py.VirtualSource(str(tmp_path / "other.h5"), "x.jpg", (6,))
        f.create_virtual_dataset("virtual.jpg", virtual)
    source = open_source(tmp_path / "images.h5")
    names = ["linked.jpg", "through.jpg", "pipe.jpg", "raw.jpg", "virtual.jpg", "group/x.jpg"]
    assert {n: f.reason for n, f in source.find(names).items() if "lies in another file" not in f.reason} == {}
    assert all("lies in another file" in source.read(n, 6) for n in names)
    assert source.read("soft.jpg", 6) == source.read("own.jpg", 6) == b"\1" * 6
    source.close()


def test_threads_read_one_hdf5_file_together(h5):
    source, wrong = open_source(h5), []

    def read():
        for _ in range(50):
            if source.read("text.jpg", len(ZEROS)) != ZEROS or source.read("plain.jpg", 9) != b"plain.jpg":
                wrong.append(1)  # noqa: PERF401 (a read each)

    threads = [threading.Thread(target=read) for _ in range(8)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    assert not wrong


def test_places_that_are_no_source_are_named(tmp_path, h5):
    with pytest.raises(StoreError, match="is not there; mount it"):
        open_source(tmp_path / "nix")
    (tmp_path / "notes.txt").write_text("hello")
    with pytest.raises(InputError, match=r"notes\.txt is neither a folder nor an HDF5 file"):
        open_source(tmp_path / "notes.txt")
    torn = tmp_path / "torn.h5"
    torn.write_bytes(h5.read_bytes()[:700])
    with pytest.raises(InputError, match=r"torn\.h5 is a torn HDF5 file"):
        open_source(torn).find(["a"])
    h5.unlink()
    source = open_source(torn)
    torn.unlink()
    with pytest.raises(StoreError, match="is not there any more"):
        source.read("a", 1)


def test_what_is_called_in_another_way_here_is_told_with_the_cause(tmp_path):
    (tmp_path / "train2017").mkdir()
    for name in ("000000000009.jpg", "1.jpg"):
        (tmp_path / "train2017" / name).write_bytes(b"x")
    with h5py.File(tmp_path / "f.h5", "w") as f:
        f["a/000000000009.jpg"], f["a/1.jpg"] = np.zeros(3, np.uint8), np.zeros(3, np.uint8)
    for place in (tmp_path / "train2017", tmp_path / "f.h5"):
        source = open_source(place)
        found = source.find(["images\\1.jpg", "COCO_train2014_000000000009.jpg", "COCO_val2014_000000000010.jpg"])
        source.close()
        assert "but 1.jpg is; its file_name has backslashes" in found["images\\1.jpg"].reason
        assert "but 000000000009.jpg is; its file_name is of COCO 2014" in found["COCO_train2014_000000000009.jpg"].reason
        assert found["COCO_val2014_000000000010.jpg"].reason == f"is not in {place}"
