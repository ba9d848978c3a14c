"""Labels against their schema and against themselves, and the checker of schemas."""

import copy
import hashlib
import json

import pytest

from launch.verify import verify
from synth.errors import StoreError
from synth.layout.judging import schema, wrong_labels, wrong_mask, wrong_picture
from synth.layout.records import Anno, Mask, Record
from synth.layout.source import PictureSource
from synth.schema import violations
from tests.layout.exports.labels import labels_stage, picture, pictures, rle
from tests.verify.test_verify import problems

SIZE = (64, 48)
GOOD = pictures()["00000/000000012.jpg"][1].to_json() | {"dropped": {"nms": 1}}


def changed(**values) -> dict:
    return {**GOOD, **values}


def with_anno(**values) -> dict:
    annos = copy.deepcopy(GOOD["annos"])
    annos[1] |= values
    return changed(annos=annos)


WRONG = {
    "no width": ({k: v for k, v in GOOD.items() if k != "width"}, "has no width"),
    "a width of text": (changed(width="64"), "width is '64', expected integer"),
    "a width that is true": (changed(width=True), "width is True, expected integer"),
    "a digest that is none": (changed(sha256="x"), "sha256 is 'x', not of the form"),
    "a tag twice": (changed(tags=["a", "a"]), "tags holds something twice"),
    "an empty tag": (changed(tags=[""]), "tags[0] is '', shorter than 1 characters"),
    "a box of three": (with_anno(bbox=[1, 2, 3]), "annos[1].bbox is [1, 2, 3], fewer than 4 items"),
    "a box of fractions": (with_anno(bbox=[1, 2, 3.5, 4]), "annos[1].bbox[2] is 3.5, expected integer"),
    "a box that begins outside": (with_anno(bbox=[-1, 2, 3, 4]), "annos[1].bbox[0] is -1, below 0"),
    "a score above one": (with_anno(score=1.5), "annos[1].score is 1.5, above 1"),
    "a caption of null": (with_anno(caption=None), "annos[1].caption is None, expected string"),
    "a field of its own": (with_anno(colour="red"), "annos[1].colour is no field of it"),
    "a mask without a code": (with_anno(mask={"size": [48, 64]}), "annos[1].mask has no counts"),
    "a mask of other letters": (with_anno(mask={"size": [48, 64], "counts": "a z"}), "annos[1].mask.counts is 'a z', not of the form"),
    "a count of none": (changed(dropped={"nms": 0}), "dropped.nms is 0, below 1"),
}


def test_labels_as_they_are_made_are_right():
    for _, record in pictures(boxes=25).values():
        assert record is None or wrong_labels(record.to_json()) == []
    assert wrong_labels({"image": "x", "width": 1, "height": 1, "caption": "", "tags": []}) == []  # of the tags stage


@pytest.mark.parametrize("name", WRONG)
def test_what_breaks_the_schema_is_told_with_its_place(name):
    record, said = WRONG[name]
    assert any(said in wrong for wrong in wrong_labels(record)), wrong_labels(record)


@pytest.mark.parametrize(
    ("anno", "said"),
    [
        ({"bbox": [60, 2, 10, 4]}, "is empty, or not inside of 64 x 48 pixels"),
        ({"bbox": [4, 6, 0, 4]}, "is empty, or not inside"),
        ({"label": "bear"}, "its label 'bear' is none of the picture's tags"),
        ({"mask": {"size": [64, 48], "counts": "0"}}, "its mask is of [64, 48], the picture has [48, 64]"),
        ({"mask": {"size": [48, 64], "counts": "P"}}, "its mask is torn"),
        ({"mask": {"size": [48, 64], "counts": "11"}}, "its mask has 2 pixels, its picture 3,072"),
        ({"mask": {"size": [48, 64], "counts": "P0"}}, "its mask has 0 pixels" ),
    ],
)  # fmt: skip
def test_boxes_lie_inside_of_the_picture_and_masks_are_of_its_size(anno, said):
    assert any(said in wrong for wrong in wrong_labels(with_anno(**anno))), wrong_labels(with_anno(**anno))


def test_masks_lie_inside_of_their_boxes_and_are_not_empty():
    record = Record("x", *SIZE, tags=("fox",))
    box = (4, 6, 20, 18)
    assert wrong_mask(Anno(box, 1.0, "fox", rle(box, *SIZE)), record) == ""
    assert wrong_mask(Anno((4, 6, 19, 18), 1.0, "fox", rle(box, *SIZE)), record).startswith("reaches out of its box [4, 6, 19, 18]")
    assert wrong_mask(Anno((4, 7, 20, 17), 1.0, "fox", rle(box, *SIZE)), record).endswith("it fills [4, 6, 20, 18]")
    assert wrong_mask(Anno(box, 1.0, "fox", Mask((48, 64), "PP3")), record) == "has no pixel"
    assert wrong_mask(Anno(box, 1.0, "fox"), record) == ""


def test_only_the_first_complaints_of_a_picture_are_told():
    annos = [a | {"score": 2} for a in GOOD["annos"] * 5]
    assert len(wrong_labels(changed(annos=annos))) == 3


def test_a_deep_look_at_a_stage_names_wrong_labels_and_pictures_that_are_others_or_gone(tmp_path):
    given = pictures()
    labels = labels_stage(tmp_path, given)
    assert not problems(labels.path, deep=True)
    data, record = given["00000/000000012.jpg"]
    far = Record(record.image, 64, 48, "", ("fox",), (Anno((4, 6, 19, 18), 1.0, "fox", rle((4, 6, 20, 18), *SIZE)),), {}, record.sha256)
    bad = labels_stage(tmp_path / "bad", {"00000/000000012.jpg": (data, far)})
    assert not problems(bad.path) and any("sample 000000000: annos[0]: its mask reaches out" in p for p in problems(bad.path, deep=True))
    source = labels.input_path("source")
    file = source / "00000" / "000000012.jpg"
    file.write_bytes(data[:-3] + b"abc")
    (source / "00001" / "000000012.jpg").write_bytes(b"shorter")
    found = problems(labels.path, deep=True)
    assert len(found) == 2 and "another one than the labelled one" in found[0] and "changed since the stage was planned" in found[1]
    source.rename(tmp_path / "elsewhere")
    assert not problems(labels.path, deep=True)


def test_pictures_that_are_gone_are_counted_and_the_others_are_compared(tmp_path):
    labels = labels_stage(tmp_path, pictures())
    source = labels.input_path("source")
    for name in ("00000/000000012.jpg", "deep/x.bmp"):
        (source / name).unlink()
    (source / "00001" / "000000012.jpg").write_bytes(b"shorter")
    ((found, _),) = verify(labels.path, True, False, lambda *_: None)
    assert found.samples == 5 and len(found.problems) == 1 and "changed since the stage was planned" in str(found.problems[0])
    (note,) = [n for n in found.notes if "are gone" in n]
    assert "with their labels: 2; the first: layout.source:" in note and "000000012.jpg: is not there any more" in note


def test_a_picture_that_cannot_be_read_for_another_reason_is_wrong_and_the_others_are_compared(tmp_path, monkeypatch):
    labels, read = labels_stage(tmp_path, pictures()), PictureSource.read

    def broken(self, picture):
        if picture.key.startswith("00000"):
            raise StoreError("Input/output error")
        return read(self, picture)

    monkeypatch.setattr(PictureSource, "read", broken)
    assert ["cannot be read: Input/output error" in p for p in problems(labels.path, deep=True)] == [True]


def test_sizes_are_those_of_the_picture_as_it_is_shown():
    data, record = pictures()["a 'b' &c/turned.jpg"]
    right = record.to_json()
    assert wrong_picture(right, data, "") == ""
    assert wrong_picture(right | {"width": 72, "height": 40}, data, "") == "its picture has 40 x 72 pixels"
    none = right | {"sha256": hashlib.sha256(b"x").hexdigest()}
    odd = picture(64, 48, orientation=9)
    facts = right | {"width": 48, "height": 64, "sha256": hashlib.sha256(odd).hexdigest()}  # nine says nothing, and turns nothing
    assert wrong_picture(facts, odd, "") == ""
    assert wrong_picture(none, b"x", "") == "its picture cannot be opened (UnidentifiedImageError)"


def test_a_keyword_that_nobody_checks_is_an_error():
    with pytest.raises(ValueError, match="'multipleOf', which is not checked here"):
        list(violations(1, {"multipleOf": 2}))
    assert schema()["$schema"].startswith("https://json-schema.org/draft/2020-12")
    assert list(violations(json.loads(json.dumps(GOOD)), schema())) == []
