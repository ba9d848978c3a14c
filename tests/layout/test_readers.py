"""Sources of pictures with alt texts: what is found of each layout, and what is said of what cannot be used."""

import json

import pytest

from synth.errors import InputError, StoreError
from synth.layout import meta_files
from synth.layout.readers import layout_of, reader
from tests.layout.sources import listed, pictures, png, tar, write

HOSTILE = {
    "long": "dog " * 2500,
    "html": "<script>alert('x')</script> &amp; <b>a dog</b>",
    "emoji": "\U0001f468\u200d\U0001f469\u200d\U0001f467 family",
    "empty": "",
    "lines": "a dog\r\non two lines\x00\x1b[31m",
}


def texts(inputs):
    return {item.key: item.caption for item in inputs}


def test_files_have_their_alt_texts_beside_them_and_equal_names_in_other_folders_are_others(tmp_path):
    pictures(tmp_path, 2, "00000/", "first {}")
    pictures(tmp_path, 2, "00001/", "second {}")
    write(tmp_path, {"00001/003.png": png(), "00001/003.json": {"caption": "of its json", "width": 8}, "00000_stats.json": {}})
    write(tmp_path, {"00001/004.png": png()})
    inputs, notes = listed(tmp_path)
    assert texts(inputs) == {
        "00000/000.png": "first 0", "00000/001.png": "first 1", "00001/000.png": "second 0", "00001/001.png": "second 1",
        "00001/003.png": "of its json", "00001/004.png": "",
    }  # fmt: skip
    assert not notes


def test_an_export_says_its_alt_texts_in_its_metadata(tmp_path):
    rows = [{"file_name": "cat/0.png", "text": "a cat"}, {"file_name": "cat/1.png", "caption": "two cats", "text": "not this"}]
    write(tmp_path, {"train/cat/0.png": png(), "train/cat/1.png": png(1), "train/cat/1.txt": "nor this"})
    write(tmp_path, {"train/metadata.jsonl": "\n".join(map(json.dumps, rows))})
    assert texts(listed(tmp_path)[0]) == {"train/cat/0.png": "a cat", "train/cat/1.png": "two cats"}


def test_a_metadata_file_in_one_folder_leaves_the_alt_texts_of_the_others_alone(tmp_path):
    pictures(tmp_path, 3, "A/", "beside {}")
    pictures(tmp_path, 2, "B/", "beside {}")
    write(tmp_path, {"A/metadata.jsonl": json.dumps({"file_name": "001.png", "text": "of its row"}), "B/002.png": png()})
    inputs, notes = listed(tmp_path)
    assert texts(inputs) == {
        "A/000.png": "beside 0", "A/001.png": "of its row", "A/002.png": "beside 2", "B/000.png": "beside 0", "B/001.png": "beside 1",
        "B/002.png": "",
    }  # fmt: skip
    assert notes == ["1 pictures have no alt text, neither in a metadata.jsonl nor beside them"]


@pytest.mark.parametrize("beside", [{"txt": b" \n"}, {"txt": b"\xff"}, {}], ids=["empty", "torn", "none"])
def test_files_and_tars_have_the_same_alt_texts(beside, tmp_path):
    for form, expected in ((b'\xef\xbb\xbf{"caption": "a dog"}', "a dog"), (b"{torn", "")):
        sample = {f"a.{suffix}": data for suffix, data in ({"png": png()} | beside | {"json": form}).items()}
        write(tmp_path / "files", sample)
        tar(tmp_path / "tars/0.tar", sample)
        assert [listed(tmp_path / layout)[0][0].caption for layout in ("files", "tars")] == [expected] * 2


def test_samples_of_tars_have_theirs_in_them(tmp_path):
    members = {
        "0.jpg": png(),
        "0.txt": b"a dog\n",
        "0.json": b'{"caption": "not this"}',
        "1.png": png(1),
        "1.json": b'{"caption": "a cat"}',
    }
    members |= {"2.jpg": png(2), "2.json": b'{"label": "no class number", "caption": ""}', "3.png": png(3), "3.txt": b"\xff\xfe"}
    tar(tmp_path / "00000.tar", members | {"4.jpg": png(4), "4.json": b"{torn", "5.txt": b"no picture"})
    found = reader(layout_of(tmp_path), tmp_path)
    inputs = list(found)
    assert texts(inputs) == {f"00000.tar/{n}": t for n, t in enumerate(["a dog", "a cat", "", "", "", "no picture"])}
    assert [i.key for i in inputs if i.reason] == ["00000.tar/5"]
    assert "whose alt text cannot be read, which is taken for empty: 2" in found.unread.note()


@pytest.mark.parametrize("name", HOSTILE)
def test_alt_texts_of_any_kind_are_taken_as_they_are(name, tmp_path):
    write(tmp_path, {"files/a.png": png(), "files/a.txt": HOSTILE[name]})
    write(tmp_path, {"meta/m.json": [{"image": "../files/a.png", "caption": HOSTILE[name]}]})
    tar(tmp_path / "tars/0.tar", {"a.png": png(), "a.txt": HOSTILE[name].encode()})
    for layout in ("files", "meta", "tars"):
        [item], _ = listed(tmp_path / layout)
        assert item.caption == HOSTILE[name].strip()


def test_alt_texts_that_cannot_be_read_are_counted(tmp_path):
    write(tmp_path, {f"{n}.png": png(n) for n in range(5)})
    write(tmp_path, {"0.txt": b"\xff\xff", "1.txt": b"x" * (1 << 21), "2.json": "{torn", "3.txt": b"\xff", "3.json": {"caption": "a dog"}})
    inputs, notes = listed(tmp_path)
    assert [i.caption for i in inputs] == ["", "", "", "a dog", ""]
    assert notes == [
        "1 pictures with a .json beside it that cannot be read have no alt text",
        "2 pictures with a .txt beside it that cannot be read have no alt text",
    ]


def test_one_error_of_the_disk_is_no_missing_alt_text(tmp_path, monkeypatch):
    pictures(tmp_path, 1)

    def broken(path):
        raise OSError(5, "Input/output error", str(path))

    monkeypatch.setattr("synth.layout.readers.foreign.open_file", broken)
    with pytest.raises(StoreError, match="cannot be read now"):
        listed(tmp_path)


# -- meta files ------------------------------------------------------------------------------------------------------


def test_meta_files_are_read_in_the_order_of_their_numbers(tmp_path):
    pictures(tmp_path / "images", 3)
    for number, n in ((10, 2), (2, 1), (0, 0)):
        write(tmp_path, {f"meta/process_{number}.json": [{"image": str(tmp_path / f"images/{n:03d}.png"), "caption": f"text {n}"}]})
    assert texts(listed(tmp_path / "meta")[0]) == {f"{n:03d}.png": f"text {n}" for n in range(3)}
    single = write(tmp_path, {"lines.jsonl": '{"image": "images/001.png", "caption": null}\n\n'}) / "lines.jsonl"
    inputs, notes = listed(single)
    assert texts(inputs) == {"001.png": ""} and notes == ["1 entries of meta files have no caption"]


def test_a_folder_of_lists_is_one_of_meta_files_whatever_else_is_in_it(tmp_path):
    write(tmp_path, {"lines/p.jsonl": "", "packed/p.json": [], "packed/index.parquet": b"", "export/metadata.jsonl": "", "other/x.md": ""})
    write(tmp_path, {"fetched/00000_stats.json": {}, "fetched/00000.parquet": b"", "tars/p.json": [], "tars/0.tar": b""})
    found = {name: layout_of(tmp_path / name) for name in ("lines", "packed", "export", "other", "fetched", "tars")}
    assert found == {"lines": "meta", "packed": "meta", "export": "files", "other": "files", "fetched": "files", "tars": "webdataset"}


def test_pictures_of_meta_files_may_lie_elsewhere_by_the_last_two_parts_of_their_paths(tmp_path):
    pictures(tmp_path / "here", 1, "00000/", "x")
    pictures(tmp_path / "here", 1, "00001/", "y")
    images = ["/gone/cc3m/00000/000.png", "/gone/cc3m/00001/000.png", "/gone/cc3m/00001/000.png", "/gone/cc3m/00002/000.png"]
    meta = write(tmp_path, {"m.json": [{"image": image, "caption": f"text {n}", "id": n} for n, image in enumerate(images)]}) / "m.json"
    found = reader("meta", meta)
    found.image_folder = tmp_path / "here"
    inputs = list(found)
    assert [(i.key, i.caption, i.reason) for i in inputs] == [
        ("00000/000.png", "text 0", ""),
        ("00001/000.png", "text 1", ""),
        ("00001/000.png", "text 2", ""),
        ("00002/000.png", "text 3", "is not there"),
    ]
    assert found.notes[0].startswith("1 pictures of meta files are not there") and str(tmp_path / "here/00002/000.png") in found.notes[0]
    assert found.notes[1] == "1 entries of meta files name a picture that an earlier one names"


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("{torn", "is not JSON"),
        ({"image": "a.png", "caption": "x"}, "no list of entries"),
        ([{"caption": "x"}], "entry 0: has no 'image'"),
        ([{"image": "a.png"}], "entry 0: has no 'caption'"),
        ([{"image": "a.png", "caption": "x"}, {"image": "", "caption": "x"}], "entry 1: 'image' is ''"),
        ([{"image": "a\0.png", "caption": "x"}], "'image' is"),
        ([{"image": ["a.png"], "caption": "x"}], "'image' is"),
        ([{"image": "a.png", "caption": 3}], "'caption' is 3"),
        (["a.png"], "is 'a.png', expected an object"),
    ],
)
def test_what_is_no_meta_file_is_refused_by_file_and_entry(content, said, tmp_path):
    write(tmp_path, {"a.png": png(), "meta/process_0.json": content})
    with pytest.raises(InputError, match=said) as e:
        listed(tmp_path / "meta")
    assert "process_0.json" in str(e.value)


def test_a_path_that_leads_upwards_is_refused_where_pictures_lie_elsewhere(tmp_path):
    write(tmp_path, {"m.json": [{"image": "a/../../etc/x.png", "caption": ""}], "here/x.png": png()})
    found = reader("meta", tmp_path / "m.json")
    found.image_folder = tmp_path / "here"
    with pytest.raises(InputError, match="leads upwards"):
        list(found)


def test_a_disk_that_does_not_say_whether_a_picture_is_there_is_no_missing_picture(tmp_path, monkeypatch):
    pictures(tmp_path, 1)
    write(tmp_path, {"m.json": [{"image": "000.png", "caption": ""}]})

    def broken(path):
        raise OSError(116, "Stale file handle", str(path))

    monkeypatch.setattr(meta_files.os, "stat", broken)
    with pytest.raises(StoreError, match="cannot be read now"):
        meta_files._input(tmp_path, "000.png")


def test_nothing_is_told_of_alt_texts_where_all_can_be_read(tmp_path):
    tar(tmp_path / "00000.tar", {"0.png": png(), "0.txt": b"a dog"})
    source = reader(layout_of(tmp_path), write(tmp_path, {"readme.md": "not a picture"}))
    assert [item.caption for item in source] == ["a dog"]
    assert "readme.md" in source.unread.note() and "alt text" not in source.unread.note()
