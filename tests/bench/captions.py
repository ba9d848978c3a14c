"""Captions a second: Meta's static loop, transformers' generate and the native engine, side by side in one run.

    python -m tests.bench.captions [--ckpt DIR] [--captions 128] [--batch 32] [--rounds 3]

Same weights, prompts and sampling (temperature 0.8, top-p 0.9, at most 100 tokens). Without --ckpt: random weights of the
embedded model's size, and prompts of the length of SynCLR's. Rounds are interleaved; the medians are printed.
"""

import argparse
import os
import platform
import random
import statistics
import tempfile
import time
from pathlib import Path

import torch

from synth.captions.llama.checkpoint import load_shard
from synth.captions.llama.generate import Generator, Sampling
from synth.captions.llama.model import Ragged, decode_one_token, prefill
from synth.captions.llama.reshard import to_transformers
from tests.captions.llama import tiny

SHAPE = {"dim": 192, "n_layers": 5, "n_heads": 6, "multiple_of": 32, "norm_eps": 1e-5, "vocab_size": -1}
TEMPERATURE, TOP_P, MAX_GEN = 0.8, 0.9, 100


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
        given = tokens >= 0
        logits = prefill(model, Ragged.of([r[:shortest] for r in rows], range(n), model.device))
        passed += n * shortest
        for column in range(shortest, total):
            probs, ids = torch.softmax(logits / TEMPERATURE, -1).sort(dim=-1, descending=True)
            probs[probs.cumsum(-1) - probs > TOP_P] = 0
            drawn = ids.gather(-1, torch.multinomial(probs, 1))[:, 0]
            tokens[:, column] = torch.where(given[:, column], tokens[:, column], drawn)
            if column + 1 < total:
                position = torch.full((n,), column)
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


def kept(captions: list[list[int]], ends: set[int]) -> float:
    """Mean length of captions cut after their first stop token."""
    return statistics.mean(next((i + 1 for i, t in enumerate(c) if t in ends), len(c)) for c in captions)


def reference(folder: Path, params):
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


def few_shot(n: int) -> list[str]:
    """Three examples and a question, as long as SynCLR's prompts (random words: only the length matters)."""
    rng = random.Random(0)
    lines = [" ".join(rng.choices(tiny.WORDS, k=rng.randint(20, 50))) for _ in range(60)]
    return ["\n".join([*rng.sample(lines, 3), " ".join(rng.choices(tiny.WORDS, k=2)) + " =>"]) for _ in range(n)]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--ckpt", type=Path, help="checkpoint of one shard, captions ending in a newline")
    parser.add_argument("--captions", type=int, default=128)
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=1)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    tiny.one_process()
    with tempfile.TemporaryDirectory() as scratch:
        folder, stop = args.ckpt, ("\n",)
        if folder is None:
            words = tiny.train_tokenizer(Path(scratch) / "tokenizer.model")
            folder = tiny.write_checkpoint(Path(scratch) / "model", SHAPE, words, newline_boost=1)
            stop = ("ck",)  # random weights never learnt to end: this text ends captions after about 20 tokens
        model, tokenizer = tiny.load(folder, rows=args.batch, columns=512)
        hf = reference(folder, model.params)
    generator = Generator(model, tokenizer, Sampling(TEMPERATURE, TOP_P, MAX_GEN, stop))
    ends = generator.ends.nonzero()[:, 0].tolist()
    texts = few_shot(args.captions)
    prompts = tokenizer.encode(texts)

    def native():
        window = generator.window(texts, range(len(texts)))
        return window.tokens, window.prefill_tokens + window.decode_tokens

    ways = {
        "static loop": lambda: static_loop(model, prompts, args.batch),
        "transformers": lambda: transformers_generate(hf, prompts, args.batch, ends),
        "native": native,
    }
    seconds = {name: [] for name in ways}
    results = {}
    native()  # warm
    for _ in range(args.rounds):
        for name, way in ways.items():
            begin = time.perf_counter()
            results[name] = way()
            seconds[name].append(time.perf_counter() - begin)
    medians = {name: statistics.median(s) for name, s in seconds.items()}
    p = model.params
    print(f"{platform.machine()}, {args.threads} thread(s), load {os.getloadavg()[0]:.1f}, torch {torch.__version__}, float32")
    print(f"dim {p.dim}, {p.n_layers} layers, vocabulary {p.vocab_size}; {len(texts)} captions, batch {args.batch}; ", end="")
    print(f"prompts {statistics.mean(map(len, prompts)):.0f} tokens; median of {args.rounds}")
    print("| way | captions/s | x static | model tokens/caption | caption tokens | s (all rounds) |\n|---|---|---|---|---|---|")
    for name, (captions, passed) in results.items():
        speed = medians["static loop"] / medians[name]
        print(
            f"| {name} | {len(texts) / medians[name]:.1f} | {speed:.2f} | {passed / len(texts):.1f} | "
            f"{kept(captions, set(ends)):.1f} | " + " ".join(f"{s:.2f}" for s in seconds[name]) + " |"
        )  # fmt: skip


if __name__ == "__main__":
    main()
