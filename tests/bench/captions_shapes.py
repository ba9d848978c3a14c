"""The native engine at the shapes of real models with random weights, against Meta's static loop and the device's limits.

    python -m tests.bench.captions --shapes 7b [--captions 1024] [--rows 256] [--numerics fast]

Only lengths matter here. Prompts are random tokens with the lengths of SynCLR's (127 tokens of heading and examples, a query
of 10), captions end by chance with a mean of 28 tokens: their lengths spread more than real ones, which disfavours us.
"""

import argparse
import random
import statistics
import time

import torch
from torch import nn

from synth.captions.llama import parallel
from synth.captions.llama.generate import Generator, Sampling, Window
from synth.captions.llama.memory import kv_bytes_per_token
from synth.captions.llama.model import Norm, Transformer
from synth.captions.llama.params import params_from
from tests.bench.captions import MAX_GEN, TEMPERATURE, TOP_P, Way, kept, measure, native, static_loop, table

SHAPES = {
    "7b": {"dim": 4096, "n_layers": 32, "n_heads": 32, "multiple_of": 256, "vocab_size": 32000},
    "13b": {"dim": 5120, "n_layers": 40, "n_heads": 40, "multiple_of": 256, "vocab_size": 32000},
    "smoke": {"dim": 128, "n_layers": 2, "n_heads": 4, "multiple_of": 32, "vocab_size": 1000},  # that this file runs at all
}
LIMITS = {  # bytes/s of memory, dense FLOP/s in half precision, as the makers state them
    "H200": (4.8e12, 989e12),
    "H100 NVL": (3.9e12, 835e12),
    "H100 PCIe": (2.0e12, 756e12),
    "H100": (3.35e12, 989e12),
    "A100-SXM4-80GB": (2.04e12, 312e12),
    "A100": (1.55e12, 312e12),
}
STATIC_BATCH = 64
MEAN_LENGTH = 28  # tokens of a caption, its newline included
SHARED, QUERY = 127, 10  # tokens


class Ids:
    """In place of a tokenizer: prompts are numbers in a text; one token in MEAN_LENGTH ends a caption."""

    eos = 2

    def __init__(self, vocab: int):
        self._ends = list(range(5, vocab, MEAN_LENGTH))

    def encode(self, texts: list[str]) -> list[list[int]]:
        return [[int(word) for word in text.split()] for text in texts]

    def decode(self, rows: list[list[int]]) -> list[str]:
        return ["" for _ in rows]

    def ids_containing(self, text: str) -> list[int]:
        return self._ends


def prompts(n: int, group: int, vocab: int) -> list[str]:
    rng, texts = random.Random(0), []
    while len(texts) < n:
        head = [1, *(rng.randrange(3, vocab) for _ in range(SHARED - 1 + rng.randint(-30, 30)))]
        same_head = range(min(group, n - len(texts)))
        texts += [" ".join(map(str, [*head, *(rng.randrange(3, vocab) for _ in range(QUERY))])) for _ in same_head]
    return texts


def random_model(raw: dict, rows: int, columns: int, dtype: torch.dtype, device: torch.device) -> Transformer:
    """Random weights whose logits have a standard deviation near 6: a nucleus of some tokens, as a trained model has."""
    params = params_from(raw)
    before = torch.get_default_dtype()
    torch.set_default_dtype(dtype)
    try:
        with parallel.parameters_on(device), torch.device(device):
            model = Transformer(params, rows, columns)
    finally:
        torch.set_default_dtype(before)
    for module in model.modules():
        weight = getattr(module, "weight", None)
        if isinstance(weight, nn.Parameter) and not isinstance(module, Norm):
            deviation = 1.0 if module is model.tok_embeddings else weight.shape[1] ** -0.5
            weight.data.normal_(0, 6 * deviation if module is model.output else deviation)
    return model.requires_grad_(False).eval()


def floor(window: Window, model: Transformer, length: float, item: int, limits: tuple[float, float]) -> float:
    """Seconds below which no program makes the window: each prefill at the limit of arithmetic, each decode step at the
    nearer of both limits (weights once, the keys and values of the live rows once)."""
    bandwidth, flops = limits
    p = model.params
    matrices = sum(w.numel() for name, w in model.named_parameters() if "tok_embeddings" not in name and w.dim() == 2)
    live = window.live_rows
    step = matrices * item + live * (length + MEAN_LENGTH / 2) * kv_bytes_per_token(p, item)
    decodes = window.steps - window.prefills
    return window.prefill_tokens * 2 * matrices / flops + decodes * max(step / bandwidth, live * 2 * matrices / flops)


def run(args: argparse.Namespace) -> None:
    if args.shapes not in SHAPES:
        raise SystemExit(f"--shapes {args.shapes}: one of {', '.join(SHAPES)}")
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    dtype = torch.bfloat16 if device.type == "cuda" else torch.float32
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else "cpu"
    limits = next((limit for key, limit in LIMITS.items() if key in name), None)
    tokenizer = Ids(SHAPES[args.shapes]["vocab_size"])
    model = random_model(SHAPES[args.shapes], max(args.rows, STATIC_BATCH), 288, dtype, device)
    sampling = Sampling(TEMPERATURE, TOP_P, MAX_GEN)
    print(f"{name}, torch {torch.__version__}, {str(dtype)[6:]}, numerics {args.numerics}; shapes {args.shapes}, ", end="")
    print(f"{args.captions} captions in one window, {args.rows} rows; static loop: batch {STATIC_BATCH}; ", end="")
    print(f"median of {args.rounds}")
    for group in (1, 8):
        texts = prompts(args.captions, group, model.params.vocab_size)
        ids = tokenizer.encode(texts)
        few = ids[: 2 * STATIC_BATCH]  # two batches tell its speed
        generator = Generator(model, tokenizer, sampling)
        begin = time.perf_counter()
        window = generator.window(texts, range(len(texts)))  # graphs are captured here
        took = time.perf_counter() - begin
        print(f"\nexamples {'for each caption' if group == 1 else f'for every {group}'}; first window {took:.1f} s")
        ways = {
            "static loop": Way(lambda few=few: static_loop(model, few, STATIC_BATCH)),
            "native, no sharing": native(Generator(model, tokenizer, sampling, share=False), texts),
            "native": native(generator, texts),
        }
        measure(ways, args.rounds, device)
        loop, scale = ways["static loop"], len(ids) / len(few)
        loop.seconds, loop.wall = [s * scale for s in loop.seconds], [s * scale for s in loop.wall]
        loop.result = (loop.result[0], loop.result[1] * scale)
        table(ways, len(texts), set(generator.ends.nonzero()[:, 0].tolist()))
        seconds = statistics.median(ways["native"].wall)
        print(f"native: {window.drawn_tokens / seconds:.0f} tokens/s, {window.live_rows:.0f} of {model.rows} rows live on average")
        if limits is not None:
            least = floor(window, model, statistics.mean(map(len, ids)), dtype.itemsize, limits)
            print(f"share of the device's limit: {least / seconds:.0%} (at it: {len(texts) / least:.0f} captions/s)")
        mean = kept(ways["native"].result[0], set(tokenizer.ids_containing("")))
        print(f"mean caption {mean:.1f} tokens, {window.steps} steps")
