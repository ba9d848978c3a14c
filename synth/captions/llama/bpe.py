"""The tokenizer of Llama 3: byte pairs joined by a table of ranks, in tiktoken's format. No torch, no network.

A text is cut into pieces by PATTERN. A piece whose bytes stand in the table is one token; else its bytes are joined pair by pair, the
pair of the lowest rank first. The ids of marks follow those of the table.
"""

import base64
import binascii
import functools
import itertools
from collections.abc import Mapping
from pathlib import Path

from synth import foreign
from synth.errors import InputError

PATTERN = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
MARKS = 256  # ids behind the table, in the order of Llama 3; the names that nothing here asks for are left out
BEGIN_OF_TEXT, END_OF_TEXT, END_OF_MESSAGE, END_OF_TURN = 0, 1, 8, 9
LARGEST = 64 << 20  # bytes of a table; Llama 3's has 2 MB
_FIX = "copy tokenizer.model again from the checkpoint"
_NO_RANK = 1 << 62


def is_ranks(head: bytes) -> bool:
    """Whether a file that begins so is a table of ranks: lines of a token in base64 and its rank.

    >>> is_ranks(b"IQ== 0\\nIg== 1\\n"), is_ranks(b"\\n\\x0e\\n\\x05<unk>")
    (True, False)
    """
    token, _, rank = head.partition(b"\n")[0].rstrip(b"\r").partition(b" ")
    return bool(token) and rank.isdigit() and not token.strip(b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/=")


class RankTable:
    """Token ids of texts by such a table."""

    def __init__(self, path: Path):
        import regex  # of transformers' own dependencies

        self._ranks = _read(path)
        self._bytes = sorted(self._ranks, key=self._ranks.__getitem__)
        first = len(self._bytes)
        self.n_words = first + MARKS
        self.bos, self.eos = first + BEGIN_OF_TEXT, first + END_OF_TEXT
        self.ends = frozenset(first + mark for mark in (END_OF_TEXT, END_OF_MESSAGE, END_OF_TURN))
        self._pieces = regex.compile(PATTERN)
        self._joined = functools.lru_cache(1 << 16)(self._join)

    def encode(self, text: str) -> list[int]:
        """Token ids, without marks: what a text says of them stays text. Half characters, which are no text, become U+FFFD."""
        ids: list[int] = []
        for piece in self._pieces.findall(text):
            ids += self._joined(piece.encode("utf-8", "replace"))
        return ids

    def decode(self, ids: list[int]) -> str:
        """The text of ids; marks have none, and bytes that are no whole character become U+FFFD."""
        return b"".join(self._bytes[i] for i in ids if i < len(self._bytes)).decode("utf-8", "replace")

    def ids_containing(self, text: str) -> list[int]:
        """All ids whose own bytes contain those of `text`."""
        wanted = text.encode()
        return [i for i, token in enumerate(self._bytes) if wanted in token]

    def _join(self, piece: bytes) -> tuple[int, ...]:
        """Ids of a piece; the leftmost of pairs of one rank first."""
        ranks = self._ranks
        if (whole := ranks.get(piece)) is not None:
            return (whole,)
        parts = [piece[i : i + 1] for i in range(len(piece))]
        pairs = [ranks.get(a + b, _NO_RANK) for a, b in itertools.pairwise(parts)]
        while pairs and (lowest := min(pairs)) != _NO_RANK:
            at = pairs.index(lowest)
            parts[at : at + 2] = [parts[at] + parts[at + 1]]
            del pairs[at]
            for i in (at - 1, at):
                if 0 <= i < len(pairs):
                    pairs[i] = ranks.get(parts[i] + parts[i + 1], _NO_RANK)
        return tuple(ranks[part] for part in parts)


def _read(path: Path) -> Mapping[bytes, int]:
    """token -> rank. InputError unless ranks count from 0 and every single byte has one, so that any text has ids."""
    ranks: dict[bytes, int] = {}
    for number, line in enumerate(foreign.lines(path, LARGEST), 1):
        token, _, rank = line.strip().partition(b" ")
        if not token:
            continue
        try:
            ranks[base64.b64decode(token, validate=True)] = int(rank)
        except (binascii.Error, ValueError) as e:
            raise InputError(f"{path}: line {number} is no token in base64 and its rank ({foreign.seen(line[:60])}); {_FIX}") from e
    if sorted(ranks.values()) != list(range(len(ranks))):
        raise InputError(f"{path}: its {len(ranks)} ranks do not count from 0 without a gap: it is torn; {_FIX}")
    if (lost := next((b for b in range(256) if bytes([b]) not in ranks), None)) is not None:
        raise InputError(f"{path}: has no rank of the byte {lost:#04x}: it is no tokenizer of Llama 3; {_FIX}")
    return ranks
