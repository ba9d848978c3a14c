"""The tools that make LVIS's files ready: base classes, and COCO's objects added to LVIS's."""

import json
import os
import re
import subprocess
import sys

import pytest

from synth.errors import EXIT_AGAIN, EXIT_BAD_INPUT
from synth.tracking import lvis
from synth.tracking.synsets import COCO
from tests.faults.test_trouble import late
from tests.tracking.annotated_sets import CATEGORIES, image, square, write

URL = "http://images.cocodataset.org/train2017/"
PERSON, CAT, DOG = 1, 17, 18  # of COCO
OF_COCO = [{"id": PERSON, "name": "person"}, {"id": CAT, "name": "cat"}, {"id": DOG, "name": "dog"}]
LVIS = [
    {"id": 3, "name": "cat", "synset": "cat.n.01", "frequency": "f"},
    {"id": 7, "name": "person", "synset": "person.n.01", "frequency": "f"},
    {"id": 9, "name": "yeti", "synset": "yeti.n.01", "frequency": "r"},
]


def lvis_image(number, **more):
    return {
        "id": number,
        "width": 96,
        "height": 64,
        "coco_url": f"{URL}{number:012d}.jpg",
        "neg_category_ids": [],
        "not_exhaustive_category_ids": [],
    } | more


def coco_image(number, **more):
    return image(number, file_name=f"{number:012d}.jpg") | more


def at(number, image_id, category, x, side=20, **more):
    """The annotation of a square at (x, 0)."""
    return square(number, image_id, category, side, **more) | {"bbox": [x, 0, side, side]}


@pytest.fixture
def run(tmp_path, capsys):
    """The tool on files of these data: (exit code, OUT.json or None, what it said)."""

    def call(tool, *data, out="out.json"):
        for i, d in enumerate(data):
            write(tmp_path / str(i), d)
        code = lvis.main([tool, *(str(tmp_path / str(i) / "annotations.json") for i in range(len(data))), str(tmp_path / out)])
        made = json.loads((tmp_path / out).read_bytes()) if (tmp_path / out).exists() else None
        return code, made, "".join(capsys.readouterr())

    return call


def test_base_classes_are_numbered_from_1_in_annotations_and_in_the_lists_of_images(run):
    images = [lvis_image(5, neg_category_ids=[9, 7], not_exhaustive_category_ids=[3]), lvis_image(6)]
    data = {
        "info": {"v": 1},
        "images": images,
        "annotations": [at(1, 5, 3, 0), at(2, 5, 9, 0), at(3, 6, 7, 0, note="é")],
        "categories": LVIS,
        "licenses": [1],
    }
    code, made, said = run("base", data)
    assert code == 0 and "2 of 3 classes, 2 of 3 annotations" in said
    assert [(c["id"], c["name"]) for c in made["categories"]] == [(1, "cat"), (2, "person")]
    assert made["annotations"] == [at(1, 5, 1, 0), at(3, 6, 2, 0, note="é")]
    named = images[0] | {"neg_category_ids": [2], "not_exhaustive_category_ids": [1], "file_name": "000000000005.jpg"}
    assert made["images"] == [named, images[1] | {"file_name": "000000000006.jpg"}]
    assert made["info"] == {"v": 1} and made["licenses"] == [1]


def test_a_rename_whose_answer_got_lost_was_done(run, monkeypatch):
    data = {"images": [lvis_image(5)], "annotations": [at(1, 5, 3, 0)], "categories": LVIS}
    monkeypatch.setattr(os, "replace", late(os.replace))
    assert run("base", data)[0] == 0


def test_a_merge_adds_what_lvis_does_not_have_and_does_not_deny(run):
    ours = {
        "images": [lvis_image(1, neg_category_ids=[7]), lvis_image(2), lvis_image(3), lvis_image(4)],
        "annotations": [at(10, 1, 3, 0), at(11, 2, 3, 0), at(12, 2, 7, 40)],
        "categories": LVIS,
    }
    theirs = {
        "images": [coco_image(n) for n in (1, 2, 3, 99)],
        "annotations": [
            at(900, 1, PERSON, 50),  # LVIS says that there is none
            at(901, 2, CAT, 3),  # IoU 0.74 with LVIS's cat: the same
            at(902, 2, CAT, 4),  # IoU 0.67: another
            at(903, 2, PERSON, 0),  # where LVIS's cat is, but of another class
            at(904, 2, DOG, 60),  # no class of LVIS here
            at(905, 3, PERSON, 0, iscrowd=0),  # an image without LVIS's annotations
            at(906, 99, CAT, 0),  # no image of LVIS
        ],
        "categories": OF_COCO,
    }
    code, made, said = run("merge", ours, theirs)
    assert code == 0, said
    found = [(a["id"], a["image_id"], a["category_id"], a["bbox"][0]) for a in made["annotations"]]
    assert found == [(1, 1, 3, 0), (2, 2, 3, 0), (3, 2, 7, 40), (4, 2, 3, 4), (5, 2, 7, 0), (6, 3, 7, 0)]
    assert made["categories"] == LVIS and [i["file_name"] for i in made["images"]] == [f"{n:012d}.jpg" for n in (1, 2, 3, 4)]
    assert (
        "3 annotations of LVIS and 3 of COCO (1 others are LVIS's own objects, 1 of classes that LVIS says are not there); 1 images" in said
    )
    assert "left out of COCO's: 1 of images that LVIS does not have and 1 of 1 classes that LVIS does not have ('dog' 1)" in said


def test_the_result_can_be_merged_and_then_cut_down_to_base_classes(run, tmp_path):
    ours = {"images": [lvis_image(1)], "annotations": [at(10, 1, 3, 0), at(11, 1, 9, 0)], "categories": LVIS}
    theirs = {"images": [coco_image(1)], "annotations": [at(900, 1, PERSON, 50)], "categories": [{"id": PERSON, "name": "person"}]}
    assert run("merge", ours, theirs)[0] == 0
    assert lvis.main(["base", str(tmp_path / "out.json"), str(tmp_path / "base.json")]) == 0
    made = json.loads((tmp_path / "base.json").read_bytes())
    assert [(a["id"], a["category_id"]) for a in made["annotations"]] == [(1, 1), (3, 2)]


def test_a_result_that_is_there_is_never_replaced_and_running_again_does_nothing(run, tmp_path):
    data = {"images": [lvis_image(1)], "annotations": [at(1, 1, 3, 0)], "categories": LVIS}
    assert run("base", data)[0] == 0
    before = (tmp_path / "out.json").stat()
    assert run("base", data)[0] == 0 and (tmp_path / "out.json").stat().st_ino == before.st_ino
    code, _, said = run("base", data | {"annotations": []})
    assert code == EXIT_BAD_INPUT and "holds something else" in said and (tmp_path / "out.json").stat().st_ino == before.st_ino
    code, _, said = run("base", data, out="0/annotations.json")
    assert code == EXIT_BAD_INPUT and "is an input too" in said
    assert [p.name for p in tmp_path.iterdir() if p.name.endswith(".tmp")] == []


@pytest.mark.parametrize(
    ("tool", "ours", "says"),
    [
        ("base", b"{", "ends in the middle"),
        (
            "base",
            {"categories": CATEGORIES, "images": [], "annotations": [{"category_id": "3"}]},
            r"annotations\[0\]: Expected `int`",
        ),
        ("base", {"categories": CATEGORIES, "images": [], "annotations": [square(4, 1, 77)]}, "category_id 77 is no category"),
        (
            "base",
            {"categories": [{"id": 1, "name": "a", "frequency": "r"}], "images": [], "annotations": []},
            "all of its 1 classes are rare",
        ),
        ("base", {"categories": [{"id": 1, "name": "a"}], "images": [], "annotations": []}, "frequency '', not f, c or r"),
        (
            "base",
            {"categories": CATEGORIES, "images": [lvis_image(1, neg_category_ids=[8])], "annotations": []},
            "neg_category_ids names category 8",
        ),
        (
            "base",
            {"categories": CATEGORIES, "images": [lvis_image(1, neg_category_ids="x")], "annotations": []},
            "is no list of category ids",
        ),
        (
            "merge",
            {"categories": LVIS, "images": [lvis_image(1)], "annotations": [square(1, 2)]},
            "image_id 2 is no image of the file",
        ),
        ("merge", {"categories": LVIS, "images": [lvis_image(2)], "annotations": []}, "none of its annotations is of an image"),
        (
            "merge",
            {"categories": LVIS[2:], "images": [lvis_image(1)], "annotations": []},
            "no category has the synset or name of one of COCO's",
        ),
    ],
)
def test_bad_files_are_named_and_nothing_is_left_behind(run, tmp_path, tool, ours, says):
    theirs = {"images": [coco_image(1)], "annotations": [square(1, 1, CAT)], "categories": [{"id": CAT, "name": "cat"}]}
    code, made, said = run(tool, *([ours] if tool == "base" else [ours, theirs]))
    assert code == EXIT_BAD_INPUT and made is None
    assert re.search(says, said), said
    assert not [p for p in tmp_path.iterdir() if "tmp" in p.name or p.name == "out.json"]


CAR = {"id": 4, "name": "car_(automobile)", "synset": "car.n.01", "frequency": "f"}
COMPUTER_MOUSE = {"id": 6, "name": "mouse_(computer_equipment)", "synset": "mouse.n.04", "frequency": "f"}
ANIMAL = {"id": 8, "name": "mouse", "synset": "mouse.n.01", "frequency": "r"}


@pytest.mark.parametrize(
    ("theirs", "category"),
    [
        ({"id": 3, "name": "car"}, 4),  # LVIS's cat has the id
        ({"id": 1, "name": "Car"}, 4),  # in the place of COCO's person
        ({"id": 17, "name": "mouse"}, 6),  # COCO's is no animal
        ({"id": 17, "name": "rat", "synset": "mouse.n.01"}, 8),
        ({"id": 1, "name": "Yeti"}, 9),  # none of COCO's, by its name
        ({"id": 1, "name": "traffic light"}, 11),  # a file without synsets
    ],
)
def test_classes_are_found_by_synset_and_name_whatever_their_ids(run, theirs, category):
    categories = [*LVIS, CAR, COMPUTER_MOUSE, ANIMAL, {"id": 11, "name": "traffic_light", "frequency": "f"}]
    ours = {"images": [lvis_image(1)], "annotations": [at(1, 1, 3, 70)], "categories": categories}
    code, made, said = run("merge", ours, {"images": [coco_image(1)], "annotations": [square(1, 1, theirs["id"])], "categories": [theirs]})
    assert code == 0, said
    assert [a["category_id"] for a in made["annotations"]] == [3, category]


@pytest.mark.parametrize(
    ("more", "says"),
    [
        ({"categories": [{"id": 12, "name": "x"}]}, "category 12 ('x') is none of COCO's 80 and none of LVIS's, and has no synset"),
        ({"categories": [{"id": 12, "name": "cat"}, {"id": 12, "name": "dog"}]}, "category id 12 is there twice"),
        ({"categories": OF_COCO}, "category_id 12 is no category of the file"),
        ({"images": [coco_image(1, file_name="other.jpg")]}, "image id 1 is '000000000001.jpg' (96 x 64) in "),
        ({"images": [coco_image(1, width=97)]}, "and '000000000001.jpg' (97 x 64) in "),
        ({"images": [coco_image(2)]}, "image_id 1 is no image of the file"),
    ],
)
def test_what_does_not_say_the_same_in_both_files_is_no_match(run, more, says):
    ours = {"images": [lvis_image(1)], "annotations": [], "categories": LVIS}
    theirs = {"images": [coco_image(1)], "annotations": [square(1, 1, 12)], "categories": [{"id": 12, "name": "cat"}]}
    code, _, said = run("merge", ours, theirs | more)
    assert code == EXIT_BAD_INPUT and says in said


def test_two_classes_of_lvis_with_one_synset_are_told(run):
    ours = {"images": [lvis_image(1)], "annotations": [], "categories": [*LVIS, {"id": 10, "name": "puss", "synset": "cat.n.01"}]}
    code, _, said = run("merge", ours, {"images": [coco_image(1)], "annotations": [], "categories": OF_COCO})
    assert code == EXIT_BAD_INPUT and "categories 3 and 10 have one synset, 'cat.n.01'" in said


def test_names_of_2014_are_those_of_2017(run):
    ours = {"images": [lvis_image(1)], "annotations": [], "categories": LVIS}
    images = [coco_image(1, file_name="COCO_train2014_000000000001.jpg")]
    code, made, said = run("merge", ours, {"images": images, "annotations": [square(1, 1, CAT)], "categories": OF_COCO})
    assert code == 0 and len(made["annotations"]) == 1, said


def test_the_table_has_cocos_80_categories():
    assert len(COCO) == len(set(COCO.values())) == 80
    assert {k: COCO[k] for k in ("person", "cow", "handbag", "suitcase", "hot dog", "potted plant", "teddy bear")} == {
        "person": "person.n.01", "cow": "beef.n.01", "handbag": "bag.n.04", "suitcase": "bag.n.06", "hot dog": "sausage.n.01",
        "potted plant": "pot.n.04", "teddy bear": "teddy.n.01",  # where the first meaning of the name would miss LVIS's
    }  # fmt: skip


def test_a_disk_that_takes_no_more_is_told_and_leaves_nothing(tmp_path):
    data = {"images": [lvis_image(n) for n in range(500)], "annotations": [], "categories": LVIS}
    (tmp_path / "in.json").write_text(json.dumps(data))
    limited = (
        "import resource, sys; resource.setrlimit(resource.RLIMIT_FSIZE, (4096, -1)); "
        "from synth.tracking.lvis import main; sys.exit(main())"
    )
    done = subprocess.run(
        [sys.executable, "-c", limited, "base", tmp_path / "in.json", tmp_path / "out.json"], capture_output=True, text=True
    )
    assert done.returncode == EXIT_AGAIN and "File too large" in done.stderr
    assert [p.name for p in tmp_path.iterdir()] == ["in.json"]
