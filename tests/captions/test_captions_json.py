"""captions_json: duplicates, order, totals, accounting, and reading a few rows out of a unit."""

import io
import json
import os
from collections import Counter

import pyarrow.parquet as pq
import pytest

from launch.plan.captions import slots_for
from synth.captions.captions_json import more_than, normalised
from synth.captions.table import rows
from synth.errors import EXIT_BAD_INPUT, EXIT_OK
from tests.fixtures_images import CLASSES, captions_json_stage, captions_stage, digests, work


@pytest.fixture
def root(tmp_path):
    return tmp_path / "runs" / "toys"


def out_json(folder):
    return json.loads((folder.out_dir / "captions.json").read_text())


def rejected(folder):
    return [json.loads(line) for line in (folder.out_dir / "rejected.jsonl").read_text().splitlines()]


@pytest.mark.parametrize(("a", "b", "same"), [
    ("A red fox.", "a  red fox", True), ("A fox!?", "a fox", True), ("It\u2019s a fox", "It's a fox", True), ("\uff21 fox", "a fox", True),
    ("A fox\u2026", "a fox", True), ("stra\u00dfe", "STRASSE", True), ("caf\u00e9", "cafe\u0301", True), ("a fox, red", "a fox red", False),
    ("a fox", "a box", False),
])  # fmt: skip
def test_normalisation(a, b, same):
    assert (normalised(a) == normalised(b)) is same


def test_duplicates_go_in_slot_order_and_all_that_was_dropped_is_kept_by_reason(root):
    tried = {"caption": "A crane.", "rejected": [{"caption": "mist", "reason": "no class", "attempt": 0}]}
    a = captions_stage(root, ["A fox.", None, "a FOX", tried, "owl"])
    b = captions_stage(root, ["A crane!", "deer", "extra"], seed=1)
    folder = captions_json_stage(root, [a, b], 4)
    assert work(folder) == EXIT_OK
    assert out_json(folder) == {
        "captions_single_labeled": [
            ["A fox.", ["red panda"]],
            ["A crane.", ['say "cheese"']],
            ["owl", ["crane"]],
            ["deer", ["bullet train"]],
        ]
    }
    fa, fb = a.spec.fingerprint, b.spec.fingerprint
    assert rejected(folder) == [
        {"kind": "tombstone", "reason": "names another class", "slot": 1, "source": fa},
        {"kind": "duplicate", "reason": "duplicate of slot 0", "caption": "a FOX", "of_row": 0, "slot": 2, "source": fa},
        {"kind": "attempt", "reason": "no class", "caption": "mist", "attempt": 0, "slot": 3, "source": fa},
        {
            "kind": "duplicate",
            "reason": f"duplicate of slot 3 of {fa}",
            "caption": "A crane!",
            "of_row": 1,
            "slot": 0,
            "source": fb,
        },
        {"kind": "surplus", "reason": "more captions than captions.total", "caption": "extra", "slot": 2, "source": fb},
    ]
    found = rows(folder, 0, 100)
    assert [(r.row, r.caption, r.class_name, r.label, r.labels, r.slot, r.source) for r in found[2:]] == [
        (2, "owl", "crane", 4, (4,), 4, fa), (3, "deer", "bullet train", 1, (1,), 1, fb)
    ]  # fmt: skip


def test_too_few_captions_are_bad_input_with_the_fix(root, capsys):
    folder = captions_json_stage(root, [captions_stage(root, ["a", "a", None, "b"])], 3)
    assert work(folder) == EXIT_BAD_INPUT
    said = capsys.readouterr().err
    assert "2 of 3" in said and "1 are missing" in said and "captions.oversample" in said and "captions.allow_short=true" in said
    assert "max_seq_len" not in said and not folder.out_dir.exists() and not folder.committed()


def test_classes_that_lack_captions_are_named_and_what_is_advised_makes_more(root, capsys):
    stage = captions_stage(root, [*"abcde", "f", "a", "g", None, "h"])  # slots go round the classes
    folder = captions_json_stage(root, [stage], 2 * len(CLASSES), per_class=2)
    assert work(folder) == EXIT_BAD_INPUT
    said = capsys.readouterr().err
    assert "2 of each class are wanted; " in said and all(f"{CLASSES[n]!r} has 1" in said for n in (1, 3))
    factor = float(said.partition("captions.oversample to ")[2].split()[0])
    assert slots_for(2 * len(CLASSES), factor, 1, len(CLASSES)) >= 10 + len(CLASSES)


def test_classes_that_a_message_has_no_room_for_stand_in_the_log(root, capsys, monkeypatch):
    monkeypatch.setattr("synth.captions.captions_json.NAMED", 1)
    assert work(captions_json_stage(root, [captions_stage(root, ["a"])], 2 * len(CLASSES), per_class=2)) == EXIT_BAD_INPUT
    said = capsys.readouterr().err
    assert f"has 0, and {len(CLASSES) - 1} more have too few, all in the log)" in said
    told = [line for line in said.splitlines() if line.startswith("too few captions: ")]
    assert sorted(told) == sorted(f"too few captions: {name!r} has {int(n == 0)} of 2" for n, name in enumerate(CLASSES))


def test_no_number_is_advised_where_none_would_be_true(root, capsys):
    """Of a class without any caption the rate is not known; makers of a fixed number do not ask for more."""
    stage = captions_stage(root, ["a"])
    assert work(captions_json_stage(root, [stage], len(CLASSES), per_class=1)) == EXIT_BAD_INPUT
    assert "captions.oversample" not in capsys.readouterr().err
    assert work(captions_json_stage(root, [stage], 3)) == EXIT_BAD_INPUT
    assert "captions.oversample to" in capsys.readouterr().err


def test_the_advice_of_one_caption_too_few_is_another_round():
    assert slots_for(160, 1.15, 1, 20) == 200
    assert slots_for(160, more_than(slots=200, wanted=160, have=159, total=160, n_classes=20), 1, 20) == 220


@pytest.mark.parametrize(
    ("reason", "fix"),
    [
        ("prompt_too_long", "captioner.max_seq_len"),
        ("no_class", "must_name_class=false"),
        ("too_few_prompts", "num_prompts_per_metaprompt"),
    ],
)
def test_where_more_slots_would_not_help_the_key_that_does_is_told_first(root, capsys, reason, fix):
    folder = captions_json_stage(root, [captions_stage(root, [{"left_empty": reason}, {"left_empty": reason}, None, "b"])], 3)
    assert work(folder) == EXIT_BAD_INPUT
    said = capsys.readouterr().err
    assert f"{reason} 2" in said and said.index(fix) < said.index("captions.oversample")


def test_allow_short_writes_what_there_is(root):
    folder = captions_json_stage(root, [captions_stage(root, ["a", "a", None, "b"])], 3, allow_short=True)
    assert work(folder) == EXIT_OK
    assert [r[0] for r in out_json(folder)["captions_single_labeled"]] == ["a", "b"]


def test_the_first_rows_do_not_depend_on_the_total(root):
    source = captions_stage(root, [f"caption {k % 7}" for k in range(20)])
    small, large = (captions_json_stage(root, [source], n) for n in (3, 7))
    assert work(small) == work(large) == EXIT_OK
    assert rows(large, 0, 3) == rows(small, 0, 3)


def test_bytes_are_the_same_again_and_the_marker_comes_last(root, tmp_path):
    captions = [f"a {CLASSES[k % 5]} {k} \u96ea" for k in range(3000)]
    one, two = (captions_json_stage(r, [captions_stage(r, captions, unit_size=1000)], 3000) for r in (root, tmp_path / "other"))
    assert work(one) == work(two) == EXIT_OK
    assert digests(one) == digests(two)
    names = {p.name for p in one.out_dir.iterdir()}
    assert names == {"captions.json", "captions.parquet", "rejected.jsonl", ".synthset.json"}
    assert json.loads((one.out_dir / ".synthset.json").read_text())["fingerprint"] == one.spec.fingerprint
    assert os.readlink(one.out_dir.with_name("captions_json-latest")) == one.out_dir.name
    file = pq.ParquetFile(one.out_dir / "captions.parquet")
    assert [file.metadata.row_group(i).num_rows for i in range(3)] == [1024, 1024, 952]
    assert {f.name: str(f.type) for f in file.schema_arrow} == {
        "row": "int64", "caption": "string", "class": "string", "label": "int32", "labels": "list<element: int32>",
        "label_names": "list<element: string>",
        "seed": "uint64", "slot": "int64", "source": "string",
    }  # fmt: skip


def test_a_worker_reads_only_the_row_groups_that_cover_its_slots(root, monkeypatch):
    captions = [f"caption {k} {os.urandom(200).hex()}" for k in range(5000)]
    folder = captions_json_stage(root, [captions_stage(root, captions, unit_size=1000)], 5000)
    assert work(folder) == EXIT_OK
    for start, stop in ((0, 1), (1023, 1025), (2048, 3072), (4999, 9000), (5000, 6000), (7, 7)):
        assert [r.row for r in rows(folder, start, stop)] == list(range(start, min(stop, 5000)))
    read, pread = [], os.pread
    monkeypatch.setattr(os, "pread", lambda fd, n, at: (lambda data: read.append(len(data)) or data)(pread(fd, n, at)))
    assert len(rows(folder, 2100, 2200)) == 100
    assert sum(read) < folder.reader(0).index.samples[0].files["parquet"][1] / 3


def test_hostile_captions_come_back_unchanged(root):
    captions = ['say "x"', "a\\b", "tab\tnull\x00", "\u2028line", "\U0001f43c", "", "x" * 10_000, "</script>", "a,b\r\nc"]
    folder = captions_json_stage(root, [captions_stage(root, captions)], len(captions))
    assert work(folder) == EXIT_OK
    assert [r[0] for r in out_json(folder)["captions_single_labeled"]] == captions
    assert [r.caption for r in rows(folder, 0, 99)] == captions
    assert pq.read_table(io.BytesIO((folder.out_dir / "captions.parquet").read_bytes())).column("caption").to_pylist() == captions


def test_stages_that_differ_in_their_captions_alone_share_nothing(root):
    folders = [
        captions_json_stage(root, [captions_stage(root, [f"{word} {k}" for k in range(4)], seed=n)], 4)
        for n, word in enumerate(("fox", "owl"))
    ]
    assert [work(f) for f in folders] == [EXIT_OK, EXIT_OK]
    assert [rows(f, 0, 1)[0].caption for f in folders] == ["fox 0", "owl 0"]


def test_per_class_takes_as_many_of_each_class_and_tells_which_is_short(root, capsys):
    texts = [f"caption {k}" for k in range(15)]
    texts[1], texts[6] = None, "caption 11"  # of the second of five classes one of three is left, and one comes twice
    source = captions_stage(root, texts)
    folder = captions_json_stage(root, [source], 10, per_class=2, allow_short=True)
    assert work(folder) == EXIT_OK
    counts = Counter(row.label for row in rows(folder, 0, 100))
    assert sorted(counts.values()) == [1, 2, 2, 2, 2]
    assert {r["reason"] for r in rejected(folder) if r["kind"] == "surplus"} == {"more captions than captions.per_class"}
    assert work(captions_json_stage(root, [source], 10, per_class=2)) == EXIT_BAD_INPUT
    said = capsys.readouterr().err
    assert "9 of 10" in said and "'bullet train' has 1" in said and "names another class 1" in said
