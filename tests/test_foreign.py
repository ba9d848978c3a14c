"""Files that are none where users and run folders have files; text that a terminal would obey."""

from pathlib import Path

import pytest

from launch.plan.datasets import entries
from synth import foreign, terminal
from synth.captions.llama.params import read_params
from synth.captions.prompts.own import Reading, read_own
from synth.errors import EXIT_BAD_INPUT, InputError, StoreError, tool
from synth.images.sources.class_folders import known_classes
from synth.images.sources.image_folder import rows_of_metadata
from synth.store import blocks
from synth.store.identity import file_identity
from synth.store.parts import finished_batches
from synth.tracking import plain_pickle
from synth.weights import check_file, read_json
from tests import hostile
from tests.captions.prompts.test_own import NAMES, dataset

# file -> what reads it, given its path
READERS = {
    "captions.json": lambda p: read_own(p, dataset(), Reading(NAMES)),
    "captions.txt": lambda p: read_own(p, dataset(), Reading(NAMES)),
    "names.txt": entries,
    "names.json": entries,
    "classes.json": known_classes,
    "metadata.jsonl": lambda p: rows_of_metadata(p, True),
    "model.safetensors": check_file,
    "model_index.json": lambda p: read_json(p, "fetch it again"),
    "params.json": lambda p: read_params(p.parent),
    "identity": file_identity,
    "inputs.jsonl.gz": lambda p: list(blocks.members(p)),
    "results.pkl": plain_pickle.load,
}
NO_FILES = ("fifo", "zero device", "socket", "link to itself", "folder")


@pytest.mark.parametrize("name", READERS)
def test_what_is_no_file_is_refused_by_name_and_not_waited_for(name, tmp_path):
    for form in NO_FILES:
        if form == "folder" and name.startswith("names."):  # a folder of classes
            continue
        path = tmp_path / form.replace(" ", "_") / name
        path.parent.mkdir()
        hostile.put(path, form)
        with hostile.within(10, f"{name} as {form}"), pytest.raises(InputError, match=name.replace(".", r"\.")):
            READERS[name](path)


def test_the_lines_of_a_part_that_are_no_file_are_none(tmp_path):
    for form in hostile.FORMS:
        path = tmp_path / f"{form.replace(' ', '_')}.tar.idx"
        hostile.put(path, form)
        with hostile.within(10, form):
            assert finished_batches(path.with_suffix("")) == [], form


def test_trouble_of_the_file_system_is_no_fact_about_a_file(tmp_path, monkeypatch):
    (tmp_path / "x").write_text("{}")

    def stale(*args: object, **more: object) -> int:
        raise OSError(116, "Stale file handle")

    monkeypatch.setattr(foreign.os, "open", stale)
    with pytest.raises(StoreError, match="x: cannot be read now"):
        foreign.read_json(tmp_path / "x", foreign.RECORD)


@pytest.mark.parametrize("text", ["tench", "郁金香", "Ærø", "e\u0301", "\U0001f469\u200d\U0001f52c", "\u0645\u06cc\u200c\u062e", "a  b"])
def test_names_of_any_script_stay_as_they_are(text):
    assert terminal.printable(text) == text and terminal.message(text) == text


@pytest.mark.parametrize("text", ["\x1b[2J", "\x9b31m", "a\rb", "\x07", "\x08", "\u202eexe", "\u2066", "\x7f", "\ud800", "\x00", "\u2028"])
def test_what_a_terminal_obeys_is_shown(text):
    for shown in (terminal.printable(text), terminal.message(text)):
        assert shown.isprintable() and "\\" in shown


def test_a_long_text_is_cut_and_says_so():
    assert terminal.printable("x" * 20_000).endswith("(and 10000 characters more)")


def test_the_name_of_a_file_passes_for_no_line_of_a_tool(capsys):
    def work() -> str:
        raise InputError(f"{Path('runs', 'a' + chr(10) + 'whole    images' + chr(27) + '[2J')}: torn\n  mend it")

    assert tool(work) == EXIT_BAD_INPUT
    assert capsys.readouterr().err == "error: runs/a\n  whole    images\\x1b[2J: torn\n  mend it\n"


def test_the_configs_of_schedulers_hold_infinities(tmp_path):
    (tmp_path / "scheduler_config.json").write_text('{"lambda_min_clipped": -Infinity}')
    assert read_json(tmp_path / "scheduler_config.json", "fetch it again") == {"lambda_min_clipped": float("-inf")}


def test_a_small_file_takes_no_more_memory_than_it_has(tmp_path):
    """The limit of what may be read is no amount that is asked for: login nodes have ulimits."""
    import tracemalloc

    file = tmp_path / "small"
    file.write_bytes(b"123456")
    tracemalloc.start()
    try:
        assert foreign.read(file, foreign.TABLE) == b"123456"
        assert tracemalloc.get_traced_memory()[1] < 4 << 20
    finally:
        tracemalloc.stop()
