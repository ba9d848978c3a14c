"""How many captions fit into a GPU side by side: what `captioner.max_batch_size=auto` stands for. No torch.

Numbers of a checkpoint's shapes, not of a device: planned once, on any machine, and written into the stage.
"""

from dataclasses import dataclass
from math import prod

from synth.captions.llama.checkpoint import layout, shard_shape
from synth.captions.llama.params import ModelParams
from synth.errors import InputError
from synth.host.source import as_module

ROWS_WITHOUT_GPU = 32  # what a CPU core decodes as fast as more
MAX_ROWS = 256  # by then a decode step of any LLaMA computes for as long as it reads its weights: more rows gain little
PREFILL_TOKENS = {"cpu": 1024, "cuda": 16384}  # at most this many in one prefill; on a CPU they stay in its cache
ATTENTION_TOKENS = 16384  # cache columns of all rows that one call of attention may look at, or that are copied at a time
ITEM_BYTES = {"float32": 4, "bfloat16": 2, "float16": 2}
_RESERVE = 1.5e9  # bytes: the CUDA context, NCCL's buffers, CUDA graphs
_USABLE = 0.92  # share of what is left that an allocator can really give


@dataclass(frozen=True)
class Need:
    """Bytes on each GPU."""

    weights: int
    token: int  # activations of one token of a prefill where they are widest, outside of attention
    attending: int  # activations of one token of a prefill while attention runs
    seen: int  # what attention adds for one cache column of one row that a call of it looks at
    row: int  # KV cache, logits and decode step of one caption
    columns: int

    def prefill(self, rows: int) -> int:
        """Activations of the largest prefill of `rows` captions. Bytes."""
        cached = rows * self.columns
        tokens, seen = (max(self.columns, min(most, cached)) for most in (PREFILL_TOKENS["cuda"], ATTENTION_TOKENS))
        return max(self.token * tokens, self.attending * tokens + self.seen * seen)

    def gb(self, rows: int) -> float:
        """GB (10^9 bytes) of GPU memory that `rows` captions side by side ask for."""
        return ((self.weights + self.prefill(rows) + self.row * rows) / _USABLE + _RESERVE) / 1e9


def kv_bytes_per_token(params: ModelParams, item: int, degree: int = 1) -> int:
    """Keys and values of one token in all layers, on one rank. LLaMA-2-7B in half precision: 0.5 MiB."""
    return 2 * params.n_layers * (params.n_kv_heads // degree) * params.head_dim * item


def need(params: ModelParams, dtype: str, degree: int, columns: int, attention: str = "fused") -> Need:
    """What `params` (vocabulary known) cost each of `degree` ranks with a KV cache of `columns` tokens a row.

    attention: a key of numerics.ATTENTION; the plain kernel of "math" writes the scores of all heads, and half precision anew
    in float32.
    """
    item, dim, size = ITEM_BYTES[dtype], params.dim, params.head_dim
    heads, kv_heads = params.n_heads // degree, params.n_kv_heads // degree
    group, q, kv = heads // kv_heads, heads * size, kv_heads * size  # numbers of a token's queries, and of its keys
    weights = sum(prod(shard_shape(shape, split, degree)) for shape, split in layout(params).values()) * item
    ffn = item * (4 * params.ffn_dim // degree + 3 * dim) + 8 * dim  # gate, up, their product; residual stream; a norm in float32
    rotation = item * (2 * dim + q + 2 * kv) + (8 + item) * (q + kv)  # in float32, before and after
    attending = item * (2 * dim + q + 2 * kv + (q + kv) + q)  # residual stream, its norm, q k v, rotated q and k, what comes out
    seen = item * (6 * q + 4 * kv + (2 * q if group > 1 else 0) + group * columns)  # picked out, padded, in order; the mask
    logits = params.vocab_size * 40  # logits, scaled; and where a nucleus is large: sorted, with ids, sums in float64
    places = 3 * 8 * kv_heads * columns  # of its keys and values in the cache, while they are computed
    row = kv_bytes_per_token(params, item, degree) * columns + logits + places
    if attention == "math":
        seen += 12 * heads * columns + 12 * q
        row += (4 if item == 4 else 12) * kv * columns
    return Need(weights, max(ffn, rotation), attending, seen, row, columns)


def auto_rows(
    params: ModelParams,
    dtype: str,
    degree: int,
    columns: int,
    gpu_mem_gb: float | None,
    window: int,
    where: object = "the model",
    attention: str = "fused",
) -> int:
    """Rows decoded together on GPUs of `gpu_mem_gb` (10^9 bytes; None: no GPU, or unknown), never more than a window has.

    Whole eights, which a GPU's matrix units like, where there are so many. InputError if the model itself does not fit.
    """
    if gpu_mem_gb is None:
        return max(1, min(ROWS_WITHOUT_GPU, window))
    cost = need(params, dtype, degree, columns, attention)
    rows = next((r for r in range(min(MAX_ROWS, max(1, window)), 0, -1) if cost.gb(r) <= gpu_mem_gb), 0)
    if rows == 0:
        raise InputError(
            f"cluster.gpu_mem_gb={gpu_mem_gb:g}: {where} in {dtype} on {degree} GPU(s) with "
            f"captioner.max_seq_len={columns} needs about {cost.gb(1):.0f} GB each; take larger GPUs, "
            f"captioner.dtype=bfloat16, a shorter max_seq_len, or split it over more: {as_module('synth.captions.llama.reshard')}"
        )
    return rows // 8 * 8 if rows >= 8 else rows
