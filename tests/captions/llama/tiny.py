"""Random tiny checkpoints in Meta's layout, with a sentencepiece model trained in a second."""

import base64
import itertools
import json
import random
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import sentencepiece
import torch
import torch.distributed as dist

from synth.captions.llama import parallel
from synth.captions.llama.checkpoint import check_checkpoint, layout
from synth.captions.llama.generate import Generator, Sampling
from synth.captions.llama.model import load_model
from synth.captions.llama.params import params_from
from synth.captions.llama.reshard import save_shards, split
from synth.captions.llama.tokenizer import Tokenizer

GQA = {"dim": 64, "n_layers": 3, "n_heads": 8, "n_kv_heads": 4, "multiple_of": 32, "norm_eps": 1e-5, "vocab_size": -1}
FFN = {"dim": 64, "n_layers": 2, "n_heads": 4, "multiple_of": 32, "ffn_dim_multiplier": 1.3, "norm_eps": 1e-6, "vocab_size": -1}
LLAMA3 = {
    "dim": 64, "n_layers": 2, "n_heads": 8, "n_kv_heads": 2, "multiple_of": 32, "ffn_dim_multiplier": 1.3, "norm_eps": 1e-5,
    "rope_theta": 500000.0, "use_scaled_rope": True, "vocab_size": -1,
}  # fmt: skip
JOINS = (
    b" t", b"he", b"in", b"er", b" a", b" the", b"at", b"on", b"\n\n", b"re", b" c", b" cat", b"an", b"\xc3\xa9", b"ing", b"  ",
    b"\xe7\x8c", b"\xe7\x8c\xab", b"12", b"123", b"'s", b" =", b" =>", b"aa", b"aaa", b".\n",
)  # fmt: skip
_SYLLABLES = (("", "st", "pl", "gr", "m"), ("a", "e", "io", "u"), ("t", "rn", "ck", "sh", "l"))
WORDS = ["".join(parts) for parts in itertools.product(*_SYLLABLES)]


def train_tokenizer(path: Path, vocab_size: int = 400) -> Path:
    rng = random.Random(0)
    lines = [" ".join(rng.choices(WORDS, k=rng.randint(3, 9))) + rng.choice([".", " => x", ",", " 12"]) for _ in range(2000)]
    with path.open("wb") as out:
        sentencepiece.SentencePieceTrainer.train(
            sentence_iterator=iter(lines), model_writer=out, vocab_size=vocab_size, model_type="bpe",
            byte_fallback=True, split_digits=True, normalization_rule_name="identity", remove_extra_whitespaces=False,
            allow_whitespace_only_pieces=True, unk_id=0, bos_id=1, eos_id=2, pad_id=-1, num_threads=1, minloglevel=2,
        )  # fmt: skip
    return path


def write_ranks(path: Path, joins: Sequence[bytes] = JOINS) -> Path:
    """A table of ranks as Llama 3 has one: all bytes, the printable ones first, and then `joins`."""
    alone = [*range(33, 127), *range(161, 173), *range(174, 256)]
    tokens = [bytes([b]) for b in [*alone, *(b for b in range(256) if b not in alone)]] + list(joins)
    path.write_bytes(b"".join(base64.b64encode(token) + b" %d\n" % rank for rank, token in enumerate(tokens)))
    return path


def random_weights(params, seed: int = 0) -> dict[str, torch.Tensor]:
    """Logits with a standard deviation near 3: a nucleus of a few tokens."""
    g = torch.Generator().manual_seed(seed)
    weights = {}
    for name, (shape, _) in layout(params).items():
        if len(shape) == 1:
            weights[name] = 1 + 0.1 * torch.randn(shape, generator=g)
        else:
            scale = 1.0 if name.startswith("tok") else (3.0 if name.startswith("output") else 1.0) / shape[1] ** 0.5
            weights[name] = scale * torch.randn(shape, generator=g)
    weights["rope.freqs"] = torch.ones(params.head_dim // 2)
    return weights


def write_checkpoint(
    folder: Path, raw: dict, tokenizer: Path, degree: int = 1, newline_boost: float = 3.0, embedding_rows: bool = False
) -> Path:
    """A checkpoint of `degree` shards; `newline_boost` makes captions end somewhere between 1 and max_gen_len tokens."""
    words = Tokenizer(tokenizer)
    params = replace(params_from(raw).with_vocab(words.n_words), embedding_rows=embedding_rows)
    weights = random_weights(params)
    newline = words.ids_containing("\n")
    weights["output.weight"][newline] *= newline_boost
    save_shards(split(weights, params, degree), folder)
    (folder / "params.json").write_text(json.dumps(raw))
    (folder / "tokenizer.model").write_bytes(tokenizer.read_bytes())
    return folder


def one_process() -> None:
    """A process group of this process alone, for models of one shard."""
    if not dist.is_initialized():
        dist.init_process_group("gloo", store=dist.HashStore(), rank=0, world_size=1)
        parallel.join(1)


def load(folder: Path, rows: int = 8, columns: int = 128, rank: int = 0, dtype=torch.float32):
    tokenizer = Tokenizer(folder / "tokenizer.model")
    return load_model(check_checkpoint(folder, tokenizer.n_words), rank, dtype, torch.device("cpu"), rows, columns), tokenizer


def generator(
    folder: Path, rows: int = 4, columns: int = 128, margins: bool = False, share: bool = True, dtype=torch.float32, **sampling
) -> Generator:
    model, tokenizer = load(folder, rows, columns, dtype=dtype)
    return Generator(model, tokenizer, Sampling(**{"max_gen_len": 24, **sampling}), margins, share)


def prompts(n: int, seed: int = 1) -> list[str]:
    """Texts of 1 to 40 words."""
    rng = random.Random(seed)
    return [" ".join(rng.choices(WORDS, k=rng.choice([1, 3, 7, 12, 20, 40]))) + " =>" for _ in range(n)]


def grouped(n: int, size: int = 5, seed: int = 2) -> list[str]:
    """Texts of which `size` at a time begin alike."""
    rng = random.Random(seed)
    heads = [" ".join(rng.choices(WORDS, k=10)) for _ in range(-(-n // size))]
    return [f"{heads[i // size]}\n{rng.choice(WORDS)} =>" for i in range(n)]
