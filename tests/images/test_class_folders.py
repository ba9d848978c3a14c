"""Which folders become classes: splits, wrappings, leavings of systems, exports of ours, and what stays unclear; what is not read."""

import json
import os

import pytest

from launch.plan import datasets
from launch.plan.datasets import counts, dataset_of, remarks
from synth.errors import InputError
from synth.images.sources import layout_of, reader
from tests.images.pictures import picture, sample, write_tar
from tests.launch.plan.test_datasets import custom


def make(root, *names):
    """Pictures, and files of a byte where a name is that of none."""
    for n, name in enumerate(names):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        if name.endswith("/"):
            (root / name).mkdir(exist_ok=True)
        else:
            (root / name).write_bytes(picture(n) if name.endswith((".png", ".jpg")) or "." not in name else b"x")
    return root


def listed(root, layout=None):
    """(class names, {key: class or reason}, notes)"""
    found = reader(layout or layout_of(root), root, False)
    items = list(found)
    names = [c.name for c in found.classes]
    return names, {i.key: i.reason or ",".join(names[n] for n in i.labels) for i in items}, [*found.notes, found.unread.note()]


CLASSES = {  # what lies there -> the classes
    "plain": (("cat/0.png", "dog/0.png", "dog/deep/1.png"), ["cat", "dog"]),
    "splits": (("train/cat/0.png", "train/dog/0.png", "val/cat/0.png", "Test/eel/0.png"), ["cat", "dog", "eel"]),
    "splits of other names": (("train2017/cat/0.png", "Val_set/dog/0.png", "test-images/eel/0.png", "Dev data 2/cat/0.png"),
                              ["cat", "dog", "eel"]),
    "like a split, and none": (("tests/0.png", "trainstation/0.png"), ["tests", "trainstation"]),
    "wrapped": (("data/cat/0.png", "data/dog/0.png", "meta/classes.txt", "README.md"), ["cat", "dog"]),
    "wrapped splits": (("cifar/train/cat/0.png", "cifar/test/cat/1.png", "cifar/test/dog/1.png"), ["cat", "dog"]),
    "litter": (("cat/0.png", "dog/0.png", "__MACOSX/cat/0.png", "@eaDir/cat/0.png", "lost+found/x.png", ".ipynb_checkpoints/0.png",
                "$RECYCLE.BIN/a.png", "cat/@eaDir/0.png", "cat/Thumbs.db", "THUMBS.DB"), ["cat", "dog"]),
    "a folder of other files": (("cat/0.png", "dog/0.png", "annotations/cat.xml"), ["cat", "dog"]),
    "an empty class": (("cat/0.png", "dog/0.png", "eel/"), ["cat", "dog", "eel"]),
    "trains": (("bus/0.png", "train/0.png", "tram/0.png"), ["bus", "train", "tram"]),
    "one class": (("cat/0.png",), ["cat"]),
}  # fmt: skip


@pytest.mark.parametrize("case", CLASSES)
def test_folders_become_the_classes_that_people_mean(tmp_path, case):
    files, classes = CLASSES[case]
    root = make(tmp_path / "s", *files)
    names, items, _ = listed(root)
    assert names == classes
    for key, name in items.items():
        assert name in key.split("/") or name.startswith("lies beside"), items
    assert not any("__MACOSX" in key or "@eaDir" in key for key in items)
    assert [c.name for c in dataset_of(custom(root)).classes] == classes


def test_splits_and_wrappings_and_what_is_left_out_are_said(tmp_path):
    root = make(tmp_path / "a", *CLASSES["splits"][0], "0.png")
    _, items, notes = listed(root)
    assert "'Test', 'train', 'val' are splits" in notes[0] and f"img2img.source={root}/Test reads one of them" in notes[0]
    assert items["train/cat/0.png"] == items["val/cat/0.png"] == "cat" and items["0.png"].startswith("lies beside the class folders")
    assert counts(custom(root)) == {0: 1, 1: 1, 2: 1}, "of the training split, where a class is in it"
    _, _, notes = listed(make(tmp_path / "b", *CLASSES["wrapped"][0]))
    assert "lie in 'data', whose folders are the classes: 'cat', 'dog'; img2img.layout=image_folder" in notes[0]
    assert notes[-1] == "1 file is not called like a picture (.txt 1; the first: 'meta/classes.txt')"
    _, _, notes = listed(make(tmp_path / "c", *CLASSES["litter"][0]))
    assert notes[-1].startswith("8 hidden names and leavings of systems are left out (@eaDir 2, ")


def test_how_a_folder_of_classes_was_read_is_said_of_dataset_source_too(tmp_path):
    root = make(tmp_path / "a", "ant/1.png", "bee/clip.mp4", "cat/1.png")
    assert [c.name for c in dataset_of(custom(root)).classes] == ["ant", "cat"]
    assert remarks(custom(root)) == [f"dataset.source: 'bee' of {root} hold no picture, and are no classes"]
    root = make(tmp_path / "b", *CLASSES["splits"][0])
    (said,) = remarks(custom(root))
    assert "are read together; dataset.source=" in said
    (said,) = remarks(custom(make(tmp_path / "c", *CLASSES["wrapped"][0])))
    assert said.endswith("'cat', 'dog'; write the names of the classes into a file: dataset.source=FILE")
    assert remarks(custom(make(tmp_path / "d", *CLASSES["plain"][0]))) == remarks(custom(exported(tmp_path / "e"))) == []


def test_a_name_that_two_file_systems_wrote_is_one_class(tmp_path):
    root = make(tmp_path, "train/cafe\u0301/0.png", "val/caf\u00e9/0.png", "val/cafz/0.png")
    assert [c.name for c in dataset_of(custom(root)).classes] == ["cafz", "caf\u00e9"] and counts(custom(root)) == {0: 1, 1: 1}


def test_counts_are_of_the_training_split_whatever_it_is_called_and_each_folder_is_looked_at_once(tmp_path, monkeypatch):
    root = make(
        tmp_path / "s", *(f"train2017/c{n}/{k}.png" for n in range(20) for k in range(2)), *(f"val2017/c{n}/9.png" for n in range(20))
    )
    walked = []
    monkeypatch.setattr(datasets, "_pictures", lambda path, folders: walked.extend(folders) or len(folders))
    assert set(counts(custom(root)).values()) == {2} and len(walked) == len(set(walked)) == 40
    monkeypatch.undo()
    datasets._checked.cache_clear()
    assert set(counts(custom(root)).values()) == {2}, "and none of val2017"


UNCLEAR = {  # what lies there -> the classes that it would make
    "flat splits": (("train/0.png", "test/0.png"), "'test', 'train', but they are named like splits"),
    "flat splits of COCO": (("train2017/0.png", "val2017/0.png", "unlabeled2017/0.png"),
                            "'train2017', 'unlabeled2017', 'val2017', but they are named"),
    "one flat split": (("train/cat/0.png", "test/0.png"), "'test', 'train', but they are named like splits"),
    "splits and more": (("train/cat/0.png", "val/cat/0.png", "eel/0.png"), "'eel', 'train', 'val', but they are folders of pictures"),
    "domains": (("photo/cat/0.png", "sketch/cat/0.png"), "'photo', 'sketch', but they hold pictures in further folders alone"),
    "one in one": (("data/cat/0.png",), "'data', but they may be a class, or hold one"),
    "parts": (("images/0.png", "masks/0.png"), "'images', 'masks', but they are called like parts of a data set"),
    "images and annotations": (("images/0.png", "annotations/0.xml"), "'images', but they are called like parts"),
    "parts of splits": (("train/images/0.png", "val/images/0.png", "train/labels/0.txt"), "'train/images', but they are called like parts"),
}  # fmt: skip


@pytest.mark.parametrize("case", UNCLEAR)
def test_what_is_unclear_shows_the_classes_that_it_would_make(tmp_path, case):
    files, said = UNCLEAR[case]
    root = make(tmp_path / "s", *files)
    with pytest.raises(InputError, match=said) as e:
        listed(root)
    assert f"img2img.source={root}/" in str(e.value) and "img2img.layout=image_folder" in str(e.value)
    with pytest.raises(InputError, match=said) as e:
        dataset_of(custom(root))
    assert "dataset.source=FILE" in str(e.value)
    for other in e.value.args[0].split("dataset.source=")[1:]:  # what it names as a way out is one
        if (way := other.split(" ")[0]) != "FILE":
            assert dataset_of(custom(way)).classes
    names, _, _ = listed(root, "image_folder")
    assert names == sorted({f.partition("/")[0] for f in files}), "who asks for it by name gets the folders at the top"


def test_shards_without_their_statistics_are_no_classes(tmp_path):
    shards = make(tmp_path / "s", "00000/000000000.jpg", "00000/000000001.jpg", "00001/000010000.jpg")
    assert layout_of(shards) == "img2dataset" and listed(shards)[0] == []
    assert "img2img.layout=image_folder takes the folders" in listed(shards)[2][0], "folders of persons may be called so too"
    with pytest.raises(InputError, match="shards of img2dataset"):
        dataset_of(custom(shards))
    (shards / "00000_stats.json").write_text("{}")
    assert listed(shards)[2] == ["1 file is not called like a picture (.json 1; the first: '00000_stats.json')"]
    persons = make(tmp_path / "p", "00001/000010001.png", "00002/000010001.png")
    assert listed(persons)[0] == ["00001", "00002"], "the first folder does not decide alone"
    signs = make(tmp_path / "g", "00000/00000_00000.png", "00001/00000_00000.png")  # classes of GTSRB
    assert listed(signs)[0] == ["00000", "00001"]


@pytest.mark.parametrize("name", ["pictures.arrow", "pictures.zip", "shards.tar.gz"])
def test_pictures_in_files_that_are_no_layout_are_refused_by_name(tmp_path, name):
    with pytest.raises(InputError, match=f"pictures in {name} cannot be read"):
        layout_of(make(tmp_path / "s", name))
    with pytest.raises(InputError, match=f"pictures in {name} cannot be read"):
        layout_of(tmp_path / "s" / name)


# -- exports of ours ---------------------------------------------------------------------------------------------------

LABELS = {"sea lion": 7, "cat": 3, "no picture": 5}


def exported(root, names="key", split=False):
    """An export of two pictures, as image_folder writes it."""
    folders = {name: name.replace(" ", "_") for name in LABELS}
    listed = [{"index": i, "name": n, "folder": folders[n]} for n, i in LABELS.items()]
    root.mkdir(parents=True)
    (root / "classes.json").write_text(json.dumps({"classes": listed}))
    for half, name in (("train/", "sea lion"), ("val/", "cat")):
        at = root / half if split else root
        for folder in folders.values() if names == "key" else ():
            (at / folder).mkdir(parents=True, exist_ok=True)
        file = f"{folders[name]}/000.png" if names == "key" else f"000000/000000/0000{LABELS[name]}.png"
        make(at, file)
        row = {"file_name": file, "caption": f"a {name}", "label": LABELS[name], "labels": [LABELS[name]], "label_names": [name]}
        with open(at / "metadata.jsonl", "a") as f:
            f.write(json.dumps(row) + "\n")
    return root


@pytest.mark.parametrize("names", ["key", "nested"])
@pytest.mark.parametrize("split", [False, True])
@pytest.mark.parametrize("layout", ["class_folders", "image_folder"])
def test_an_export_reads_back_whole(tmp_path, names, split, layout):
    root = exported(tmp_path / "e", names, split)
    found = reader(layout, root, True)
    items = list(found)
    assert {(c.index, c.name) for c in found.classes} == {(i, n) for n, i in LABELS.items()}
    assert {(found.classes[i.labels[0]].name, i.caption, i.reason) for i in items} == {("sea lion", "a sea lion", ""), ("cat", "a cat", "")}
    assert not found.unread.note()
    assert [c.name for c in dataset_of(custom(root)).classes] == list(LABELS)
    assert sum(counts(custom(root)).values()) == (0 if names == "nested" else 1 if split else 2), "of the training half"


def test_half_of_an_export_keeps_the_labels_of_the_whole(tmp_path):
    root = exported(tmp_path / "e", split=True)
    found = reader(layout_of(root / "val"), root / "val", False)
    assert [found.classes[i.labels[0]].index for i in found] == [LABELS["cat"]]
    assert [c.name for c in dataset_of(custom(root / "val")).classes] == list(LABELS)


def test_a_class_without_pictures_is_a_class_of_exported_tars_too(tmp_path):
    write_tar(tmp_path / "shard-000000.tar", sample("a", 0, {"label": 3, "class": "cat"}))
    listed = [{"index": i, "name": n} for n, i in LABELS.items()]  # exports without class folders name none
    (tmp_path / "classes.json").write_text(json.dumps({"classes": listed}))
    for name in ("shards.json", ".synthset.json"):
        (tmp_path / name).write_text("{}")
    found = reader("webdataset", tmp_path, False)
    assert [i.labels for i in found] == [(0,)]
    assert [(c.index, c.name) for c in found.classes] == [(3, "cat"), (7, "sea lion"), (5, "no picture")] and not found.unread
    assert [c.name for c in dataset_of(custom(tmp_path)).classes] == list(LABELS)


@pytest.mark.parametrize("content", [["cat", "dog"], {"cat": 0}, {"classes": ["cat"]}, {"classes": [{"id": 1, "name": "cat"}]}, 3])
def test_a_classes_json_of_somebody_else_is_none_of_an_export(tmp_path, content):
    root = make(tmp_path / "hf", "train/cat/0.png", "train/dog/0.png")
    write_tar(tmp_path / "t" / "0.tar", sample("a", 0, {"label": 3, "class": "cat"}))
    (root / "train" / "metadata.jsonl").write_text('{"file_name": "cat/0.png", "text": "a cat"}\n')
    for folder in (root, tmp_path / "t"):
        (folder / "classes.json").write_text(json.dumps(content))
    for layout in (None, "image_folder"):
        names, _, notes = listed(root / "train", layout)
        assert names == ["cat", "dog"] and notes[0].startswith(f"{root}/classes.json is no list of an export, and is not read")
    names, _, notes = listed(tmp_path / "t")
    assert names == ["cat"] and notes[0].startswith(f"{tmp_path}/t/classes.json is no list of an export")
    assert [c.name for c in dataset_of(custom(root / "train")).classes] == ["cat", "dog"]
    assert remarks(custom(root / "train"))[0].startswith(f"dataset.source: {root}/classes.json is no list of an export")


def test_a_folder_that_an_export_does_not_name_is_told_with_the_file_that_is_there(tmp_path):
    root = exported(tmp_path / "e", split=True)
    make(root, "val/other/0.png")
    with pytest.raises(InputError, match=f"{root}/classes.json: does not name folder 'other'"):
        listed(root / "val")


# -- what is not read ----------------------------------------------------------------------------------------------------


def test_pictures_without_a_suffix_are_read_and_what_is_called_otherwise_is_counted(tmp_path):
    root = make(tmp_path / "s", "cat/0a1b", "cat/0.png", "cat/1.tga", "cat/LICENSE.md", "cat/.hidden.png", "cat/._0.png")
    (root / "cat" / "README").write_text("no picture")
    (root / "cat" / "2.MPO").write_bytes(picture(ext="jpg"))
    os.mkfifo(root / "cat" / "pipe")
    _, items, notes = listed(root)
    assert items == dict.fromkeys(("cat/0.png", "cat/0a1b", "cat/2.MPO"), "cat")
    assert notes[-1] == (
        "4 files are not called like a picture (without a suffix 2, .md 1, .tga 1; the first: 'cat/1.tga'); "
        "2 hidden names and leavings of systems are left out (._0.png 1, .hidden.png 1)"
    )
    assert counts(custom(root)) == {0: 3}


def test_what_is_passed_over_in_and_beside_tars_is_counted(tmp_path):
    members = [
        *sample("a", 0, {"label": 0, "class": "c"}),
        ("a.seg.png", picture(1)),
        ("a.jpg", picture(2, ext="jpg")),
        ("raw", picture(3)),
        ("@eaDir/x.jpg", picture(4, ext="jpg")),
        ("./.cache/y/z.png", picture(5)),
        ("._a.png", b"x"),
        ("__MACOSX/a.png", b"x"),
        ("__unit__/index", b"{}"),
        ("./b/../b.cls", b"1"),
    ]
    write_tar(tmp_path / "0.tar", members)
    make(tmp_path, "cat/0.png", "notes.txt", "1.tar.gz")
    _, items, notes = listed(tmp_path)
    assert list(items) == ["0.tar/a", "0.tar/b/../b"]
    assert notes[-1] == (
        "2 files are not called like a picture (.gz 1, .txt 1; the first: '1.tar.gz'); "
        "further pictures of samples in tars, whose first one is taken: 2; hidden names and leavings of systems in tars, left out: 4; "
        "members of tars without a suffix, not read (name them key.jpg): 1; pictures beside the tars, not read "
        "(img2img.layout=image_folder reads them, and no tar): 1"
    )
