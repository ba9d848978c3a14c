"""How full the rows of the native engine are: its own loop with a model that has no layers, so that only lengths matter.

    python -m tests.bench.captions --simulate

Captions end by chance with a mean of 28 tokens, a fifth is rejected and asked for again, prompts are as captions_shapes has
them, rows are those of a GPU (256, or the window), and so are all rules of refilling. Windows in which a rejected caption joins
those that wait are compared with rounds, each of which asks what the last one left open. Captions a second are those at the
limits of an H100 with LLaMA-2-7B (weights and keys read once a step, prefills at the limit of arithmetic): no device reaches them.
"""

import dataclasses
import random
from collections.abc import Callable, Iterator, Sequence

import torch

from synth.captions.asking import Dialogue, converse, in_rounds
from synth.captions.engines import Completion, Request, Serve
from synth.captions.llama.generate import PATIENCE, Generator, Sampling, Window
from synth.captions.llama.memory import MAX_ROWS, PREFILL_TOKENS, kv_bytes_per_token
from synth.captions.llama.model import Transformer
from synth.captions.llama.params import params_from
from tests.bench.captions_shapes import MEAN_LENGTH, QUERY, SHAPES, SHARED, Ids, prompts

H100 = (3.35e12, 989e12)  # bytes/s of memory, dense FLOP/s in half precision, as its maker states them
VOCABULARY = 4 * MEAN_LENGTH
REJECTED = 0.2  # share of captions
ATTEMPTS = 3
GROUP = 8  # captions that share their examples
WINDOWS = (32, 256, 1024, 4096)


def lengths_only(rows: int) -> Generator:
    """A generator as on a GPU, whose model gives every token the same probability."""
    shape = {"dim": 8, "n_layers": 1, "n_heads": 1, "multiple_of": 8, "vocab_size": VOCABULARY}
    model = Transformer(dataclasses.replace(params_from(shape), n_layers=0), rows, 512)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.zero_()
    generator = Generator(model.requires_grad_(False).eval(), Ids(VOCABULARY), Sampling(1.0, 1.0, 100))
    generator.lag, generator.patience, generator.prefill_tokens = 1, PATIENCE, PREFILL_TOKENS["cuda"]
    return generator


def dialogues(n: int) -> Iterator[Dialogue[None]]:
    """`n` slots, each of which asks until its caption is not rejected."""
    texts = prompts(n * ATTEMPTS, GROUP, VOCABULARY)

    def slot(i: int) -> Dialogue[None]:
        draws = random.Random(i)
        for attempt in range(ATTEMPTS):
            yield Request(texts[attempt * n + i], seed=attempt * n + i)
            if draws.random() >= REJECTED:
                return

    return map(slot, range(n))


def growing(generator: Generator, windows: list[Window]) -> Serve:
    def serve(requests: Sequence[Request], more: Callable) -> None:
        def plain(asked: Sequence[Request]) -> tuple[list[str], list[int]]:
            return [r.text for r in asked], [r.seed for r in asked]

        windows.append(generator.window(*plain(requests), lambda ended: plain(more(ended))))

    return serve


def rounds(generator: Generator, windows: list[Window]) -> Serve:
    def generate(requests: Sequence[Request]) -> list[Completion]:
        windows.append(generator.window([r.text for r in requests], [r.seed for r in requests]))
        return windows[-1].completions

    return in_rounds(generate)


def limit(windows: Sequence[Window]) -> float:
    """Seconds that an H100 needs at least for the same steps with LLaMA-2-7B in half precision."""
    bandwidth, flops = H100
    params = params_from(SHAPES["7b"])
    matrices = params.n_layers * (4 * params.dim**2 + 3 * params.dim * params.ffn_dim) + params.vocab_size * params.dim
    row = (SHARED + QUERY + MEAN_LENGTH / 2) * kv_bytes_per_token(params, 2)  # its keys and values, on average
    read = sum(2 * matrices * w.steps + w.decode_tokens * row for w in windows)
    return read / bandwidth + sum(w.prefill_tokens for w in windows) * 2 * matrices / flops


def simulate() -> None:
    print(f"{REJECTED:.0%} rejected, captions of {MEAN_LENGTH} tokens on average, examples for every {GROUP}")
    print("| window | rows | way | live rows | steps | of them prefills | captions/s at an H100's limits |\n|---|---|---|---|---|---|---|")
    for size in WINDOWS:
        rows = min(size, MAX_ROWS)
        for name, way in (("rounds", rounds), ("in the window", growing)):
            windows: list[Window] = []
            converse(list(dialogues(size)), way(lengths_only(rows), windows))
            steps, prefills = (sum(getattr(w, what) for w in windows) for what in ("steps", "prefills"))
            live = sum(w.live_row_steps for w in windows) / (steps - prefills)
            print(f"| {size} | {rows} | {name} | {live:.0f} | {steps} | {prefills} | {size / limit(windows):.0f} |")
