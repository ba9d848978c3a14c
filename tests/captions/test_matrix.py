"""Every prompt maker with every caption engine, through planner and worker, on the LLaMA that ships with synthset.

The processes behind the engines are shared here (torchrun's ranks, one server for all); each pair has engines and stages of its own.
"""

import sys
from dataclasses import replace

import pytest

from launch.compose import Composer, typed
from launch.devices import ASKING
from launch.plan import plan_point
from synth import loop
from synth.captions.llama import adapter
from synth.captions.llama.engine import LlamaEngine
from synth.captions.prompts import MAKERS, WITHOUT_MODEL
from synth.captions.remote import served
from synth.captions.remote.journal import totals
from synth.captions.remote.server import Server
from synth.errors import InputError
from synth.store.folder import StageFolder
from tests.captions import embedded_hf

SERVE = [sys.executable, "-m", "transformers.cli.transformers", "serve", "{model}", "--host", "{host}", "--port", "{port}", "--device", "cpu"]
ENGINES = ("llama", "hf", "openai", "served", "none")
MAKER = {  # what a maker needs beyond its YAML file
    "hirpg": ["prompts.num_metaprompts=4", "prompts.num_prompts_per_metaprompt=1", "prompts.max_prompts=5"],
    "synclr_chat": ["prompts.num_backgrounds=2"],
    "class_name": ["prompts.templates=['a photo of a {}']"],
    "fake_it": ["prompts.source=table"],
    "fake_definition": ["prompts.definitions_file={path}/definitions.json"],
    "from_file": ["prompts.file={path}/captions.txt", "captions.total=null"],
}
FEW = ["dataset.classes=0..2", "captions.total=3", "captions.oversample=1", "captions.window=3", "captions.unit_size=3", "captions.max_attempts=2"]
SHORT = ["captioner.max_gen_len=24", "captioner.max_seq_len=512"]


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return embedded_hf.save(tmp_path_factory.mktemp("models") / "tiny_llama")


@pytest.fixture(scope="module")
def chat_model(tmp_path_factory):
    return embedded_hf.save(tmp_path_factory.mktemp("models") / "tiny_llama_chat", embedded_hf.CHAT)


@pytest.fixture(scope="module")
def server(chat_model, tmp_path_factory):
    """transformers' own server on the model, started once."""
    values = {"model": chat_model, "host": "127.0.0.1"}
    log = tmp_path_factory.mktemp("server") / "server.log"
    server = Server(lambda port: [w.format(port=port, **values) for w in SERVE], log, "/health", 120.0, 0)
    yield server
    server.close()


@pytest.fixture(scope="module")
def ranks():
    """LlamaEngine by config; none of them ends with its stage."""
    made = {}
    yield made
    for engine in made.values():
        LlamaEngine.close(engine)


@pytest.fixture
def shared(monkeypatch, server, ranks):
    class Lasting(LlamaEngine):
        def close(self): ...

    def llama(config):
        return ranks.setdefault(repr(replace(config, log=None)), Lasting(config))

    class Borrowed:
        """The server that is there, for an engine that would start and end one of its own."""

        log = server.log

        def check(self): ...

        def ensure(self):
            server.ensure()

        def close(self): ...

        @property
        def url(self):
            return server.url

    monkeypatch.setattr(adapter, "LlamaEngine", llama)
    monkeypatch.setattr(served.ServedEngine, "_server", lambda self: Borrowed())


@pytest.fixture
def point(tmp_path, model, chat_model, server, shared):
    (tmp_path / "captions.txt").write_text("A red apple => apple\nOne yellow banana => banana\n")
    (tmp_path / "definitions.json").write_text('{"apple": "a round fruit", "banana": "a long fruit", "strawberry": "a red berry"}')

    def planned(maker, engine, *more):
        api = "completions" if maker == "synclr" else "chat"
        command = "[" + ",".join(f"'{w}'" for w in SERVE) + "]"
        captioner = {
            "llama": ["captioner=tiny_llama", *SHORT],
            "hf": ["captioner=hf", f"captioner.path={model}", "captioner.dtype=float32", *SHORT],
            "openai": ["captioner=openai", f"captioner.model={chat_model}", "captioner.api_key_env=null", f"captioner.api={api}", *SHORT],
            "served": ["captioner=served", f"captioner.path={chat_model}", f"captioner.command={command}", *SHORT],
            "none": ["captioner=none"],
        }[engine]
        if engine == "openai":
            server.ensure()
            captioner.append(f"captioner.base_url={server.url}/v1")
        few = [o for o in FEW if not (maker == "from_file" and o.startswith("captions.total"))]
        own = [o.format(path=tmp_path) if "{path}" in o else o for o in MAKER.get(maker, [])]
        overrides = [f"prompts={maker}", *captioner, *few, *own, f"runs_dir={tmp_path / 'runs'}", *more]
        return plan_point(typed(Composer().compose(overrides)))

    return planned


def run(point):
    """Every stage that asks an engine, by a worker in this process; the records and tombstones of the captions."""
    for stage in point.stages:
        if stage.spec.kind in ASKING:
            folder = StageFolder.create(stage.dataset_root, stage.spec)
            assert loop.Worker(folder, 0, 1).run() == 0
            assert folder.is_done() and not folder.failures()
    rows = {s.slot: s.json() for s in folder.samples()}
    empty = {slot: why for u in range(folder.spec.n_units) for slot, why in folder.reader(u).index.tombstones.items()}
    assert folder.spec.kind == "captions" and sorted([*rows, *empty]) == list(range(folder.spec.slots))
    return folder, rows, empty


@pytest.mark.parametrize("maker", sorted({*MAKERS}))
@pytest.mark.parametrize("engine", ENGINES)
def test_every_maker_runs_with_every_engine(point, maker, engine):
    asks = maker not in WITHOUT_MODEL or maker == "hirpg"
    if engine == "none" and asks:
        with pytest.raises(InputError, match=f"prompts.maker={maker} asks a model"):
            point(maker, engine)
        return
    folder, rows, empty = run(point(maker, engine))
    assert not any("prompt_too_long" in why or "refused" in why for why in empty.values()), empty
    for row in rows.values():
        assert row["caption"] and "\n" not in row["caption"] and row["engine"]
    # the tiny model has learnt to continue examples, not to answer
    if not asks or maker == "synclr" or (maker == "synthclip" and engine != "openai"):
        assert len(rows) >= 2
    if engine in ("openai", "served") and maker in ("synclr", "synthclip", "synclr_chat"):
        assert totals(folder.path)["answers"] >= folder.spec.slots


def test_the_hf_engine_writes_the_captions_of_the_native_one(point):
    """Same weights, tokens, prompts and seeds through two implementations."""
    _, native, _ = run(point("synclr", "llama"))
    _, other, _ = run(point("synclr", "hf"))
    assert [r["caption"] for r in native.values()] == [r["caption"] for r in other.values()]


def test_nothing_that_was_answered_is_asked_again_by_the_stage_next_time(point):
    first = point("synclr", "openai")
    folder, rows, _ = run(first)
    asked = totals(folder.path)["answers"]
    for unit in range(folder.spec.n_units):  # all that the worker made is lost, but for the answers
        folder.unit_path(unit).unlink()
    (folder.path / "done.json").unlink()
    again, twice, _ = run(first)
    assert twice == rows and totals(again.path)["answers"] == asked


@pytest.mark.parametrize("engine", ["llama", "hf", "openai"])
def test_a_prompt_without_room_is_rejected_by_the_same_word_everywhere(point, engine):
    _, rows, empty = run(point("synclr", engine, "captioner.max_seq_len=70", "captions.total=9", "captions.max_attempts=1"))
    assert rows and "prompt_too_long" in empty.values()
    assert {*empty.values()} <= {"prompt_too_long", "no_class", "empty"}
