"""Prompts laid end to end for one prefill: which of their tokens are computed, and where keys and values go.

A token that stands behind the same tokens in two prompts has the same keys and values in both. So it is computed once:
what a cache row holds already is copied from there, and among the new prompts each takes the common beginning from the one
before it. Sorted prompts (`share_order`) thereby form a trie of which every node is computed once. Keys and values are laid
out in every row that needs them, so that attention, and all later decoding, is that of a row by itself.

Only token ids are compared: nothing here knows of headings or examples. numpy until the last line.
"""

import itertools
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch

_WORTH = 0.1  # share of the prompts' tokens that sharing must save, or equal lengths side by side are worth more


@dataclass(frozen=True)
class Ragged:
    """T tokens to compute, for m prompts, n of which have tokens of their own."""

    tokens: torch.Tensor  # [T]
    position: torch.Tensor  # [T] column of the token in its row
    last: torch.Tensor  # [m] index in T of each prompt's last token
    # attention: the own tokens of n rows, right-padded to `longest` queries a row
    n: int
    longest: int
    padded: torch.Tensor | None  # [T] its place in [n, longest]; None if no row is padded
    seen: torch.Tensor | None  # [n, 1, longest, span] columns each query sees; None: all rows start at column 0
    rows: torch.Tensor  # [n] their cache rows
    span: int  # columns in use
    # keys and values of W cache places, W >= T
    source: torch.Tensor | None  # [W] the token of T whose keys go there; None: all in order
    row: torch.Tensor  # [W]
    column: torch.Tensor  # [W]
    copies: tuple[torch.Tensor, torch.Tensor, int] | None  # rows to fill, the rows they copy, columns: before all else

    @staticmethod
    def of(prompts: Sequence[Sequence[int]], rows: Sequence[int], device: torch.device, resident: "Resident | None" = None) -> "Ragged":
        """`prompts[i]` goes into cache row `rows[i]`, from column 0; `resident` (None: share nothing) learns of it."""
        parts = _share(prompts, rows, resident)
        lengths = np.array([len(p) for p in prompts])
        own = np.array([len(p.prompt) - p.start for p in parts])
        has = own > 0  # a prompt that is the beginning of its neighbour has none
        longest, n = int(own.max()), int(has.sum())
        place = np.concatenate([np.arange(c) + i * longest for i, c in enumerate(own[has])])
        position = np.concatenate([np.arange(p.start, len(p.prompt)) for p in parts])
        source = np.concatenate([p.owner[p.held :] for p in parts])
        table = [np.concatenate([p.prompt[p.start :] for p in parts]), position, place, source]
        table += [np.repeat(np.asarray(rows), [len(p.prompt) - p.held for p in parts])]
        table += [np.concatenate([np.arange(p.held, len(p.prompt)) for p in parts])]
        table += [[p.owner[-1] for p in parts], np.asarray(rows)[has]]
        copied = [(row, p.from_row, p.held) for row, p in zip(rows, parts, strict=True) if p.held]
        table += [[c[0] for c in copied], [c[1] for c in copied]]
        starts, span = np.array([p.start for p in parts])[has], int(lengths.max())
        seen = None
        if starts.any():
            seen = np.arange(span) <= (starts[:, None] + np.arange(longest))[:, None, :, None]  # [n, 1, longest, span]
            seen = to_device(seen, device)
        flat = to_device(np.concatenate([np.asarray(t, dtype=np.int64) for t in table]), device)  # one copy
        tokens, position, padded, source, row, column, last, rows_, to, fro = flat.split([len(t) for t in table])
        plain = len(source) == len(tokens)  # each token computed goes to one place
        copies = (to, fro, max(c[2] for c in copied)) if copied else None
        return Ragged(
            tokens, position, last, n, longest, None if len(tokens) == n * longest else padded, seen, rows_, span,
            None if plain else source, row, column, copies,
        )  # fmt: skip


@dataclass(frozen=True)
class _Part:
    """One prompt: columns [0, held) are copied from `from_row`, a neighbour computes those up to `start`, the rest is own."""

    prompt: np.ndarray
    from_row: int
    held: int
    start: int
    owner: np.ndarray  # [len(prompt)] index in T; -1 where copied


class Resident:
    """What each cache row holds: a prompt stays in its row, also after its caption has ended, until another comes."""

    def __init__(self, rows: int, columns: int):
        self._table = np.full((rows, columns), -1)

    def longest(self, prompt: np.ndarray) -> tuple[int, int]:
        """The row that begins with most of `prompt`, and how many tokens that is."""
        if not len(prompt):
            return 0, 0
        differs = self._table[:, : len(prompt)] != prompt
        counts = np.where(differs.any(1), differs.argmax(1), len(prompt))
        row = int(counts.argmax())
        return row, int(counts[row])

    def hold(self, row: int, prompt: np.ndarray) -> None:
        self._table[row] = -1
        self._table[row, : len(prompt)] = prompt


def _share(prompts: Sequence[Sequence[int]], rows: Sequence[int], resident: Resident | None) -> list[_Part]:
    parts: list[_Part] = []
    count = 0  # tokens to compute so far
    for prompt in map(np.asarray, prompts):
        from_row, held, start, owner = 0, 0, 0, np.empty(0, dtype=np.int64)
        if resident is not None:
            from_row, held = resident.longest(prompt[:-1])  # the last token is computed: its logits are asked for
            owner, start = np.full(held, -1), held
            if parts and parts[-1].held <= held:  # else some of what the neighbour has is in no T
                common = shared(parts[-1].prompt, prompt)
                if common > held:
                    owner, start = np.concatenate([owner, parts[-1].owner[held:common]]), common
        own = len(prompt) - start
        parts.append(_Part(prompt, from_row, held, start, np.concatenate([owner, np.arange(count, count + own)])))
        count += own
    if resident is not None:
        for row, part in zip(rows, parts, strict=True):  # only now: copies are made before any row is written
            resident.hold(row, part.prompt)
    return parts


def shared(a: np.ndarray, b: np.ndarray) -> int:
    """Tokens that two prompts have in common from the first on.

    >>> shared(np.array([1, 5, 7]), np.array([1, 5, 8, 9]))
    2
    """
    n = min(len(a), len(b))
    differs = a[:n] != b[:n]
    return int(differs.argmax()) if differs.any() else n


def to_device(array: np.ndarray, device: torch.device) -> torch.Tensor:
    """A copy on the device that the host does not wait for."""
    tensor = torch.from_numpy(array)
    return tensor.pin_memory().to(device, non_blocking=True) if device.type == "cuda" else tensor


def share_order(prompts: Sequence[Sequence[int]]) -> list[int] | None:
    """Indices of the prompts in the order of their tokens, if neighbours then share enough; else None."""
    order = sorted(range(len(prompts)), key=lambda i: (prompts[i], i))
    arrays = [np.asarray(prompts[i]) for i in order]
    saved = sum(shared(a, b) for a, b in itertools.pairwise(arrays))
    return order if saved > _WORTH * sum(map(len, prompts)) else None
