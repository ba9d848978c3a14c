"""Class lists and their choice: official indices stay, words that YAML would spoil are safe."""

import json

import pytest

from launch.plan.classes import choose, names_in, official
from synth.errors import InputError

NAMES = ["cat", "dog", "no", "0123", "sea lion", "707-320"]


@pytest.fixture
def classes(tmp_path):
    path = tmp_path / "classes.json"
    path.write_text(json.dumps(NAMES))
    return official(str(path))


def names(found):
    return [c.name for c in found]


def test_a_range_includes_both_ends_and_keeps_official_indices(classes):
    assert [(c.index, c.name) for c in choose(classes, "1..3")] == [(1, "dog"), (2, "no"), (3, "0123")]


def test_names_indices_and_ranges_mix_and_come_in_official_order(classes):
    assert names(choose(classes, ["707-320", "0..1", 3])) == ["cat", "dog", "0123", "707-320"]
    assert names(choose(classes, "sea lion")) == ["sea lion"]
    assert names(choose(classes, "all")) == NAMES
    assert names(choose(classes, 2)) == ["no"]


def test_names_that_yaml_spoils_are_taken_as_texts_and_spoilt_ones_are_refused(classes):
    assert names(choose(classes, ["no", "0123"])) == ["no", "0123"]
    with pytest.raises(InputError, match="quote it"):
        choose(classes, [False])


def test_names_that_yaml_spoils_survive_the_command_line(world):
    point = world.point("dataset.classes=[no,0123,707-320]")
    assert [c["name"] for c in point.stages[0].spec.config["dataset"]["classes"]] == ["no", "0123", "707-320"]


@pytest.mark.parametrize(
    ("wanted", "said"),
    [
        ("3..9", r"classes 0..5"),
        ("4..2", "lower end"),
        ([], "empty list"),
        (["cat", "0..2"], "chosen twice"),
        ("sea loin", "did you mean sea lion"),
        (17, "0..5"),
    ],
)
def test_a_choice_that_cannot_be_met_says_why(classes, wanted, said):
    with pytest.raises(InputError, match=said):
        choose(classes, wanted)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("[]", "holds no class"),
        ('["a", "b", "a"]', "'a' is there twice"),
        ('["a", 3]', "class 1 is 3"),
        ('{"names": []}', "needs a list of names"),
        ('["a"', "not JSON"),
        ('[{"name": "a", "index": 4}]', "official index"),
    ],
)
def test_a_wrong_class_list_names_the_file_and_the_item(tmp_path, content, said):
    path = tmp_path / "list.json"
    path.write_text(content)
    with pytest.raises(InputError, match=said) as e:
        official(str(path))
    assert str(path) in str(e.value)


def test_class_lists_may_be_text_files_and_hold_superclasses(tmp_path):
    text = tmp_path / "list.txt"
    text.write_text("no\n1:20\n\nsalt, coarse\n", encoding="utf-8")
    assert names(official(str(text))) == ["no", "1:20", "salt, coarse"]
    assert names_in(str(text)) == ["no", "1:20", "salt, coarse"]
    rich = tmp_path / "rich.json"
    rich.write_text(json.dumps({"classes": [{"name": "oak", "superclass": "tree"}]}))
    assert official(str(rich))[0].superclass == "tree"
    table = tmp_path / "table.json"
    table.write_text(json.dumps({"classes": ["oak", "cat"], "superclass": {"oak": "tree"}}))
    assert [c.superclass for c in official(str(table))] == ["tree", ""]


def test_a_file_twin_chooses_names_with_commas(world):
    (world.path / "classes.json").write_text(json.dumps(["salt, coarse", "pepper"]))
    (world.path / "mine.txt").write_text("salt, coarse\n")
    point = world.point(f"dataset.classes_file={world.path}/mine.txt")
    assert [c["name"] for c in point.stages[0].spec.config["dataset"]["classes"]] == ["salt, coarse"]
