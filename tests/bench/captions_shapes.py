"""The native engine at the shapes of real models with random weights, against Meta's static loop and the device's limits.

    python -m tests.bench.captions --shapes 7b [--captions 1024] [--rows 256] [--groups 1,8] [--numerics fast] [--native-only]

Only lengths matter here. Prompts are random tokens with the lengths of SynCLR's (127 tokens of heading and examples, a query
of 10), captions end by chance with a mean of 28 tokens: their lengths spread more than real ones, which disfavours us.
The limits are measured in the same run: what a copy moves and a matrix product computes on this card.
"""

import argparse
import random
import statistics
import time

import torch
from torch import nn

from synth.captions.llama import parallel
from synth.captions.llama.generate import Generator, Sampling
from synth.captions.llama.memory import kv_bytes_per_token
from synth.captions.llama.model import Transformer
from synth.captions.llama.params import ModelParams, params_from
from tests.bench.captions import MAX_GEN, TEMPERATURE, TOP_P, Way, kept, measure, native, static_loop, table
from tests.bench.ceilings import copy_bandwidth, matrix_peak, name_of

SHAPES = {
    "7b": {"dim": 4096, "n_layers": 32, "n_heads": 32, "multiple_of": 256, "vocab_size": 32000},
    "13b": {"dim": 5120, "n_layers": 40, "n_heads": 40, "multiple_of": 256, "vocab_size": 32000},
    "smoke": {"dim": 128, "n_layers": 2, "n_heads": 4, "multiple_of": 32, "vocab_size": 1000},  # that this file runs at all
}
STATIC_BATCH = 64
COLUMNS = 288  # of the KV cache: the longest prompt and MAX_GEN
MOST_ROWS = 256
PREFILLS = 6e9  # bytes that are left for prefills, logits and graphs
MEAN_LENGTH = 28  # tokens of a caption, its newline included
SHARED, QUERY = 127, 10  # tokens


class Ids:
    """In place of a tokenizer: prompts are numbers in a text; one token in MEAN_LENGTH ends a caption."""

    eos = 2
    ends = frozenset([eos])

    def __init__(self, vocab: int):
        self._newlines = list(range(5, vocab, MEAN_LENGTH))

    def encode(self, texts: list[str]) -> list[list[int]]:
        return [[int(word) for word in text.split()] for text in texts]

    def decode(self, rows: list[list[int]]) -> list[str]:
        return ["" for _ in rows]

    def ids_containing(self, text: str) -> list[int]:
        return self._newlines


def prompts(n: int, group: int, vocab: int) -> list[str]:
    rng, texts = random.Random(0), []
    while len(texts) < n:
        head = [1, *(rng.randrange(3, vocab) for _ in range(SHARED - 1 + rng.randint(-30, 30)))]
        same_head = range(min(group, n - len(texts)))
        texts += [" ".join(map(str, [*head, *(rng.randrange(3, vocab) for _ in range(QUERY))])) for _ in same_head]
    return texts


def random_model(raw: dict, rows: int, columns: int, dtype: torch.dtype, device: torch.device) -> Transformer:
    """Random weights whose logits have a standard deviation near 6: a nucleus of some tokens, as a trained model has."""
    before = torch.get_default_dtype()
    torch.set_default_dtype(dtype)
    try:
        with parallel.parameters_on("meta"), torch.device(device):
            model = Transformer(params_from(raw), rows, columns)
    finally:
        torch.set_default_dtype(before)

    def drawn(name: str, weight: torch.Tensor) -> torch.Tensor:
        new = torch.empty(weight.shape, dtype=dtype, device=device)
        if weight.dim() == 1:  # of a norm
            return new.fill_(1)
        deviation = 1.0 if name.startswith("tok_embeddings") else weight.shape[1] ** -0.5
        return new.normal_(0, 6 * deviation if name.startswith("output") else deviation)

    weights = {name: nn.Parameter(drawn(name, w), requires_grad=False) for name, w in model.named_parameters()}
    model.load_state_dict(weights, strict=True, assign=True)
    return model.eval()


def matrices(params: ModelParams) -> int:
    """Weights that every token is multiplied with."""
    attention = params.dim * params.head_dim * (2 * params.n_heads + 2 * params.n_kv_heads)
    return params.n_layers * (attention + 3 * params.dim * params.ffn_dim) + params.dim * params.vocab_size


def fitting_rows(params: ModelParams, item: int, device: torch.device) -> int:
    """Rows whose caches fit beside the weights into what the device has free, in whole eights."""
    if device.type == "cpu":
        return MOST_ROWS
    free, _ = torch.cuda.mem_get_info(device)
    room = 0.9 * free - (matrices(params) + params.dim * params.vocab_size) * item - PREFILLS
    rows = int(room // (COLUMNS * kv_bytes_per_token(params, item))) // 8 * 8
    if rows < 8:
        raise SystemExit(f"the weights and eight rows do not fit into the {free / 1e9:.0f} GB that {name_of(device)} has free")
    return min(MOST_ROWS, rows)


def floor(window, params: ModelParams, lengths: list[int], item: int, bandwidth: float, flops: float) -> tuple[float, float]:
    """(seconds below which no program makes the window with as many steps, the part of them that reading memory takes).

    Each prefill at the limit of arithmetic; each step reads the weights, and every drawn token its row's keys and values.
    """
    weights = matrices(params)
    cache = sum(n * len(t) + len(t) ** 2 / 2 for n, t in zip(lengths, window.tokens, strict=True)) * kv_bytes_per_token(params, item)
    reading = (window.steps * weights * item + cache) / bandwidth
    computing = sum(map(len, window.tokens)) * 2 * weights / flops
    return window.prefill_tokens * 2 * weights / flops + max(reading, computing), reading


def run(args: argparse.Namespace) -> None:
    if args.shapes not in SHAPES:
        raise SystemExit(f"--shapes {args.shapes}: one of {', '.join(SHAPES)}")
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    dtype = torch.bfloat16 if device.type == "cuda" else torch.float32
    params = params_from(SHAPES[args.shapes])
    bandwidth, flops = copy_bandwidth(device), matrix_peak(device, dtype)
    rows = args.rows or fitting_rows(params, dtype.itemsize, device)
    batch = min(STATIC_BATCH, rows)
    tokenizer = Ids(params.vocab_size)
    torch.manual_seed(0)
    model = random_model(SHAPES[args.shapes], rows, COLUMNS, dtype, device)
    sampling = Sampling(TEMPERATURE, TOP_P, MAX_GEN)
    print(f"{name_of(device)}, torch {torch.__version__}, {str(dtype)[6:]}, numerics {args.numerics}; shapes {args.shapes}, ", end="")
    print(f"{args.captions} captions in one window, {rows} rows; static loop: batch {batch}; median of {args.rounds}")
    print(f"measured here: copy {bandwidth / 1e12:.3g} TB/s, matrix product {flops / 1e12:.3g} TFLOP/s")
    for group in map(int, args.groups.split(",")):
        texts = prompts(args.captions, group, params.vocab_size)
        ids = tokenizer.encode(texts)
        few = ids[: 2 * batch]  # two batches tell its speed
        generator = Generator(model, tokenizer, sampling)
        begin = time.perf_counter()
        generator.window(texts, range(len(texts)))  # graphs are captured here
        took = time.perf_counter() - begin
        print(f"\nexamples {'for each caption' if group == 1 else f'for every {group}'}; first window {took:.1f} s")
        ways = {} if args.native_only else {
            "static loop": Way(lambda few=few: static_loop(model, few, batch)),
            "native, no sharing": native(Generator(model, tokenizer, sampling, share=False), texts),
        }  # fmt: skip
        ways["native"] = native(generator, texts)
        measure(ways, args.rounds, device)
        if "static loop" in ways:
            loop, scale = ways["static loop"], len(ids) / len(few)
            loop.seconds, loop.wall = [s * scale for s in loop.seconds], [s * scale for s in loop.wall]
            loop.result = (loop.result[0], loop.result[1] * scale)
        table(ways, len(texts), set(generator.ends.nonzero()[:, 0].tolist()))
        roofline(ways["native"], params, ids, dtype.itemsize, bandwidth, flops)
        print(f"mean caption {kept(ways['native'].result[0], set(tokenizer.ids_containing(''))):.1f} tokens")


def roofline(way: Way, params: ModelParams, ids: list[list[int]], item: int, bandwidth: float, flops: float) -> None:
    """How far the native engine is from what the device can do."""
    window, seconds = way.window, statistics.median(way.wall)
    drawn = sum(map(len, window.tokens))
    least, reading = floor(window, params, [len(i) for i in ids], item, bandwidth, flops)
    rates = [n / seconds for n in (len(ids), drawn, window.prefill_tokens)]
    print(f"native: {rates[0]:.1f} captions/s; tokens/s: {rates[1]:.0f} drawn, {rates[2]:.0f} prefilled")
    print(f"{window.steps} steps of {1e3 * seconds / window.steps:.1f} ms, {drawn / window.steps:.0f} rows live on average")
    print(f"share of the bandwidth limit: {reading / seconds:.0%}")
    print(f"share of the roofline: {least / seconds:.0%}; at it: {len(ids) / least:.0f} captions/s")
