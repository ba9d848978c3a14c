"""All that this engine takes of fairscale: the groups of ranks, and the layers whose matrices are split among them.

fairscale says which rank holds which rows or columns of a matrix. Where weights lie, when they are drawn and how a product
is computed is decided here: its own passes are for training (its autograd functions cost 4% of a CPU step), and its layers
draw every matrix in full on the host before a checkpoint overwrites it, minutes and gigabytes for a 70B.
"""

import contextlib
from collections.abc import Iterator

import torch
import torch.distributed as dist
import torch.nn.functional as F
from fairscale.nn.model_parallel import initialize as _groups
from fairscale.nn.model_parallel import layers as _layers
from torch import nn

Embedding = _layers.ParallelEmbedding  # this rank's columns of the table; gathers: [.., dim] on each rank
Output = _layers.ColumnParallelLinear  # this rank's rows of the matrix; gathers: [.., V] on each rank


class Column(_layers.ColumnParallelLinear):
    """This rank's rows of the matrix, its part of the product."""

    def __init__(self, width_in: int, width_out: int):
        super().__init__(width_in, width_out, bias=False, gather_output=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:  # [T, dim] -> [T, its part of the width]
        return F.linear(x, self.weight)


class Row(_layers.RowParallelLinear):
    """This rank's columns of the matrix, the products added up over the ranks."""

    def __init__(self, width_in: int, width_out: int):
        super().__init__(width_in, width_out, bias=False, input_is_parallel=True)

    def forward(self, x: torch.Tensor) -> torch.Tensor:  # [T, its part of the width] -> [T, dim]
        out = F.linear(x, self.weight)
        if size() > 1:
            dist.all_reduce(out, group=_groups.get_model_parallel_group())
        return out


class RowsEmbedding(_layers.VocabParallelEmbedding):
    """This rank's rows of the table; adds up: [.., dim] on each rank."""

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        out = held_rows(self.weight, self.vocab_start_index, tokens)
        if size() > 1:
            dist.all_reduce(out, group=_groups.get_model_parallel_group())
        return out


def held_rows(weight: torch.Tensor, first: int, tokens: torch.Tensor) -> torch.Tensor:
    """[.., dim]: the rows first, first + 1, .. of a table that `weight` holds, and 0 of other tokens, so that a sum over ranks is exact."""
    own = tokens - first
    held = (own >= 0) & (own < len(weight))
    return F.embedding(own.where(held, 0), weight) * held.unsqueeze(-1)


def join(degree: int) -> None:
    """Make this process one of `degree` ranks that share a model; torch's default process group must stand."""
    _groups.initialize_model_parallel(degree)


def leave() -> None:
    """Undo `join`."""
    _groups.destroy_model_parallel()


def size() -> int:
    """Ranks that share the model."""
    return _groups.get_model_parallel_world_size()


def rank() -> int:
    """This process among them."""
    return _groups.get_model_parallel_rank()


def from_first(tensor: torch.Tensor) -> None:
    """Overwrite `tensor` with rank 0's."""
    if size() > 1:
        dist.broadcast(tensor, src=_groups.get_model_parallel_src_rank(), group=_groups.get_model_parallel_group())


@contextlib.contextmanager
def parameters_on(device: torch.device | str) -> Iterator[None]:
    """Inside, the layers above get their parameters on `device`, uninitialised ("meta": without memory), as nn's own do
    below torch.device(device). fairscale's would lie on the host, whatever is asked for."""
    names = ("Parameter", "_initialize_affine_weight")
    before = {name: getattr(_layers, name) for name in names}
    _layers.Parameter = lambda host: nn.Parameter(torch.empty(host.shape, dtype=host.dtype, device=device))
    _layers._initialize_affine_weight = lambda *_, **__: None
    try:
        yield
    finally:
        for name, value in before.items():
            setattr(_layers, name, value)
