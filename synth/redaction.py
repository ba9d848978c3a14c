"""What is written for people to read holds no piece of a secret of this process, whoever put it there.

A server may echo the key that it was sent: whole, masked, in halves, encoded. So every text on its way to events/, failed/, answers/,
a log or a terminal passes `redacted`, which knows the secrets: those that somebody told (`keep`), and variables of the environment
whose names say so. Works by itself, without the rest of synthset: a guardian loads it by its path.
"""

import base64
import html
import json
import os
import re
from collections.abc import Iterator, Mapping
from functools import lru_cache
from typing import Any
from urllib.parse import quote

# Characters: shorter pieces stay. 6 of base64's alphabet are 36 bits, so a message has one by chance once in a billion places, and less
# than that, of a key of 128 bits and more, helps nobody to guess the rest.
PIECE = 6
SHORTEST = 4  # characters of a secret; what is shorter than a piece is cut only as a whole
CUT = "***"
_MASK = re.compile(r"[*•…·]+|\.{3,}|[xX]{4,}")  # how servers hide the middle of a key, of which they show both ends
_NAMED = re.compile(r"(^|_)(KEY|TOKEN|SECRET|PASSWORD|PASSWD|CREDENTIALS?|JWT)(_|$)", re.I)  # the values of such variables
_RANDOM = re.compile(r"(?=.*\d)(?=.*[a-zA-Z])\S{16,}")  # if they look so: `true` and `captions` are words
_LOWER = str.maketrans("ABCDEFGHIJKLMNOPQRSTUVWXYZ", "abcdefghijklmnopqrstuvwxyz")  # each character stays at its place
_URL_SAFE = str.maketrans("+/", "-_")

_told: set[str] = set()


def keep(secret: str) -> str:
    """Remember a secret of this process, and give it back."""
    if len(secret) >= SHORTEST:
        _told.add(secret)
    return secret


def secrets(env: Mapping[str, str] = os.environ) -> frozenset[str]:
    """All that is known. A value that is the name of a file is none."""
    named = (value for name, value in env.items() if _NAMED.search(name) and _RANDOM.fullmatch(value))
    return frozenset([*_told, *(value for value in named if not os.path.exists(value))])


def redacted(text: object) -> str:
    """The text with every piece of a secret cut out.

    >>> _ = keep("sk-4fJ2pQ9xLm0Zt7"); redacted("no such key: sk-4fJ***Zt7, c2stNGZKMnBROXhMbTBadDc=, 4fJ2pQ or 4fJ2p")
    'no such key: ***, ***=, *** or 4fJ2p'
    """
    text = str(text)
    known = secrets()
    if not known or not text:
        return text
    kept, end = [], 0
    for start, stop in sorted(_pieces(text.translate(_LOWER), known)):
        if start > end or not kept:
            kept += [text[end:start], CUT]
        end = max(end, stop)
    return "".join([*kept, text[end:]])


def redacted_data(value: Any) -> Any:
    """Plain data with every text in it redacted, keys of mappings too; numbers and the like as they are."""
    if isinstance(value, str):
        return redacted(value)
    if isinstance(value, Mapping):
        return {redacted_data(k): redacted_data(v) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [redacted_data(v) for v in value]
    return value if value is None or isinstance(value, (bool, int, float)) else redacted(value)


def _pieces(low: str, known: frozenset[str]) -> Iterator[tuple[int, int]]:
    """Where a text in small letters holds what is to be cut; places may overlap."""
    for secret in known:
        whole = secret.translate(_LOWER)
        yield from ((m.start(), m.end()) for m in re.finditer(re.escape(whole), low))
        for mask in _MASK.finditer(low):
            before, after = _start_before(low, mask.start(), whole), _end_behind(low, mask.end(), whole)
            if before or after:
                yield mask.start() - before, mask.end() + after
    for length, runs in _runs(known).items():
        yield from ((at, at + length) for at in range(len(low) - length + 1) if low[at : at + length] in runs)


def _start_before(text: str, at: int, secret: str) -> int:
    """How many characters of a secret's start stand as a word before a place; one is none."""
    shown = (k for k in range(2, len(secret)) if text.endswith(secret[:k], 0, at) and not text[max(0, at - k - 1) : at - k].isalnum())
    return max(shown, default=0)


def _end_behind(text: str, at: int, secret: str) -> int:
    """How many characters of a secret's end stand as a word behind a place; one is none."""
    shown = (k for k in range(2, len(secret)) if text.startswith(secret[-k:], at) and not text[at + k : at + k + 1].isalnum())
    return max(shown, default=0)


@lru_cache(maxsize=8)
def _runs(known: frozenset[str]) -> dict[int, set[str]]:
    """By length: all runs of PIECE characters of the secrets in all their forms, in small letters."""
    runs: dict[int, set[str]] = {}
    for characters in (form for secret in known for form in _forms(secret)):
        for at in range(len(characters) - PIECE + 1):
            run = "".join(characters[at : at + PIECE]).translate(_LOWER)
            runs.setdefault(len(run), set()).add(run)
    return runs


def _forms(secret: str) -> Iterator[list[str]]:
    """A secret as it is, and as each of its characters looks in JSON, HTML, an address and hexadecimal; and in base64."""
    yield list(secret)
    yield [json.dumps(c)[1:-1] for c in secret]
    yield [json.dumps(json.dumps(c)[1:-1])[1:-1] for c in secret]  # JSON in a text of JSON
    yield [f"\\u{ord(c):04x}" for c in secret]
    yield [html.escape(c) for c in secret]
    yield [quote(c, safe="") for c in secret]
    yield ["".join(f"%{byte:02x}" for byte in c.encode()) for c in secret]
    yield [c.encode().hex() for c in secret]
    for before in range(3):  # bytes in front, in its group of three: what they share a character with is left out
        coded = base64.b64encode(bytes(before) + secret.encode()).decode().rstrip("=")[(0, 2, 3)[before] :]
        yield list(coded)
        yield list(coded.translate(_URL_SAFE))
