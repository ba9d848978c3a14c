"""Mutants of the files that users give: captions and prompts of their own, class lists. Read, or refused by name."""

import json

import pytest

from launch.plan.datasets import entries
from synth.captions.prompts.own import Reading, read_own
from synth.errors import InputError
from tests.captions.prompts.test_own import FORMS, NAMES, dataset
from tests.mutants import mutants, of_bytes, of_json, of_lines

LISTS = {
    "names.txt": "cat\nsea lion\n707-320\n",
    "names.csv": "name,id,superclass,count\ncat,n01,animal,3\nsea lion,n02,animal,4\n",
    "names.json": '{"classes": ["cat", {"name": "sea lion", "id": "n02", "count": 4}], "superclass": {"cat": "animal"}}',
    "choice.json": '["cat", 3, "sea lion"]',
}


def mutant(name: str, text: str, seed: int) -> bytes:
    if name.endswith(".json") and seed % 3 == 0:
        return of_json(json.loads(text), seed)
    return (of_bytes if seed % 3 == 1 else of_lines)(text.encode(), seed)


@pytest.mark.parametrize("name", FORMS)
def test_a_mutant_of_a_file_of_captions_gives_captions_of_known_classes_or_is_refused_by_name(tmp_path, name):
    file, data, read = tmp_path / name, dataset(), 0
    for seed in mutants(120):
        file.write_bytes(mutant(name, FORMS[name], seed))
        try:
            rows = read_own(file, data, Reading(NAMES)).rows
        except InputError as e:
            assert name in str(e), f"seed {seed}: {e}"
            continue
        read += 1
        for row in rows:
            assert isinstance(row.caption, str) and all(c in data.classes for c in row.classes), f"seed {seed}: {row}"
            row.caption.encode()  # what no tokenizer, tar or table could take is refused
    assert read


@pytest.mark.parametrize("name", LISTS)
def test_a_mutant_of_a_class_list_gives_names_or_is_refused_by_name(tmp_path, name):
    file, read = tmp_path / name, 0
    for seed in mutants(120):
        file.write_bytes(mutant(name, LISTS[name], seed))
        try:
            found = entries(file, choice=name == "choice.json")
        except InputError as e:
            assert name in str(e), f"seed {seed}: {e}"
            continue
        read += 1
        assert all(isinstance(entry.name, str) for entry in found), f"seed {seed}"
    assert read
