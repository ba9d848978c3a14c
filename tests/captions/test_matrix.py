"""Every prompt maker with every caption engine, through planner and worker, on the LLaMA that ships with synthset.

The processes behind the engines are shared here (torchrun's ranks, one server for all); each pair has engines and stages of its own.
"""

import sys
from dataclasses import replace
from functools import cache

import pytest

from launch.config.compose import Composer, typed
from launch.plan.graph import plan_point
from synth.captions.prompts import MAKERS, WITHOUT_MODEL
from synth.captions.remote import served
from synth.captions.remote.journal import totals
from synth.captions.remote.server import Server
from synth.errors import InputError
from synth.kinds import ENGINE, kind_of
from synth.run import loop
from synth.store.folder import StageFolder

SERVE = [
    sys.executable,
    "-m",
    "transformers.cli.transformers",
    "serve",
    "{model}",
    "--host",
    "{host}",
    "--port",
    "{port}",
    "--device",
    "cpu",
]
ANSWERING = ("llama", "hf", "openai", "served")
SILENT = sorted(WITHOUT_MODEL - {"hirpg"})  # hirpg's captions ask nobody, its prompts do
ASKS = sorted({*MAKERS} - {*SILENT})
MAKER = {  # what a maker needs beyond its YAML file
    "hirpg": ["prompts.num_metaprompts=4", "prompts.num_prompts_per_metaprompt=1", "prompts.max_prompts=5"],
    "synclr_chat": ["prompts.num_backgrounds=2"],
    "class_name": ["prompts.templates=['a photo of a {}']"],
    "fake_it": ["prompts.source=table"],
    "fake_definition": ["prompts.definitions_file={path}/definitions.json"],
    "from_file": ["prompts.file={path}/captions.txt", "captions.total=null", "captions.allow_short=true"],
}
FEW = [
    "dataset.classes=0..2",
    "captions.total=3",
    "captions.stop_when_empty=0",  # the embedded models say little that is taken
    "captions.oversample=1",
    "captions.window=3",
    "captions.unit_size=3",
    "captions.max_attempts=2",
]
SHORT = ["captioner.max_gen_len=24", "captioner.max_seq_len=512"]


@pytest.fixture(scope="module")
def server(embedded_chat, tmp_path_factory):
    """transformers' own server on the model, started once."""
    values = {"model": embedded_chat, "host": "127.0.0.1"}
    log = tmp_path_factory.mktemp("server") / "server.log"
    server = Server(lambda port: [w.format(port=port, **values) for w in SERVE], log, "/health", 120.0, 0)
    yield server
    server.close()


@pytest.fixture
def shared(monkeypatch, server, lasting_llama):
    class Borrowed:
        """The server that is there, for an engine that would start and end one of its own."""

        log, key = server.log, ""

        def check(self): ...

        def ensure(self):
            server.ensure()

        def close(self): ...

        @property
        def url(self):
            return server.url

    monkeypatch.setattr(served.ServedEngine, "_server", lambda self: Borrowed())


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    folder = tmp_path_factory.mktemp("files")
    (folder / "captions.txt").write_text("A red apple => apple\nOne yellow banana => banana\n")
    (folder / "definitions.json").write_text('{"apple": "a round fruit", "banana": "a long fruit", "strawberry": "a red berry"}')
    return folder


@cache
def composed(*overrides):
    """Makers and engines are composed apart: that takes longer than planning them together."""
    return typed(Composer().compose(list(overrides)))


@pytest.fixture
def point(tmp_path, files, embedded_model, embedded_chat, server, shared):

    def planned(maker, engine, *more):
        api = "completions" if maker == "synclr" else "chat"
        command = "[" + ",".join(f"'{w}'" for w in SERVE) + "]"
        captioner = {
            "llama": ["captioner=tiny_llama", *SHORT],
            "hf": ["captioner=hf", f"captioner.path={embedded_model}", "captioner.dtype=float32", *SHORT],
            "openai": [
                "captioner=openai",
                f"captioner.model={embedded_chat}",
                "captioner.api_key_env=null",
                f"captioner.api={api}",
                *SHORT,
            ],
            "served": ["captioner=served", f"captioner.path={embedded_chat}", f"captioner.command={command}", *SHORT],
            "none": ["captioner=none"],
        }[engine]
        if engine == "openai" and maker not in SILENT:
            server.ensure()
            captioner.append(f"captioner.base_url={server.url}/v1")
        few = [o for o in FEW if not (maker == "from_file" and o.startswith("captions.total"))]
        own = [o.format(path=files) if "{path}" in o else o for o in MAKER.get(maker, [])]
        narrow = [o for o in more if o.startswith("captioner.")]
        config = composed(f"prompts={maker}", *few, *own, *(o for o in more if o not in narrow))
        return plan_point(replace(config, captioner=composed(*captioner, *narrow).captioner, runs_dir=str(tmp_path / "runs")))

    return planned


def run(point):
    """Every stage that asks an engine, by a worker in this process; the records and tombstones of the captions."""
    for stage in point.stages:
        if kind_of(stage.spec.kind).device == ENGINE:
            folder = StageFolder.create(stage.dataset_root, stage.spec)
            assert loop.Worker(folder, 0, 1).run() == 0
            assert folder.is_done() and not folder.failures()
    rows = {s.slot: s.json() for s in folder.samples()}
    empty = {slot: why for u in range(folder.spec.n_units) for slot, why in folder.reader(u).index.tombstones.items()}
    assert folder.spec.kind == "captions" and sorted([*rows, *empty]) == list(range(folder.spec.slots))
    return folder, rows, empty


@pytest.mark.parametrize("maker", ASKS)
@pytest.mark.parametrize("engine", ANSWERING)
def test_every_maker_that_asks_runs_with_every_engine_that_answers(point, maker, engine):
    folder, rows, empty = run(point(maker, engine))
    assert not any("prompt_too_long" in why or "refused" in why for why in empty.values()), empty
    for row in rows.values():
        assert row["caption"] and "\n" not in row["caption"] and row["engine"]
    # the tiny model has learnt to continue examples, not to answer
    if maker == "synclr" or (maker == "synthclip" and engine != "openai"):
        assert len(rows) >= 2
    if engine in ("openai", "served") and maker != "hirpg":
        assert totals(folder.path).answers >= folder.spec.slots


@pytest.mark.parametrize("maker", SILENT)
def test_a_maker_that_asks_nobody_makes_one_stage_whatever_the_engine(point, maker):
    silent = point(maker, "none")
    captions = [[s.spec.fingerprint for s in p.stages] for p in (silent, *(point(maker, engine) for engine in ANSWERING))]
    assert captions == captions[:1] * 5
    _, rows, empty = run(silent)
    assert len(rows) >= 2 and not empty and all(row["caption"] and row["engine"] == "none" for row in rows.values())


@pytest.mark.parametrize("maker", ASKS)
def test_nobody_is_no_engine_for_a_maker_that_asks(point, maker):
    with pytest.raises(InputError, match=f"prompts.maker={maker} asks a model"):
        point(maker, "none")


def test_the_hf_engine_writes_the_captions_of_the_native_one(point):
    """Same weights, tokens, prompts and seeds through two implementations."""
    _, native, _ = run(point("synclr", "llama"))
    _, other, _ = run(point("synclr", "hf"))
    assert [r["caption"] for r in native.values()] == [r["caption"] for r in other.values()]


def test_nothing_that_was_answered_is_asked_again_by_the_stage_next_time(point):
    first = point("synclr", "openai")
    folder, rows, _ = run(first)
    asked = totals(folder.path).answers
    for unit in range(folder.spec.n_units):  # all that the worker made is lost, but for the answers
        folder.unit_path(unit).unlink()
    (folder.path / "done.json").unlink()
    again, twice, _ = run(first)
    assert twice == rows and totals(again.path).answers == asked


@pytest.mark.parametrize(
    ("engine", "narrow"),
    [("llama", "prompts.shots=26"), ("hf", "captioner.max_seq_len=70"), ("openai", "captioner.max_seq_len=70")],
)
def test_a_prompt_without_room_is_rejected_by_the_same_word_everywhere(point, engine, narrow):
    _, rows, empty = run(point("synclr", engine, narrow, "captions.total=9", "captions.max_attempts=1"))
    assert "prompt_too_long" in empty.values() and (rows or "no_class" in empty.values())  # others were answered
    assert {*empty.values()} <= {"prompt_too_long", "no_class", "empty", "cut_off"}
