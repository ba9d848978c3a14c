"""Listing sources of pictures: every layout, hostile names, torn tars, and the stored form of a listing."""

import hashlib
import json
import os
import tarfile
from contextlib import contextmanager

import pytest

from synth.errors import InputError, StoreError
from synth.images.sources import Input, SourceClass, layout_of, read, reader
from synth.images.sources.base import Packed
from synth.images.sources.listing import BLOCK, Listing, ListingWriter
from synth.images.sources.read import Picture, digested, known_by_name, not_empty, read_bytes
from synth.store import trees
from tests.images.pictures import image_folder, picture, sample, write_tar


def listed(layout, root, captions=False):
    found = reader(layout, root, captions)
    return list(found), found


# -- class folders ---------------------------------------------------------------------------------------------------


def test_class_folders_are_listed_by_name_with_sizes_and_nested_pictures(tmp_path):
    root = image_folder(tmp_path / "s", ("dog", "golden_retriever", "cat"), each=2)
    (root / "cat" / "deep" / "er").mkdir(parents=True)
    (root / "cat" / "deep" / "er" / "x.JPEG").write_bytes(picture(9, ext="jpg"))
    (root / "cat" / "notes.txt").write_text("no picture")
    (root / ".hidden").mkdir()
    (root / ".hidden" / "a.png").write_bytes(picture())
    items, found = listed("image_folder", root)
    assert [i.key for i in items] == [
        "cat/0.png",
        "cat/1.png",
        "cat/deep/er/x.JPEG",
        "dog/0.png",
        "dog/1.png",
        "golden_retriever/0.png",
        "golden_retriever/1.png",
    ]
    assert [c.name for c in found.classes] == ["cat", "dog", "golden retriever"] and all(c.index is None for c in found.classes)
    assert [i.labels for i in items] == [(0,)] * 3 + [(1,)] * 2 + [(2,)] * 2
    assert all(i.size == (root / i.path).stat().st_size and i.offset == -1 and not i.reason for i in items)


def test_an_empty_class_folder_is_a_class_and_two_spellings_stay_apart(tmp_path):
    root = image_folder(tmp_path / "s", {"a_b": 1, "a b": 1, "empty": 0})
    _, found = listed("image_folder", root)
    assert [c.name for c in found.classes] == ["a b", "a_b", "empty"]


HOSTILE = [
    "a b",
    "say 'x'",
    'q"q',
    "new\nline",
    "tab\t",
    "-rf",
    "%2e",
    "caf\u00e9",
    "\U0001f43c",
    "<b>",
    "a;rm",
    "\u202eabc",
    "{class}",
    "x" * 200,
]


def test_hostile_names_are_listed_stored_and_read_back(tmp_path):
    root = tmp_path / "s"
    for n, name in enumerate(HOSTILE):
        (root / name).mkdir(parents=True)
        (root / name / f"{name[:100]}.png").write_bytes(picture(n))
    os.mkdir(os.fsencode(root) + b"/\xff\xfe")
    with open(os.fsencode(root) + b"/\xff\xfe/\xe9.png", "wb") as f:
        f.write(picture(99))
    items, found = listed("image_folder", root)
    assert len(items) == len(HOSTILE) + 1 and len(found.classes) == len(items)
    for item in items:
        item.key.encode()  # a key is text that anything can store
        assert Input.from_list(json.loads(json.dumps(item.to_list()))) == item
        data = read_bytes(Picture(0, item.key, root / item.path, size=item.size), root)
        assert isinstance(data, bytes) and len(data) == item.size
    assert r"\xff\xfe/\xe9.png" in {i.key for i in items}


def test_what_is_no_usable_file_is_listed_with_its_reason(tmp_path):
    root = image_folder(tmp_path / "s", ("a",), each=1)
    (root / "a" / "broken.png").symlink_to(tmp_path / "nowhere.png")
    (root / "a" / "circle.png").symlink_to(root / "a" / "circle.png")
    os.mkfifo(root / "a" / "pipe.png")
    (root / "a" / "zero.png").touch()
    with open(root / "a" / "huge.png", "wb") as f:
        f.truncate((1 << 28) + 1)
    (root / "loose.png").write_bytes(picture())
    (root / "a" / "back").symlink_to(root / "a")
    items, _ = listed("image_folder", root)
    reasons = {i.key: i.reason for i in items}
    assert reasons.pop("a/0.png") == ""
    assert reasons.pop("a/circle.png") in ("a broken link", "cannot be read: Too many levels of symbolic links")
    assert reasons == {
        "a/broken.png": "a broken link",
        "a/pipe.png": "not a regular file",
        "a/zero.png": "empty file",
        "a/huge.png": f"too large: {(1 << 28) + 1} bytes, {1 << 28} at most",
        "loose.png": "lies beside the class folders, so it has no class",
    }


def test_pictures_without_class_folders_have_no_class(tmp_path):
    (tmp_path / "s" / "docs").mkdir(parents=True)
    (tmp_path / "s" / "1.png").write_bytes(picture())
    items, found = listed("image_folder", tmp_path / "s")
    assert [(i.key, i.labels, i.reason) for i in items] == [("1.png", (), "")] and not found.classes


def test_our_own_export_says_its_classes_labels_and_captions(tmp_path):
    root = image_folder(tmp_path / "s", ("red_panda", "say_%22x%22"), each=1)
    names = {"red_panda": (7, "red panda"), "say_%22x%22": (3, 'say "x"')}
    (root / "classes.json").write_text(json.dumps({"classes": [{"index": i, "name": n, "folder": f} for f, (i, n) in names.items()]}))
    lines = [
        {
            "file_name": "red_panda/0.png",
            "caption": "a panda and x",
            "label": 7,
            "labels": [7, 3],
            "label_names": ["red panda", 'say "x"'],
        },
        {"file_name": "say_%22x%22/0.png", "text": "x", "label": 3, "labels": [3], "label_names": ['say "x"']},
    ]
    (root / "metadata.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    items, found = listed("image_folder", root, captions=True)
    assert found.classes == [SourceClass(7, "red panda"), SourceClass(3, 'say "x"')]
    assert [(i.labels, i.caption) for i in items] == [((0, 1), "a panda and x"), ((1,), "x")]
    assert [(i.labels, i.caption) for i in listed("image_folder", root)[0]] == [((0, 1), ""), ((1,), "")]
    (root / "other").mkdir()
    with pytest.raises(InputError, match="does not name folder 'other'"):
        listed("image_folder", root)
    (root / "other").rmdir()
    (root / "metadata.jsonl").write_text('{"file_name": "a"}\n{"file_na')
    with pytest.raises(InputError, match=r"metadata\.jsonl: line 2 is torn"):
        listed("image_folder", root, captions=True)


def test_img2dataset_files_have_captions_and_no_classes(tmp_path):
    root = tmp_path / "s"
    (root / "00000").mkdir(parents=True)
    (root / "00000_stats.json").write_text("{}")
    for n in range(3):
        (root / "00000" / f"{n:09d}.jpg").write_bytes(picture(n, ext="jpg"))
    (root / "00000" / "000000000.txt").write_text(" a cat \n")
    (root / "00000" / "000000001.json").write_text('{"caption": "a dog"}')
    (root / "00000" / "000000002.json").write_text('{"capt')
    assert layout_of(root) == "img2dataset"
    items, found = listed("img2dataset", root, captions=True)
    assert [(i.key, i.caption, i.labels) for i in items] == [
        ("00000/000000000.jpg", "a cat", ()), ("00000/000000001.jpg", "a dog", ()), ("00000/000000002.jpg", "", ())
    ]  # fmt: skip
    assert not found.classes


def test_whether_a_source_is_empty_is_told_by_its_first_name(tmp_path, monkeypatch):
    for name in (".hidden", "lost+found", "Thumbs.db"):
        (tmp_path / name).touch()
    with pytest.raises(StoreError, match="is empty now; mount what was there"):
        not_empty(tmp_path, "img2img.source")
    image_folder(tmp_path, ("a", "b"), each=1)
    met, scandir = [], os.scandir

    @contextmanager
    def counted(folder):
        with scandir(folder) as there:
            yield (met.append(e.name) or e for e in sorted(there, key=lambda e: e.name != "a"))

    monkeypatch.setattr(trees.os, "scandir", counted)
    not_empty(tmp_path, "img2img.source")
    assert met == ["a"], "of 100,000 names too, for each picture that is missing"


# -- tars ------------------------------------------------------------------------------------------------------------


def tars(root):
    write_tar(
        root / "00000.tar",
        [*sample("a/x", 0, {"label": 2, "class": "cat", "caption": "one"}), *sample("b", 1, {"target": 5, "classname": "dog"})],
    )
    write_tar(
        root / "sub" / "00001.tar",
        [*sample("c", 2, txt="two", cls="5"), ("readme.md", b"x"), ("__unit__/index", b"{}"), ("d.json", b"{}")],
    )
    return root


def test_webdataset_tars_are_listed_by_their_headers(tmp_path):
    root = tars(tmp_path / "s")
    assert layout_of(root) == "webdataset"
    items, found = listed("webdataset", root, captions=True)
    assert [i.key for i in items] == [
        "00000.tar/a/x",
        "00000.tar/b",
        "sub/00001.tar/c",
        "sub/00001.tar/readme",
        "sub/00001.tar/d",
    ]
    assert [i.caption for i in items[:3]] == ["one", "", "two"]
    assert found.classes == [SourceClass(2, "cat"), SourceClass(5, "dog"), SourceClass(5, "5")]
    assert [i.labels for i in items[:3]] == [(0,), (1,), (2,)]
    assert [i.reason for i in items] == ["", "", "", "no picture among its files", "no picture among its files"]
    for n, item in enumerate(items[:3]):
        assert read_bytes(Picture(0, item.key, root / item.path, item.offset, item.size), root) == picture(n)


def test_one_tar_is_a_source_too(tmp_path):
    tars(tmp_path / "s")
    tar = tmp_path / "s" / "00000.tar"
    assert layout_of(tar) == "webdataset"
    assert [i.key for i in listed("webdataset", tar)[0]] == ["00000.tar/a/x", "00000.tar/b"]


def test_several_labels_of_a_sample_are_kept(tmp_path):
    record = {"label": 4, "class": "cat", "labels": [4, 9], "label_names": ["cat", "hat"]}
    write_tar(tmp_path / "s" / "0.tar", sample("k", 0, record))
    items, found = listed("webdataset", tmp_path / "s")
    assert [found.classes[n] for n in items[0].labels] == [SourceClass(4, "cat"), SourceClass(9, "hat")]


@pytest.mark.parametrize("cut", ["inside a picture", "between members", "inside a header", "no end", "garbage"])
def test_a_torn_tar_gives_what_stands_before_the_tear_and_names_it(tmp_path, cut):
    tar = write_tar(tmp_path / "s" / "0.tar", [m for n in range(4) for m in sample(f"k{n}", n, {"label": 0, "class": "c"})])
    data = tar.read_bytes()
    with tarfile.open(tar) as opened:
        third = opened.getmembers()[4]
    at = {
        "inside a picture": third.offset_data + 5, "between members": third.offset, "inside a header": third.offset + 100,
        "no end": len(data.rstrip(b"\0")) // 512 * 512 + 512, "garbage": third.offset,
    }[cut]  # fmt: skip
    tar.write_bytes(data[:at] + (b"garbage" * 500 if cut == "garbage" else b""))
    items, _ = listed("webdataset", tmp_path / "s")
    whole = [i.key for i in items if not i.reason]
    assert whole == [f"0.tar/k{n}" for n in range(4 if cut == "no end" else 2)]
    assert items[-1].key == "0.tar" and items[-1].reason.startswith(
        f"torn after {4 if cut == 'no end' else 3 if cut == 'inside a picture' else 2} samples"
    )
    if cut == "inside a picture":
        assert items[-2].key == "0.tar/k2" and items[-2].reason == "torn: the tar ends inside it"


def test_what_is_no_tar_is_one_input_with_its_reason(tmp_path):
    tars(tmp_path / "s")
    (tmp_path / "s" / "bad.tar").write_bytes(b"no tar at all" * 100)
    (tmp_path / "s" / "empty.tar").touch()
    items, _ = listed("webdataset", tmp_path / "s")
    reasons = {i.key: i.reason for i in items if i.key.endswith(".tar")}
    assert reasons["empty.tar"] == "empty file" and reasons["bad.tar"].startswith("not a tar")
    assert sum(not i.reason for i in items) == 3


@pytest.mark.parametrize("record", ['{"lab', '{"label": "x"}', '{"label": -1}', '{"labels": [1, 2], "label_names": ["a"]}', "[1]"])
def test_a_sample_whose_json_is_odd_is_told_or_has_no_class(tmp_path, record):
    write_tar(tmp_path / "s" / "0.tar", [("k.png", picture()), ("k.json", record.encode())])
    (item,), _ = listed("webdataset", tmp_path / "s")
    assert (item.reason != "") == (record != "[1]") and item.labels == ()


# -- stored form -----------------------------------------------------------------------------------------------------


def write(path, n):
    writer = ListingWriter()
    for k in range(n):
        writer.add(Input(f"c/{k}.png", f"c/{k}.png", k, labels=(k % 3,), caption="\udcff" if k == 7 else ""))
    data, identity = writer.finish()
    path.write_bytes(data)
    return identity


@pytest.mark.parametrize("n", [1, BLOCK, 2 * BLOCK + 5])
def test_any_slice_of_a_listing_is_read_alone(tmp_path, n):
    listing = Listing(tmp_path / "l", write(tmp_path / "l", n))
    for start, stop in [(0, 1), (0, n), (n - 1, n + 5), (min(1000, n - 1), min(1100, n)), (max(0, n - 3), n)]:
        assert [i.size for i in listing.rows(start, stop)] == list(range(start, min(stop, n)))


def test_what_was_taken_into_a_listing_is_counted():
    writer = ListingWriter()
    packed = Input("p", "0.parquet", packed=Packed("0" * 64, "row"))
    for item in (
        Input("a", "a"),
        Input("b", "b", caption="a b", sha256="0" * 64),
        packed,
        Input("c", "c", reason="torn"),
        Input("d", "d", reason="x"),
    ):
        writer.add(item)
    assert (writer.n, writer.usable, writer.captioned, writer.by_name, writer.first) == (5, 3, 1, 1, "c: torn")


def test_a_listing_that_is_torn_or_another_one_is_told(tmp_path):
    identity = write(tmp_path / "l", 10)
    assert write(tmp_path / "m", 11) != identity
    with pytest.raises(InputError, match="not the listing that was planned"):
        Listing(tmp_path / "m", identity)
    (tmp_path / "l").write_bytes((tmp_path / "l").read_bytes()[:-9])
    with pytest.raises(InputError, match="cannot be read"):
        Listing(tmp_path / "l", identity)


# -- pictures whose size tells nothing -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("layout", "ext"), [*(("image_folder", e) for e in ("bmp", "tif", "ppm", "")), *(("webdataset", e) for e in ("bmp", "tif"))]
)
@pytest.mark.parametrize("little", [read.LITTLE, 0])
def test_a_picture_in_the_place_of_another_of_its_size_is_another_source(tmp_path, layout, ext, little, monkeypatch):
    monkeypatch.setattr(read, "LITTLE", little)

    def written(number):
        data = picture(number, ext={"tif": "tiff", "": "bmp"}.get(ext, ext))
        if layout == "webdataset":
            write_tar(tmp_path / "s" / "0.tar", [(f"a.{ext}", data)])
        else:
            path = tmp_path / "s" / "cat" / (f"a.{ext}" if ext else "a")
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(data)
        writer = ListingWriter()
        items = list(digested(reader(layout, tmp_path / "s", False), tmp_path / "s"))
        for item in items:
            writer.add(item)
        return items, writer.finish()[1]

    (one,), first = written(1)
    (two,), second = written(2)
    assert (one.size, one.key) == (two.size, two.key) and first != second and one.sha256 != two.sha256
    assert written(1)[1] == first
    assert Input.from_list(one.to_list()).sha256 == one.sha256


@pytest.mark.parametrize("bound", ["LITTLE", "FEW"])
def test_a_source_that_is_little_is_known_by_every_byte_and_a_large_one_by_names_and_sizes(tmp_path, bound, monkeypatch):
    root = image_folder(tmp_path / "s", ("cat",), each=3)
    size = sum(path.stat().st_size for path in root.rglob("*.png"))

    def items(**more) -> list[Input]:
        return list(digested(reader("image_folder", root, False), root, **more))

    for most in (size, 3) if bound == "FEW" else (size,):
        monkeypatch.setattr(read, bound, most)
        assert [item.sha256 for item in items()] == [hashlib.sha256((root / i.path).read_bytes()).hexdigest() for i in items()]
    monkeypatch.setattr(read, bound, (2 if bound == "FEW" else size - 1))
    assert [(item.sha256, len(item.to_list())) for item in items()] == [("", 7)] * 3
    assert all(item.sha256 for item in items(whole=True))
    assert known_by_name(3, "img2img.source")[0].startswith(
        "img2img.source: 3 pictures are known by name and size ("
    ) and not known_by_name(0, "k")
