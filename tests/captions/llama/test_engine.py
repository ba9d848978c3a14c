"""The processes: torchrun as a child of the engine, and what is left when anything dies."""

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import weakref

import pytest
import torch

from synth import numerics
from synth.captions.engines import Request
from synth.captions.llama import agent, parallel, ranks
from synth.captions.llama import engine as engine_module
from synth.captions.llama.config import EngineConfig
from synth.captions.llama.engine import EngineError, LlamaEngine
from synth.errors import DeviceFailed, InputError, Killed, StoreError
from synth.host.children import is_alive
from synth.host.deadline import FLOOR
from synth.numerics import EXACT, FAST, REFERENCE
from tests.captions.llama import tiny
from tests.captions.llama.test_generate import same_but_for_edges
from tests.processes import wait_gone


def config(folder, tmp_path, **change):
    small = {"max_gen_len": 24, "max_seq_len": 128, "max_batch_size": 4, "device": "cpu", "log": str(tmp_path / "llama.log")}
    return EngineConfig(str(folder), **small | change)


def requests(texts, seeds):
    return [Request(text, seed=seed) for text, seed in zip(texts, seeds, strict=True)]


def processes_of(engine):
    return [engine.pid, *engine.facts["pids"]]


def test_two_processes_give_the_tokens_of_one_and_close_leaves_none(gqa, gqa2, tmp_path, tmp_path_factory, monkeypatch, capfd):
    prompts = [
        *tiny.prompts(12),
        *tiny.grouped(20),
        *[""] * 3,
        *["plut meck"] * 4,
        "plut",
    ]  # one token, equal ones, a beginning
    seeds = range(1000, 1040)
    one = tiny.generator(gqa, rows=1, margins=True, share=False).window(prompts, seeds)  # one at a time, nothing shared
    scratch = tmp_path_factory.mktemp("t")
    monkeypatch.setattr(tempfile, "tempdir", str(scratch))
    capfd.readouterr()
    with LlamaEngine(config(gqa2, tmp_path)) as engine:
        pids = processes_of(engine)
        assert len(pids) == 3
        assert all(map(is_alive, pids))
        assert os.getsid(engine.pid) != os.getsid(0)  # ctrl-C in the terminal does not reach it
        two = engine.generate(requests([*prompts, "long " * 200], [*seeds, 0]))
        edges = same_but_for_edges(one.tokens, engine.last_window["tokens"][:-1], one.margins)
        assert engine.last_window["prefill_tokens"] < 0.8 * one.prefill_tokens
        assert edges <= 1
        if edges == 0:
            assert two[:-1] == one.completions
        assert "max_seq_len=128" in two[-1].error
        assert engine.generate(requests(prompts[:3], seeds[:3])) == two[:3]  # another window, the same captions
        assert engine.generate([]) == []
        asked, left = [*range(6)], iter(range(6, 12))

        def more(ended):
            new = [n for number, completion in ended if number % 3 for n in [next(left, None)] if n is not None]
            asked.extend(new)
            return requests([prompts[n] for n in new], [seeds[n] for n in new])

        engine.serve(requests(prompts[:6], seeds[:6]), more)  # the ranks hear alike what joins the window
        assert len(asked) > 9
        order = [one.tokens[n] for n in asked], [one.margins[n] for n in asked]
        assert same_but_for_edges(order[0], engine.last_window["tokens"], order[1]) == 0
        used = engine.usage()
        assert used["drawn_tokens"] > sum(map(len, one.tokens)) and 1 < used["live_rows"] <= 4
        for pid in pids:  # a scheduler signals every process of a job; the worker alone decides when to stop
            for sent in (signal.SIGTERM, signal.SIGINT, signal.SIGUSR1, signal.SIGUSR2, signal.SIGHUP):
                os.kill(pid, sent)
        assert engine.generate(requests(prompts[:3], seeds[:3])) == two[:3]
    wait_gone(pids)
    printed = capfd.readouterr()
    assert printed.out == printed.err == ""
    log = (tmp_path / "llama.log").read_text()
    assert "initializing model parallel with size 2" in log
    assert "SIGABRT" not in log
    assert "Traceback" not in log
    assert list(scratch.iterdir()) == []


@pytest.mark.parametrize("victim", ["torchrun", "rank"])
def test_a_killed_process_is_nobody_s_fault_and_takes_the_others_along(gqa2, tmp_path, victim):
    engine = LlamaEngine(config(gqa2, tmp_path))
    engine.start()
    pids = processes_of(engine)
    os.kill(engine.facts["pids"][1] if victim == "rank" else engine.pid, signal.SIGKILL)
    with pytest.raises(Killed, match=r"(?s)one of the ranks of .*killed by SIGKILL.*last lines of .*llama\.log"):
        engine.generate(requests(tiny.prompts(30), range(30)))
    wait_gone(pids)
    with pytest.raises(EngineError, match="close it and start a new one"):
        engine.generate([Request("plut")])
    engine.close()
    engine.close()


def test_the_first_cause_tells_how_ranks_died():
    died = RuntimeError("torchrun's own")
    ends = [
        ([None, -9], 137), ([1, -15], 143), ([-9, 1], 137),  # killed; and what missed it
        ([1, None], 1), ([-11, 1], 1), ([-6, None], 1), ([0, 1], 1),  # their own doing
        ([75, 1], 75), ([75, -9], 137),  # the disk refused
    ]  # fmt: skip
    assert [(ranks, agent.code_of(ranks, died)) for ranks, _ in ends] == ends
    assert agent.code_of([], OSError(28, "No space left on device")) == 75 and agent.code_of([], died) == 1
    assert agent.code_of([], socket.gaierror(socket.EAI_AGAIN, "Temporary failure in name resolution")) == 75  # torchrun's localhost


def test_a_log_without_room_is_the_disk_s_fault(gqa, tmp_path):
    disk = tmp_path / "logs"
    disk.mkdir()
    done = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=8k", "synthset-test", disk], capture_output=True, text=True)
    if done.returncode:
        pytest.skip(f"cannot mount a small tmpfs here: {done.stderr.strip()}")
    engine = LlamaEngine(config(gqa, tmp_path, log=str(disk / "llama.log")))
    try:
        (disk / "llama.log").write_bytes(b"x" * 8192)
        with pytest.raises(StoreError, match=r"No space left on device|refused them something"):
            engine.start()
    finally:
        engine.close()
        subprocess.run(["umount", "-l", disk], check=True)


def test_ranks_die_with_a_parent_that_is_killed(gqa, tmp_path):
    code = (
        "import sys; from synth.captions.llama.engine import *\n"
        f"engine = LlamaEngine(EngineConfig({str(gqa)!r}, device='cpu')); engine.start()\n"
        "print(engine.pid, *engine.facts['pids'], flush=True); sys.stdin.read()"
    )
    parent = subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    pids = [int(pid) for pid in parent.stdout.readline().split()]
    assert len(pids) == 2
    assert all(map(is_alive, pids))
    parent.kill()
    parent.communicate()
    wait_gone(pids)


def test_weights_that_give_nan_are_bad_input_and_the_engine_lives_on(gqa, tmp_path, monkeypatch):
    monkeypatch.setenv("PYTHONPROFILEIMPORTTIME", "1")  # into the log
    folder = shutil.copytree(gqa, tmp_path / "nan")
    weights = torch.load(folder / "consolidated.00.pth")
    weights["output.weight"][5] = float("nan")
    torch.save(weights, folder / "consolidated.00.pth")
    engine = LlamaEngine(config(folder, tmp_path))
    try:
        for _ in range(2):
            with pytest.raises(InputError, match="logits are not finite"):
                engine.generate(requests(tiny.prompts(3), range(3)))
        pids = processes_of(engine)
    finally:
        engine.close()
    wait_gone(pids)
    imported = (tmp_path / "llama.log").read_text()
    assert "fairscale" in imported and "torch._inductor" not in imported  # it takes as long as torch itself; nobody calls it
    assert "torch.distributed.run" not in imported  # nor is torchrun needed for one rank


def test_bad_input_is_told_before_any_process_starts(gqa2, tmp_path):
    engine = LlamaEngine(config(gqa2, tmp_path, model_parallel=3))
    with pytest.raises(InputError, match=r"2 \*\.pth shards in"):
        engine.start()
    assert engine.pid is None
    with pytest.raises(ValueError, match="64 bits"):
        engine.generate([Request("a", seed=-1)])
    with pytest.raises(InputError, match="prompt 1 is not Unicode text"):
        engine.generate(requests(["a", "b\udcff"], [1, 2]))
    engine.close()


def test_ranks_with_a_gpu_that_torch_cannot_use_are_bad_input_or_a_device_that_is_gone(gqa, tmp_path, monkeypatch):
    if torch.cuda.is_available():
        pytest.skip("there is a GPU here")
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0")
    engine = LlamaEngine(config(gqa, tmp_path, device="auto"))
    with pytest.raises((InputError, DeviceFailed), match="CUDA_VISIBLE_DEVICES=0 gives this worker a GPU"):
        engine.start()
    engine.close()
    wait_gone([engine.pid])


def test_ranks_that_cannot_start_are_an_error_with_their_log(gqa, tmp_path):
    engine = LlamaEngine(config(gqa, tmp_path, max_batch_size=1 << 40))  # a KV cache of no machine
    with pytest.raises(EngineError, match=r"(?s)in a rank: .*died.*last lines of"):
        engine.start()
    wait_gone([engine.pid])


def test_groups_are_left_only_when_no_graph_is_there_any_more(monkeypatch):
    """NCCL hangs in the destruction of a group whose work a CUDA graph holds."""
    did = []

    class Graphs:
        pass

    served = object.__new__(ranks.Ranks)
    served._requests, served._generator = None, Graphs()
    served._generator.itself = served._generator  # as part of a cycle
    graphs = weakref.ref(served._generator)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "synchronize", lambda: did.append("waited" if graphs() is None else "waited with graphs"))
    monkeypatch.setattr(torch.distributed, "barrier", lambda group: did.append("met"))
    monkeypatch.setattr(parallel, "leave", lambda: did.append("left"))
    monkeypatch.setattr(torch.distributed, "destroy_process_group", lambda: did.append("destroyed"))
    served.close()
    assert did == ["waited", "met", "left", "destroyed"]


def test_ranks_that_hang_at_their_end_cost_a_third_of_what_a_job_leaves_for_it():
    assert engine_module._GOODBYE <= FLOOR / 3


@pytest.mark.parametrize("numeric", [EXACT, FAST, REFERENCE], ids=lambda n: n["name"])
def test_no_rank_lets_cudnn_plan_attention(numeric, monkeypatch):
    set_in_rank = []
    config = json.dumps({"ckpt_dir": "x", "numerics": numeric})
    monkeypatch.setattr(sys, "argv", ["ranks", "--place", "p", "--config", config])
    monkeypatch.setenv("RANK", "0")
    monkeypatch.setattr(ranks, "die_with_parent", lambda: True)
    monkeypatch.setattr(ranks, "lead", lambda *_: set_in_rank.append(torch.backends.cuda.cudnn_sdp_enabled()))
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)  # where it would be on
    monkeypatch.setattr(torch, "set_num_threads", lambda n: None)
    try:
        ranks.main()
    finally:
        monkeypatch.undo()
        numerics.apply(EXACT)
    assert set_in_rank == [False]
