"""The captions stage around its engine: windows, redraws, tombstones. A scripted engine stands in for the model here;
tests/captions/test_native.py runs the same stage on the real one."""

import json
from dataclasses import dataclass
from typing import ClassVar

import pytest

from synth.captions import engines
from synth.captions.config import ClassEntry
from synth.errors import EXIT_BAD_INPUT, EXIT_OK, InputError
from synth.keys import dump
from synth.numerics import EXACT, FAST
from synth.run import loop
from synth.store.folder import StageFolder
from synth.store.identity import identity
from synth.store.spec import InputFile, StageSpec
from tests.captions.test_prompts import BACKGROUNDS, EXAMPLES, NAMES
from tests.configs import CaptionerConfig, CaptionsConfig, DatasetConfig, PromptsConfig
from tests.stages import events


@dataclass
class Said:
    text: str
    error: str = ""
    ended: bool = True


class Scripted:
    """Answers from the prompt's last line and seed; `bad` says which (class, try) goes wrong and how."""

    bad: ClassVar[dict] = {}
    tries: ClassVar[dict] = {}

    def check(self): ...

    def start(self): ...

    def close(self): ...

    def generate(self, requests):
        return [self.answer(r.text, r.seed) for r in requests]

    def answer(self, prompt, seed):
        name = prompt.rsplit("\n\n", 1)[1].removesuffix(" =>").split(",")[0]
        n = self.tries[name] = self.tries.get(name, -1) + 1
        how = self.bad.get(name, [])
        if n < len(how):
            return how[n] if isinstance(how[n], Said) else Said(how[n])
        return Said(f" A picture of {name} number {seed % 1000}.\nmore lines")


@pytest.fixture
def stage(tmp_path, monkeypatch):
    def build(bad=None, slots=10, settings=None, chosen=range(10), root="runs", dtype="float32", numerics=EXACT, **config):
        monkeypatch.setitem(engines.ENGINES, "llama", "tests.captions.test_stage:scripted")
        Scripted.bad, Scripted.tries = bad or {}, {}
        inputs = {}
        for role, table in (("examples", EXAMPLES), ("backgrounds", BACKGROUNDS)):
            path = tmp_path / f"{role}.json"
            path.write_text(json.dumps(table))
            inputs[role] = InputFile(str(path), identity(path))
        data = DatasetConfig("d", tuple(ClassEntry(i, NAMES[i]) for i in chosen), 10)
        cfg = CaptionsConfig(0, data, PromptsConfig(), CaptionerConfig(dtype=dtype), **config)
        more = {"inputs": inputs, "framing": "jsonl", "settings": settings or {}}
        spec = StageSpec("captions", "captions", dump(cfg), slots, 5, 5, numerics, **more)
        return StageFolder.create(tmp_path / root, spec)

    return build


def scripted(folder):
    return Scripted()


def records(folder):
    return {s.slot: s.json() for s in folder.samples()}


def test_every_slot_gets_a_caption_with_all_that_made_it(stage):
    folder = stage()
    assert loop.Worker(folder, 0, 1).run() == EXIT_OK
    rows = records(folder)
    assert sorted(rows) == list(range(10)) and sorted(r["label"] for r in rows.values()) == list(range(10))
    for row in rows.values():
        assert row["class"] in row["caption"] and row["prompt"].endswith("=>") and "\n" not in row["caption"]
        assert set(row) == {"caption", "class", "label", "mode", "prompt", "seed", "attempt", "slot_key", "engine"}


def test_a_bad_caption_is_redrawn_with_another_seed_and_remembered(stage):
    folder = stage({NAMES[2]: ["", "Something else entirely."]})
    assert loop.Worker(folder, 0, 1).run() == EXIT_OK
    row = next(r for r in records(folder).values() if r["class"] == NAMES[2])
    assert row["attempt"] == 2
    assert [(r["attempt"], r["reason"]) for r in row["rejected"]] == [(0, "empty"), (1, "no_class")]


def test_thoughts_and_an_answer_that_was_cut_off_are_no_caption_and_marks_are_cut(stage):
    name = NAMES[2]
    folder = stage({name: [f"<think>{name}?", Said(f"A picture of {name} on", ended=False), f"<think>hm</think> A {name} here.</s>\nmore"]})
    assert loop.Worker(folder, 0, 1).run() == EXIT_OK
    row = next(r for r in records(folder).values() if r["class"] == name)
    assert [r["reason"] for r in row["rejected"]] == ["thinking", "cut_off"] and row["caption"] == f"A {name} here."
    stop = events(folder, "stop")[-1]
    assert stop["refused"] == {"thinking": 1, "cut_off": 1} and stop["cut"] == {"thoughts": 2, "control tokens": 1}


def test_a_line_that_stood_whole_before_the_answer_was_cut_off_is_a_caption(stage):
    folder = stage({NAMES[2]: [Said(f" A picture of {NAMES[2]}.\nAnd now", ended=False)]})
    assert loop.Worker(folder, 0, 1).run() == EXIT_OK
    assert not [r for r in records(folder).values() if "rejected" in r]


def test_a_slot_that_never_passes_is_a_tombstone_with_its_reason(stage):
    folder = stage({NAMES[2]: [Said("", "prompt_too_long")] * 9}, max_attempts=3)
    assert loop.Worker(folder, 0, 1).run() == EXIT_OK
    assert folder.done() == {"units": 2, "slots": 10, "samples": 9, "tombstones": 1}
    reasons = [r for u in (0, 1) for r in folder.reader(u).index.tombstones.values()]
    assert reasons == ["prompt_too_long"]


def test_a_model_of_which_nothing_is_taken_ends_the_worker_with_what_it_says(stage, capsys):
    folder = stage({name: ["I'm sorry, I cannot help."] * 99 for name in NAMES}, settings={"stop_when_empty": 5})
    assert loop.Worker(folder, 0, 1).run() == EXIT_BAD_INPUT
    said = capsys.readouterr().err
    assert "none of its first" in said and "'refusal'" in said and said.count("I'm sorry, I cannot help.") >= 3
    assert "another captioner" in said and "captions.stop_when_empty=0" in said
    assert not folder.committed() and not folder.set_aside()  # it is no fact about a sample


def test_one_class_that_is_refused_is_no_reason_to_stop(stage):
    folder = stage({NAMES[2]: ["I'm sorry."] * 99}, settings={"stop_when_empty": 1})
    assert loop.Worker(folder, 0, 1).run() == EXIT_OK
    assert folder.done()["tombstones"] == 1


def test_what_an_earlier_worker_made_counts(stage):
    """Whether a stage ends well must not hang on who makes which part of it."""
    from synth.run.empty import Empty
    from synth.store.framing import Batch

    folder, empty = stage(settings={"stop_when_empty": 1}), Batch(b"", (), ((0, "refusal"),))

    class Hopeless:
        def hopeless(self, reasons, whole=False):
            return "hopeless"

    with pytest.raises(InputError, match="hopeless"):
        Empty(folder, Hopeless()).judge(empty, 0)
    Empty(folder, Hopeless()).judge(empty, 3)  # a part of this unit that was taken up has samples
    assert loop.Worker(folder, 0, 1).run() == EXIT_OK
    Empty(folder, Hopeless()).judge(empty, 0)  # a unit has


def test_one_caption_is_enough_to_go_on(stage):
    folder = stage({name: ["I'm sorry."] * 99 for name in NAMES[1:]}, settings={"stop_when_empty": 10})
    assert loop.Worker(folder, 0, 1).run() == EXIT_OK
    assert folder.done()["samples"] == 1


def test_who_wants_empty_slots_gets_them(stage):
    folder = stage({name: [""] * 99 for name in NAMES}, settings={"stop_when_empty": 0})
    assert loop.Worker(folder, 0, 1).run() == EXIT_OK
    assert folder.done()["samples"] == 0


def test_an_examples_file_changed_after_planning_ends_the_worker_before_any_work(stage, capsys):
    folder = stage()
    folder.input_path("examples").write_text("{}")
    assert loop.Worker(folder, 0, 1).run() == EXIT_BAD_INPUT
    assert "changed since the stage was planned" in capsys.readouterr().err
    assert not folder.committed()


def test_the_words_of_answers_that_hold_no_caption_are_kept_with_the_record_the_tombstone_and_the_events(stage):
    refused = Said("HTTP 500: bad token (id 17)", "refused_by_server")
    bad = {NAMES[1]: [Said("<think>A cat? Hm.")], NAMES[2]: [refused] * 9}
    folder = stage(bad)
    assert loop.Worker(folder, 0, 1).run() == EXIT_OK
    (thought,) = [r["rejected"] for r in (s.json() for s in folder.samples()) if r["class"] == NAMES[1] and "rejected" in r]
    assert thought == [{"caption": "", "reason": "thinking", "attempt": 0, "said": "<think>A cat? Hm."}]
    with folder.reader(0) as unit:
        assert list(unit.index.tombstones.values()) == ["refused_by_server (HTTP 500: bad token [id 17])"]
    stop = events(folder, "stop")[-1]
    assert stop["said"] == {"thinking": "<think>A cat? Hm.", "refused_by_server": refused.text}


def asked(folder) -> int:
    """Runs a stage; how many answers its engine gave for it."""
    Scripted.tries = {}
    assert loop.Worker(folder, 0, 1).run() == EXIT_OK
    return sum(n + 1 for n in Scripted.tries.values())


def test_a_wider_range_of_classes_asks_only_for_what_no_narrower_run_has(stage):
    bad = {NAMES[2]: ["", "Something else entirely."]}  # its record tells of two tries before
    fresh = stage(bad, slots=25, chosen=range(5), root="fresh")
    assert asked(fresh) == 25 + 2
    assert asked(stage(bad, slots=15, chosen=range(3))) == 15 + 2
    wide = stage({}, slots=25, chosen=range(5))
    assert asked(wide) == 10
    assert [wide.unit_path(u).read_bytes() for u in range(5)] == [fresh.unit_path(u).read_bytes() for u in range(5)]
    assert [e["taken_over"] for e in events(wide, "stop")] == [15]
    assert asked(stage({}, slots=10, chosen=range(2))) == 0  # and a narrower one has all of it there


def test_captions_in_half_precision_are_asked_anew_because_their_bytes_hang_on_their_neighbours(stage):
    assert asked(stage(slots=15, chosen=range(3), dtype="bfloat16")) == 15
    assert asked(stage(slots=25, chosen=range(5), dtype="bfloat16")) == 25
    assert asked(stage(slots=15, chosen=range(3), dtype="bfloat16", numerics=FAST)) == 15
    assert asked(stage(slots=25, chosen=range(5), dtype="bfloat16", numerics=FAST)) == 10  # which promises no bytes


def test_a_run_that_is_not_whole_lends_nothing(stage):
    narrow = stage(slots=15, chosen=range(3))
    assert asked(narrow) == 15
    narrow.unit_path(1).unlink()
    assert asked(stage(slots=25, chosen=range(5))) == 25


def test_nothing_is_taken_over_that_another_run_would_not_say(stage):
    assert asked(stage(slots=15, chosen=range(3))) == 15
    assert asked(stage(slots=25, chosen=range(5), max_words=20)) == 25  # other checks
    moved = stage(slots=20, chosen=range(4))
    for record in (r for s in (moved,) for r in s.path.parent.glob("captions-*/units/*/*.jsonl")):
        record.write_bytes(record.read_bytes().replace(b"picture of", b"picture 0f"))  # what is damaged lends nothing
    assert asked(moved) == 20
