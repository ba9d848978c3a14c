"""What the GPU's decode path does besides launching graphs: rounding up rows and columns, notes that come late, captures that
fail, masks as the fused kernels take them."""

import contextlib

import pytest
import torch
import torch.nn.functional as F

from synth.captions.llama.cuda import DecodeGraphs, Notes, padded
from synth.captions.llama.model import decode_one_token
from tests.captions.llama import tiny
from tests.captions.llama.test_generate import same_but_for_edges


@pytest.mark.parametrize(
    ("n", "span", "expected"),
    [(1, 1, (1, 64)), (5, 64, (8, 64)), (8, 65, (8, 128)), (40, 500, (48, 510)), (48, 510, (48, 510))],
)
def test_sizes_of_graphs_are_few_and_never_beyond_the_cache(n, span, expected):
    assert padded(n, span, 48, 510) == expected


@pytest.mark.parametrize("rows", [3, 6, 32])
def test_rows_that_only_fill_a_graph_up_harm_no_caption(gqa, rows, monkeypatch):
    """Not even one whose prompt begins like that of a row that ended."""
    monkeypatch.setattr(DecodeGraphs, "_capture", lambda self, rows, columns: None)  # no CUDA: the same steps without a graph
    texts = [*tiny.prompts(8), *tiny.grouped(20)]
    one = tiny.generator(gqa, rows=1, margins=True, share=False).window(texts, range(28))
    generator = tiny.generator(gqa, rows=rows)
    sizes = set()

    def decode(tokens, position, span):
        sizes.add((tokens.shape[0], span))
        return graphs(tokens, position, span)

    graphs, generator.decode, generator.lag = DecodeGraphs(generator.model), decode, 1
    window = generator.window(texts, range(28))
    assert same_but_for_edges(one.tokens, window.tokens, one.margins) <= 1
    assert len(graphs._graphs) < len(sizes) / 3


@pytest.mark.parametrize("lag", [0, 1, 2])
def test_a_note_is_of_the_state_it_was_made_of(lag):
    tensor = torch.zeros(2)
    notes, read = Notes(tensor, lag), []
    for step in range(6):
        notes.tensor[:] = step
        note = notes.exchange()
        read.append(None if note is None else int(note[0]))
    assert read == [None] * lag + list(range(6 - lag))


class Device:
    """In CUDA's place: which stream is current, whether allocations go to the graphs' pool, and captures that fail."""

    def __init__(self, monkeypatch, fails):
        self.fails, self.streams, self.in_pool, self.capturing, self.captures = fails, ["default"], False, False, 0
        device = self

        class Graph:
            def capture_begin(self, pool, capture_error_mode):
                device.captures += 1
                assert device.streams[-1] == "side" and capture_error_mode == "thread_local"
                device.in_pool = device.capturing = True
                if device.fails == "begin":
                    raise RuntimeError("operation not permitted")

            def capture_end(self):
                if not device.capturing:
                    raise RuntimeError("no capture is running")
                device.capturing = False
                if device.fails == "end":  # as of torch 2.9: the allocator is not told
                    raise RuntimeError("operation failed due to a previous error during capture")
                device.in_pool = False

        class Stream:
            device_index = 0

        @contextlib.contextmanager
        def stream(_):
            device.streams.append("side")
            try:
                yield
            finally:
                device.streams.pop()

        monkeypatch.setattr(torch.cuda, "CUDAGraph", Graph)
        monkeypatch.setattr(torch.cuda, "Stream", lambda device: Stream())
        monkeypatch.setattr(torch.cuda, "stream", stream)
        monkeypatch.setattr(torch.cuda, "graph_pool_handle", lambda: (0, 1))
        monkeypatch.setattr(torch.cuda, "synchronize", lambda device: None)
        monkeypatch.setattr(torch.cuda, "empty_cache", lambda: None)
        monkeypatch.setattr(torch.cuda.memory, "_cuda_endAllocateToPool", self.end_pool)

    def end_pool(self, index, pool):
        if not self.in_pool:
            raise RuntimeError("not recording to the pool")
        self.in_pool = False

    def decode(self, real):
        def step(*args):
            if self.capturing and self.fails == "work":
                raise RuntimeError("operation not permitted when stream is capturing")
            return real(*args)

        return step


@pytest.mark.parametrize("fails", ["begin", "work", "end"])
def test_a_capture_that_fails_leaves_the_stream_and_the_allocator_as_they_were(gqa, fails, monkeypatch, capsys):
    texts = tiny.prompts(8)
    plain = tiny.generator(gqa, rows=4, margins=True).window(texts, range(8))
    device = Device(monkeypatch, fails)
    monkeypatch.setattr("synth.captions.llama.cuda.decode_one_token", device.decode(decode_one_token))
    generator = tiny.generator(gqa, rows=4)
    generator.decode = DecodeGraphs(generator.model)
    window = generator.window(texts, range(8))
    assert same_but_for_edges(plain.tokens, window.tokens, plain.margins) <= 1
    assert device.captures > 1  # each size was tried once, and the steps went on without
    assert device.streams == ["default"] and not device.in_pool and not device.capturing
    assert "these steps run without" in capsys.readouterr().err


def efficient_takes(q, k, v, mask):
    """The rules of torch's memory-efficient kernel on the newest GPUs (aten/src/ATen/native/transformers/cuda/sdp_utils.cpp), and
    that the mask is taken as it is instead of being converted or laid out anew in each layer."""
    shapes = q.dim() == k.dim() == v.dim() == 4 and q.shape[:2] == k.shape[:2] == v.shape[:2] and k.shape == v.shape
    sizes = q.shape[-1] == k.shape[-1] and q.shape[-1] % 8 == 0 and min(*q.shape, *k.shape) > 0
    memory = all(t.stride(-1) == 1 and t.storage_offset() % 8 == 0 for t in (q, k, v))
    if mask is None:
        return shapes and sizes and memory
    broadcasts = mask.shape[:2] == (q.shape[0], 1) and mask.shape[2] in (1, q.shape[2]) and mask.shape[3] == k.shape[2]
    aligned = mask.stride(-1) == 1 and all(s % 8 == 0 for s in mask.stride()[:-1]) and mask.storage_offset() % 8 == 0
    return shapes and sizes and memory and broadcasts and aligned and mask.dtype == q.dtype == k.dtype == v.dtype


@pytest.mark.parametrize("checkpoint", ["gqa", "ffn"])
@pytest.mark.parametrize("columns", [128, 131])
def test_attention_is_asked_for_in_half_precision_as_a_fused_kernel_takes_it(checkpoint, columns, request, monkeypatch):
    asked, attend = [], F.scaled_dot_product_attention

    def recorded(q, k, v, attn_mask=None, is_causal=False):  # no enable_gqa: the memory-efficient kernel has none
        assert efficient_takes(q, k, v, attn_mask), (q.shape, k.shape)
        asked.append((q.shape[2], attn_mask is not None))
        return attend(q, k, v, attn_mask=attn_mask, is_causal=is_causal)

    monkeypatch.setattr(F, "scaled_dot_product_attention", recorded)
    generator = tiny.generator(request.getfixturevalue(checkpoint), rows=4, columns=columns, dtype=torch.bfloat16)
    generator.window([*tiny.prompts(3), *tiny.grouped(8)], range(11))
    generator.window(tiny.prompts(6), range(6))
    assert {masked for length, masked in asked if length > 2} == {True, False}  # prefills of both kinds, and decode steps
    assert any(length <= 2 for length, _ in asked)
