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

from synth.captions.llama.memory import ATTENTION_TOKENS

_WORTH = 0.1  # share of the prompts' tokens that sharing must save, or equal lengths side by side are worth more


@dataclass(frozen=True)
class Chunk:
    """Rows whose own tokens attend together: t tokens of n rows, right-padded to `longest` queries a row."""

    n: int
    longest: int
    span: int  # columns that are looked at
    tokens: torch.Tensor | None  # [t] which of the T they are; None: all in order
    padded: torch.Tensor | None  # [t] place in [n, longest]; None if no row is padded
    rows: torch.Tensor  # [n] cache rows
    start: torch.Tensor | None  # [n] column of each row's first query; None: all 0


@dataclass(frozen=True)
class Ragged:
    """T tokens to compute, for m prompts, of which some have no tokens of their own."""

    tokens: torch.Tensor  # [T]
    position: torch.Tensor  # [T] column of the token in its row
    last: torch.Tensor  # [m] index in T of each prompt's last token
    chunks: tuple[Chunk, ...]  # of attention, which alone knows rows
    # keys and values of W cache places, W >= T
    source: torch.Tensor | None  # [W] the token of T whose keys go there; None: all in order
    row: torch.Tensor  # [W]
    column: torch.Tensor  # [W]
    # before all else: rows to fill, the rows they copy, and which columns; a stretch of columns at a time, in all rows
    copies: tuple[tuple[torch.Tensor, torch.Tensor, slice], ...]

    @staticmethod
    def of(prompts: Sequence[Sequence[int]], rows: Sequence[int], device: torch.device, resident: "Resident | None" = None) -> "Ragged":
        """`prompts[i]` goes into cache row `rows[i]`, from column 0; `resident` (None: share nothing) learns of it."""
        group = Group(resident)
        for prompt, row in zip(prompts, rows, strict=True):
            group.add(prompt, row)
        return group.ragged(device)


class Group:
    """Prompts that are prefilled together, while they are chosen."""

    def __init__(self, resident: "Resident | None"):
        self._resident = resident
        self._parts: list[_Part] = []
        self._rows: list[int] = []
        self.tokens = 0  # to compute so far, T

    def add(self, prompt: Sequence[int], row: int, limit: int | None = None) -> bool:
        """Let `prompt` go into cache row `row`. False, and nothing is done, if others are there and T would exceed `limit`."""
        part = self._part(np.asarray(prompt))
        if limit is not None and self._parts and self.tokens + part.own > limit:
            return False
        self._parts.append(part)
        self._rows.append(row)
        self.tokens += part.own
        return True

    def _part(self, prompt: np.ndarray) -> "_Part":
        """What of `prompt` is copied, what its neighbour computes, and what is its own."""
        from_row, held, start, owner = 0, 0, 0, np.empty(0, dtype=np.int64)
        if self._resident is not None:
            from_row, held = self._resident.longest(prompt[:-1])  # the last token is computed: its logits are asked for
            owner, start = np.full(held, -1), held
            if self._parts and (before := self._parts[-1]).held <= held:  # else some of what the neighbour has is in no T
                common = shared(before.prompt, prompt)
                if common > held:
                    owner, start = np.concatenate([owner, before.owner[held:common]]), common
        own = np.arange(self.tokens, self.tokens + len(prompt) - start)
        return _Part(prompt, from_row, held, start, np.concatenate([owner, own]))

    def ragged(self, device: torch.device) -> Ragged:
        """The group as tensors on the device, by one copy; the cache rows count as holding its prompts."""
        parts, rows = self._parts, self._rows
        if self._resident is not None:
            for row, part in zip(rows, parts, strict=True):  # only now: copies are made before any row is written
                self._resident.hold(row, part.prompt)
        source = np.concatenate([p.owner[p.held :] for p in parts])
        copied = [(row, p.from_row) for row, p in zip(rows, parts, strict=True) if p.held]
        table = [np.concatenate([p.prompt[p.start :] for p in parts])]
        table += [np.concatenate([np.arange(p.start, len(p.prompt)) for p in parts]), source]
        table += [np.repeat(rows, [len(p.prompt) - p.held for p in parts])]
        table += [np.concatenate([np.arange(p.held, len(p.prompt)) for p in parts])]
        table += [[p.owner[-1] for p in parts], [c[0] for c in copied], [c[1] for c in copied]]
        chunks = _chunks(parts)
        for chunk in chunks:
            table += _chunk_table([parts[i] for i in chunk], [rows[i] for i in chunk])
        flat = to_device(np.concatenate([np.asarray(t, dtype=np.int64) for t in table]), device)  # one copy
        tokens, position, sources, row, column, last, to, fro, *rest = flat.split([len(t) for t in table])
        plain = len(source) == len(tokens)  # each token computed goes to one place
        cut = [_chunk(rest[4 * i : 4 * i + 4], [parts[j] for j in chunk], len(chunks) == 1) for i, chunk in enumerate(chunks)]
        return Ragged(
            tokens, position, last, tuple(cut), None if plain else sources, row, column,
            tuple((to, fro, columns) for columns in _stretches(len(copied), max((p.held for p in parts), default=0))),
        )  # fmt: skip


def _chunks(parts: "Sequence[_Part]") -> list[list[int]]:
    """The prompts that have tokens of their own, in chunks of attention, each in their order.

    Attention pads its queries to rows x longest and looks at rows x span of the cache. So a prompt is with others of at least
    half as many tokens and at most twice as many, and no chunk looks at more than ATTENTION_TOKENS (or at one row).
    """
    order = sorted((i for i, p in enumerate(parts) if p.own), key=lambda i: (-parts[i].own, i))
    chunks: list[list[int]] = []
    longest = span = 0
    for i in order:
        wider = max(span, len(parts[i].prompt))
        if not chunks or 2 * parts[i].own < longest or (len(chunks[-1]) + 1) * wider > ATTENTION_TOKENS:
            chunks.append([])
            longest, wider = parts[i].own, len(parts[i].prompt)
        chunks[-1].append(i)
        span = wider
    return [sorted(chunk) for chunk in chunks]


def _chunk_table(parts: "Sequence[_Part]", rows: Sequence[int]) -> list[np.ndarray]:
    """A chunk's [tokens, padded, rows, start]."""
    longest = max(p.own for p in parts)
    tokens = np.concatenate([p.owner[p.start :] for p in parts])
    padded = np.concatenate([np.arange(p.own) + i * longest for i, p in enumerate(parts)])
    return [tokens, padded, np.asarray(rows), np.array([p.start for p in parts])]


def _chunk(table: Sequence[torch.Tensor], parts: "Sequence[_Part]", only: bool) -> Chunk:
    tokens, padded, rows, start = table
    n, longest = len(parts), max(p.own for p in parts)
    at_zero = not any(p.start for p in parts)
    return Chunk(
        n, longest, max(len(p.prompt) for p in parts), None if only else tokens, None if len(tokens) == n * longest else padded,
        rows, None if at_zero else start,
    )  # fmt: skip


def _stretches(rows: int, columns: int) -> list[slice]:
    """The columns 0..columns-1 in stretches of which `rows` rows are ATTENTION_TOKENS at most: a copy passes through memory."""
    if not rows:
        return []
    width = max(1, ATTENTION_TOKENS // rows)
    return [slice(at, min(columns, at + width)) for at in range(0, columns, width)]


@dataclass(frozen=True)
class _Part:
    """One prompt: columns [0, held) are copied from `from_row`, a neighbour computes those up to `start`, the rest is own."""

    prompt: np.ndarray
    from_row: int
    held: int
    start: int
    owner: np.ndarray  # [len(prompt)] index in T; -1 where copied

    @property
    def own(self) -> int:
        """Tokens to compute; a prompt that is the beginning of its neighbour has none."""
        return len(self.prompt) - self.start


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

    def move(self, source: int, target: int) -> None:
        """Row `target` now holds what row `source` does."""
        self._table[target] = self._table[source]

    def hold(self, row: int, prompt: np.ndarray) -> None:
        self._table[row] = -1
        self._table[row, : len(prompt)] = prompt


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
    return tensor.pin_memory().to(device, non_blocking=True) if device.type == "cuda" else tensor.to(device)


def share_order(prompts: Sequence[Sequence[int]]) -> list[int] | None:
    """Indices of the prompts in the order of their tokens, if neighbours then share enough; else None."""
    order = sorted(range(len(prompts)), key=lambda i: (prompts[i], i))
    arrays = [np.asarray(prompts[i]) for i in order]
    saved = sum(shared(a, b) for a, b in itertools.pairwise(arrays))
    return order if saved > _WORTH * sum(map(len, prompts)) else None
