"""python -m synth.layout.meta: meta files of a folder, every folder of it, in one order."""

import json

import pytest

from synth.layout.meta import main
from tests.layout.sources import listed, pictures, png, write


def entries(out):
    return [json.loads(path.read_text()) for path in sorted(out.glob("process_*.json"))]


def test_every_folder_is_in_them_and_the_last_file_holds_what_remains(tmp_path, capsys):
    for folder in range(3):
        pictures(tmp_path / "src", 3, f"{folder:05d}/", f"folder {folder} " + "{}")
    assert main([str(tmp_path / "src"), str(tmp_path / "out"), "--per-file", "4"]) == 0
    files = entries(tmp_path / "out")
    assert [len(f) for f in files] == [4, 4, 1]
    assert [e["caption"] for f in files for e in f] == [f"folder {f} {n}" for f in range(3) for n in range(3)]
    assert "9 pictures in 3 files" in capsys.readouterr().out
    again = {p.name: p.read_bytes() for p in (tmp_path / "out").iterdir()}
    assert main([str(tmp_path / "src"), str(tmp_path / "out"), "--per-file", "4"]) == 0
    assert {p.name: p.read_bytes() for p in (tmp_path / "out").iterdir()} == again
    inputs, _ = listed(tmp_path / "out")
    assert [i.key for i in inputs] == [f"{f:05d}/{n:03d}.png" for f in range(3) for n in range(3)] and not any(i.reason for i in inputs)


def test_what_has_no_alt_text_that_can_be_read_is_left_out_and_counted(tmp_path, capsys):
    pictures(tmp_path / "src", 1)
    write(tmp_path / "src", {"a.png": png(), "b.png": png(), "b.txt": b"\xff\xff", "c.png": b""})
    assert main([str(tmp_path / "src"), str(tmp_path / "out")]) == 0
    assert [e["image"] for e in entries(tmp_path / "out")[0]] == [str(tmp_path / "src/000.png")]
    said = capsys.readouterr().out
    assert "2 pictures without an alt text are left out" in said and "1 pictures with a .txt beside it that cannot be read" in said
    assert "1 pictures cannot be used and are left out; the first: c.png: empty file" in said
    assert main([str(tmp_path / "src"), str(tmp_path / "all"), "--keep-empty"]) == 0
    assert [e["caption"] for e in entries(tmp_path / "all")[0]] == ["a dog on a red sofa, number 0", "", ""]


def test_names_that_are_no_utf8_come_back(tmp_path):
    name = b"\xff\xe9.png".decode("utf-8", "surrogateescape")
    write(tmp_path / "src", {name: png(), name.replace("png", "txt"): "a dog"})
    assert main([str(tmp_path / "src"), str(tmp_path / "out")]) == 0
    [item], _ = listed(tmp_path / "out")
    assert item.caption == "a dog" and not item.reason and item.path == name


@pytest.mark.parametrize(
    ("source", "out", "said"),
    [
        ("nothing", "out", "is no folder that is there"),
        ("src", "src/meta", "lies in"),
        ("empty", "out", "gives no entry"),
        ("tars", "out", "is of layout webdataset, which layout.source reads as it is"),
        ("src", "old", "is of another run of this tool"),
    ],
)
def test_what_cannot_be_is_said(source, out, said, tmp_path, capsys):
    pictures(tmp_path / "src", 2)
    write(tmp_path, {"empty/a.png": png(), "tars/0.tar": b"", "old/process_0.json": "[]", "old/process_1.json": "[]"})
    assert main([str(tmp_path / source), str(tmp_path / out)]) == 65
    assert said in capsys.readouterr().err
