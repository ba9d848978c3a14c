"""captioner.max_batch_size=auto, at the shapes of the real models."""

import dataclasses
import random

import pytest
import torch
import torch.nn.functional as F
from torch.nn.attention import SDPBackend, sdpa_kernel

from synth.captions.llama import parallel
from synth.captions.llama.memory import MAX_ROWS, PREFILL_TOKENS, ROWS_WITHOUT_GPU, auto_rows, kv_bytes_per_token, need
from synth.captions.llama.model import Transformer, decode_one_token, prefill
from synth.captions.llama.params import params_from
from synth.captions.llama.ragged import Group, Resident
from synth.errors import InputError
from tests.captions.llama.live import Live

REAL = {
    "7b": {"dim": 4096, "n_layers": 32, "n_heads": 32, "multiple_of": 256},
    "13b": {"dim": 5120, "n_layers": 40, "n_heads": 40, "multiple_of": 256},
    "70b": {"dim": 8192, "n_layers": 80, "n_heads": 64, "n_kv_heads": 8, "multiple_of": 4096, "ffn_dim_multiplier": 1.3},
}
PARAMS = {name: params_from(raw | {"vocab_size": 32000}) for name, raw in REAL.items()}


def test_a_token_of_7b_takes_half_a_mebibyte_of_keys_and_values():
    assert kv_bytes_per_token(PARAMS["7b"], 2) == 2**19
    assert kv_bytes_per_token(PARAMS["70b"], 2) < 2**19  # 80 layers, but 8 key heads for 64
    assert kv_bytes_per_token(PARAMS["70b"], 2, degree=8) == kv_bytes_per_token(PARAMS["70b"], 2) // 8


@pytest.mark.parametrize(("name", "degree", "billions"), [("7b", 1, 6.74), ("13b", 1, 13.02), ("70b", 1, 68.98), ("70b", 8, 68.98 / 8)])
def test_weights_are_the_published_numbers_of_parameters(name, degree, billions):
    assert need(PARAMS[name], "bfloat16", degree, 512).weights == pytest.approx(2e9 * billions, rel=0.002)
    assert need(PARAMS[name], "float32", degree, 512).weights == pytest.approx(4e9 * billions, rel=0.002)


@pytest.mark.parametrize(("name", "degree"), [("7b", 1), ("13b", 1), ("13b", 2), ("70b", 4), ("70b", 8)])
@pytest.mark.parametrize("gpu", [24, 40, 80, 141])
def test_rows_fit_and_eight_more_would_not(name, degree, gpu):
    cost = need(PARAMS[name], "bfloat16", degree, 512)
    if cost.gb(1) > gpu:
        with pytest.raises(InputError, match=rf"gpu_mem_gb={gpu}: .* on {degree} GPU.*needs about \d+ GB each"):
            auto_rows(PARAMS[name], "bfloat16", degree, 512, gpu, 4096)
        return
    rows = auto_rows(PARAMS[name], "bfloat16", degree, 512, gpu, 4096)
    assert cost.gb(rows) <= gpu
    assert rows == MAX_ROWS or cost.gb(rows + 8) > gpu
    assert rows % 8 == 0 or rows < 8


def test_more_memory_shorter_rows_and_half_precision_give_more_rows():
    def rows(dtype="bfloat16", columns=512, gpu=40):
        return auto_rows(PARAMS["7b"], dtype, 1, columns, gpu, 4096)

    assert 32 < rows() < rows(gpu=48) < rows(gpu=80)
    assert rows() < rows(columns=256)
    assert rows("float32", gpu=80) < rows(gpu=80)


@pytest.mark.parametrize(("window", "expected"), [(1, 1), (5, 5), (12, 8), (32, 32), (1024, MAX_ROWS)])
def test_rows_beyond_the_window_are_never_planned(window, expected):
    assert auto_rows(PARAMS["7b"], "bfloat16", 1, 512, 141, window) == expected


def test_without_a_gpu_the_number_is_a_stated_one():
    assert auto_rows(PARAMS["7b"], "float32", 1, 512, None, 1024) == ROWS_WITHOUT_GPU
    assert auto_rows(PARAMS["7b"], "float32", 1, 512, None, 3) == 3


# -- what is alive on the device -------------------------------------------------------------------------------------

COLUMNS, SPLIT = 512, F.scaled_dot_product_attention


def on_meta(name, rows):
    """Two layers of a real model; the others need no more at a time."""
    torch.set_default_dtype(torch.bfloat16)
    try:
        with parallel.parameters_on("meta"), torch.device("meta"):
            model = Transformer(dataclasses.replace(PARAMS[name], n_layers=2), rows, COLUMNS)
    finally:
        torch.set_default_dtype(torch.float32)
    return model.requires_grad_(False).eval()


def fused(q, k, v, attn_mask=None, is_causal=False):
    """What flash and memory-efficient attention allocate."""
    return torch.empty_like(q)


def plain(q, k, v, attn_mask=None, is_causal=False):
    with sdpa_kernel(SDPBackend.MATH):
        return SPLIT(q, k, v, attn_mask, 0.0, is_causal)


def heads(rows, length, group):
    """Prompts of which `group` in a row begin with the same `length` tokens and end with 10 of their own."""
    rng, prompts = random.Random(0), []
    while len(prompts) < rows:
        head = [1, *(rng.randrange(3, 32000) for _ in range(length - 1 + rng.randint(-length // 4, 0)))]
        prompts += [[*head, *(rng.randrange(3, 32000) for _ in range(10))] for _ in range(min(group, rows - len(prompts)))]
    return sorted(prompts)


PROMPTS = {
    "one head of 440 for all": lambda rows: heads(rows, 440, rows),
    "heads of 380 for every 8": lambda rows: heads(rows, 380, 8),
    "SynCLR's for every 8": lambda rows: heads(rows, 127, 8),
    "nothing in common": lambda rows: sorted(heads(rows, 480, 1), key=len),
}


def counted(model, prompts, share):
    """The most bytes alive in the prefills of a first fill, and of a refill of all rows with prompts that begin alike."""
    resident = Resident(model.rows, model.columns) if share else None
    known, peak = [*model.parameters(), *model.buffers()], 0
    for waiting in ([*prompts], [[*p[:-3], 7, 7, 7] for p in prompts]):
        row = 0
        while waiting:
            group = Group(resident)
            while waiting and group.add(waiting[-1], row, PREFILL_TOKENS["cuda"]):
                waiting.pop()
                row += 1
            with Live(known) as live:
                prefill(model, group.ragged(model.device))
            peak = max(peak, live.peak)
    return peak


@pytest.mark.parametrize("attention", [fused, plain], ids=["fused", "math"])
@pytest.mark.parametrize("name", ["7b", "70b"])
def test_the_plan_bounds_what_prefills_and_decode_steps_hold(name, attention, monkeypatch):
    monkeypatch.setattr(F, "scaled_dot_product_attention", attention)
    rows, model = 256, on_meta(name, 256)
    cost = need(PARAMS[name], "bfloat16", 1, COLUMNS, attention="math" if attention is plain else "fused")
    logits = 40 * PARAMS[name].vocab_size * rows
    peaks = {kind: counted(model, prompts(rows), share=kind != "nothing in common") for kind, prompts in PROMPTS.items()}
    print({kind: round(peak / 1e9, 2) for kind, peak in peaks.items()}, "planned", round(cost.prefill(rows) / 1e9, 2))
    assert max(peaks.values()) <= cost.prefill(rows) + logits
    assert cost.prefill(rows) < 1.5 * max(peaks.values())  # and does not waste the device
    with Live([*model.parameters(), *model.buffers()]) as live:
        decode_one_token(model, *torch.zeros(2, rows, dtype=torch.int64, device="meta"), COLUMNS)
    assert live.peak <= (cost.row - kv_bytes_per_token(PARAMS[name], 2) * COLUMNS) * rows


def test_one_long_head_costs_no_more_than_its_tokens(monkeypatch):
    """Attention pads neither the many short prompts to the one long one, nor lays out all rows at once: it would be 24.7 GB."""
    monkeypatch.setattr(F, "scaled_dot_product_attention", fused)
    model = on_meta("7b", 256)
    peaks = [counted(model, heads(256, length, group), share=True) for length, group in ((440, 256), (380, 8), (127, 8))]
    assert peaks[0] < 1e9 and peaks[1] < 2.5e9 and peaks[2] < 1e9
