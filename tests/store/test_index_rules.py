"""What an index may say: the rules that writing keeps, and one that breaks any of them is named with its item."""

import copy
import hashlib
import io
import json

import pytest

from synth.errors import InputError
from synth.store import index_rules
from synth.store.framing import FRAMINGS, UnitIndex, frame, read_index, seal
from synth.store.index_rules import BadIndex, judge
from synth.store.inside import Inside, misplaced
from synth.store.parts import PartWriter, adopt
from synth.store.samples import Sample, Tombstone
from synth.store.spec import canonical
from tests.store.test_framing import samples, unit


def index_of(framing: str) -> tuple[dict, int]:
    """(a right index of five samples and a tombstone, bytes in front of it)"""
    data = unit(framing, samples(framing))
    index, _ = read_index(io.BytesIO(data), framing, "u")
    return json.loads(index.to_bytes()), len(data)


def edited(index: dict, at: tuple, value: object) -> dict:
    index, inside = copy.deepcopy(index), None
    inside = index
    for key in at[:-1]:
        inside = inside[key]
    inside[at[-1]] = value
    return index


BAD = {
    "key up": (("samples", 2, 1), "../../../escape/", "sample 2 .* no dot, slash"),
    "key with a dot": (("samples", 0, 1), "a.b", "sample 0 .* no dot"),
    "empty key": (("samples", 0, 1), "", "sample 0 .* its key"),
    "key with a newline": (("samples", 1, 1), "a\nb", "sample 1 .* its key"),
    "key that clears a screen": (("samples", 1, 1), "\x9b2J", "sample 1 .* its key"),
    "key that is no text": (("samples", 1, 1), 7, "sample 1 .* its key 7"),
    "long key": (("samples", 1, 1), "x" * 201, "more than 200 bytes"),
    "half a character": (("samples", 1, 1), "\ud800", "a character that is none"),
    "key of another": (("samples", 1, 1), "000000020", "that of another sample"),
    "slot of another": (("samples", 1, 0), 20, "slot 20 stands twice"),
    "slot behind the unit": (("samples", 4, 0), 26, "slot 26, which is none of 20..25"),
    "slot that is a bool": (("samples", 0, 0), True, "slot True"),
    "slot of the tombstone": (("samples", 4, 0), 25, "slot 25 stands twice"),
    "no files": (("samples", 0, 2), {}, "sample 000000020: its files are"),
    "files that are a list": (("samples", 0, 2), [], "sample 000000020: its files are"),
    "offset below": (("samples", 0, 2, "json"), [-1, 2], "not an offset"),
    "size that is huge": (("samples", 4, 2, "json"), [10**6, 2**70], "ends at byte|overlaps"),
    "size of NaN": (("samples", 0, 2, "json"), [0, float("nan")], "not an offset"),
    "size of 1e308": (("samples", 0, 2, "json"), [0, 1e308], "not an offset"),
    "span of three": (("samples", 0, 2, "json"), [0, 1, 2], "not an offset"),
    "span over another": (("samples", 3, 2, "json"), [0, 1], "overlaps"),
    "sha256 in capitals": (("samples", 0, 3), "A" * 64, "not 64 hexadecimal"),
    "sha256 cut": (("samples", 0, 3), "a" * 63, "not 64 hexadecimal"),
    "sample that is a dict": (("samples", 0), {}, "sample 0 is no list"),
    "samples that are a dict": (("samples",), {}, "no lists"),
    "reason that is none": (("tombstones", 0, 1), 3, "tombstones"),
    "tombstone elsewhere": (("tombstones", 0, 0), 99, "tombstones"),
    "unit that is a float": (("unit",), 3.0, "its unit is 3.0"),
    "count of 2**70": (("count",), 2**70, "its count is"),
    "count too high": (("count",), 7, "5 samples and 1 tombstones for 7 slots"),
    "inputs that are none": (("inputs",), None, "inputs"),
}


@pytest.mark.parametrize("framing", ["tar", "jsonl"])
@pytest.mark.parametrize("name", BAD)
def test_an_index_that_breaks_a_rule_is_named_with_its_item(framing, name):
    at, value, said = BAD[name]
    index, end = index_of(framing)
    judge(index, FRAMINGS[framing].exts, end)
    with pytest.raises(BadIndex, match=said):
        judge(edited(index, at, value), FRAMINGS[framing].exts, end)


@pytest.mark.parametrize("ext", ["../../x", "", "a\0b", "x" * 51, "\ud800"])
def test_an_extension_is_judged_in_a_tar_and_is_json_in_lines(ext):
    for framing, said in (("tar", "its extension"), ("jsonl", "its extension|its files are")):
        index, end = index_of(framing)
        index["samples"][0][2] = {ext: index["samples"][0][2]["json"]}
        with pytest.raises(BadIndex, match=said):
            judge(index, FRAMINGS[framing].exts, end)


@pytest.mark.parametrize("framing", ["tar", "jsonl"])
def test_reading_a_sealed_unit_with_a_hostile_key_is_an_input_error_that_names_unit_item_and_fix(framing):
    made = [Sample(0, "0", {"json": b"{}"})]
    batch = frame(framing, made)
    entry = batch.entries[0]._replace(key="../../../escape/")
    data = batch.data + seal(framing, UnitIndex(0, 0, 1, (entry,), {}, ""), len(batch.data))[0]
    with pytest.raises(InputError, match=r"u\.unit: sample 0 \(slot 0\): its key '\.\./\.\./\.\./escape/' is no name.*move it away"):
        read_index(io.BytesIO(data), framing, "u.unit")


def test_a_line_about_a_batch_with_a_hostile_key_is_not_adopted(tmp_path):
    slots = [range(1), range(1, 2)]
    left = PartWriter(tmp_path / "left", "tar", 3)
    for n in range(2):
        left.append(frame("tar", [Sample(n, f"{n:09d}", {"json": b"{}"})]))
    left.close()
    lines = (tmp_path / "left.idx").read_bytes().splitlines()
    text = lines[1].rpartition(b" ")[0].replace(b'"000000001"', b'"../000001"')
    (tmp_path / "left.idx").write_bytes(lines[0] + b"\n" + text + b" " + hashlib.sha256(text).hexdigest()[:16].encode() + b"\n")
    writer = PartWriter(tmp_path / "mine", "tar", 3)
    adopt(writer, [tmp_path / "left"], slots)
    assert writer.batches == 1


def test_what_is_written_is_what_may_be_read():
    for framing in FRAMINGS:
        with pytest.raises(ValueError, match="its key"):
            frame(framing, [Sample(0, "a/b", {"json": b"{}"})])
    index = UnitIndex(0, 0, 2, frame("tar", [Sample(0, "日本 a", {"json": b"{}"})]).entries, {1: Tombstone(1, "é").reason}, "in")
    assert UnitIndex.from_bytes(canonical(json.loads(index.to_bytes())), "tar", 1024) == index


def test_a_large_index_is_judged_by_columns_and_not_sample_by_sample(monkeypatch):
    monkeypatch.setattr(index_rules, "_blame", lambda *_: pytest.fail("looked at sample by sample"))
    rows = [[n, f"{n:09d}", {"json": [n * 4, 2], "png": [n * 4 + 2, 2]}, "0" * 64] for n in range(5000)]
    judge({"unit": 0, "first": 0, "count": 5000, "samples": rows, "tombstones": [], "inputs": ""}, None, 20_000)


@pytest.mark.parametrize(
    "name",
    ["", "/a", "..", "a/..", "../a", "a//b", "a/", "./a", "a\nb", "a\x9bb", "x" * 256, "x/" * 1500 + "x", "\ud800", 7, None],
)
def test_names_that_are_none_of_a_file_inside(tmp_path, name):
    assert misplaced(name)
    with pytest.raises(InputError):
        Inside(tmp_path).path(name)


def test_folders_are_looked_at_once(tmp_path, monkeypatch):
    inside, looks = Inside(tmp_path), []
    inside.folder("a/b")
    monkeypatch.setattr("os.lstat", lambda path: looks.append(path))
    for n in range(100):
        inside.path(f"a/b/{n}.png")
    assert not looks


def test_a_file_in_the_place_of_a_folder_is_named(tmp_path):
    (tmp_path / "a").write_text("")
    with pytest.raises(InputError, match=r"a: is in the place of a folder"):
        Inside(tmp_path).path("a/0.png")
