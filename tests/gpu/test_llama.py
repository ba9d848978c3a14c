"""The native caption engine on a GPU: placement, bits, graphs, memory, the processes under torchrun, the captions stage."""

import itertools
import random
import signal
import time

import pytest
import torch

from synth import numerics
from synth.captions.engines import Request
from synth.captions.llama import cuda, generate
from synth.captions.llama.checkpoint import check_checkpoint
from synth.captions.llama.config import EngineConfig
from synth.captions.llama.engine import LlamaEngine
from synth.captions.llama.generate import Generator, Sampling
from synth.captions.llama.memory import need
from synth.captions.llama.model import load_model, prefill
from synth.captions.llama.ragged import Ragged
from synth.captions.llama.tokenizer import Tokenizer
from synth.errors import EXIT_AGAIN, EXIT_OK, InputError, OutOfDeviceMemory
from tests.bench.captions_shapes import Ids, random_model
from tests.captions.llama import tiny
from tests.captions.llama.test_generate import same_but_for_edges
from tests.captions.llama.test_stage import plan, ranks_of, start, units
from tests.gpu.conftest import CUDA
from tests.stages import wait_for

TEXTS = [*tiny.prompts(12), *tiny.grouped(20)]
half = pytest.param(torch.bfloat16, marks=pytest.mark.cuda_only)  # tests/captions has it on a CPU


@pytest.fixture(scope="module", autouse=True)
def _alone():
    numerics.apply(numerics.EXACT)
    tiny.one_process()


@pytest.fixture(scope="module")
def gqa(tmp_path_factory):
    words = tiny.train_tokenizer(tmp_path_factory.mktemp("words") / "tokenizer.model")
    return tiny.write_checkpoint(tmp_path_factory.mktemp("gqa"), tiny.GQA, words)


def generator(folder, on, rows=8, dtype=torch.float32, margins=False, share=True, columns=128) -> Generator:
    words = Tokenizer(folder / "tokenizer.model")
    model = load_model(check_checkpoint(folder, words.n_words), 0, dtype, on, rows, columns)
    return Generator(model, words, Sampling(max_gen_len=24), margins, share)


def window(g: Generator):
    return g.window(TEXTS, range(len(TEXTS)))


# -- the model and its windows -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [torch.float32, half])
def test_weights_caches_and_tables_are_on_the_device(gqa, on, dtype):
    g = generator(gqa, on, dtype=dtype)
    assert {t.device.type for t in itertools.chain(g.model.parameters(), g.model.buffers())} == {on.type}
    assert {p.dtype for p in g.model.parameters()} == {dtype}


@pytest.mark.parametrize(("dtype", "far"), [(torch.float32, 1e-3), pytest.param(torch.bfloat16, 0.3, marks=pytest.mark.cuda_only)])
def test_logits_are_those_of_a_cpu_in_float32(gqa, on, dtype, far):
    ids = Tokenizer(gqa / "tokenizer.model").encode(TEXTS[:6])
    ours, theirs = generator(gqa, on, dtype=dtype).model, generator(gqa, torch.device("cpu")).model
    a, b = (prefill(m, Ragged.of(ids, range(6), m.device), True).cpu() for m in (ours, theirs))
    assert (a - b).abs().max() < far


@pytest.mark.parametrize("rows", [6, pytest.param(1, marks=pytest.mark.cuda_only), pytest.param(32, marks=pytest.mark.cuda_only)])
def test_a_window_has_the_captions_of_a_cpu(gqa, on, rows):
    one = window(generator(gqa, torch.device("cpu"), rows=1, margins=True, share=False))
    assert same_but_for_edges(one.tokens, window(generator(gqa, on, rows=rows)).tokens, one.margins) <= 1


@pytest.mark.parametrize("dtype", [torch.float32, half])
def test_a_window_is_the_same_every_time(gqa, on, dtype):
    g = generator(gqa, on, dtype=dtype)
    first = window(g).tokens
    assert window(g).tokens == first == window(generator(gqa, on, dtype=dtype)).tokens


def test_nan_is_bad_input_and_the_next_window_is_whole(gqa, on):
    g = generator(gqa, on)
    good, kept = window(g).tokens, g.model.norm.weight.clone()
    g.model.norm.weight.fill_(float("nan"))
    with pytest.raises(InputError, match="not finite"):
        window(g)
    g.model.norm.weight.copy_(kept)
    assert window(g).tokens == good


# -- graphs --------------------------------------------------------------------------------------------------------------


@pytest.mark.cuda_only
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("rows", [1, 6, 32])
def test_every_step_is_a_graph_and_gives_what_single_kernels_give(gqa, on, rows, dtype, monkeypatch, capfd):
    g = generator(gqa, on, rows=rows, dtype=dtype)
    graphs = window(g).tokens
    assert g.decode._graphs and None not in g.decode._graphs.values(), capfd.readouterr().err
    monkeypatch.setattr(cuda.DecodeGraphs, "_capture", lambda self, rows, columns: None)
    assert window(generator(gqa, on, rows=rows, dtype=dtype)).tokens == graphs


@pytest.mark.cuda_only
def test_the_host_never_waits_inside_a_decode_step(gqa, on, monkeypatch):
    g, plain = generator(gqa, on), generate._Run.decode
    before = window(g).tokens  # captures

    def strict(self, *args):
        torch.cuda.set_sync_debug_mode("default" if self.wide else "error")
        plain(self, *args)
        torch.cuda.set_sync_debug_mode("default")

    monkeypatch.setattr(generate._Run, "decode", strict)
    assert window(g).tokens == before


@pytest.mark.cuda_only
def test_a_capture_that_fails_costs_speed_and_nothing_else(gqa, on, monkeypatch, capfd):
    expected, plain = window(generator(gqa, on)).tokens, cuda.decode_one_token

    def refuses(*step):
        if torch.cuda.is_current_stream_capturing():
            step[1].sum().item()  # not allowed while capturing
        return plain(*step)

    monkeypatch.setattr(cuda, "decode_one_token", refuses)
    g = generator(gqa, on)
    assert window(g).tokens == expected and set(g.decode._graphs.values()) == {None}
    assert "no CUDA graph" in capfd.readouterr().err
    monkeypatch.setattr(cuda, "decode_one_token", plain)
    g.decode._graphs.clear()  # one that failed does not keep others from being captured
    assert window(g).tokens == expected and None not in g.decode._graphs.values()
    assert torch.cuda.current_stream() == torch.cuda.default_stream()
    held = torch.cuda.memory_allocated()
    torch.empty(1 << 28, device=on).fill_(1).sum().item()
    torch.cuda.empty_cache()
    assert torch.cuda.memory_allocated() == held


# -- memory --------------------------------------------------------------------------------------------------------------


class OneBeginning(Ids):
    """In place of a tokenizer: `head` tokens that all prompts begin with, and `own` of each."""

    def __init__(self, vocab: int, head: int, own: int):
        super().__init__(vocab)
        rng = random.Random(0)
        self._head, self._own, self._rng, self._vocab = [rng.randrange(3, vocab) for _ in range(head)], own, rng, vocab

    def encode(self, texts):
        return [[*self._head, *(self._rng.randrange(3, self._vocab) for _ in range(self._own))] for _ in texts]


LARGE = {"dim": 4096, "n_layers": 4, "n_heads": 32, "multiple_of": 256, "vocab_size": 32000}, 128, 512, torch.bfloat16
SMALL = {"dim": 64, "n_layers": 1, "n_heads": 2, "multiple_of": 32, "vocab_size": 1000}, 4, 512, torch.float32  # of a dry run


@pytest.mark.parametrize(("head", "own"), [(127, 10), (440, 20)])
def test_memory_stays_within_the_plan_of_max_batch_size_auto(on, head, own):
    raw, rows, columns, dtype = LARGE if CUDA else SMALL
    model = random_model(raw, rows, columns, dtype, on)
    g = Generator(model, OneBeginning(raw["vocab_size"], head, own), Sampling(max_gen_len=40))
    assert all(1 <= len(tokens) <= 40 for tokens in g.window([""] * rows, range(rows)).tokens)
    planned = need(model.params, "bfloat16", 1, columns).gb(rows) * 1e9
    assert not CUDA or torch.cuda.max_memory_reserved() <= planned, (
        f"{torch.cuda.max_memory_reserved() / 1e9:.1f} GB of {planned / 1e9:.1f} planned"
    )


# -- the processes under torchrun ----------------------------------------------------------------------------------------


def engine(folder, tmp_path, **change) -> EngineConfig:
    small = {
        "max_gen_len": 24,
        "max_seq_len": 128,
        "max_batch_size": 8,
        "log": str(tmp_path / "llama.log"),
        "numerics": dict(numerics.EXACT),
    }
    return EngineConfig(str(folder), **small | change)


def ask(llama: LlamaEngine) -> list[str]:
    return [c.text for c in llama.generate([Request(t, seed=i) for i, t in enumerate(TEXTS)])]


@pytest.mark.cuda_only
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_the_processes_serve_from_the_device_and_leave_quickly(gqa, on, tmp_path, dtype):
    llama = LlamaEngine(engine(gqa, tmp_path, dtype=dtype))
    llama.start()
    assert llama.facts["device"] == torch.cuda.get_device_name(on)
    assert ask(llama) == ask(llama)
    begun = time.monotonic()
    llama.close()
    assert time.monotonic() - begun < 14  # the parent kills what has not ended by itself after 15 s


@pytest.mark.cuda_only
def test_out_of_memory_is_told_as_such(gqa, tmp_path):
    with pytest.raises(OutOfDeviceMemory, match="max_batch_size"):
        LlamaEngine(engine(gqa, tmp_path, max_batch_size=1 << 20, max_seq_len=1 << 15)).start()


@pytest.mark.cuda_only(gpus=2)
def test_two_gpus_give_the_captions_of_one_and_leave_quickly(gqa, tmp_path, tmp_path_factory):
    two = tiny.write_checkpoint(tmp_path_factory.mktemp("gqa2"), tiny.GQA, gqa / "tokenizer.model", degree=2)
    with LlamaEngine(engine(gqa, tmp_path)) as one:
        expected = ask(one)
    llama = LlamaEngine(engine(two, tmp_path))
    llama.start()
    assert sum(a != b for a, b in zip(ask(llama), expected, strict=True)) <= 1
    begun = time.monotonic()
    llama.close()
    assert time.monotonic() - begun < 14


# -- the stage -----------------------------------------------------------------------------------------------------------

LONG = {"slots": 24, "max_gen_len": 200}  # three windows, each long enough that a drain meets it in the middle


def test_a_drain_in_mid_window_only_delays_and_another_job_gives_the_same_bytes(gqa, tmp_path, tmp_path_factory):
    never_ends = tiny.write_checkpoint(tmp_path_factory.mktemp("long"), tiny.GQA, gqa / "tokenizer.model", newline_boost=0.0)
    once, drained = (plan(tmp_path_factory.mktemp(name), never_ends, **LONG) for name in ("once", "drained"))
    assert start(once).wait(600) == EXIT_OK
    worker = start(drained)
    wait_for(lambda: drained.committed() or worker.poll() is not None)
    worker.send_signal(signal.SIGTERM)
    assert worker.wait(240) == EXIT_AGAIN, worker.stderr.read()
    assert units(drained).keys() < units(once).keys()
    wait_for(lambda: not ranks_of(never_ends))
    assert start(drained, 1, 2).wait(600) == EXIT_OK
    assert units(drained) == units(once)
