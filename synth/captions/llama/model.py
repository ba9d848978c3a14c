"""LLaMA-2 for inference: parallel layers of fairscale, grouped-query attention, a static KV cache, ragged prefill.

Shapes: T tokens of several prompts laid end to end, N rows (captions being decoded), S cache columns, H query heads and
K key heads of this rank, G = H / K, D head size, V vocabulary. Only attention knows rows: every other layer runs on
[T, dim], so prompts of unequal length cost neither padding nor teacher-forced columns.

Pairs (x0, x1), (x2, x3), .. are rotated (RoFormer, arXiv:2104.09864), as in Meta's weights. Norms and the rotation run
in float32.
"""

import contextlib
from collections.abc import Iterator

import torch
import torch.distributed as dist
import torch.nn.functional as F
from fairscale.nn.model_parallel import initialize as groups
from fairscale.nn.model_parallel import layers as parallel
from torch import nn

from synth.captions.llama.checkpoint import Checkpoint, layout, load_shard
from synth.captions.llama.params import ModelParams
from synth.captions.llama.ragged import Ragged


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


class Column(parallel.ColumnParallelLinear):
    """This rank's rows of the matrix. fairscale's own pass is for training: its autograd functions cost 4% of a CPU step."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:  # [T, dim] -> [T, its part of the width]
        return F.linear(x, self.weight)


class Row(parallel.RowParallelLinear):
    """This rank's columns of the matrix, the products added up over the ranks."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:  # [T, its part of the width] -> [T, dim]
        out = F.linear(x, self.weight)
        if groups.get_model_parallel_world_size() > 1:
            dist.all_reduce(out, group=groups.get_model_parallel_group())
        return out


class Attention(nn.Module):
    def __init__(self, params: ModelParams, rows: int, columns: int):
        super().__init__()
        degree = groups.get_model_parallel_world_size()
        self.heads, self.kv_heads = params.n_heads // degree, params.n_kv_heads // degree
        self.head_dim, self.grouped = params.head_dim, self.heads != self.kv_heads
        width = (params.n_heads + 2 * params.n_kv_heads) * params.head_dim
        # a rank's q, k and v rows in one matrix: one product instead of three
        self.wqkv = Column(params.dim, width, bias=False, gather_output=False)
        self.wo = Row(params.n_heads * params.head_dim, params.dim, bias=False, input_is_parallel=True)
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

    def prefill(self, x: torch.Tensor, freqs: torch.Tensor, place: torch.Tensor, batch: Ragged) -> torch.Tensor:  # [T, dim]
        q, k, v = self._qkv(x, freqs)
        if batch.copies is not None:
            to, fro, count = batch.copies
            for cache in (self.k_cache, self.v_cache):
                cache[to, :, :count] = cache[fro, :, :count]
        self._store(place, *((k, v) if batch.source is None else (k[batch.source], v[batch.source])))
        q = pad(q, batch)  # [n, H, longest, D]
        if batch.seen is None:  # right-padded, so the causal mask alone keeps every real token from the padding
            out = F.scaled_dot_product_attention(q, pad(k, batch), pad(v, batch), is_causal=True, enable_gqa=self.grouped)
        else:
            k, v = self.k_cache[batch.rows, :, : batch.span], self.v_cache[batch.rows, :, : batch.span]  # [n, K, span, D]
            out = F.scaled_dot_product_attention(q, k, v, attn_mask=batch.seen, enable_gqa=self.grouped)
        out = out.transpose(1, 2).reshape(batch.n * batch.longest, -1)  # [n * longest, H * D]
        return self.wo(out if batch.padded is None else out[batch.padded])

    def decode(self, x: torch.Tensor, freqs: torch.Tensor, place: torch.Tensor, seen: torch.Tensor) -> torch.Tensor:
        n, span = seen.shape[0], seen.shape[-1]
        q, k, v = self._qkv(x, freqs)
        self._store(place, k, v)
        # the G query heads of a key head stand as G queries: keys are read once, never repeated
        q = q.view(n, self.kv_heads, -1, self.head_dim)  # [N, K, G, D]
        k, v = self.k_cache[:n, :, :span], self.v_cache[:n, :, :span]  # [N, K, span, D]
        out = F.scaled_dot_product_attention(q, k, v, attn_mask=seen)
        return self.wo(out.reshape(n, -1))  # [N, dim]


class FeedForward(nn.Module):
    """SwiGLU (arXiv:2002.05202): down(silu(gate x) * up x)."""

    def __init__(self, params: ModelParams):
        super().__init__()
        self.w13 = Column(params.dim, 2 * params.ffn_dim, bias=False, gather_output=False)
        self.w2 = Row(params.ffn_dim, params.dim, bias=False, input_is_parallel=True)

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
    """One rank's part of the model, with a KV cache of `rows` x `columns`. Needs fairscale's model-parallel group."""

    def __init__(self, params: ModelParams, rows: int, columns: int):
        super().__init__()
        self.params, self.rows, self.columns = params, rows, columns
        self.name = "the checkpoint"  # for messages
        self.kv_heads = params.n_kv_heads // groups.get_model_parallel_world_size()
        self.tok_embeddings = parallel.ParallelEmbedding(params.vocab_size, params.dim)
        self.layers = nn.ModuleList(Block(params, rows, columns) for _ in range(params.n_layers))
        self.norm = Norm(params.dim, params.norm_eps)
        self.output = parallel.ColumnParallelLinear(params.dim, params.vocab_size, bias=False)  # gathers: [.., V] on each rank
        self.register_buffer("freqs", rotations(params.head_dim, columns, params.rope_theta), persistent=False)

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
    for layer in model.layers:
        x = x + layer.attention.prefill(layer.attention_norm(x), freqs, place, batch)
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
    seen = torch.arange(span, device=tokens.device) <= position.view(-1, 1, 1, 1)  # [N, 1, 1, span]
    freqs = model.freqs[position].unsqueeze(1)  # [N, 1, D/2]
    x = model.tok_embeddings(tokens)
    for layer in model.layers:
        x = x + layer.attention.decode(layer.attention_norm(x), freqs, place, seen)
        x = x + layer.feed_forward(layer.ffn_norm(x))
    return model.output(model.norm(x)).float()


def rotations(head_dim: int, columns: int, theta: float) -> torch.Tensor:
    """exp(i * column / theta^(2j / D)), complex64 [columns, D/2]."""
    freqs = 1.0 / theta ** (torch.arange(0, head_dim, 2, dtype=torch.float32)[: head_dim // 2] / head_dim)
    angles = torch.outer(torch.arange(columns, dtype=torch.float32), freqs)
    return torch.polar(torch.ones_like(angles), angles)


def rotate(x: torch.Tensor, freqs: torch.Tensor) -> torch.Tensor:
    """Turn the pairs of x [T, heads, D] by freqs [T, 1, D/2], in float32."""
    pairs = torch.view_as_complex(x.float().unflatten(-1, (-1, 2)))
    return torch.view_as_real(pairs * freqs).flatten(-2).type_as(x)


def pad(x: torch.Tensor, batch: Ragged) -> torch.Tensor:
    """[T, heads, D] -> [n, heads, longest, D], zeros on the right."""
    if batch.padded is not None:
        wide = x.new_zeros(batch.n * batch.longest, *x.shape[1:])
        x = wide.index_copy_(0, batch.padded, x)
    return x.view(batch.n, batch.longest, *x.shape[1:]).transpose(1, 2)


def load_model(checkpoint: Checkpoint, rank: int, dtype: torch.dtype, device: torch.device, rows: int, columns: int) -> Transformer:
    """This rank's part of the model from its shard, in `dtype` on `device`, ready for inference."""
    before = torch.get_default_dtype()
    torch.set_default_dtype(dtype)
    try:
        with without_initialisation(), torch.device(device):
            model = Transformer(checkpoint.params, rows, columns)
    finally:
        torch.set_default_dtype(before)
    shard = load_shard(checkpoint.shards[rank])
    weights = fused({name: shard[name] for name in layout(checkpoint.params)}, checkpoint.params.n_layers)
    # cast on the way: fp16 on disk, whatever is asked for in memory
    weights = {name: nn.Parameter(w.to(device=device, dtype=dtype), requires_grad=False) for name, w in weights.items()}
    model.load_state_dict(weights, strict=True, assign=True)
    model.name = str(checkpoint.shards[0].parent)
    return model.requires_grad_(False).eval()


def fused(shard: dict[str, torch.Tensor], n_layers: int) -> dict[str, torch.Tensor]:
    """A shard under this model's names: wq, wk, wv in one matrix, and w1 (gate), w3 (up) in another."""
    out = {name: w for name, w in shard.items() if not name.startswith("layers.")}
    for i in range(n_layers):
        attention, ffn = f"layers.{i}.attention.", f"layers.{i}.feed_forward."
        out[attention + "wqkv.weight"] = torch.cat([shard[f"{attention}w{x}.weight"] for x in "qkv"])
        out[attention + "wo.weight"] = shard[attention + "wo.weight"]
        out[ffn + "w13.weight"] = torch.cat([shard[ffn + "w1.weight"], shard[ffn + "w3.weight"]])
        out[ffn + "w2.weight"] = shard[ffn + "w2.weight"]
        for norm in ("attention_norm.weight", "ffn_norm.weight"):
            out[f"layers.{i}.{norm}"] = shard[f"layers.{i}.{norm}"]
    return out


@contextlib.contextmanager
def without_initialisation() -> Iterator[None]:
    """fairscale draws every layer's full matrix before it is overwritten: minutes and gigabytes for a 70B."""
    original = parallel._initialize_affine_weight
    parallel._initialize_affine_weight = lambda *_, **__: None
    try:
        yield
    finally:
        parallel._initialize_affine_weight = original
