"""How many captions fit into a GPU side by side: what `captioner.max_batch_size=auto` stands for. No torch.

Numbers of a checkpoint's shapes, not of a device: planned once, on any machine, and written into the stage.
"""

from dataclasses import dataclass
from math import prod

from synth.captions.llama.checkpoint import layout, shard_shape
from synth.captions.llama.params import ModelParams
from synth.errors import InputError

ROWS_WITHOUT_GPU = 32  # what a CPU core decodes as fast as more
MAX_ROWS = 256  # by then a decode step of any LLaMA computes for as long as it reads its weights: more rows gain little
PREFILL_TOKENS = {"cpu": 1024, "cuda": 16384}  # at most this many in one prefill; on a CPU they stay in its cache
ITEM_BYTES = {"float32": 4, "bfloat16": 2, "float16": 2}
_RESERVE = 1.5e9  # bytes: the CUDA context, NCCL's buffers, CUDA graphs
_USABLE = 0.92  # share of what is left that an allocator can really give


@dataclass(frozen=True)
class Need:
    """Bytes on each GPU."""

    weights: int
    prefill_token: int  # activations of one token of a prefill
    row: int  # KV cache and logits of one caption
    columns: int

    def gb(self, rows: int) -> float:
        """GB (10^9 bytes) of GPU memory that `rows` captions side by side ask for."""
        prefill = self.prefill_token * max(self.columns, min(PREFILL_TOKENS["cuda"], rows * self.columns))
        return ((self.weights + prefill + self.row * rows) / _USABLE + _RESERVE) / 1e9


def kv_bytes_per_token(params: ModelParams, item: int, degree: int = 1) -> int:
    """Keys and values of one token in all layers, on one rank. LLaMA-2-7B in half precision: 0.5 MiB."""
    return 2 * params.n_layers * (params.n_kv_heads // degree) * params.head_dim * item


def need(params: ModelParams, dtype: str, degree: int, columns: int) -> Need:
    """What `params` (vocabulary known) cost each of `degree` ranks with a KV cache of `columns` tokens a row."""
    item = ITEM_BYTES[dtype]
    weights = sum(prod(shard_shape(shape, split, degree)) for shape, split in layout(params).values()) * item
    # a prefill's widest moments: gate, up and their product beside the residual stream and a norm in float32; or the scores
    # of all heads, twice, in float32, as the plain attention kernel writes them
    wide = item * (4 * params.ffn_dim // degree + 3 * params.dim) + 8 * params.dim
    scores = 8 * (params.n_heads // degree) * columns + item * 8 * params.dim
    logits = params.vocab_size * 40  # logits, scaled; and where a nucleus is large: sorted, with ids, sums in float64
    row = kv_bytes_per_token(params, item, degree) * columns + logits
    return Need(weights, max(wide, scores), row, columns)


def auto_rows(
    params: ModelParams,
    dtype: str,
    degree: int,
    columns: int,
    gpu_mem_gb: float | None,
    window: int,
    where: object = "the model",
) -> int:
    """Rows decoded together on GPUs of `gpu_mem_gb` (10^9 bytes; None: no GPU, or unknown), never more than a window has.

    Whole eights, which a GPU's matrix units like, where there are so many. InputError if the model itself does not fit.
    """
    if gpu_mem_gb is None:
        return max(1, min(ROWS_WITHOUT_GPU, window))
    cost = need(params, dtype, degree, columns)
    rows = next((r for r in range(min(MAX_ROWS, max(1, window)), 0, -1) if cost.gb(r) <= gpu_mem_gb), 0)
    if rows == 0:
        raise InputError(
            f"cluster.gpu_mem_gb={gpu_mem_gb:g}: {where} in {dtype} on {degree} GPU(s) with "
            f"captioner.max_seq_len={columns} needs about {cost.gb(1):.0f} GB each; take larger GPUs, "
            "captioner.dtype=bfloat16, a shorter max_seq_len, or split it over more: python -m synth.captions.llama.reshard"
        )
    return rows // 8 * 8 if rows >= 8 else rows
