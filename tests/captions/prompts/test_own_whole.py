"""Captions of the user's own are taken whole, whatever wrote their file; what cannot be taken is named by the file's own lines."""

import json

import pytest

from synth.captions import prompts
from synth.captions.config import ClassEntry
from synth.captions.prompts import Sources
from synth.captions.prompts.own import Reading, read_own
from synth.errors import InputError
from tests.configs import DatasetConfig, PromptsConfig

NAMES = ("cat", "dog", "caf\u00e9 sign")
DATASET = DatasetConfig("d", tuple(ClassEntry(i, n) for i, n in enumerate(NAMES)), 3)


def own(path, name, text, **reading):
    (path / name).write_text(text, encoding="utf-8", newline="")
    return read_own(path / name, DATASET, Reading(**reading))


def pairs(file):
    return [(r.caption, r.classes[0].name) for r in file.rows]


LINES = "\nA cat\r\n  on a mat.\n"


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("a.csv", f'caption,class\n"{LINES}",cat\n'),
        ("a.tsv", f'"caption"\t"label"\n"{LINES}"\t0\n'),
        ("a.jsonl", json.dumps({"caption": LINES, "class": "cat"})),
        ("a.json", json.dumps([{"caption": LINES, "label": 0}])),
        ("b.json", json.dumps({"captions_single_labeled": [[LINES, ["cat"]]]})),
        ("c.json", json.dumps({"cat": {"metaprompts": [{"prompts": [{"content": LINES}]}]}})),
    ],
)
def test_a_caption_with_line_breaks_is_taken_whole_and_counted(tmp_path, name, text):
    file = own(tmp_path, name, text)
    assert pairs(file) == [("A cat on a mat.", "cat")]
    (said,) = [r for r in file.remarks if "line breaks" in r]
    assert "line breaks: 1, the first at" in said and name in said
    maker = prompts.make(DATASET, PromptsConfig("from_file", "file"), Sources(dict, lambda role: str(tmp_path / name)))
    assert maker.prompt(0, 0, 0).text == "A cat on a mat."


def test_another_reading_of_the_same_bytes_is_another_stage(tmp_path):
    plain = own(tmp_path, "a.csv", "caption,class\nA cat.,cat\n")
    broken = own(tmp_path, "b.csv", 'caption,class\n"A\ncat.",cat\n')
    assert not plain.remarks and len({plain.content, broken.content}) == 2
    skipped = own(tmp_path, "c.txt", "A cat => cat\nx => owl\n", skip=True)
    (tmp_path / "c.txt").write_text("A cat => cat\nx => owl\n")
    taken = read_own(tmp_path / "c.txt", DATASET, Reading(also={"owl": 1}))
    assert skipped.content != taken.content


def test_quotes_in_a_tsv_are_text(tmp_path):
    file = own(tmp_path, "a.tsv", 'caption\tclass\n"big" cat\tcat\nA dog\tdog\nA cat, "small\tcat\nThe end"\tdog\n')
    assert pairs(file) == [('"big" cat', "cat"), ("A dog", "dog"), ('A cat, "small', "cat"), ('The end"', "dog")]
    assert "quotes are part of the texts" in file.remarks[0]
    merged = own(tmp_path, "b.tsv", 'caption\tlabel\n"A cat\t0\nA dog\t1\nthe end"\t0\n')  # whole as CSV, and three rows
    assert [c for c, _ in pairs(merged)] == ['"A cat', "A dog", 'the end"']


def test_a_tsv_that_quotes_throughout_or_by_need_is_read_without_its_quotes(tmp_path):
    throughout = own(tmp_path, "a.tsv", '"caption"\t"label"\n"A ""big"" cat"\t0\n"A dog"\t1\n')
    by_need = own(tmp_path, "b.tsv", 'caption\tlabel\n"A ""big"" cat"\t0\nA dog\t1\n')
    assert pairs(throughout) == pairs(by_need) == [('A "big" cat', "cat"), ("A dog", "dog")]
    assert not throughout.remarks and not by_need.remarks


@pytest.mark.parametrize("d", ",;\t|")
def test_delimiters_and_headings_are_told_and_said(tmp_path, d):
    file = own(tmp_path, "a.csv", f'sep={d}\nClass Name{d}Text\ncat{d}"A cat{d} asleep"\n')
    assert pairs(file) == [(f"A cat{d} asleep", "cat")]
    assert "class_name" in file.remarks[0] and "text" in file.remarks[0]
    assert pairs(own(tmp_path, "b.csv", f"caption{d}label\nA cat{d}0\n")) == [("A cat", "cat")]


def test_rows_that_a_quote_or_a_delimiter_spoils_are_told_with_their_lines(tmp_path):
    with pytest.raises(InputError, match=r'line 2: holds what looks like rows of the table: a " that is text must be doubled'):
        own(tmp_path, "a.csv", 'caption,class\n"A cat,cat\nA dog,dog\nthe end",cat\n')
    with pytest.raises(InputError, match="line 3: has 3 columns where the heading has 2"):
        own(tmp_path, "b.csv", "class,caption\ncat,A cat\ncat,A cat, asleep\n")
    assert pairs(own(tmp_path, "c.csv", "class,caption\ncat,A cat,,\n")) == [("A cat", "cat")]  # of a spreadsheet
    with pytest.raises(InputError, match=r"a\.csv, line 5: not CSV"):
        own(tmp_path, "a.csv", 'caption,class\n\n"A\ncat",cat\n"x"y,cat\n')


@pytest.mark.parametrize("name", ["a.txt", "a.csv", "a.jsonl"])
def test_names_and_captions_meet_in_one_normal_form(tmp_path, name):
    caption, label = "Un cafe\u0301", "Cafe\u0301 Sign"
    text = {
        "a.txt": f"{caption} => {label}\n",
        "a.csv": f"caption,class\n{caption},{label}\n",
        "a.jsonl": json.dumps({"caption": caption, "class": label}),
    }
    assert pairs(own(tmp_path, name, text[name])) == [("Un caf\u00e9", "caf\u00e9 sign")]
    decomposed = DatasetConfig("d", (ClassEntry(0, "cafe\u0301 sign"),), 3)
    (tmp_path / "b.txt").write_text("x => caf\u00e9 sign\n")
    assert len(read_own(tmp_path / "b.txt", decomposed).rows) == 1


def test_raw_files_with_bare_arrows_and_stray_lines_are_read(tmp_path):
    text = "A cat=>cat\n  => dog\nstray\nA dog =>dog\n=>\nA => b => cat\n"
    with pytest.raises(
        InputError, match=r"2 captions cannot be taken:\n  line 3: says no class; .*\n  line 5: has no class behind =>"
    ) as e:
        own(tmp_path, "a.txt", text)
    assert "prompts.on_bad=skip" in str(e.value)
    file = own(tmp_path, "a.txt", text, skip=True)
    assert pairs(file) == [("A cat", "cat"), ("", "dog"), ("A dog", "dog"), ("A => b", "cat")]
    assert [r.row for r in file.rows] == [0, 1, 3, 5]  # names of rows stay when the bad ones are mended
    assert any("left out: 2 captions" in r and "line 3" in r and "line 5" in r for r in file.remarks)


def test_all_bad_lines_are_counted_and_named_those_of_one_kind_together(tmp_path):
    text = "caption,class\n" + "".join(f"x{n},{'owl' if n in (0, 1, 2, 7) else 'cat'}\n" for n in range(9)) + "y,bat\n"
    with pytest.raises(InputError, match=r"5 captions cannot be taken:\n  lines 2..4, 9: class 'owl' .*\n  line 11: class 'bat'"):
        own(tmp_path, "a.csv", text)
    text = "\n".join(json.dumps({"caption": "x", "class": f"owl {n}"}) for n in range(1000))
    with pytest.raises(InputError, match=r"1,000 captions cannot be taken:(\n.*)*and 960 captions for 960 other reasons"):
        own(tmp_path, "a.jsonl", text)
    with pytest.raises(InputError, match=r"holds no caption of the chosen classes(\n.*)*left out: 1,000 captions"):
        own(tmp_path, "a.jsonl", text, skip=True)


def test_both_lists_of_one_synclr_file_are_not_mixed(tmp_path):
    text = json.dumps({"captions_single_labeled": [["x", ["cat"]]], "captions_multiple_labeled": [["x", ["cat", "dog"]]]})
    with pytest.raises(InputError, match=r"prompts\.prompts_key=captions_single_labeled"):
        own(tmp_path, "a.json", text)
    (row,) = own(tmp_path, "a.json", text, key="captions_multiple_labeled").rows
    assert [c.name for c in row.classes] == ["cat", "dog"]
    with pytest.raises(InputError, match="holds no captions_multiple_labeled"):
        own(tmp_path, "b.json", '{"captions_single_labeled": [["x", ["cat"]]]}', key="captions_multiple_labeled")


def test_several_files_are_read_one_behind_the_other(tmp_path):
    (tmp_path / "a.txt").write_text("One => cat\n")
    (tmp_path / "b.csv").write_text("caption,class\nTwo,dog\n")
    both = read_own([tmp_path / "a.txt", tmp_path / "b.csv"], DATASET)
    assert [(r.row, r.caption) for r in both.rows] == [(0, "One"), (1, "Two")] and not both.remarks
    assert both.content != read_own([tmp_path / "b.csv", tmp_path / "a.txt"], DATASET).content


def test_other_names_are_taken_and_said(tmp_path):
    file = own(tmp_path, "a.txt", "x => Felis catus\ny => cat\n", also={"felis catus": 0, "unused": 1})
    assert pairs(file) == [("x", "cat"), ("y", "cat")] and file.also == {"felis catus": 0}
    assert file.remarks == (
        f"{tmp_path}/a.txt: captions that call their class otherwise than the dataset does: 1, such as 'Felis catus' for class 0",
    )
