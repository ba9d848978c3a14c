"""The page of judgements, and judge.json as it is read again."""

import io
import json
import re
from dataclasses import replace

import numpy as np
import pyarrow.parquet as pq
import pytest
from PIL import Image

from synth.errors import InputError
from synth.judge.page import page
from synth.judge.reading import CORRECT, JSON, comparable, read_point
from synth.judge.tables import parquet, row
from synth.judge.verdict import rows, verdict
from tests.browser import browse
from tests.judge.points import facts, point, right, written

HOSTILE = '</title><script>alert(1)</script><img src=x onerror="alert(2)">&\x00\x1b[31m\u202e"\''
KEY = "images.guidance_scale"


def png() -> bytes:
    out = io.BytesIO()
    Image.new("RGB", (8, 8), (200, 30, 30)).save(out, "PNG")
    return out.getvalue()


def probe(**more) -> dict:
    return facts()["probes"]["made"] | more


@pytest.fixture
def folder(tmp_path):
    """A judgement with hostile names wherever somebody else chose one."""
    pair = {"names": ["made 1", "test 2"], "similarity": 0.99, "files": ["pictures/made-1.png", "pictures/made-1.png"]}
    found = facts(
        {KEY: 2.0, "images.model.id": HOSTILE},
        classes=(HOSTILE, "dog"),
        name=HOSTILE,
        features=HOSTILE,
        no_probes={"real": HOSTILE},
        shown=[{"class": HOSTILE, "made": ["pictures/made-1.png"], "test": []}],
    )
    found["sets"]["made"] = found["sets"]["made"] | {"left_out": {HOSTILE: 2}, "other_classes": [HOSTILE]}
    found["duplicates"]["examples"]["within"] = [pair]
    (tmp_path / "pictures").mkdir()
    (tmp_path / "pictures" / "made-1.png").write_bytes(png())
    return written(tmp_path, found, right(0.7))


def test_a_name_is_text_and_nothing_is_loaded(folder, tmp_path):
    one = read_point(folder)
    html = page(HOSTILE, comparable([one, replace(one, facts=one.facts | {"point": {KEY: 4.0}})]))
    assert "<script" not in html and 'onerror="' not in html and "\x1b" not in html and "\u202e" not in html and "\x00" not in html
    assert not re.findall(r'(?:src|href)="(?!data:image/png;base64,)', html) and "default-src 'none'; img-src data:" in html
    file = tmp_path / "page.html"
    file.write_text(html, encoding="utf-8")
    dom = browse(file.as_uri(), tmp_path, "--dump-dom")
    assert "<script" not in dom and dom.count("<h1>") == 1


def test_a_sweep_has_a_curve_of_each_key_with_its_intervals():
    points = [point(a, {KEY: g}) for a, g in ((0.4, 7.5), (0.7, 2.0))]
    html = page("Judge", comparable(points))
    assert html.count("<svg") == 3 and "accuracy against images.guidance_scale" in html
    assert html.count('class="span"') == 4 and html.count('<circle class="best"') == 3  # CMMD has no interval
    assert "take images.guidance_scale=2" in html


def test_points_that_were_measured_otherwise_are_not_compared():
    html = page("Judge", comparable([point(0.4, {KEY: 1.0}), point(0.7, {KEY: 2.0}, measured="by another model")]))
    assert "<h2>2 of 2" in html and "take " not in html


def test_a_value_of_a_key_that_is_no_number_has_its_place():
    html = page("Judge", comparable([point(0.4, {"images.model.id": "a"}), point(0.7, {"images.model.id": "b"})]))
    assert html.count("<svg") == 3


def test_a_row_of_the_table_for_programs_has_values_and_their_ends():
    found = row(point(0.7, {KEY: 2.0}))
    assert (
        found["number.coverage"] == 0.5
        and found["number.coverage_low"] == 0.49
        and found["number.cmmd"] == 1.25
        and found["made_accuracy"] == 0.7
    )


@pytest.mark.parametrize(
    ("wrong", "told"),
    [
        ({"version": 2}, "version is 2"),
        (
            {"shown": [{"class": "a", "made": ["pictures/../../secret-1.png"]}]},
            r"shown\[0\]\.made\[0\] is 'pictures/\.\./\.\./secret-1\.png'",
        ),
        ({"numbers": {"coverage": 3}}, r"numbers\.coverage is 3"),
        ({"more": 1}, "more is no field"),
        ({"probes": {"made": probe(knn={"value": None, "why": "x"})}}, r"probes\.made\.knn\.value is None"),
        ({"pictures": {"looked_at": 3, "undecodable": 0, "captions": 5}}, r"pictures\.captions is 5"),
        ({"pictures": {"looked_at": 3, "undecodable": 0, "captions": {"x": "s"}}}, r"pictures\.captions\.x is 's'"),
        ({"pictures": {"looked_at": 3, "undecodable": 0, "blank": {}}}, r"pictures\.blank is \{\}"),
        ({"numbers": {"coverage": {"value": 1e308}}}, r"numbers\.coverage\.value is 1e\+308, above"),
        ({"point": {"a": 10**400}}, r"point\.a is .*, above"),
    ],
)
def test_what_is_no_judgement_is_refused_by_its_place(tmp_path, wrong, told):
    with pytest.raises(InputError, match=f"judge.json: {told}"):
        read_point(written(tmp_path, facts() | wrong, right(0.7)))


def test_torn_arrays_and_objects_that_would_run_are_refused(tmp_path):
    written(tmp_path, facts(), np.ones((2, 99), bool))
    with pytest.raises(InputError, match=r"holds bool \(2, 99\), judge.json tells of bool \(2, 100\)"):
        read_point(tmp_path)
    np.save(tmp_path / CORRECT, np.array([[print]], object), allow_pickle=True)
    with pytest.raises(InputError, match=r"holds object \(1, 1\)"):
        read_point(tmp_path)
    with open(tmp_path / CORRECT, "wb") as f:  # a few bytes that tell of terabytes
        np.lib.format.write_array_header_1_0(f, {"descr": "|b1", "fortran_order": False, "shape": (2, 4 * 10**12)})
    with pytest.raises(InputError, match=r"holds bool \(2, 4000000000000\)"):
        read_point(tmp_path)
    np.savez(tmp_path / "z.npz", right(0.7))
    (tmp_path / "z.npz").replace(tmp_path / CORRECT)
    with pytest.raises(InputError, match="is no array"):
        read_point(tmp_path)
    np.save(tmp_path / CORRECT, right(0.7))
    (tmp_path / CORRECT).write_bytes((tmp_path / CORRECT).read_bytes()[:-1])
    with pytest.raises(InputError, match="holds 199 of 200 values"):
        read_point(tmp_path)
    (tmp_path / JSON).write_text(json.dumps(facts())[:50])
    with pytest.raises(InputError, match=r"judge\.json: is not JSON"):
        read_point(tmp_path)


@pytest.mark.parametrize("name", [JSON, CORRECT, "pictures/made-1.png", "pictures"])
def test_no_file_from_outside_gets_into_a_page(folder, tmp_path_factory, name):
    """By a link to it, or by one in the place of the folder of pictures."""
    outside = tmp_path_factory.mktemp("outside") / "there"
    (folder / name).rename(outside)
    (folder / name).symlink_to(outside)
    with pytest.raises(InputError, match="is a link"):
        page("Judge", comparable([read_point(folder)]))


def test_what_is_no_picture_is_not_shown(folder):
    (folder / "pictures" / "made-1.png").write_bytes(b"secret")
    with pytest.raises(InputError, match=r"made-1\.png: begins as no picture"):
        page("Judge", comparable([read_point(folder)]))
    shown = [{"class": "cat", "made": ["pictures/made-1.png\n"]}]
    with pytest.raises(InputError):
        page("Judge", comparable([replace(read_point(folder), facts=facts(shown=shown))]))


def test_points_of_one_name_and_other_test_pictures_are_not_compared():
    fewer = replace(point(0.7, {KEY: 2.0}, measured="m"), facts=facts({KEY: 2.0}, test_rows=50), correct=right(0.7, 50))
    assert "<h2>2 of 2" in page("Judge", comparable([point(0.4, {KEY: 1.0}), fewer]))


def test_names_of_keys_and_numbers_are_no_columns_of_the_table_for_programs():
    clash = [
        point(0.7, {"number.point": "a", "group": "b"}, numbers={"point": {"value": 1.0}}),
        point(0.6, {"number.point": "c", "group": "d"}),
    ]
    table = pq.read_table(io.BytesIO(parquet(comparable(clash)))).to_pylist()
    assert [r["number.point"] for r in table] == [1.0, None] and [r["group"] for r in table] == [0, 0]


def test_fine_tuned_accuracy_stands_in_both_tables():
    one = point(0.7, {}, probes={"made": probe(finetune={"value": 0.8, "low": 0.7, "high": 0.9, "n": 100})})
    assert row(one)["made_finetune"] == 0.8 and rows(verdict([one]))[0]["fine-tuned"] == ".800"


def test_what_was_said_of_the_features_heads_the_page_and_intervals_are_told_for_what_they_are():
    html = page("Judge", comparable([point(0.7, {}, notes=["the small CLIP & nothing else"])]))
    assert '<p class="said">the small CLIP &amp; nothing else</p>' in html and html.count("the small CLIP") == 2
    assert "coverage, precision and recall are given the other set" in html
    assert "given the other set" not in page("Judge", comparable([point(0.7, {}, numbers={})]))


def a_round(n: int, by: str, *pictures: int, **more) -> dict:
    classes = [{"class": name, "pictures": k, "need": None} for name, k in zip((HOSTILE, HOSTILE, "dog"), pictures, strict=True)]
    return {"round": n, "by": by, "pictures": sum(pictures), "modes": {"class": 2}, "notes": [HOSTILE], "classes": classes} | more


def test_rounds_of_feedback_are_shown_with_who_got_how_many(tmp_path):
    before = {"value": 0.5, "n": 9}
    rounds = [
        a_round(1, "none", 2, 2, 2, accuracy=facts()["numbers"]["coverage"]),
        a_round(2, "error", 1, 4, 1, accuracy={"value": 0.625, "low": 0.6, "high": 0.65, "n": 100}, accuracy_before=before),
    ]
    html = page("judge", comparable([read_point(written(tmp_path, facts(rounds=rounds), right(0.7)))]))
    told = re.sub(r"<[^>]+>", " ", html.partition("Rounds of feedback")[2].partition("Classes, the worst")[0])
    assert "<script" not in html and "round 2: .625" not in told and html.count('aria-label="accuracy against pictures"') == 1
    assert re.search(r"2 +error +6 +12 +.500 +.625 +.600 .. .650", " ".join(told.split()))
    of_class = [
        line.split()[-3:]
        for line in told.partition("by round, the most first")[2].splitlines()
        if line.split()[-1:] and line.split()[-1].isdigit()
    ]
    assert of_class == [["2", "4", "6"], ["2", "1", "3"], ["2", "1", "3"]], "two classes of one name stay two"
