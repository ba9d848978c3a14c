"""What lies beside the pictures of every export: card, classes.json and manifest."""

import hashlib
import json

import pyarrow.parquet as pq
import pytest

from synth.errors import EXIT_OK
from synth.export.card import card
from synth.export.manifest import GROUP, ManifestWriter, row_of
from tests.export.conftest import DEAD, NAMES, png
from tests.export.test_image_folder import export
from tests.fixtures_images import work


@pytest.fixture
def done(images):
    folder = export(images)
    assert work(folder) == EXIT_OK
    return folder


def test_the_manifest_has_a_row_a_picture_that_finds_it_again(done, images):
    rows = pq.read_table(done.out_dir / "manifest.parquet").to_pylist()
    assert [r["key"] for r in rows] == [f"{s:09d}" for s in range(26) if s != DEAD]
    for row in rows:
        slot = int(row["key"])
        data = (done.out_dir / row["file"]).read_bytes()
        assert data == png(slot) and (row["size"], row["sha256"]) == (len(data), hashlib.sha256(data).hexdigest())
        assert (row["class"], row["label"], row["caption"], row["seed"]) == (
            NAMES[slot % 13],
            slot % 13,
            f"caption {slot}",
            (1 << 64) - 1 - slot,
        )
        assert row["unit"] == slot // images.spec.unit_size


def test_a_manifest_of_several_groups_keeps_order_and_takes_text_that_utf8_cannot_hold(tmp_path):
    writer = ManifestWriter(tmp_path / "m.parquet")
    n = GROUP + 3
    for k in range(n):
        writer.add(row_of({"key": str(k), "file_name": "x", "class": "a\ud800b", "label": k % 2, "bytes": 2, "sha256": ""}, 0))
    writer.close()
    table = pq.read_table(tmp_path / "m.parquet")
    assert table["key"].to_pylist() == [str(k) for k in range(n)] and table["class"][0].as_py() == "a?b"
    assert table["caption"].null_count == n and (writer.rows, writer.size) == (n, 2 * n) and writer.per_label[1] == n // 2


def test_the_card_is_valid_yaml_and_counts_pictures_without_taking_markup_from_names(done):
    import yaml

    text = (done.out_dir / "README.md").read_text()
    _, front, body = text.split("---\n", 2)
    assert yaml.safe_load(front)["size_categories"] == ["n<1K"]
    assert "25 synthetic pictures" in body and "| 12 |" in body and "<b>" not in body.replace("```", "").split("## How they were made")[0]
    rows = [line for line in body.splitlines() if line.startswith("| ") and line.split(" | ")[0][2:].isdigit()]
    assert len(rows) == 13 and sum(int(r.rsplit(" | ", 1)[1].strip(" |")) for r in rows) == 25
    assert "tiny (images)" in body and "not recorded" in body and '"steps": 2' in body


def test_the_card_says_the_command_and_licence_that_planning_told(done, images):
    from dataclasses import replace

    done.spec = replace(done.spec, settings={"command": "python launch/run.py seed=1 'x=```'"})
    text = card(done, {0: "a|b"}, {0: 3}, 9, "- x", {}).decode()
    assert "python launch/run.py seed=1" in text and "x=```" not in text and "a\\|b" in text


def test_classes_json_names_every_class(done):
    found = json.loads((done.out_dir / "classes.json").read_text())["classes"]
    assert [c["index"] for c in found] == list(range(13)) and {c["name"] for c in found} == set(NAMES)
