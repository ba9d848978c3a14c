"""Captions of the user's own: every format, and files that are wrong."""

import json

import pytest

from synth.captions import prompts
from synth.captions.config import ClassEntry
from synth.captions.prompts import Sources
from synth.captions.prompts.own import Reading, read_own
from synth.errors import InputError
from tests.configs import DatasetConfig, PromptsConfig

NAMES = ("cat", "sea lion", "707-320", "0", "a => b")


def dataset(indices=range(5), suffix=" aircraft"):
    return DatasetConfig("d", tuple(ClassEntry(i, NAMES[i]) for i in indices), 5, suffix=suffix)


def read(path, name, text, data=None):
    file = path / name
    file.write_text(text, encoding="utf-8", newline="")
    return [(r.row, r.caption, tuple(c.name for c in r.classes)) for r in read_own(file, data or dataset(), Reading(NAMES)).rows]


def tree(*texts):
    prompts = [{"index": k, "content": t} for k, t in enumerate(texts)]
    return {"metaprompts": [{"index": 0, "metaprompt": "dummy", "prompts": prompts}]}


FORMS = {
    "a.txt": "One cat. => cat\n\nA jet => 707-320 aircraft\nto => the left => sea_lion\r\n",
    "a.csv": 'class,caption\ncat,One cat.\n"707-320","A jet"\nsea lion,"to => the left"\n',
    "a.tsv": "caption\tlabel\nOne cat.\t0\nA jet\t2\nto => the left\t1\n",
    "a.jsonl": '{"caption": "One cat.", "class": "cat"}\n{"caption": "A jet", "label": 2}\n\n'
    '{"caption": "to => the left", "class": "Sea Lion"}\n',
    "list.json": '[{"caption": "One cat.", "label": 0}, {"caption": "A jet", "class": "707-320"}, '
    '{"caption": "to => the left", "label": "1"}]',
    "synclr.json": '{"captions_single_labeled": [["One cat.", ["cat"]], ["A jet", ["707-320 aircraft"]], ["to => the left", "sea lion"]]}',
    "dynamic.json": json.dumps({"cat": tree("One cat."), "707-320": tree("A jet"), "sea_lion": tree("to => the left")}),
}


@pytest.mark.parametrize("name", FORMS)
def test_every_form_is_read_in_the_order_of_the_file(tmp_path, name):
    rows = read(tmp_path, name, FORMS[name])
    assert rows == [(0, "One cat.", ("cat",)), (1, "A jet", ("707-320",)), (2, "to => the left", ("sea lion",))]


def test_a_class_may_be_called_like_a_number_or_hold_an_arrow(tmp_path):
    assert read(tmp_path, "a.jsonl", '{"caption": "x", "class": "0"}\n') == [(0, "x", ("0",))]  # a name before an index
    assert read(tmp_path, "b.jsonl", '{"caption": "x", "class": "1"}\n') == [(0, "x", ("sea lion",))]
    assert read(tmp_path, "c.jsonl", '{"caption": "x", "class": "a => b"}\n') == [(0, "x", ("a => b",))]


def test_several_labels_are_kept_and_get_into_the_prompt(tmp_path):
    (tmp_path / "m.json").write_text('{"captions_multiple_labeled": [["A cat by a sea lion.", ["cat", "sea lion"]]]}')
    maker = prompts.make(dataset(), PromptsConfig("from_file", "file"), Sources(dict, lambda role: str(tmp_path / "m.json")))
    prompt = maker.prompt(0, 0, 0)
    assert (prompt.label, prompt.labels, prompt.label_names) == (0, (0, 1), ("cat", "sea lion"))


def test_the_static_form_is_said_of_every_class_and_rows_keep_their_names_in_a_range(tmp_path):
    text = json.dumps(tree("A [concept] on snow.", "One [concept]."))
    everything = read(tmp_path, "s.json", text)
    assert len(everything) == 10
    assert read(tmp_path, "s.json", text, dataset([1, 3])) == [r for r in everything if r[2][0] in ("sea lion", "0")]
    maker = prompts.make(dataset(), PromptsConfig("from_file", "file"), Sources(dict, lambda role: str(tmp_path / "s.json")))
    assert maker.prompt(0, 2, 0).text == "A 707-320 aircraft on snow."


def test_classes_that_are_not_chosen_are_left_out(tmp_path):
    assert read(tmp_path, "a.txt", FORMS["a.txt"], dataset([0])) == [(0, "One cat.", ("cat",))]


def test_lines_without_a_class_are_of_the_only_class(tmp_path):
    assert read(tmp_path, "a.txt", "One.\nTwo\u2028lines.\n", dataset([1])) == [
        (0, "One.", ("sea lion",)),
        (1, "Two\u2028lines.", ("sea lion",)),
    ]
    with pytest.raises(InputError, match="line 1: says no class"):
        read(tmp_path, "a.txt", "One.\n")


def test_blocks_of_classes_leave_slots_empty_where_a_class_has_fewer(tmp_path):
    (tmp_path / "a.txt").write_text("One => cat\nTwo => cat\nThree => sea lion\n")
    config = PromptsConfig("from_file", "exact", official=NAMES)
    maker = prompts.make(dataset([0, 1]), config, Sources(dict, lambda role: str(tmp_path / "a.txt")))
    found = [maker.prompt(0, s, 0) for s in range(maker.n_slots)]
    assert maker.n_slots == 4 and sorted(p.text for p in found) == ["", "One", "Three", "Two"]
    assert [p.error for p in found if not p.text] == ["no_caption"] and found[3].text in ("", "Two")


def test_a_file_changed_after_planning_is_refused(tmp_path):
    (tmp_path / "a.txt").write_text("One => cat\n")
    with pytest.raises(InputError, match="changed since the stage was planned"):
        prompts.make(dataset(), PromptsConfig("from_file", "file", content="0" * 64), Sources(dict, lambda role: str(tmp_path / "a.txt")))


@pytest.mark.parametrize(
    ("name", "text", "said"),
    [
        ("a.txt", "x => dog\n", "line 1: class 'dog' is not in"),
        ("a.txt", "", "holds no caption"),
        ("a.txt", "x => \n", "line 1: has no class"),
        ("a.csv", "words,class\nx,cat\n", '"caption"'),
        ("a.csv", 'caption,class\n"x,cat\n', "not CSV"),
        ("a.csv", "caption,class,label\nx,,\n", "line 2"),
        ("a.jsonl", "{}\n", "line 1"),
        ("a.jsonl", '{"caption": "x", "class": "cat"}\n{"capt', "line 2"),
        ("a.jsonl", '{"caption": 3, "class": "cat"}\n', "caption"),
        ("a.jsonl", '{"caption": "x", "label": 5}\n', "class 5"),
        ("a.jsonl", '{"caption": "x", "label": true}\n', "label True"),
        ("a.jsonl", '{"caption": "x", "label": -1}\n', "class -1"),
        ("a.json", "[1]", "item 0"),
        ("a.json", "{}", "not a form"),
        ("a.json", "[" * 100_000, "not JSON"),
        ("a.json", '{"captions_single_labeled": [["x"]]}', r"captions_single_labeled\[0\]"),
        ("a.json", '{"captions_single_labeled": 7}', r"captions_single_labeled\[0\]"),
        ("a.json", '{"metaprompts": [{"prompts": [{"index": 0}]}]}', r"prompts\[0\]"),
        ("a.parquet", "x", "rename"),
    ],
)
def test_files_that_are_wrong_are_told_with_the_place(tmp_path, name, text, said):
    with pytest.raises(InputError, match=said) as e:
        read(tmp_path, name, text)
    assert name in str(e.value)


def test_a_name_of_two_classes_is_not_guessed(tmp_path):
    classes = tuple(ClassEntry(i, n) for i, n in enumerate(("missile", "cat", "missile")))
    (tmp_path / "a.txt").write_text("x => missile\n")
    with pytest.raises(InputError, match=r"the name of classes 0, 2"):
        read_own(tmp_path / "a.txt", DatasetConfig("d", classes, 3))


def test_a_file_that_is_no_text_is_told(tmp_path):
    (tmp_path / "a.txt").write_bytes(b"\xff\xfe\x00x")
    with pytest.raises(InputError, match="UTF-8"):
        read_own(tmp_path / "a.txt", dataset())
