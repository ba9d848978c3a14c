"""Folders that others filled: one walk and one set of pictures for everybody who reads them."""

import os
import shutil
from errno import EACCES, EIO
from pathlib import Path

import h5py
import pytest
from PIL import Image

from launch.plan.datasets import entries as classes_in
from synth.errors import EXIT_BAD_INPUT, EXIT_OK, InputError, StoreError
from synth.export.keyed_hdf5 import main as keyed
from synth.images.sources import reader
from synth.store import trees
from synth.store.identity import folder_identity
from synth.store.trees import PICTURES, Unread, can_decode, is_folder, open_picture, pictures, walk
from synth.tracking.sources import open_source
from tests.images.pictures import picture, sample, write_tar


def names(root, *args, **more):
    return [path for path, _ in walk(root, *args, **more)]


def make(root: Path, *paths: str) -> Path:
    for path in paths:
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_bytes(b"x")
    return root


# every reader of a folder tree: what it lists, by name below the folder
def as_img2img(root):
    return [i.key for i in reader("image_folder", root, False)]


def as_img2dataset(root):
    return [i.key for i in reader("img2dataset", root, False)]


def as_against(root):
    return [i.key for i in reader("files", root, False)]


def as_classes(root):
    return ["x"] * sum(e.count for e in classes_in(root, counting=True))


def as_keyed(root):
    out = root.with_name("out.h5")
    out.unlink(missing_ok=True)
    if keyed([str(root), str(out), "--names", "path"]) != EXIT_OK:
        raise InputError("see above")
    found = []
    with h5py.File(out) as f:
        f.visititems(lambda name, item: found.append(name) if isinstance(item, h5py.Dataset) else None)
    return found


def as_tracking(root):
    return [f.path for f in open_source(root).find(["x.png", "y.png"]).values()]


def as_identity(root):
    return [folder_identity(root)]


def as_tars(root):
    return [i.key for i in reader("webdataset", root, False)]


PICTURE_READERS = [as_img2img, as_img2dataset, as_against, as_classes, as_keyed]
READERS = [*PICTURE_READERS, as_tracking, as_identity, as_tars]


# -- the walk --------------------------------------------------------------------------------------------------------


def test_names_come_in_the_order_that_they_decide_less_hidden_ones(tmp_path):
    make(tmp_path, "b/2", "b/10", "a.txt", "a/z/1", "B", ".hidden/x", "a/.x", "a b")
    assert names(tmp_path) == ["B", "a/z/1", "a b", "a.txt", "b/10", "b/2"]
    assert names(tmp_path, "a") == ["a/z/1"]


def test_links_are_followed_but_not_back_to_a_folder_above(tmp_path):
    make(tmp_path / "far", "deep/2")
    make(tmp_path / "root", "a/1")
    (tmp_path / "root" / "far").symlink_to(tmp_path / "far")
    (tmp_path / "root" / "again").symlink_to(tmp_path / "far" / "deep")
    (tmp_path / "far" / "up").symlink_to(tmp_path / "root")
    (tmp_path / "far" / "self").symlink_to(tmp_path / "far" / "self")
    (tmp_path / "far" / "dead").symlink_to(tmp_path / "nowhere")
    assert names(tmp_path / "root") == ["a/1", "again/2", "far/dead", "far/deep/2", "far/self"]
    assert names(tmp_path / "root", once=True) == ["a/1", "again/2", "far/dead", "far/self"]
    assert names(tmp_path / "root", "far") == ["far/dead", "far/deep/2", "far/self"], "the root is above it too"


def test_links_that_multiply_end_and_are_named(tmp_path):
    for k in range(40):  # 2^40 paths
        (tmp_path / f"{k:02d}").mkdir()
        for name in "ab":
            (tmp_path / f"{k:02d}" / name).symlink_to(tmp_path / f"{k + 1:02d}")
    with pytest.raises(InputError, match=r"k: .*links lead to .* 1,000 times"):
        names(tmp_path / "00", key="k")
    assert names(tmp_path / "00", once=True) == [f"{'a/' * 39}a", f"{'a/' * 39}b"]


def test_a_tree_may_be_deeper_than_functions_can_call_themselves(tmp_path):
    path = str(tmp_path)
    for _ in range(1200):
        path += "/d"
        os.mkdir(path)
    Path(path, "x").touch()
    assert names(tmp_path) == ["d/" * 1200 + "x"]
    os.unlink(f"{path}/x")
    while path != str(tmp_path):  # rmtree calls itself
        os.rmdir(path)
        path = path[:-2]


@pytest.mark.parametrize("read", READERS)
@pytest.mark.parametrize(("code", "kind"), [(EACCES, InputError), (EIO, StoreError)])
def test_every_reader_names_a_folder_that_cannot_be_listed(tmp_path, monkeypatch, capsys, read, code, kind):
    root = make(tmp_path / "root", "cat/x.png", "cat/secret/y.png", "cat/0.tar")
    scandir = os.scandir

    def refusing(path):
        if str(path).endswith("secret"):
            raise OSError(code, os.strerror(code))
        return scandir(path)

    monkeypatch.setattr(trees.os, "scandir", refusing)
    if read is as_keyed:
        assert keyed([str(root), str(tmp_path / "o.h5")]) == (EXIT_BAD_INPUT if kind is InputError else 75)
        assert "cat/secret cannot be listed" in capsys.readouterr().err
        return
    with pytest.raises(kind, match="cat/secret cannot be listed"):
        read(root)


@pytest.mark.parametrize("read", READERS)
def test_every_reader_follows_links_to_folders_and_comes_back_from_a_circle(tmp_path, read):
    make(tmp_path / "far", "x.png")
    write_tar(tmp_path / "far" / "0.tar", sample("k", 0))
    root = make(tmp_path / "root", "cat/y.png")
    (root / "dog").symlink_to(tmp_path / "far")
    (tmp_path / "far" / "back").symlink_to(root)
    found = read(root)
    expected = {
        as_classes: ["x", "x"], as_identity: found, as_tars: ["dog/0.tar/k"], as_tracking: ["dog/x.png", "cat/y.png"],
    }  # fmt: skip
    assert found == expected.get(read, ["cat/y.png", "dog/x.png"])
    before = folder_identity(root)
    (tmp_path / "far" / "x.png").write_bytes(b"other")
    assert folder_identity(root) != before, "what lies behind a link is part of an input"


class Entry:
    def __init__(self, name, code):
        self.name, self.path, self._code = name, f"/root/{name}", code

    def is_dir(self):
        raise OSError(self._code, os.strerror(self._code))


def test_a_link_to_where_nobody_may_look_is_named_unless_it_is_called_like_a_picture():
    with pytest.raises(InputError, match="/root/cats cannot be listed"):
        is_folder(Entry("cats", EACCES))
    assert not is_folder(Entry("cat.png", EACCES)), "told with its reason by whoever lists pictures"


@pytest.mark.parametrize("read", [as_against, as_img2img, as_keyed, as_classes, as_tars, as_identity])
def test_names_that_are_no_utf8_and_things_that_are_no_files_stop_no_reader(tmp_path, read, capsys):
    root = tmp_path / "root"
    os.makedirs(os.fsencode(root) + b"/c/\xff")
    (root / "c" / "a.png").write_bytes(picture())
    for name in (b"\xe9.png", b"\xe9.tar"):
        with open(os.fsencode(root) + b"/c/\xff/" + name, "wb") as f:
            f.write(picture())
    if read in (as_identity, as_keyed):
        assert read(root)
        os.mkfifo(root / "c" / "pipe.png")
        if read is as_keyed:
            assert keyed([str(root), str(tmp_path / "o.h5")]) == EXIT_BAD_INPUT
            assert "c/pipe.png: not a regular file" in capsys.readouterr().err
            return
        with pytest.raises(InputError, match=r"c/pipe\.png: is a FIFO"):
            read(root)
        return
    os.mkfifo(root / "c" / "pipe.tar")
    assert read(root)


# -- which files are pictures ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("read", PICTURE_READERS)
def test_every_reader_takes_the_same_suffixes(tmp_path, read):
    root = make(
        tmp_path / "root", *(f"cat/{n}.{s}" for n, s in enumerate([*PICTURES, "TIF", "JpEg"])), "cat/notes.txt", "cat/png", "cat/.x.png"
    )
    assert {"png", "jpg", "jpeg", "webp", "bmp", "gif", "tif", "tiff"} <= set(PICTURES)
    assert len(read(root)) == len(PICTURES) + 2


def test_modern_pictures_that_cannot_be_decoded_are_counted_and_named(tmp_path, without_decoders):
    root = make(tmp_path, "cat/1.heic", "cat/2.HEIC", "cat/3.avif", "cat/4.png", "cat/5.txt")
    undecoded = Unread()
    assert [path for path, _ in pictures(root, undecoded)] == ["cat/4.png"] == as_against(root)
    assert undecoded.note() == (
        "1 .avif file is not read: this Pillow has no decoder (install Pillow 11.3 or newer, or convert to PNG); "
        "2 .heic files are not read: this Pillow has no decoder (install pillow-heif, or convert to PNG); "
        "1 file is not called like a picture (.txt 1; the first: 'cat/5.txt')"
    )
    found = reader("image_folder", root, False)
    assert [i.key for i in found] == ["cat/4.png"] and found.unread.note() == undecoded.note()
    (root / "cat" / "4.png").unlink()
    assert len(as_classes(root)) == 3, "a real picture counts whether or not it can be decoded here"
    assert len(as_keyed(root)) == 3, "bytes are copied, not decoded"


def test_modern_pictures_in_tars_are_counted(tmp_path, without_decoders):
    write_tar(tmp_path / "0.tar", [("a.heic", b"x"), ("b.png", picture()), ("b.heic", b"x")])
    found = reader("webdataset", tmp_path, False)
    assert [(i.key, i.reason) for i in found] == [("0.tar/a", "no picture among its files"), ("0.tar/b", "")]
    assert found.unread.undecoded == {"heic": 1}


def test_a_plugin_that_is_installed_is_asked(tmp_path, without_decoders, monkeypatch):
    (tmp_path / "some_plugin.py").write_text(
        "from PIL import Image, PpmImagePlugin\n"
        "def register_heif_opener():\n"
        "    Image.register_open('HEIF', PpmImagePlugin.PpmImageFile)\n"
        "    Image.register_extension('HEIF', '.heic')\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setitem(trees.DECODERS, "HEIF", ("some_plugin", ""))
    assert can_decode("heic") and not can_decode("jxl") and can_decode("png") and not can_decode("txt")
    assert as_against(make(tmp_path / "s", "a.heic")) == ["a.heic"]


@pytest.mark.skipif(not can_decode("avif"), reason="this Pillow has no AVIF")
def test_what_pillow_reads_here_is_read(tmp_path):
    (tmp_path / "cat").mkdir()
    Image.new("RGB", (16, 16), (200, 10, 10)).save(tmp_path / "cat" / "a.AVIF", "AVIF")
    assert as_img2img(tmp_path) == as_against(tmp_path) == ["cat/a.AVIF"]
    image = open_picture((tmp_path / "cat" / "a.AVIF").read_bytes())
    assert image.size == (16, 16) and abs(image.convert("RGB").getpixel((8, 8))[0] - 200) < 9


def test_no_decoder_that_starts_another_program_is_asked():
    for data in (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 8 8\n%%EOF\n", b"%PDF-1.4\n", b"not a picture"):
        with pytest.raises(Image.UnidentifiedImageError):
            open_picture(data)


def test_a_folder_with_the_pictures_of_before_has_the_identity_of_before(tmp_path):
    make(tmp_path, "b/2.png", "b.png", "b/c/1.png", "a.txt", "b/0.png", "b-1/x.png")
    assert folder_identity(tmp_path) == "4e6c01992a720dca9cdaaaef2f1f1395f9eff378d2598b0d7f15cb2ed82c27fe"
    shutil.rmtree(tmp_path / "b")
    assert folder_identity(tmp_path) != "4e6c01992a720dca9cdaaaef2f1f1395f9eff378d2598b0d7f15cb2ed82c27fe"
