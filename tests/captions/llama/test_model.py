"""The model's numbers: transformers' are the reference."""

import os
import random
import subprocess
import sys
from pathlib import Path

import pytest
import torch

import synth
from synth.captions.llama import parallel
from synth.captions.llama.checkpoint import load_shard
from synth.captions.llama.model import Ragged, decode_one_token, prefill
from tests.captions.llama import tiny
from tests.captions.llama.as_transformers import to_transformers

LENGTHS = (40, 3, 17, 40, 1)


@pytest.fixture(scope="module")
def prompts():
    rng = random.Random(0)
    return [[rng.randrange(400) for _ in range(n)] for n in LENGTHS]


def reference(folder, prompts):
    """LlamaForCausalLM on the converted weights: logits of every token of every prompt, [T, V]."""
    from transformers import LlamaConfig, LlamaForCausalLM

    model, _ = tiny.load(folder)
    p = model.params
    config = LlamaConfig(
        hidden_size=p.dim, intermediate_size=p.ffn_dim, num_hidden_layers=p.n_layers, num_attention_heads=p.n_heads,
        num_key_value_heads=p.n_kv_heads, vocab_size=p.vocab_size, rms_norm_eps=p.norm_eps, tie_word_embeddings=False,
    )  # fmt: skip
    hf = LlamaForCausalLM(config).eval()
    hf.load_state_dict(to_transformers(load_shard(folder / "consolidated.00.pth"), p), strict=True)
    with torch.no_grad():
        return torch.cat([hf(torch.tensor([ids])).logits[0] for ids in prompts])


@pytest.fixture(scope="module")
def expected(gqa, prompts):
    return reference(gqa, prompts)


def whole(model, prompts, rows=None):
    batch = Ragged.of(prompts, rows or range(len(prompts)), model.device)
    return prefill(model, batch, every_token=True)


def close(a, b, atol=1e-4):
    torch.testing.assert_close(a, b, rtol=0, atol=atol)


def test_logits_equal_transformers(gqa, prompts, expected):
    assert 1.5 < expected.std() < 6  # a model of some contrast
    close(whole(tiny.load(gqa)[0], prompts), expected)


def test_logits_equal_transformers_with_plain_heads_and_ffn_multiplier(ffn, prompts):
    close(whole(tiny.load(ffn)[0], prompts), reference(ffn, prompts))


def test_logits_of_two_processes_equal_transformers_and_each_other(gqa, gqa2, prompts, expected, tmp_path):
    torch.save(prompts, tmp_path / "prompts")
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2"]
    command += ["-m", "tests.captions.llama.two_ranks", gqa2, tmp_path / "prompts", tmp_path / "logits"]
    env = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": os.getcwd()}
    done = subprocess.run(command, capture_output=True, text=True, env=env)
    assert done.returncode == 0, done.stderr
    (first, decoded), (second, again) = (torch.load(tmp_path / f"logits.{rank}") for rank in (0, 1))
    close(first, expected)
    assert torch.equal(first, second)
    assert torch.equal(decoded, again)
    model, _ = tiny.load(gqa)
    whole(model, prompts)
    close(decoded, decode_one_token(model, torch.full((5,), 7), torch.tensor(LENGTHS), 60))


def test_token_by_token_equals_the_whole_prompt(gqa, prompts, expected):
    """Rows at different positions in one step, in rows other than their order."""
    model, _ = tiny.load(gqa)
    rows = [3, 0, 4, 1, 2]
    start = [ids[: max(1, len(ids) // 2)] for ids in prompts]
    prefill(model, Ragged.of(start, rows, model.device))
    ends = torch.tensor([len(ids) for ids in prompts]).cumsum(0)
    position = [len(ids) for ids in start]
    order = sorted(range(len(prompts)), key=lambda i: rows[i])
    for _ in range(20):
        position = [min(p, len(ids) - 1) for p, ids in zip(position, prompts, strict=True)]
        tokens = torch.tensor([prompts[i][position[i]] for i in order])
        at = torch.tensor([position[i] for i in order])
        logits = decode_one_token(model, tokens, at, int(at.max()) + 1)
        close(logits, torch.stack([expected[ends[i] - len(prompts[i]) + position[i]] for i in order]))
        position = [p + 1 for p in position]


def test_ragged_prefill_equals_one_prompt_at_a_time(gqa, prompts):
    model, _ = tiny.load(gqa)
    together = whole(model, prompts)
    alone = torch.cat([whole(model, [ids], [5]) for ids in prompts])
    close(together, alone, atol=2e-5)


def test_a_row_reused_sees_nothing_of_its_former_prompt(gqa, prompts):
    model, _ = tiny.load(gqa)
    whole(model, [prompts[0]], [2])
    again = whole(model, [prompts[1]], [2])
    close(again, whole(tiny.load(gqa)[0], [prompts[1]], [2]), atol=0)


def test_span_of_the_cache_does_not_change_logits(gqa, prompts):
    model, _ = tiny.load(gqa)
    whole(model, prompts)
    tokens, at = torch.full((5,), 9), torch.tensor(LENGTHS)
    near = decode_one_token(model, tokens, at, 41)
    close(near, decode_one_token(model, tokens, at, model.columns), atol=2e-5)


def test_prefill_gives_the_last_token_of_each_prompt(gqa, prompts, expected):
    model, _ = tiny.load(gqa)
    last = torch.tensor(LENGTHS).cumsum(0) - 1
    close(prefill(model, Ragged.of(prompts, range(5), model.device)), expected[last])


@pytest.mark.parametrize(("dtype", "atol"), [(torch.bfloat16, 0.6), (torch.float16, 0.08)])
def test_half_precision_stays_near(gqa, prompts, expected, dtype, atol):
    model, _ = tiny.load(gqa, dtype=dtype)
    logits = whole(model, prompts)
    assert logits.dtype == torch.float32
    close(logits, expected, atol=atol)


def test_fairscale_stands_behind_one_file_and_decides_nothing_about_memory():
    importing = [path.name for path in (Path(synth.__file__).parent).rglob("*.py") if "from fairscale" in path.read_text()]
    assert importing == ["parallel.py"]
    with parallel.parameters_on("meta"):
        layers = parallel.Column(4, 6), parallel.Row(6, 4), parallel.Embedding(8, 4), parallel.Output(4, 8, bias=False)
    assert {w.device.type for layer in layers for w in layer.parameters()} == {"meta"}
    assert parallel.Column(4, 6).weight.device.type == "cpu"  # as fairscale has it, outside
