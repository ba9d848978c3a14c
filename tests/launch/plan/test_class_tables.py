"""Class lists of spreadsheets and scripts: headings, delimiters and counting numbers are no classes; what others call a class is found."""

import dataclasses
import json

import pytest

from launch.plan.class_tables import lines_of, table_of
from launch.plan.datasets import choose, counts, dataset_of, names_in, official, other_names, remarks
from synth.captions.normalise import looked_up
from synth.errors import InputError
from tests.launch.plan.test_captions import total
from tests.launch.plan.test_datasets import config_of, custom, names
from tests.launch.plan.test_graph import stage


@pytest.mark.parametrize(
    ("file", "text"),
    [
        ("a.csv", "class_name\ncat\nsea lion\n"),
        ("a.csv", "ClassName;superclass\ncat;animal\nsea lion;animal\n"),
        ("a.csv", "id\tCategory Name\nn1\tcat\nn2\tsea lion\n"),
        ("a.csv", "0;cat\n1;sea lion\n"),
        ("a.csv", "cat,0\nsea lion,1\n"),
        ("a.csv", "1|cat\n2|sea lion\n"),
        ("a.csv", "label,name\n1,sea lion\n0,cat\n"),
        ("a.csv", 'sep=;\nname\n"cat"\nsea lion\n'),
        ("a.tsv", "0\tcat\n1\tsea lion\n"),
        ("a.txt", "class_name\ncat\nsea lion\n"),
        ("a.txt", "0 cat\n1 sea lion\n"),
        ("a.txt", "0;cat\n1;sea lion\n"),
        ("a.txt", "1. cat\n2. sea lion\n"),
    ],
)
def test_headings_delimiters_and_numbers_are_no_part_of_names_and_are_said(tmp_path, file, text):
    path = tmp_path / file
    path.write_text(text)
    assert names(path) == ["cat", "sea lion"]
    (said,) = remarks(custom(path))
    assert said.startswith(f"dataset.source: {path}: ")


def test_plain_lists_are_read_without_a_word_and_names_alone_are_said(tmp_path):
    (tmp_path / "a.txt").write_text("7 up\n0 cat\n")
    (tmp_path / "b.csv").write_text('name,count\n"salt, coarse",3\n')
    assert names(tmp_path / "a.txt") == ["7 up", "0 cat"] and names(tmp_path / "b.csv") == ["salt, coarse"]
    assert not remarks(custom(tmp_path / "a.txt")) and not remarks(custom(tmp_path / "b.csv"))
    (tmp_path / "c.csv").write_text("Kategorie\ncat\n")
    assert "its first line, 'Kategorie', is a class" in remarks(custom(tmp_path / "c.csv"))[0]
    (tmp_path / "chosen.txt").write_text("0\n1\n")
    assert names_in(str(tmp_path / "chosen.txt")) == ["0", "1"]


def test_numbers_that_are_no_labels_are_left_alone_and_told_and_texts_beside_numbers_are_the_names(tmp_path):
    file = tmp_path / "a.csv"
    for text, wanted, said in (
        ("name,class_id\ncat,207\ndog,3\n", ["cat", "dog"], "column 'class_id' does not count the classes and is not used"),
        ("class,label\n1,ape\n0,bee\n", ["bee", "ape"], "columns label, class"),
        ("class,target\ncat,0\ndog,0\n", ["cat", "dog"], "column 'target' does not count"),
    ):
        file.write_text(text)
        listed = table_of(file, text, (), choice=False)
        assert [item["name"] for item in listed.items] == wanted and said in listed.remark, listed
    assert [item["name"] for item in lines_of("1.5 l\n2.0 l\n", choice=False).items] == ["1.5 l", "2.0 l"]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("label,name\n0,cat\n5,dog\n", "column 'label' must count the classes"),
        ("name,index\ncat,-1\ndog,0\n", "column 'index' must count the classes"),
        ("name,count\ncat,3\nfish, small,4\n", "line 3: class 1"),
        ("0;cat\n5;dog\n", "line 1: .* has 2 columns; begin the file"),
    ],
)
def test_tables_that_contradict_themselves_are_refused_with_their_line(tmp_path, text, said):
    (tmp_path / "a.csv").write_text(text)
    with pytest.raises(InputError, match=said):
        names(tmp_path / "a.csv")


def test_class_names_are_in_one_normal_form_wherever_they_come_from(tmp_path):
    one, other = "caf\u00e9", "cafe\u0301"
    (tmp_path / "a.txt").write_text(f"{other}\nbar\n")
    (tmp_path / "b.json").write_text(json.dumps([{"name": other, "spoken": f"the {other}"}]))
    for name in (other, "bar"):
        (tmp_path / "c" / name).mkdir(parents=True)
        (tmp_path / "c" / name / "0.png").write_bytes(b"")
    assert names(tmp_path / "a.txt")[0] == names(tmp_path / "b.json")[0] == names(tmp_path / "c")[1] == one
    assert dataset_of(custom(tmp_path / "b.json")).classes[0].said == f"the {one}"
    assert counts(custom(tmp_path / "c")) == {0: 1, 1: 1}
    assert choose(official(str(tmp_path / "a.txt")), [other])[0].name == one
    (tmp_path / "twice.txt").write_text(f"{one}\n{other}\n")
    with pytest.raises(InputError, match="there twice"):
        names(tmp_path / "twice.txt")


def test_counts_and_tables_of_the_users_find_names_in_either_form(tmp_path):
    from launch.plan.images import class_counts
    from launch.plan.makers import definitions

    (tmp_path / "a.txt").write_text("caf\u00e9\nsea lion\n")
    dataset = dataset_of(custom(tmp_path / "a.txt"))
    (tmp_path / "n.json").write_text(json.dumps({"cafe\u0301": 3, "Sea_Lion": 4}))
    found, _ = class_counts(custom(tmp_path / "a.txt"), dataset.classes, None, str(tmp_path / "n.json"), "images")
    assert found == {0: 3, 1: 4}
    (tmp_path / "d.json").write_text(json.dumps({"cafe\u0301": "a place", "sea lion": "an animal"}))
    assert definitions(dataset, str(tmp_path / "d.json")) == {"0": "a place", "1": "an animal"}


@pytest.mark.parametrize(
    ("name", "written", "index"),
    [
        ("cars", "Audi A5 Coupe 2012 car", "Audi A5 Coupe 2012"),
        ("cars", "2012 Audi A5 Coupe", "Audi A5 Coupe 2012"),
        ("aircraft", "DC-3 aircraft", "DC-3"),
        ("imagenet", "tench, Tinca tinca", 0),
        ("imagenet", "Tinca tinca", 0),
        ("imagenet", "n01440764", 0),
        ("imagenet", "missile", 657),
        ("imagenet", "missile~744", 744),
        ("imagenet", "projectile, missile", 744),
        ("imagenet", "sunglasses, dark glasses, shades", 837),
        ("imagenet", "crane", None),  # a bird and a machine
    ],
)
def test_files_of_the_original_scripts_find_their_classes(name, written, index):
    dataset = config_of(f"dataset={name}").dataset
    listed = {c.name: c.index for c in official(dataset.classes_json)}
    found = {looked_up(n): i for n, i in listed.items()} | other_names(dataset)
    bare = looked_up(written).removesuffix(dataset.suffix)
    assert found.get(looked_up(written), found.get(bare)) == listed.get(index, index)


def test_several_files_a_folder_and_a_pattern_are_planned_and_other_names_kept(world):
    raw = world.path / "raw"
    raw.mkdir()
    (raw / "a.txt").write_text("A cat. => cat\n")
    (raw / "b.txt").write_text("A dog.=>dog\nA rocket => rocket\n")
    (raw / "notes.md").write_text("no captions")
    plans = [
        world.point("prompts=from_file", f"prompts.file={given}", "prompts.on_bad=skip", "captions.allow_short=true")
        for given in (f"[{raw}/a.txt,{raw}/b.txt]", str(raw), f"{raw}/*.txt")
    ]
    specs = [stage(p, "captions").spec for p in plans]
    assert len({s.fingerprint for s in specs}) == 1 and specs[0].slots == 2 and total(plans[0]) == (2, 0)
    assert list(specs[0].inputs) == ["captions", "captions.1"] and "also" not in specs[0].config["prompts"]
    assert "left out: a caption cannot be taken: line 2: class 'rocket' is not in" in "\n".join(specs[0].settings["notes"])
    with pytest.raises(InputError, match=r"b\.txt: a caption cannot be taken: line 2: class 'rocket'"):
        world.point("prompts=from_file", f"prompts.file={raw}")
    with pytest.raises(InputError, match="matches no file"):
        world.point("prompts=from_file", f"prompts.file={raw}/*.csv")


def test_names_that_a_file_uses_are_in_its_stage_and_others_are_not(world):
    (world.path / "classes.json").write_text(json.dumps([{"name": "cat", "also": ["house cat, Felis catus"]}, "dog"]))
    (world.path / "own.txt").write_text("A cat. => Felis catus\nA dog. => dog\n")
    spec = stage(world.point("prompts=from_file", f"prompts.file={world.path}/own.txt"), "captions").spec
    assert spec.config["prompts"]["also"] == {"felis catus": 0}
    assert "such as 'Felis catus' for class 0" in spec.settings["notes"][0]


def test_a_wrong_also_is_named(tmp_path):
    (tmp_path / "a.json").write_text(json.dumps([{"name": "cat", "also": "Felis catus"}]))
    with pytest.raises(InputError, match="also is 'Felis catus'; it must be a list of texts"):
        dataset_of(dataclasses.replace(custom(tmp_path / "a.json")))
