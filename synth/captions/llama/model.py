"""LLaMA 1 to 3 for inference: parallel layers, grouped-query attention, a static KV cache, ragged prefill.

Shapes: T tokens of several prompts laid end to end, N rows (captions being decoded), S cache columns, H query heads and
K key heads of this rank, G = H / K, D head size, V vocabulary. Only attention knows rows: every other layer runs on
[T, dim], so prompts of unequal length cost neither padding nor teacher-forced columns.

Pairs (x0, x1), (x2, x3), .. are rotated (RoFormer, arXiv:2104.09864), as in Meta's weights. Norms and the rotation run
in float32.
"""

import math
from collections.abc import Iterator, Sequence

import torch
import torch.nn.functional as F
from torch import nn

from synth.captions.llama import parallel
from synth.captions.llama.checkpoint import Checkpoint, load_shard
from synth.captions.llama.memory import ATTENTION_TOKENS
from synth.captions.llama.parallel import Column, Row
from synth.captions.llama.params import ModelParams
from synth.captions.llama.ragged import Chunk, Ragged

ORIGINAL_COLUMNS = 8192  # tokens that Llama 3 was trained on before it was made for longer texts
MASK_STEP = 8  # columns: a mask's rows begin at multiples of 16 bytes in half precision


class Norm(nn.Module):
    """RMSNorm (arXiv:1910.07467) in float32."""

    def __init__(self, dim: int, eps: float):
        super().__init__()
        self.eps, self.dim = eps, dim
        self.weight = nn.Parameter(torch.ones(dim))

    def forward(self, x: torch.Tensor) -> torch.Tensor:  # [.., dim]
        wide = x.float()
        scaled = wide * torch.rsqrt(wide.square().mean(-1, keepdim=True) + self.eps)
        return scaled.type_as(x) * self.weight


class Attention(nn.Module):
    def __init__(self, params: ModelParams, rows: int, columns: int):
        super().__init__()
        degree = parallel.size()
        self.heads, self.kv_heads = params.n_heads // degree, params.n_kv_heads // degree
        self.head_dim, self.grouped = params.head_dim, self.heads != self.kv_heads
        width = (params.n_heads + 2 * params.n_kv_heads) * params.head_dim
        # a rank's q, k and v rows in one matrix: one product instead of three
        self.wqkv = Column(params.dim, width)
        self.wo = Row(params.n_heads * params.head_dim, params.dim)
        # heads before columns: a head's columns are read in one stretch, 1.4 times faster on CPU than the other order
        shape = (rows, self.kv_heads, columns, self.head_dim)
        # zeros, not empty: a masked column still multiplies what lies there, and 0 * NaN is NaN
        self.register_buffer("k_cache", torch.zeros(shape), persistent=False)  # [rows, K, S, D]
        self.register_buffer("v_cache", torch.zeros(shape), persistent=False)

    def _qkv(self, x: torch.Tensor, freqs: torch.Tensor) -> tuple[torch.Tensor, ...]:
        """Rotated q [T, H, D] and k [T, K, D], and v [T, K, D], of x [T, dim]."""
        qkv = self.wqkv(x).view(x.shape[0], -1, self.head_dim)
        qk, v = qkv.split((self.heads + self.kv_heads, self.kv_heads), dim=1)
        q, k = rotate(qk, freqs).split((self.heads, self.kv_heads), dim=1)
        return q, k, v

    def _store(self, place: torch.Tensor, k: torch.Tensor, v: torch.Tensor) -> None:
        """k and v [W, K, D] to `place` [W * K] in the cache."""
        self.k_cache.view(-1, self.head_dim).index_copy_(0, place, k.reshape(-1, self.head_dim))
        self.v_cache.view(-1, self.head_dim).index_copy_(0, place, v.reshape(-1, self.head_dim))

    def prefill(
        self, x: torch.Tensor, freqs: torch.Tensor, place: torch.Tensor, batch: Ragged, masks: Sequence[torch.Tensor | None]
    ) -> torch.Tensor:  # [T, dim]
        q, k, v = self._qkv(x, freqs)
        for to, fro, columns in batch.copies:
            for cache in (self.k_cache, self.v_cache):
                cache[to, :, columns] = cache[fro, :, columns]
        if batch.source is None:
            self._store(place, k, v)
        else:  # a token that several rows share is laid out in each: a stretch of them at a time
            for source, at in zip(batch.source.split(ATTENTION_TOKENS), place.split(ATTENTION_TOKENS * self.kv_heads), strict=True):
                self._store(at, k[source], v[source])
        if len(batch.chunks) == 1:
            return self.wo(self._attend(q, k, v, batch.chunks[0], masks[0]))
        out = q.new_empty(q.shape[0], self.heads * self.head_dim)
        for chunk, mask in zip(batch.chunks, masks, strict=True):
            out[chunk.tokens] = self._attend(q[chunk.tokens], k, v, chunk, mask)
        return self.wo(out)

    def _attend(self, q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, chunk: Chunk, mask: torch.Tensor | None) -> torch.Tensor:
        """What the t queries q [t, H, D] of a chunk see, [t, H * D]; k, v [T, K, D] are those of the whole prefill."""
        if mask is None:  # right-padded, so the causal mask alone keeps every real token from the padding
            if chunk.tokens is not None:
                k, v = k[chunk.tokens], v[chunk.tokens]
            k, v = (pad(t, chunk).repeat_interleave(self.heads // self.kv_heads, 1) if self.grouped else pad(t, chunk) for t in (k, v))
            out = F.scaled_dot_product_attention(pad(q, chunk), k, v, is_causal=True)  # [n, H, longest, D]
            out = out.transpose(1, 2)
        else:
            k, v = (cache[chunk.rows, :, : chunk.span] for cache in (self.k_cache, self.v_cache))  # [n, K, span, D]
            q = pad(q, chunk).unflatten(1, (self.kv_heads, -1)).flatten(2, 3)  # [n, K, G * longest, D]
            out = F.scaled_dot_product_attention(q, k, v, attn_mask=mask)
            out = out.view(chunk.n, self.kv_heads, -1, chunk.longest, self.head_dim).permute(0, 3, 1, 2, 4)
        out = out.reshape(chunk.n * chunk.longest, -1)  # [n * longest, H * D]
        return out if chunk.padded is None else out[chunk.padded]

    def decode(self, x: torch.Tensor, freqs: torch.Tensor, place: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        n, span = mask.shape[0], mask.shape[-1]
        q, k, v = self._qkv(x, freqs)
        self._store(place, k, v)
        # the G query heads of a key head stand as G queries: keys are read once, never repeated
        q = q.view(n, self.kv_heads, -1, self.head_dim)  # [N, K, G, D]
        k, v = self.k_cache[:n, :, :span], self.v_cache[:n, :, :span]  # [N, K, span, D]
        out = F.scaled_dot_product_attention(q, k, v, attn_mask=mask)
        return self.wo(out.reshape(n, -1))  # [N, dim]


class FeedForward(nn.Module):
    """SwiGLU (arXiv:2002.05202): down(silu(gate x) * up x)."""

    def __init__(self, params: ModelParams):
        super().__init__()
        self.w13 = Column(params.dim, 2 * params.ffn_dim)
        self.w2 = Row(params.ffn_dim, params.dim)

    def forward(self, x: torch.Tensor) -> torch.Tensor:  # [T, dim]
        gate, up = self.w13(x).chunk(2, dim=-1)
        return self.w2(F.silu(gate) * up)


class Block(nn.Module):
    def __init__(self, params: ModelParams, rows: int, columns: int):
        super().__init__()
        self.attention = Attention(params, rows, columns)
        self.feed_forward = FeedForward(params)
        self.attention_norm = Norm(params.dim, params.norm_eps)
        self.ffn_norm = Norm(params.dim, params.norm_eps)


class Transformer(nn.Module):
    """One rank's part of the model, with a KV cache of `rows` x `columns`. Needs `parallel.join`."""

    def __init__(self, params: ModelParams, rows: int, columns: int):
        super().__init__()
        self.params, self.rows, self.columns = params, rows, columns
        self.name = "the checkpoint"  # for messages
        self.kv_heads = params.n_kv_heads // parallel.size()
        self.group = params.n_heads // params.n_kv_heads  # G, query heads a key head
        embedding = parallel.RowsEmbedding if params.embedding_rows else parallel.Embedding
        self.tok_embeddings = embedding(params.vocab_size, params.dim)
        self.layers = nn.ModuleList(Block(params, rows, columns) for _ in range(params.n_layers))
        self.norm = Norm(params.dim, params.norm_eps)
        self.output = parallel.Output(params.dim, params.vocab_size, bias=False)
        self.register_buffer("freqs", rotations(params, columns), persistent=False)

    @property
    def device(self) -> torch.device:
        return self.freqs.device

    def place(self, row: torch.Tensor, position: torch.Tensor) -> torch.Tensor:
        """Where the K heads of tokens at row [T] and column `position` [T] lie in a flattened cache, [T * K]."""
        heads = torch.arange(self.kv_heads, device=row.device) + self.kv_heads * row.unsqueeze(1)  # [T, K]
        return (heads * self.columns + position.unsqueeze(1)).flatten()

    def clear(self) -> None:
        """Forget everything: needed after non-finite values, which zero attention weights would not hide."""
        for layer in self.layers:
            layer.attention.k_cache.zero_()
            layer.attention.v_cache.zero_()

    def move(self, source: int, target: int, columns: int) -> None:
        """Copy the first `columns` cached tokens of row `source` to row `target`."""
        for layer in self.layers:
            for cache in (layer.attention.k_cache, layer.attention.v_cache):
                cache[target, :, :columns] = cache[source, :, :columns]


@torch.inference_mode()
def prefill(model: Transformer, batch: Ragged, every_token: bool = False) -> torch.Tensor:
    """Run whole prompts and fill their cache rows; logits of each prompt's last token, [n, V] in float32.

    `every_token=True` gives the logits of all tokens, [T, V] (for tests; the output layer is the widest one).
    """
    freqs = model.freqs[batch.position].unsqueeze(1)  # [T, 1, D/2]
    place = model.place(batch.row, batch.column)
    x = model.tok_embeddings(batch.tokens)
    masks = [chunk_mask(chunk, model.group, x.dtype) for chunk in batch.chunks]
    for layer in model.layers:
        x = x + layer.attention.prefill(layer.attention_norm(x), freqs, place, batch, masks)
        x = x + layer.feed_forward(layer.ffn_norm(x))
    if not every_token:
        x = x[batch.last]
    return model.output(model.norm(x)).float()


@torch.inference_mode()
def decode_one_token(model: Transformer, tokens: torch.Tensor, position: torch.Tensor, span: int) -> torch.Tensor:
    """Logits [N, V] in float32 after `tokens` [N], which stand at columns `position` [N] of cache rows 0..N-1.

    `span` is any bound on the columns in use: position.max() < span <= S. The caller knows it without asking the device.
    """
    row = torch.arange(tokens.shape[0], device=tokens.device)
    place = model.place(row, position)
    freqs = model.freqs[position].unsqueeze(1)  # [N, 1, D/2]
    x = model.tok_embeddings(tokens)
    mask = mask_after(position.view(-1, 1, 1, 1), span, x.dtype)  # [N, 1, 1, span]
    for layer in model.layers:
        x = x + layer.attention.decode(layer.attention_norm(x), freqs, place, mask)
        x = x + layer.feed_forward(layer.ffn_norm(x))
    return model.output(model.norm(x)).float()


def rotations(params: ModelParams, columns: int) -> torch.Tensor:
    """exp(i * column * f_j), complex64 [columns, D/2], of the frequencies f_j = theta^(-2j / D), slowed by `slower`."""
    size = params.head_dim
    freqs = 1.0 / params.rope_theta ** (torch.arange(0, size, 2, dtype=torch.float32)[: size // 2] / size)
    if params.rope_factor is not None:
        freqs = slower(freqs, params.rope_factor)
    angles = torch.outer(torch.arange(columns, dtype=torch.float32), freqs)
    return torch.polar(torch.ones_like(angles), angles)


def slower(freqs: torch.Tensor, factor: float) -> torch.Tensor:
    """Frequencies as Llama 3.1 has them for long texts: those that turn less than once in its first 8192 tokens are divided by
    `factor`, those that turn four times stay, and between them it is interpolated.
    """
    turns = ORIGINAL_COLUMNS * freqs / (2 * math.pi)
    share = ((turns - 1) / (4 - 1)).clamp(0, 1)  # of the frequency that stays
    return (1 - share) * freqs / factor + share * freqs


def rotate(x: torch.Tensor, freqs: torch.Tensor) -> torch.Tensor:
    """Turn the pairs of x [T, heads, D] by freqs [T, 1, D/2], in float32."""
    pairs = torch.view_as_complex(x.float().unflatten(-1, (-1, 2)))
    return torch.view_as_real(pairs * freqs).flatten(-2).type_as(x)


def mask_after(last: torch.Tensor, span: int, dtype: torch.dtype) -> torch.Tensor:
    """What is added to the scores of queries that see columns 0..last [.., 1] of `span`: 0, and -inf beyond; [.., span].

    In the dtype of the queries and with rows that begin at multiples of 16 bytes, as the memory-efficient kernel asks for it:
    it would make such a copy of any other mask in every layer.
    """
    width = -(-span // MASK_STEP) * MASK_STEP
    mask = torch.zeros(*last.shape[:-1], width, dtype=dtype, device=last.device)
    return mask.masked_fill_(torch.arange(width, device=last.device) > last, -torch.inf)[..., :span]


def chunk_mask(chunk: Chunk, group: int, dtype: torch.dtype) -> torch.Tensor | None:
    """The mask [n, 1, G * longest, span] of a chunk's queries; None where the causal one will do."""
    if chunk.start is None:
        return None
    last = (chunk.start.view(-1, 1) + torch.arange(chunk.longest, device=chunk.start.device)).view(chunk.n, 1, -1, 1)
    return mask_after(last.repeat(1, 1, group, 1), chunk.span, dtype)


def pad(x: torch.Tensor, chunk: Chunk) -> torch.Tensor:
    """[t, heads, D] -> [n, heads, longest, D], zeros on the right."""
    if chunk.padded is not None:
        wide = x.new_zeros(chunk.n * chunk.longest, *x.shape[1:])
        x = wide.index_copy_(0, chunk.padded, x)
    return x.view(chunk.n, chunk.longest, *x.shape[1:]).transpose(1, 2)


def load_model(checkpoint: Checkpoint, rank: int, dtype: torch.dtype, device: torch.device, rows: int, columns: int) -> Transformer:
    """This rank's part of the model from its shard, in `dtype` on `device`, ready for inference."""
    before = torch.get_default_dtype()
    torch.set_default_dtype(dtype)
    try:
        with parallel.parameters_on("meta"), torch.device(device):
            model = Transformer(checkpoint.params, rows, columns)
    finally:
        torch.set_default_dtype(before)
    shard = load_shard(checkpoint.shards[rank])
    weights = {name: nn.Parameter(w, requires_grad=False) for name, w in placed(shard, checkpoint.params.n_layers, dtype, device)}
    model.load_state_dict(weights, strict=True, assign=True)
    model.name = str(checkpoint.shards[0].parent)
    return model.requires_grad_(False).eval()


def placed(shard: dict[str, torch.Tensor], n_layers: int, dtype: torch.dtype, device: torch.device) -> Iterator[tuple[str, torch.Tensor]]:
    """(this model's name, weight on `device` in `dtype`) of a shard that is mapped from its file.

    wq, wk, wv become one matrix, and w1 (gate), w3 (up) another. On its way to a GPU nothing but a tensor at a time lies in the
    host's own memory; on a CPU what needs no change stays mapped, so that all workers of a machine share it.
    """

    def joined(*names: str) -> torch.Tensor:
        parts = [shard[name] for name in names]
        whole = room((sum(len(p) for p in parts), *parts[0].shape[1:]), dtype, device)
        for part, rows in zip(parts, whole.split([len(p) for p in parts]), strict=True):
            rows.copy_(part)  # cast on the way: fp16 on disk, whatever is asked for in memory
        return whole

    def alone(name: str) -> torch.Tensor:
        return shard[name] if device.type == "cpu" and shard[name].dtype == dtype else joined(name)

    for name in ("tok_embeddings.weight", "norm.weight", "output.weight"):
        yield name, alone(name)
    for layer in (f"layers.{i}." for i in range(n_layers)):
        yield layer + "attention.wqkv.weight", joined(*(f"{layer}attention.w{x}.weight" for x in "qkv"))
        yield layer + "feed_forward.w13.weight", joined(layer + "feed_forward.w1.weight", layer + "feed_forward.w3.weight")
        for name in ("attention.wo.weight", "feed_forward.w2.weight", "attention_norm.weight", "ffn_norm.weight"):
            yield layer + name, alone(layer + name)


def room(shape: tuple[int, ...], dtype: torch.dtype, device: torch.device) -> torch.Tensor:
    """Memory for a weight."""
    return torch.empty(shape, dtype=dtype, device=device)
