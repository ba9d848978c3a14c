"""The record of a picture: written and read, and judged when it is read."""

import json

import pytest

from synth.errors import InputError
from synth.layout.records import Anno, Mask, Record, rounded

RECORD = Record(
    "a/0.jpg",
    4,
    3,
    "a dog <b>on</b> a sofa \U0001f436",
    ("dog", "sofa"),
    (Anno((0, 1, 4, 2), 0.8712, "dog", Mask((3, 4), "37"), 0.5, "a brown dog"), Anno((3, 2, 1, 1), 1.0, "sofa")),
    {"nms": 3, "empty_box": 0},
    "ab" * 32,
)


def test_what_is_written_is_read_again():
    assert Record.of_bytes(RECORD.to_bytes(), "here") == Record(**{**vars(RECORD), "dropped": {"nms": 3}})


def test_only_what_is_known_is_written():
    assert Record("a.jpg", 1, 1).to_json() == {"image": "a.jpg", "width": 1, "height": 1, "caption": "", "tags": []}
    assert Record("a.jpg", 1, 1, annos=()).to_json()["annos"] == [], "looked for and found none"


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"width": 0}, "'width' is 0"),
        ({"width": True}, "width.? is True"),
        ({"height": 3.0}, "height.? is 3.0"),
        ({"width": 10**8, "height": 10**8, "annos": []}, "is of 100000000 x 100000000 pixels, 100000000 at most"),
        ({"image": None}, "'image' is None"),
        ({"tags": ["dog", 1]}, "'tags' is"),
        ({"tags": ["dog", "dog"]}, "a tag stands twice"),
        ({"annos": {}}, "'annos' is"),
        ({"dropped": {"nms": -1}}, "'dropped' is"),
        ({"anno": {"bbox": [0, 0, 5, 1]}}, r"annos\[0\]: its box \[0, 0, 5, 1\] is empty, or not inside of 4 x 3 pixels"),
        ({"anno": {"bbox": [0, 0, 0, 1]}}, "is empty, or not inside"),
        ({"anno": {"bbox": [-1, 0, 2, 1]}}, "is empty, or not inside"),
        ({"anno": {"bbox": [0, 0, 1.5, 1]}}, "'bbox' is"),
        ({"anno": {"bbox": [0, 0, 1]}}, "'bbox' is"),
        ({"anno": {"score": 1.1}}, "'score' is 1.1, expected a number, 0 to 1"),
        ({"anno": {"score": float("nan")}}, "is not JSON"),
        ({"anno": {"label": None}}, "'label' is None"),
        ({"anno": {"mask": {"size": [4, 3], "counts": "1"}}}, r"its mask is of \[4, 3\], the picture has \[3, 4\]"),
        ({"anno": {"mask": {"size": [3, 4], "counts": "\u00e9"}}}, "'counts' is"),
        ({"anno": {"iou": "high"}}, "'iou' is"),
        ({"anno": {"caption": 3}}, "'caption' is 3"),
    ],
)
def test_what_is_no_record_is_refused_by_the_name_of_its_place(change, said):
    raw = json.loads(RECORD.to_bytes())
    raw["annos"][0] |= change.pop("anno", {})
    with pytest.raises(InputError, match=f"^unit 3: sample 7: ?.*{said}.*; mend it$"):
        Record.of_bytes(json.dumps(raw | change).encode(), "unit 3: sample 7", "mend it")


def test_shares_are_rounded_to_what_is_the_same_on_all_machines():
    assert [rounded(v) for v in (0.12345678, -1e-9, 1.0000001)] == [0.1235, 0.0, 1.0]
