"""Mutants of what lies beside pictures: classes.json, metadata.jsonl, sidecars, and the listing of a source. Read, or refused by name."""

import hashlib
import json
from pathlib import Path

from synth.errors import InputError
from synth.images.sources.base import Input
from synth.images.sources.class_folders import known_classes
from synth.images.sources.image_folder import _caption_beside, rows_of_metadata
from synth.images.sources.listing import LISTED, Listing
from synth.store import blocks
from tests.mutants import mutants, of_bytes, of_json, of_lines

CLASSES = {"classes": [{"index": 0, "name": "cat", "folder": "cat"}, {"index": 3, "name": "sea lion", "folder": "sea_lion"}]}
ROWS = [
    {"file_name": "cat/0.png", "caption": "a cat", "label": 0, "labels": [0], "label_names": ["cat"]},
    {"file_name": "cat/1.png", "text": "two", "labels": [0, 3], "label_names": ["cat", "sea lion"]},
]


def test_a_mutant_of_classes_json_gives_classes_or_is_refused_by_name(tmp_path):
    file, read = tmp_path / "classes.json", 0
    for seed in mutants(300):
        file.write_bytes(of_json(CLASSES, seed) if seed % 2 else of_bytes(json.dumps(CLASSES).encode(), seed))
        try:
            found = known_classes(file)
        except InputError as e:
            assert "classes.json" in str(e), seed
            continue
        read += 1
        assert all(type(c.index) is int and isinstance(c.name, str) for c in found.values()), seed
    assert read


def test_a_mutant_of_metadata_jsonl_gives_facts_of_pictures_or_is_refused_with_its_line(tmp_path):
    file, read = tmp_path / "metadata.jsonl", 0
    text = "".join(json.dumps(row) + "\n" for row in ROWS).encode()
    for seed in mutants(300):
        rows = (of_json(ROWS[0], seed) + b"\n" + json.dumps(ROWS[1]).encode(), of_bytes(text, seed), of_lines(text, seed))
        file.write_bytes(rows[seed % 3])
        try:
            found = rows_of_metadata(file, captions=True)
        except InputError as e:
            assert "metadata.jsonl: line " in str(e), f"seed {seed}: {e}"
            continue
        read += 1
        for name, (caption, classes) in found.items():
            assert isinstance(name, str) and isinstance(caption, str) and len(classes) != 1, seed
    assert read


def test_a_mutant_beside_a_picture_is_a_caption_or_none(tmp_path):
    for seed in mutants(300):
        (tmp_path / "0.json").write_bytes(of_json({"caption": "a cat", "label": 0}, seed))
        assert isinstance(_caption_beside(tmp_path / "0.png"), str), seed


def listed(lines: bytes, path: Path) -> tuple[Path, str]:
    """A listing that says of itself that it was planned so."""
    path.write_bytes(blocks.pack(lines))
    return path, LISTED + hashlib.sha256(lines).hexdigest()


def test_a_mutant_of_a_listing_that_was_forged_with_its_hash_gives_inputs_or_is_refused(tmp_path):
    items = [Input("cat/0.png", "cat/0.png", 10, -1, (0,), "a cat"), Input("cat/1.png", "cat/1.png", 12, 512, (0, 3), "", "torn")]
    lines, read = "".join(json.dumps(i.to_list()) + "\n" for i in items).encode(), 0
    for seed in mutants(300):
        mutant = (of_json([i.to_list() for i in items], seed), of_bytes(lines, seed), of_lines(lines, seed))[seed % 3]
        path, identity = listed(mutant, tmp_path / "listing")
        try:
            found = Listing(path, identity).rows(0, 9)
        except InputError:
            continue
        read += 1
        assert all(isinstance(i.key, str) and type(i.size) is int for i in found), seed
    assert read
