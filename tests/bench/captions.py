"""Captions a second: Meta's static loop, transformers' generate and the native engine, side by side in one run.

    python -m tests.bench.captions [--captions 128] [--batch 32] [--rounds 5] [--shots 3] [--ckpt DIR]
    python -m tests.bench.captions --shapes 7b        # random weights of LLaMA-2-7B's shapes, for a GPU
    python -m tests.bench.captions --simulate         # rows live on average, in windows of several sizes

Same weights, prompts and sampling (temperature 0.8, top-p 0.9, at most 100 tokens) for all. Prompts are those of the embedded
dataset: a heading, examples, a query; the examples drawn anew for each caption, and once for every eight. Rounds are
interleaved, ratios are taken within a round, medians are printed. On a CPU the seconds are those of this process's one
thread, which other work on the machine disturbs less than the clock on the wall; that one is printed too.
"""

import argparse
import json
import os
import platform
import random
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import torch

from synth import numerics
from synth.captions.llama.checkpoint import load_shard
from synth.captions.llama.generate import Generator, Sampling, Window
from synth.captions.llama.model import decode_one_token, prefill
from synth.captions.llama.ragged import Ragged
from synth.captions.prompts.modes import HEADINGS, RELATIONS, SECOND
from tests.captions.llama import tiny
from tests.captions.llama.as_transformers import to_transformers

TEMPERATURE, TOP_P, MAX_GEN = 0.8, 0.9, 100
EMBEDDED = Path(__file__).resolve().parents[2] / "synth" / "embedded"
SHARES = {"class": 0.44, "class_background": 0.45, "class_relation": 0.11}
GOALS = {"static loop": 5.0, "transformers": 1.5}  # times as many captions, on a CPU core with the embedded model


@torch.inference_mode()
def static_loop(model, prompts: list[list[int]], batch: int) -> tuple[list[list[int]], int]:
    """What Meta's generate does: equal columns for all rows, prompts teacher-forced, a full sort, no early stop."""
    captions, passed = [], 0
    for start in range(0, len(prompts), batch):
        rows = prompts[start : start + batch]
        n, shortest, longest = len(rows), min(map(len, rows)), max(map(len, rows))
        total = min(model.columns, longest + MAX_GEN)
        tokens = torch.full((n, total), -1)
        for i, row in enumerate(rows):
            tokens[i, : len(row)] = torch.tensor(row)
        tokens = tokens.to(model.device)
        given = tokens >= 0
        logits = prefill(model, Ragged.of([r[:shortest] for r in rows], range(n), model.device))
        passed += n * shortest
        for column in range(shortest, total):
            probs, ids = torch.softmax(logits / TEMPERATURE, -1).sort(dim=-1, descending=True)
            probs[probs.cumsum(-1) - probs > TOP_P] = 0
            drawn = ids.gather(-1, torch.multinomial(probs, 1))[:, 0]
            tokens[:, column] = torch.where(given[:, column], tokens[:, column], drawn)
            if column + 1 < total:
                position = torch.full((n,), column, device=model.device)
                logits = decode_one_token(model, tokens[:, column], position, column + 1)
                passed += n
        captions += [tokens[i, len(r) : len(r) + MAX_GEN].tolist() for i, r in enumerate(rows)]
    return captions, passed


@torch.inference_mode()
def transformers_generate(hf, prompts: list[list[int]], batch: int, ends: list[int]) -> tuple[list[list[int]], int]:
    """Sorted by length, batched, left-padded, a static cache, stopping when every row has met a stop token."""
    captions, passed = [], 0
    order = sorted(range(len(prompts)), key=lambda i: len(prompts[i]))
    for start in range(0, len(order), batch):
        rows = [prompts[i] for i in order[start : start + batch]]
        longest = max(map(len, rows))
        ids = torch.tensor([[0] * (longest - len(r)) + r for r in rows])
        mask = torch.tensor([[0] * (longest - len(r)) + [1] * len(r) for r in rows])
        out = hf.generate(
            ids, attention_mask=mask, do_sample=True, temperature=TEMPERATURE, top_p=TOP_P, top_k=0, max_new_tokens=MAX_GEN,
            eos_token_id=ends, pad_token_id=0, cache_implementation="static", disable_compile=True,
        )  # fmt: skip
        captions += out[:, longest:].tolist()
        passed += len(rows) * (out.shape[1] - 1)
    return captions, passed


def reference(folder: Path, params):
    """The checkpoint as transformers' LlamaForCausalLM."""
    from transformers import LlamaConfig, LlamaForCausalLM

    config = LlamaConfig(
        hidden_size=params.dim, intermediate_size=params.ffn_dim, num_hidden_layers=params.n_layers,
        num_attention_heads=params.n_heads, num_key_value_heads=params.n_kv_heads, vocab_size=params.vocab_size,
        rms_norm_eps=params.norm_eps, tie_word_embeddings=False, max_position_embeddings=2048,
    )  # fmt: skip
    hf = LlamaForCausalLM(config).eval()
    weights = to_transformers(load_shard(folder / "consolidated.00.pth"), params)
    hf.load_state_dict({name: w.float() for name, w in weights.items()})
    return hf


def few_shot(n: int, group: int, shots: int, seed: int = 0) -> list[str]:
    """Prompts of the embedded dataset, `group` captions in a row with the same mode and examples."""
    pictures = EMBEDDED / "pictures"
    names = ("examples", "backgrounds", "classes")
    examples, places, listed = (json.loads((pictures / f"{name}.json").read_text()) for name in names)
    rng, prompts = random.Random(seed), []
    while len(prompts) < n:
        mode = rng.choices(list(SHARES), SHARES.values())[0]
        key = SECOND.get(mode)
        chosen = rng.sample(examples[mode], shots)
        lines = [f"{e['class']}, {e[key]} => {e['caption']}" if key else f"{e['class']} => {e['caption']}" for e in chosen]
        for _ in range(min(group, n - len(prompts))):
            second = {"background": places["*"], "relation": RELATIONS}.get(key)
            query = rng.choice(listed["classes"]) + (f", {rng.choice(second)}" if second else "")
            prompts.append("\n\n".join([HEADINGS[mode], *lines, f"{query} =>"]))
    return prompts


def kept(captions: list[list[int]], ends: set[int]) -> float:
    """Mean length of captions cut after their first stop token."""
    return statistics.mean(next((i + 1 for i, t in enumerate(c) if t in ends), len(c)) for c in captions)


@dataclass
class Way:
    """One way to make the captions: run() -> (tokens of each, tokens through the model); seconds of each round."""

    run: Callable[[], tuple[list[list[int]], int]]
    seconds: list[float] = field(default_factory=list)
    wall: list[float] = field(default_factory=list)
    result: tuple[list[list[int]], int] | None = None
    window: Window | None = None  # the native engine's own account of its last round


def measure(ways: dict[str, Way], rounds: int, device: torch.device) -> None:
    """All ways in turn, `rounds` times, after one turn of the last way to warm up."""
    list(ways.values())[-1].run()
    for _ in range(rounds):
        for way in ways.values():
            wall, cpu = time.perf_counter(), time.process_time()
            way.result = way.run()
            if device.type == "cuda":
                torch.cuda.synchronize(device)
            way.wall.append(time.perf_counter() - wall)
            way.seconds.append(way.wall[-1] if device.type == "cuda" else time.process_time() - cpu)


def ratio(way: Way, base: Way) -> float:
    """How many times as fast `way` is as `base`, within a round; the median."""
    return statistics.median(b / w for w, b in zip(way.seconds, base.seconds, strict=True))


def table(ways: dict[str, Way], n: int, ends: set[int]) -> None:
    bases = [name for name in GOALS if name in ways]
    header = ["way", "captions/s", *(f"x {name}" for name in bases), "by the clock", "model tokens/caption", "caption tokens"]
    print("| " + " | ".join(header) + " |")
    print("|" + "---|" * (5 + len(bases)))
    for name, way in ways.items():
        times = [f"{ratio(way, ways[base]):.2f}" for base in bases]
        rates = [n / statistics.median(s) for s in (way.seconds, way.wall)]
        captions, passed = way.result
        cells = [name, f"{rates[0]:.1f}", *times, f"{rates[1]:.1f}", f"{passed / n:.1f}", f"{kept(captions, ends):.1f}"]
        print("| " + " | ".join(cells) + " |")


def native(generator: Generator, texts: Sequence[str]) -> Way:
    def run():
        way.window = window = generator.window(texts, range(len(texts)))
        return window.tokens, window.prefill_tokens + window.decode_tokens

    way = Way(run)
    return way


def on_cpu(args: argparse.Namespace) -> None:
    model, tokenizer = tiny.load(args.ckpt, rows=args.batch, columns=512)
    hf = reference(args.ckpt, model.params)
    sampling = Sampling(TEMPERATURE, TOP_P, MAX_GEN, ("\n",))
    p = model.params
    print(f"{platform.machine()}, 1 thread, load {os.getloadavg()[0]:.1f}, torch {torch.__version__}, float32; ", end="")
    print(f"dim {p.dim}, {p.n_layers} layers, vocabulary {p.vocab_size}; median of {args.rounds}")
    for group in (1, 8):
        texts = few_shot(args.captions, group, args.shots)
        prompts = tokenizer.encode(texts)
        every = Generator(model, tokenizer, sampling)
        ends = every.ends.nonzero()[:, 0].tolist()
        ways = {
            "static loop": Way(lambda prompts=prompts: static_loop(model, prompts, args.batch)),
            "transformers": Way(lambda prompts=prompts, ends=ends: transformers_generate(hf, prompts, args.batch, ends)),
            "native, no sharing, no refill": native(Generator(model, tokenizer, sampling, share=False, refill=False), texts),
            "native, no sharing": native(Generator(model, tokenizer, sampling, share=False), texts),
            "native, no refill": native(Generator(model, tokenizer, sampling, refill=False), texts),
            "native": native(every, texts),
        }
        measure(ways, args.rounds, model.device)
        length = statistics.mean(map(len, prompts))
        print(f"\n{len(texts)} captions in one window, {args.batch} rows, prompts of {length:.0f} tokens, ", end="")
        print("examples drawn for each caption" if group == 1 else f"examples drawn for every {group} captions")
        table(ways, len(texts), set(ends))
        plain, ours = ways["native, no sharing, no refill"].result[0], ways["native"].result[0]
        changed = sum(a != b for a, b in zip(ours, plain, strict=True))
        print(f"captions that sharing and refill change: {changed} of {len(texts)}")
        for base, goal in GOALS.items():
            reached = ratio(ways["native"], ways[base])
            print(f"goal: {goal:g} x {base} on a CPU core: {reached:.2f}, {'reached' if reached >= goal else 'NOT reached'}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--ckpt", type=Path, default=EMBEDDED / "models" / "tiny_llama", help="checkpoint of one shard")
    parser.add_argument("--captions", type=int, default=128, help="captions of one window")
    parser.add_argument("--batch", type=int, default=32, help="rows decoded together, by every way")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--shots", type=int, default=3, help="examples a prompt; 6 make prompts as long as SynCLR's")
    parser.add_argument("--shapes", help="7b, 13b or smoke: random weights of these shapes instead, on a GPU if there is one")
    parser.add_argument("--simulate", action="store_true", help="only count how full the rows are, in windows of several sizes")
    parser.add_argument("--rows", type=int, help="with --shapes: rows of the native engine (default: what fits the GPU, 256 at most)")
    parser.add_argument("--groups", default="1,8", help="with --shapes: captions that share their examples (default 1,8)")
    parser.add_argument("--native-only", action="store_true", help="with --shapes: without what the native engine is compared with")
    parser.add_argument("--numerics", default="exact", choices=sorted(numerics.PRESETS), help="with --shapes")
    args = parser.parse_args()
    numerics.apply(numerics.PRESETS[args.numerics])
    tiny.one_process()
    if args.simulate:
        from tests.bench import captions_rows

        captions_rows.simulate()
    elif args.shapes is None:
        on_cpu(args)
    else:
        from tests.bench import captions_shapes

        captions_shapes.run(args)


if __name__ == "__main__":
    main()
