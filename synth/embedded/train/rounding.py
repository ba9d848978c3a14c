"""Round fp16 weights to fewer mantissa bits, so that git's zlib packs them smaller; 7 bits are bfloat16's precision."""

import torch


def round_mantissa(weights: torch.Tensor, bits: int) -> torch.Tensor:
    """fp16 copy of `weights` whose mantissas keep `bits` (1..10) bits, rounded to nearest; other dtypes come back as they are.

    >>> round_mantissa(torch.tensor([1.001]), 4).item()
    1.0
    """
    if not weights.is_floating_point():
        return weights
    drop = 10 - bits
    raw = weights.detach().half().contiguous().view(torch.int16).int() & 0xFFFF
    raw = (raw + ((1 << drop) >> 1)) & ~((1 << drop) - 1)
    return raw.to(torch.int16).view(torch.float16)
