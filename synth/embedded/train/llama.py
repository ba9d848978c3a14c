"""Train the caption model: a small LLaMA with Meta's weight names (interleaved rotary pairs, RMSNorm, SwiGLU, GQA).

Only targets are learned (see caption_corpus.py): the caption after `=>` and the newline that ends it. See training.py for
--minutes; `--export FOLDER` writes params.json, consolidated.00.pth (fp16) and tokenizer.model in Meta's layout from the
averaged weights.
"""

import argparse
import json
import math
import shutil
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import sentencepiece
import torch
import torch.nn.functional as F
from torch import nn

from synth.embedded.train.caption_corpus import Corpus, emoji_names
from synth.embedded.train.rounding import round_mantissa
from synth.embedded.train.training import Training


@dataclass(frozen=True)
class Shape:
    """Meta's params.json. dim 192 and 6 heads of 32; 2 key heads, so that the model can be split over 2 processes."""

    dim: int = 192
    n_layers: int = 4
    n_heads: int = 6
    n_kv_heads: int = 2
    vocab_size: int = -1
    multiple_of: int = 32
    norm_eps: float = 1e-5


def rope(x: torch.Tensor, cos: torch.Tensor, sin: torch.Tensor) -> torch.Tensor:
    """Rotate interleaved pairs of [B, H, S, D]; cos, sin [S, D / 2]."""
    a, b = x[..., 0::2], x[..., 1::2]
    return torch.stack((a * cos - b * sin, a * sin + b * cos), -1).flatten(-2)


class Attention(nn.Module):
    def __init__(self, s: Shape):
        super().__init__()
        self.heads, self.kv_heads, self.head_dim = s.n_heads, s.n_kv_heads, s.dim // s.n_heads
        self.wq = nn.Linear(s.dim, s.dim, bias=False)
        self.wk = nn.Linear(s.dim, self.kv_heads * self.head_dim, bias=False)
        self.wv = nn.Linear(s.dim, self.kv_heads * self.head_dim, bias=False)
        self.wo = nn.Linear(s.dim, s.dim, bias=False)

    def forward(self, x, cos, sin):
        b, length, _ = x.shape
        q, k, v = (w(x).view(b, length, -1, self.head_dim).transpose(1, 2) for w in (self.wq, self.wk, self.wv))
        out = F.scaled_dot_product_attention(rope(q, cos, sin), rope(k, cos, sin), v, is_causal=True, enable_gqa=True)
        return self.wo(out.transpose(1, 2).flatten(2))


class FeedForward(nn.Module):
    def __init__(self, s: Shape):
        super().__init__()
        hidden = s.multiple_of * math.ceil(int(8 * s.dim / 3) / s.multiple_of)
        self.w1 = nn.Linear(s.dim, hidden, bias=False)
        self.w3 = nn.Linear(s.dim, hidden, bias=False)
        self.w2 = nn.Linear(hidden, s.dim, bias=False)

    def forward(self, x):
        return self.w2(F.silu(self.w1(x)) * self.w3(x))


class Block(nn.Module):
    def __init__(self, s: Shape):
        super().__init__()
        self.attention, self.feed_forward = Attention(s), FeedForward(s)
        self.attention_norm, self.ffn_norm = nn.RMSNorm(s.dim, s.norm_eps), nn.RMSNorm(s.dim, s.norm_eps)


class Llama(nn.Module):
    """Logits [B, S, V] of tokens [B, S]. Parameter names are those of Meta's consolidated.00.pth."""

    def __init__(self, s: Shape, vocab: int):
        super().__init__()
        self.tok_embeddings = nn.Embedding(vocab, s.dim)
        self.layers = nn.ModuleList(Block(s) for _ in range(s.n_layers))
        self.norm = nn.RMSNorm(s.dim, s.norm_eps)
        self.output = nn.Linear(s.dim, vocab, bias=False)
        head = s.dim // s.n_heads
        self.register_buffer("freqs", 1.0 / 10000 ** (torch.arange(0, head, 2).float() / head), persistent=False)
        for name, p in self.named_parameters():
            if p.dim() == 2:
                nn.init.normal_(p, std=0.02 / math.sqrt(2 * s.n_layers) if name.endswith(("wo.weight", "w2.weight")) else 0.04)

    def hidden(self, tokens):
        angle = torch.outer(torch.arange(tokens.shape[1]).float(), self.freqs)
        cos, sin, x = angle.cos(), angle.sin(), self.tok_embeddings(tokens)
        for layer in self.layers:
            x = x + layer.attention(layer.attention_norm(x), cos, sin)
            x = x + layer.feed_forward(layer.ffn_norm(x))
        return self.norm(x)

    def forward(self, tokens):
        return self.output(self.hidden(tokens))


def encode(tokenizer, heading: str, lines) -> tuple[list[int], list[int]]:
    """(tokens with bos, 1 where the token is a target). The text is what the prompt maker writes."""
    ids, learn = [1, *tokenizer.encode(heading)], [0] * (1 + len(tokenizer.encode(heading)))
    for line in lines:
        query, answer = tokenizer.encode(f"\n\n{line.query} =>"), tokenizer.encode(f" {line.caption}\n")
        ids += query + answer
        learn += [0] * len(query) + [int(line.learned)] * len(answer)
        # the newline after a caption is the first of the two before the next line
        if line is not lines[-1]:
            ids.pop(), learn.pop()
    return ids, learn


def batches(corpus: Corpus, tokenizer, rng, size: int, longest: int) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
    """(tokens [B, S], learn [B, S]) without end, right-padded; eight batches at a time share documents sorted by length."""
    while True:
        rows = [encode(tokenizer, *corpus.document(rng)) for _ in range(8 * size)]
        rows = sorted((row for row in rows if len(row[0]) <= longest), key=lambda row: len(row[0]))
        for first in rng.permutation(range(0, len(rows) - size + 1, size)):
            chosen = rows[first : first + size]
            width = len(chosen[-1][0])
            padded = [[row + [0] * (width - len(row)) for row in column] for column in zip(*chosen, strict=True)]
            yield torch.tensor(padded[0]), torch.tensor(padded[1])


def loss_of(model: Llama, tokens: torch.Tensor, learn: torch.Tensor) -> torch.Tensor:
    chosen = learn[:, 1:].bool()  # the output layer runs on targets only
    return F.cross_entropy(model.output(model.hidden(tokens[:, :-1])[chosen]), tokens[:, 1:][chosen])


def export(model: Llama, shape: Shape, tokenizer: Path, folder: Path, bits: int) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    weights = {name: round_mantissa(p, bits) for name, p in model.state_dict().items()}
    weights["rope.freqs"] = model.freqs.half()
    torch.save(weights, folder / "consolidated.00.pth")
    (folder / "params.json").write_text(json.dumps(asdict(shape), indent=1) + "\n")
    shutil.copyfile(tokenizer, folder / "tokenizer.model")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("icons", type=Path, help="icons.json of fluent-emoji-flat, for real nouns")
    parser.add_argument("tokenizer", type=Path, help="tokenizer.model of caption_tokenizer.py")
    parser.add_argument("out", type=Path, help="checkpoint to write (.pt)")
    parser.add_argument("--without", type=Path, help="JSON list of names to keep out of training, for the benchmark")
    parser.add_argument("--minutes", type=float, default=20)
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--lr", type=float, default=2.5e-3)
    parser.add_argument("--bf16", action="store_true", help="autocast; faster where the CPU has bfloat16 products")
    parser.add_argument("--export", type=Path, help="write Meta's layout here from an existing checkpoint, and stop")
    parser.add_argument("--mantissa-bits", type=int, default=7, help="of the export, see rounding.py (default: %(default)s)")
    args = parser.parse_args()
    torch.set_num_threads(1)
    torch.manual_seed(0)
    tokenizer, shape = sentencepiece.SentencePieceProcessor(model_file=str(args.tokenizer)), Shape()
    model = Llama(shape, tokenizer.vocab_size())
    run = Training(model, args.out, args.minutes, args.lr, 150, 0.995, betas=(0.9, 0.98), weight_decay=0.02)
    if args.export:
        export(run.ema, shape, args.tokenizer, args.export, args.mantissa_bits)
        return
    without = frozenset(n.lower() for n in json.loads(args.without.read_text())) if args.without else frozenset()
    corpus, rng = Corpus(emoji_names(args.icons), without), np.random.default_rng(run.step)
    print(f"{sum(p.numel() for p in model.parameters()) / 1e6:.2f} M parameters", flush=True)
    stream, total, seen = batches(corpus, tokenizer, rng, args.batch, 200), 0.0, 0
    for _ in run.running():
        tokens, learn = next(stream)
        with torch.autocast("cpu", torch.bfloat16, enabled=args.bf16):
            loss = loss_of(model, tokens, learn)
        run.learn(loss)
        total, seen = total + loss.item(), seen + tokens.numel()
        if (run.step + 1) % 50 == 0:
            print(f"step {run.step + 1} {run.spent / 60:.1f} min  loss {total / 50:.4f}  {seen / 50:.0f} tokens a step", flush=True)
            total, seen = 0.0, 0
    print(f"done at step {run.step}", flush=True)


if __name__ == "__main__":
    main()
