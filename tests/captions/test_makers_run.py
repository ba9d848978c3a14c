"""Every prompt maker through the planner and the real worker: with a chat model, with the embedded LLaMA, without any."""

import json

import pytest

from launch.config.compose import Composer, typed
from launch.plan.graph import plan_point
from synth.captions import engines
from synth.captions.prompt_trees import PromptTrees
from synth.captions.words import names_class
from synth.errors import EXIT_AGAIN, EXIT_OK, InputError
from synth.run import loop
from synth.store.folder import StageFolder
from tests.captions.chat import Chat
from tests.captions.matrix import ASKING, CLASSES, MAKERS, SILENT, prompts_overrides
from tests.stages import digests, events


def plan(tmp_path, maker, *more):
    overrides = [*prompts_overrides(maker, tmp_path), f"runs_dir={tmp_path}/runs", "export=[]", *more]
    point = plan_point(typed(Composer().compose(overrides)))
    return [s for s in point.stages if s.spec.kind != "images"]


def run(stages, n_jobs=1):
    """Each stage by n_jobs workers one after the other; the folders by name."""
    folders = {}
    for stage in stages:
        folder = folders[stage.name] = StageFolder.create(stage.dataset_root, stage.spec)
        assert [loop.Worker(folder, i, n_jobs).run() for i in range(n_jobs)] == [EXIT_OK] * n_jobs
    return folders


def rows(folders):
    return json.loads((folders["captions_json"].out_dir / "captions.json").read_text())["captions_single_labeled"]


def tombstones(folder):
    return [reason for unit in range(folder.spec.n_units) for reason in folder.reader(unit).index.tombstones.values()]


@pytest.fixture
def chat(monkeypatch):
    monkeypatch.setitem(engines.ENGINES, "llama", "tests.captions.chat:from_stage")


@pytest.mark.parametrize("maker", ASKING)
def test_a_chat_model_answers_every_maker_that_asks(tmp_path, chat, maker):
    folders = run(plan(tmp_path, maker))
    captions = rows(folders)
    assert len(captions) >= 5 and all(names_class(text, names[0]) for text, names in captions)
    assert not any(word in text for text, _ in captions for word in ("Caption", "sorry", "Sure", '"', "prompt:", "[concept]"))
    assert {names[0] for _, names in captions} == set(CLASSES)


@pytest.mark.parametrize("maker", ASKING)
def test_a_model_that_continues_texts_serves_every_maker_that_asks(tmp_path, lasting_llama, maker):
    captions = rows(run(plan(tmp_path, maker, "captioner.max_gen_len=24")))
    assert len(captions) >= 5 and all(names_class(text, names[0]) and "zorbel" not in text for text, names in captions)


@pytest.mark.parametrize("maker", SILENT)
def test_a_maker_without_a_model_asks_for_no_weights_and_ignores_the_captioner(tmp_path, maker):
    stages = plan(tmp_path, maker, "captioner=llama2_7b", "captioner.root=/nowhere")
    assert all(not {"weights", "tokenizer"} & set(s.spec.inputs) for s in stages)
    assert stages[0].spec.config["captioner"]["engine"] == "none"
    assert [s.folder for s in plan(tmp_path, maker)] == [s.folder for s in stages]
    captions = rows(run(stages))
    assert sorted(names[0] for _, names in captions) == sorted(CLASSES * (1 if maker == "fake_definition" else 2))
    assert all(names_class(text, names[0]) for text, names in captions)


@pytest.mark.parametrize("maker", ASKING)
def test_units_are_the_same_for_one_and_three_workers(tmp_path, chat, maker):
    for sub in ("one", "three"):
        (tmp_path / sub).mkdir()
    one, three = run(plan(tmp_path / "one", maker)), run(plan(tmp_path / "three", maker, "cluster.n_jobs=3"), n_jobs=3)
    assert {name: digests(f) for name, f in one.items()} == {name: digests(f) for name, f in three.items()}


def test_status_counts_refused_answers_by_reason(tmp_path, chat):
    from launch.show.asked import asked
    from launch.show.stages import report_on

    folder = run(plan(tmp_path, "synthclip", "captions.total=60", "captions.unit_size=60", "captions.window=60"))["captions"]
    refused = report_on(folder.path).work.refused
    kept = [r for s in folder.samples() for r in s.json().get("rejected", ())]
    assert refused["refusal"] == sum(r["reason"] == "refusal" for r in kept) > 0
    assert refused["meta"] == sum(r["reason"] == "meta" for r in kept) > 0
    assert any("refusal" in line for line in asked(report_on(folder.path).work))
    assert events(folder, "stop")[0]["refused"] == refused


def test_a_unit_drained_between_two_trees_is_gone_on_with_to_the_same_bytes(tmp_path, chat, monkeypatch):
    small = ("captions.unit_size=6", "captions.window=3")  # two trees a unit, a tree a batch
    whole = digests(run(plan(tmp_path, "hirpg", *small))["prompt_trees"])
    (tmp_path / "again").mkdir()
    again = plan(tmp_path / "again", "hirpg", *small)
    meta, trees = (StageFolder.create(s.dataset_root, s.spec) for s in again[:2])
    assert loop.Worker(meta, 0, 1).run() == EXIT_OK
    first, compute = loop.Worker(trees, 0, 1), PromptTrees.compute

    def drained(stage, state, slots):
        first.draining = "the test"
        return compute(stage, state, slots)

    with monkeypatch.context() as m:
        m.setattr(PromptTrees, "compute", drained)
        assert first.run() == EXIT_AGAIN and not trees.committed()
    assert loop.Worker(trees, 0, 1).run() == EXIT_OK
    assert events(trees, "adopted")[0]["batches"] == 1 and digests(trees) == whole


def test_a_file_of_metaprompts_begins_the_list_and_what_was_written_can_be_read_again(tmp_path, chat):
    from synth.export.prompts_json import prompts_json

    (tmp_path / "meta.json").write_text('["A [concept] cut from felt.", "Many [concept]s in a row."]')
    own = f"prompts.metaprompts_file={tmp_path}/meta.json"
    folders = run(plan(tmp_path, "hirpg", own))
    texts = prompts_json(folders["metaprompts"])
    assert texts[:2] == ["A [concept] cut from felt.", "Many [concept]s in a row."] and len(texts) == 4
    assert any(text == "A apple cut from felt." for text, _ in rows(folders))
    (tmp_path / "all.json").write_text(json.dumps(texts))
    again = plan(tmp_path, "hirpg", f"prompts.metaprompts_file={tmp_path}/all.json")[0]
    folder = run([again])["metaprompts"]
    assert prompts_json(folder) == texts and "refused" not in events(folder, "stop")[0]
    (tmp_path / "bad.json").write_text('["no concept here"]')
    with pytest.raises(InputError, match=r"prompts\.metaprompts_file: .*bad\.json: text 0 is 'no concept here'"):
        plan(tmp_path, "hirpg", f"prompts.metaprompts_file={tmp_path}/bad.json")


@pytest.mark.parametrize("maker", ASKING)
def test_a_request_that_the_engine_cannot_take_is_told_by_its_reason(tmp_path, chat, monkeypatch, maker):
    answer = Chat.generate

    def generate(self, requests):
        replies = answer(self, requests)
        return [
            engines.Reply("", "prompt_too_long") if "banana" in q.text.rsplit("\n\n", 1)[1] else r
            for q, r in zip(requests, replies, strict=True)
        ]

    monkeypatch.setattr(Chat, "generate", generate)
    folders = run(plan(tmp_path, maker, *(["prompts.form=dynamic", "prompts.num_prompts_per_metaprompt=1"] if maker == "hirpg" else [])))
    if maker == "hirpg":  # the three given metaprompts are there without asking
        assert sorted(tombstones(folders["prompt_trees"])) == ["no_metaprompt"] * 2 + ["prompt_too_long"] * 3
    else:
        assert tombstones(folders["captions"]) == ["prompt_too_long"] * 2
    if maker == "synclr_chat":
        assert {s.json()["source"] for s in folders["backgrounds"].samples()} == {"model", "table"}


def test_places_of_the_users_are_taken_unasked_and_made_ones_come_out_and_in_again(tmp_path, chat, monkeypatch):
    from synth.export.prompts_json import prompts_json

    asked: list[str] = []
    answer = Chat.answer
    monkeypatch.setattr(Chat, "answer", lambda self, request: asked.append(request.text) or answer(self, request))
    (tmp_path / "own.json").write_text(json.dumps({"apple": ["my bowl", "my shelf"]}))
    some = plan(tmp_path, "synclr_chat", f"prompts.backgrounds_file={tmp_path}/own.json")[0]
    folder = run([some])["backgrounds"]
    sources = {s.json()["class"]: s.json()["source"] for s in folder.samples()}
    assert sources["apple"] == "file" and {sources["banana"], sources["strawberry"]} <= {"model", "table"}
    assert asked and not any(text.endswith("apple =>") for text in asked)
    made = prompts_json(folder)
    assert list(made) == list(CLASSES) and made["apple"] == ["my bowl", "my shelf"]
    (tmp_path / "made.json").write_text(json.dumps(made))
    asked.clear()
    again = plan(tmp_path, "synclr_chat", f"prompts.backgrounds_file={tmp_path}/made.json")[0]
    assert again.spec.config["captioner"]["engine"] == "none" and "weights" not in again.spec.inputs
    assert prompts_json(run([again])["backgrounds"]) == made and not asked


@pytest.mark.parametrize("maker", MAKERS)
def test_the_matrix_knows_every_maker(tmp_path, maker):
    from synth.captions import prompts

    assert set(MAKERS) == set(prompts.MAKERS)
    assert plan(tmp_path, maker)[-1].spec.kind == "captions_json"
