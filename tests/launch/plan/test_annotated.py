"""Annotations, captions and images joined into the listing of a stage."""

import json
import os

import h5py
import numpy as np
import pytest

from launch.plan import annotated
from launch.plan.annotated import LEFT_OUT, Wanted, joined
from synth.errors import InputError
from synth.images.sources import read
from synth.tracking.listing import AnnotatedListing
from tests.configs import DatasetConfig
from tests.tracking.annotated_sets import CATEGORIES, image, plain, square, write

HOSTILE = [
    "two words.jpg",
    "it's.jpg",
    'say "x".jpg',
    "line\nbreak.jpg",
    "<b>bold</b>&amp;.jpg",
    "größe 猫.png",
    "a%00b.jpg",
    "deep/er/own.jpg",
]


def dataset_at(**places: str | None) -> DatasetConfig:
    return DatasetConfig("toy", "all", 0, **places)


def join(folder, drop=False, base=False, variants=1, captions=True, min_area=144, images=None, by_path=False):
    there = folder / "captions.json"
    places = {"annotations": str(folder / "annotations.json"), "images": str(images or folder / "images")}
    dataset = dataset_at(**places, captions=str(there) if captions and there.exists() else None)
    annotated._joined.cache_clear()
    return joined(dataset, Wanted("toy", base, drop, by_path, variants, min_area, 1e9, (96, 64), 32))


def listed(tmp_path, found):
    """The listing as a worker opens it."""
    stage = tmp_path / "stage"
    stage.mkdir(exist_ok=True)
    for name, data in found.files.items():
        (stage / name).write_bytes(data)
    return AnnotatedListing(stage, found.identity)


def test_images_are_listed_by_bucket_then_in_the_files_order_and_those_without_objects_last(tmp_path):
    images = [image(1, 64, 96), image(2), image(3), image(4, 48, 48), image(5, 64, 96), image(6)]
    data = plain() | {
        "images": images,
        "annotations": [square(9, 6), square(8, 2), square(7, 1), square(6, 4), square(5, 5), square(4, 2, side=3)],
    }
    found = join(write(tmp_path, data))
    assert found.buckets == (((64, 96), 2), ((96, 64), 2), ((64, 64), 1), (None, 1))
    listing = listed(tmp_path, found)
    rows = listing.rows(0, 6)
    assert [row.image["id"] for row in rows] == [1, 5, 2, 6, 4, 3]
    assert [row.bucket for row in rows] == [(64, 96)] * 2 + [(96, 64)] * 2 + [(64, 64), None]
    assert [a["id"] for a in rows[2].annotations] == [8, 4], "in the file's order, the small one too"
    assert [json.loads(line)["image"]["id"] for line in listing.lines(listing.file_order())] == [1, 2, 3, 4, 5, 6]
    head = listing.head()
    assert (list(head.categories), head.max_image_id, head.max_annotation_id, head.tracks) == (CATEGORIES, 6, 9, 6)


def test_what_the_file_says_goes_into_the_listing_byte_by_byte(tmp_path):
    odd = b'{ "id":1,\n "width" : 96,"height":64.0e0,"file_name":"a\\u00e9\\/\\u0041.jpg" , "note":"\xc3\xa9\\n","big":1.10 }'
    data = json.dumps(plain() | {"images": [7], "annotations": []}).encode().replace(b"[7]", b"[" + odd.replace(b"64.0e0", b"64") + b"]")
    write(tmp_path, data)
    (tmp_path / "images" / "aé").mkdir()
    (tmp_path / "images" / "aé" / "A.jpg").write_bytes(b"xy")
    listing = listed(tmp_path, join(tmp_path))
    line = next(listing.lines([0]))
    assert odd.replace(b"64.0e0", b"64").replace(b"\n", b"") in line, "but for line breaks between values"
    assert (listing.rows(0, 1)[0].path, listing.rows(0, 1)[0].size) == ("aé/A.jpg", 2)


@pytest.mark.parametrize("form", ["folder", "hdf5"])
def test_an_image_in_the_place_of_another_of_its_size_is_another_input_unless_there_are_too_many_to_read(tmp_path, form, monkeypatch):
    def found(first: bytes) -> annotated.Joined:
        write(tmp_path, plain())
        name = plain()["images"][0]["file_name"]
        (tmp_path / "images" / name).write_bytes(first)
        if form == "folder":
            return join(tmp_path)
        with h5py.File(tmp_path / "images.h5", "w") as file:
            for path in (tmp_path / "images").iterdir():
                file[path.name] = np.frombuffer(path.read_bytes(), np.uint8)
        return join(tmp_path, images=tmp_path / "images.h5")

    one, two = found(b"one"), found(b"two")
    assert one.identity != two.identity and one.by_name == two.by_name == 0
    monkeypatch.setattr(read, "LITTLE", 0)
    one, two = found(b"one"), found(b"two")
    assert one.identity == two.identity and one.by_name == two.by_name == len(plain()["images"])


def test_images_of_lvis_get_the_file_name_that_their_url_ends_in(tmp_path):
    one = {"id": 1, "width": 96, "height": 64, "coco_url": "http://images.cocodataset.org/train2017/000000000009.jpg"}
    write(tmp_path, plain() | {"images": [one], "annotations": [square(1, 1)]})
    (tmp_path / "images" / "train2017").mkdir()
    (tmp_path / "images" / "train2017" / "000000000009.jpg").write_bytes(b"x")
    row = listed(tmp_path, join(tmp_path)).rows(0, 1)[0]
    assert row.image == one | {"file_name": "000000000009.jpg"} and row.path == "train2017/000000000009.jpg"


def test_images_of_several_folders_are_called_by_their_paths_where_that_is_asked_for(tmp_path):
    images = [image(1, file_name="seq1/0001.jpg"), image(2, file_name="seq2/0001.jpg")]
    write(tmp_path, plain() | {"images": images, "annotations": [square(1, 1), square(2, 2)]})
    with pytest.raises(InputError, match=r"have one name without folders, '0001.jpg'.*tracking.names=path"):
        join(tmp_path)
    rows = listed(tmp_path, join(tmp_path, by_path=True)).rows(0, 2)
    assert [(r.image["file_name"], r.path) for r in rows] == [("seq1__0001.jpg", "seq1/0001.jpg"), ("seq2__0001.jpg", "seq2/0001.jpg")]
    os.unlink(tmp_path / "images" / "seq2" / "0001.jpg")
    with pytest.raises(InputError, match=r"image 2: 'seq2/0001.jpg' is not in"):
        join(tmp_path, by_path=True)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"iscrowd": 1, "segmentation": {"size": [64, 96], "counts": [0, 6144]}}, "crowds (iscrowd)"),
        ({"area": 0}, "3 with an area of 0"),
        ({"area": 9}, "3 not above tracking.min_area=144"),
        (None, "it has no annotations"),
    ],
)
def test_why_there_is_no_object_to_keep_is_told(change, says, tmp_path):
    annotations = [a | change for a in plain()["annotations"]] if change else []
    found = join(write(tmp_path, plain() | {"annotations": annotations}), drop=True)
    assert says in found.no_objects and found.buckets == ((None, 3),)


def test_hostile_names_and_captions_survive(tmp_path):
    images = [image(i, file_name=name) for i, name in enumerate(HOSTILE)]
    captions = [{"image_id": i, "caption": f"  a picture of\n{name} \\ \u2028 "} for i, name in enumerate(HOSTILE)]
    write(
        tmp_path,
        plain() | {"images": images, "annotations": [square(i, i) for i in range(len(images))]},
        {"annotations": captions},
    )
    rows = listed(tmp_path, join(tmp_path)).rows(0, 99)
    assert [r.image["file_name"] for r in rows] == HOSTILE == [r.path for r in rows]
    assert [r.captions for r in rows] == [(f"a picture of\n{name} \\",) for name in HOSTILE]


def test_captions_are_joined_and_strangers_and_empty_ones_are_not(tmp_path):
    texts = [(1, "one"), (77, "of nobody"), (2, "  "), (1, "uno"), (78, "")]
    found = join(write(tmp_path, plain(), {"annotations": [{"image_id": i, "caption": t} for i, t in texts]}))
    assert (found.captioned, found.strangers) == (1, 2)
    rows = {r.image["id"]: r.captions for r in listed(tmp_path, found).rows(0, 3)}
    assert rows == {1: ("one", "uno"), 2: (), 3: ()}


def test_a_plan_depends_on_the_annotations_and_not_on_what_else_lies_in_the_folder(tmp_path):
    write(tmp_path, plain())
    first = join(tmp_path)
    assert join(tmp_path).identity == first.identity and join(tmp_path).files == first.files
    (tmp_path / "images" / "unrelated.jpg").write_bytes(b"more")
    assert join(tmp_path).identity == first.identity
    changed = plain()
    changed["annotations"][1]["segmentation"][0][3] = 1
    write(tmp_path, changed)
    assert join(tmp_path).identity != first.identity
    write(tmp_path, plain())
    assert join(tmp_path).identity == first.identity
    (tmp_path / "images" / "003.jpg").write_bytes(b"another size")
    assert join(tmp_path).identity != first.identity
    write(tmp_path, plain() | {"categories": [*CATEGORIES[:2], CATEGORIES[2] | {"synset": "other.n.01"}]})
    assert join(tmp_path).identity != first.identity


def test_missing_images_are_named_with_their_number_or_left_out(tmp_path):
    write(tmp_path, plain())
    for name in ("001.jpg", "003.jpg"):
        os.unlink(tmp_path / "images" / name)
    with pytest.raises(
        InputError, match=r"image 1: '001.jpg' is not in .*images; check dataset.images \(1 more of the images.*on_bad=drop"
    ):
        join(tmp_path)
    found = join(tmp_path, drop=True)
    assert found.left_out == 2 and [r.image["id"] for r in listed(tmp_path, found).rows(0, 9)] == [2]
    lines = [json.loads(line) for line in found.files[LEFT_OUT].splitlines()]
    assert [(line["image_id"], line["image"]) for line in lines] == [(1, "001.jpg"), (3, "003.jpg")]
    os.unlink(tmp_path / "images" / "002.jpg")
    with pytest.raises(InputError, match="holds none of the 3 images"):
        join(tmp_path, drop=True)


def test_an_image_larger_than_what_is_read_is_told_before_it_is_drawn(tmp_path):
    write(tmp_path, plain() | {"images": [image(1), image(2, 10**12, 10**12), image(3)]})
    with pytest.raises(InputError, match=r"image 2: '002.jpg' is 1000000000000 x 1000000000000 pixels, and 100,000,000 at most"):
        join(tmp_path)
    found = join(tmp_path, drop=True)
    assert found.left_out == 1 and b'"image_id":2' in found.files[LEFT_OUT]


def test_captions_of_other_images_alone_are_no_captions(tmp_path):
    write(tmp_path, plain(), {"annotations": [{"image_id": 77, "caption": "a cat"}]})
    with pytest.raises(
        InputError,
        match=r"dataset\.captions: .*captions\.json: none of its captions is of an image.*1 captions are of other images",
    ):
        join(tmp_path, captions=True)


def test_bad_annotations_may_be_left_out_and_are_listed(tmp_path):
    write(tmp_path, plain() | {"annotations": [square(1, 1), square(2, 1, segmentation=[[1, 2]])]})
    with pytest.raises(InputError, match="on_bad=drop"):
        join(tmp_path)
    found = join(tmp_path, drop=True)
    assert found.left_out == 1 and b"polygon 0 of its segmentation has 1 points" in found.files[LEFT_OUT]
    assert LEFT_OUT in join(write(tmp_path, plain()), drop=True).files, "empty, but there"


def test_no_annotations_at_all_leave_images_without_objects(tmp_path):
    found = join(write(tmp_path, plain() | {"annotations": []}))
    assert found.buckets == ((None, 3),)
    head = listed(tmp_path, found).head()
    assert (head.max_image_id, head.max_annotation_id, head.tracks) == (3, 0, 0)


def test_the_head_counts_what_is_listed_whatever_the_order(tmp_path):
    crowd = square(9, 1, iscrowd=1)
    data = plain() | {
        "images": [image(3), image(1), image(2, 64, 96)],
        "annotations": [square(7, 1), square(5, 1), crowd, square(2, 2), square(4, 1)],
    }
    found = join(write(tmp_path, data))
    head = listed(tmp_path, found).head()
    assert (head.max_image_id, head.max_annotation_id, head.tracks) == (3, 9, 4)
    assert [listed(tmp_path, found).rows(n, n + 1)[0].image["id"] for n in listed(tmp_path, found).file_order()] == [3, 1, 2]


def test_a_file_that_changed_within_the_process_is_read_again(tmp_path):
    annotated._joined.cache_clear()
    dataset = dataset_at(annotations=str(write(tmp_path, plain()) / "annotations.json"), images=str(tmp_path / "images"))
    wanted = Wanted("toy", False, False, False, 1, 144, 1e9, (96, 64), 32)
    first = joined(dataset, wanted)
    assert joined(dataset, wanted) is first, "the points of a sweep share it"
    write(tmp_path, plain() | {"annotations": []})
    assert joined(dataset, wanted).identity != first.identity


def test_base_classes_leave_out_the_rare_ones_everywhere_and_number_the_others_from_1(tmp_path):
    lists = {"neg_category_ids": [9, 5], "not_exhaustive_category_ids": [5]}
    write(tmp_path, plain() | {"images": [image(1, **lists), image(2, 64, 96)]})
    found = join(tmp_path, base=True)
    assert [(c.index, c.name) for c in found.dataset.classes] == [(1, "cat"), (2, "dog")] and found.dataset.n_classes == 3
    rows = listed(tmp_path, found).rows(0, 9)
    assert {a["id"]: a["category_id"] for r in rows for a in r.annotations} == {1: 1, 2: 2}, "annotation 4 is of the rare class"
    one = next(r.image for r in rows if r.image["id"] == 1)
    assert one == image(1, neg_category_ids=[2], not_exhaustive_category_ids=[])
    assert [c["id"] for c in listed(tmp_path, found).head().categories] == [1, 2]
    write(tmp_path, plain() | {"images": [image(1, neg_category_ids=[4]), image(2)]})
    with pytest.raises(InputError, match=r"image 1 \('001.jpg'\): neg_category_ids names category 4"):
        join(tmp_path, base=True)
    write(tmp_path, plain() | {"categories": [{"id": 3, "name": "cat"}, *CATEGORIES[1:]]})
    with pytest.raises(InputError, match=r"category 3 .* frequency '', not f, c or r"):
        join(tmp_path, base=True)


def test_bytes_that_are_no_text_are_told_wherever_they_stand(tmp_path):
    write(tmp_path, plain())
    data = json.dumps(plain()).encode().replace(b'"iscrowd": 0', b'"iscrowd": 0, "note": "\xff"', 1)
    (tmp_path / "annotations.json").write_bytes(data)
    with pytest.raises(InputError, match=r"image 1 \('001.jpg'\) or one of its annotations holds bytes that are no UTF-8"):
        join(tmp_path)


@pytest.mark.parametrize("number", ["1e999", "1" * 5000, "1" * 400 + ".5"])
@pytest.mark.parametrize("before", [b'"width": 96', b'"iscrowd": 0'])
def test_numbers_that_nothing_holds_are_told_wherever_they_stand(tmp_path, number, before):
    write(tmp_path, plain())
    data = json.dumps(plain()).encode().replace(before, before + b', "note": ' + number.encode(), 1)
    (tmp_path / "annotations.json").write_bytes(data)
    with pytest.raises(InputError, match=r"image 1 \('001.jpg'\) or one of its annotations holds what no reader takes \(.* out of range\)"):
        join(tmp_path)


def test_images_of_an_hdf5_file_are_the_same_images(tmp_path):
    write(tmp_path, plain())
    with h5py.File(tmp_path / "images.h5", "w") as f:
        for path in (tmp_path / "images").iterdir():
            f[path.name] = np.frombuffer(path.read_bytes(), np.uint8)
    found = join(tmp_path, images=tmp_path / "images.h5")
    assert found.identity == join(tmp_path).identity and found.images == tmp_path / "images.h5"


@pytest.mark.parametrize("key", ["annotations", "images", "captions"])
def test_files_that_are_not_there_are_named_by_their_key(tmp_path, key):
    write(tmp_path, plain(), {"annotations": []})
    places = {k: str(tmp_path / f"{k}.json") for k in ("annotations", "captions")} | {"images": str(tmp_path / "images")}
    with pytest.raises(InputError, match=rf"dataset\.{key}: .*/nix is not there"):
        joined(dataset_at(**places | {key: str(tmp_path / "nix")}), Wanted("toy", False, False, False, 1, 1, 9e9, (96, 64), 32))
