"""Every random number of synthset starts here: 64 bits = hash(seed, stage kind, slot key, attempt, ...).

A sample's draws depend on nothing else, so neither n_jobs nor totals nor batch neighbours can change them.
Slot keys are stable names of slots: for captions `block * n_classes + class index` over the official class list, so a
range of classes gives the same draws as the whole list; for images the caption's own seed and the replica.
"""

import hashlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np
    import torch

_MASK = (1 << 64) - 1


def derive(seed: int, *path: int | str) -> int:
    """64-bit seed for `path` under `seed`, e.g. derive(0, "captions", slot_key, attempt).

    blake2b over a length-prefixed encoding: ("ab", "c") and ("a", "bc") differ, ints and strings never collide.
    """
    h = hashlib.blake2b(digest_size=8, person=b"synthset")
    for part in (seed, *path):
        data = part.encode() if isinstance(part, str) else str(int(part)).encode()
        h.update(b"%c%d:" % (b"s" if isinstance(part, str) else b"i", len(data)) + data)
    return int.from_bytes(h.digest(), "little")


def generator(seed64: int) -> "np.random.Generator":
    """A numpy generator of its own for one sample; Philox, so streams of different keys never overlap."""
    import numpy as np  # here: planning derives seeds too, and imports no numpy

    return np.random.Generator(np.random.Philox(key=seed64 & _MASK))


def torch_generator(seed64: int) -> "torch.Generator":
    """A CPU torch.Generator for one sample: noise drawn on the CPU is the same whatever the device."""
    import torch

    return torch.Generator("cpu").manual_seed(seed64 & _MASK if seed64 < (1 << 63) else seed64 - (1 << 64))


def uniform(seed: int, *path: int | str) -> float:
    """One number in [0, 1) that belongs to (seed, path): the top 53 bits of its 64."""
    return (derive(seed, *path) >> 11) * 2.0**-53
