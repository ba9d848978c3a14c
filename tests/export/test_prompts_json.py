"""Prompt files as GenCL's tools read them, out of stages and in again."""

import json

import pytest

from synth.captions.config import ClassEntry
from synth.errors import EXIT_BAD_INPUT, EXIT_OK
from synth.export.prompts_json import main
from synth.keys import dump
from synth.kinds import config_of
from synth.numerics import EXACT
from synth.store.folder import StageFolder
from synth.store.samples import Sample, Tombstone
from synth.store.spec import StageSpec, canonical
from tests.configs import AskConfig, CaptionerConfig, DatasetConfig, PromptsConfig
from tests.fixtures_images import captions_stage, commit_units

CLASSES = ("cat", "dog")


def stage(root, kind, form, records):
    data = DatasetConfig("d", tuple(ClassEntry(i, n) for i, n in enumerate(CLASSES)), 2)
    config = dump(AskConfig(0, data, PromptsConfig("hirpg", form=form), CaptionerConfig()))
    folder = StageFolder.create(root, StageSpec(kind, kind, config, len(records), 3, 3, EXACT, framing="jsonl"))
    items = [Tombstone(k, r) if isinstance(r, str) else Sample(k, f"{k:09d}", {"json": canonical(r)}) for k, r in enumerate(records)]
    commit_units(folder, items)
    return folder


def record(subject, tree, text, kind="prompt"):
    return {"subject": subject, "tree": tree, "text": text, "kind": kind, "word": "x"}


def written(folder, out):
    assert main([str(folder.path), str(out)]) == EXIT_OK
    return json.loads(out.read_text())


def test_metaprompts_are_a_list(tmp_path):
    records = [record(-1, 0, "A [concept].", "metaprompt"), "no_concept", record(-1, 2, "One [concept].", "metaprompt")]
    assert written(stage(tmp_path, "metaprompts", "static", records), tmp_path / "out" / "m.json") == [
        "A [concept].",
        "One [concept].",
    ]


def test_trees_are_the_static_or_the_dynamic_form(tmp_path):
    records = [record(-1, 0, "A [concept].", "metaprompt"), record(-1, 0, "A [concept] in fog."), "said_before"]
    data = written(stage(tmp_path, "prompt_trees", "static", records), tmp_path / "s.json")
    contents = [{"index": 0, "content": "A [concept]."}, {"index": 1, "content": "A [concept] in fog."}]
    assert data == {"metaprompts": [{"index": 0, "metaprompt": "A [concept].", "prompts": contents}]}
    records = [record(c, 0, f"One {n}.", "metaprompt") for c, n in enumerate(CLASSES)]
    data = written(stage(tmp_path, "prompt_trees", "dynamic", records), tmp_path / "d.json")
    assert list(data) == list(CLASSES) and data["dog"]["metaprompts"][0]["prompts"] == [{"index": 0, "content": "One dog."}]


def test_captions_of_any_maker_are_the_dynamic_form_and_can_be_read_again(tmp_path):
    from synth.captions.prompts.own import read_own

    folder = captions_stage(tmp_path, ["One cat.", "A dog.", None, "Two dogs."], classes=CLASSES)
    data = written(folder, tmp_path / "c.json")
    assert data["dog"]["metaprompts"][0]["metaprompt"] == "dummy"
    rows = read_own(tmp_path / "c.json", config_of(folder).dataset).rows
    assert [(r.caption, r.classes[0].name) for r in rows] == [("One cat.", "cat"), ("A dog.", "dog"), ("Two dogs.", "dog")]


def test_classes_of_one_name_are_told_by_their_index(tmp_path):
    folder = captions_stage(tmp_path, ["A.", "B."], classes=("missile", "missile"))
    assert list(written(folder, tmp_path / "c.json")) == ["0", "1"]


@pytest.mark.parametrize("wrong", ["missing unit", "another kind", "no stage"])
def test_stages_that_hold_no_prompts_are_told(tmp_path, capsys, wrong):
    folder = stage(tmp_path, "metaprompts", "static", [record(-1, 0, "A [concept].", "metaprompt")])
    path = folder.path
    if wrong == "missing unit":
        folder.unit_path(0).unlink()
    elif wrong == "another kind":
        from tests.stages import probe

        path = probe(tmp_path / "probe").path
    else:
        path = tmp_path / "nowhere"
    assert main([str(path), str(tmp_path / "out.json")]) == EXIT_BAD_INPUT
    assert "error: " in capsys.readouterr().err and not (tmp_path / "out.json").exists()
