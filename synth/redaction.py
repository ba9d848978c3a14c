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
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import lru_cache
from typing import Any
from urllib.parse import quote

# Characters: shorter pieces stay. 6 of base64's alphabet, a digit or sign among them, are in no word and in a message by chance once in
# a hundred million places; less than that, of a key of 128 bits and more, helps nobody to guess the rest.
PIECE = 6
LETTERS = 10  # of a piece of letters alone, which a shorter one might share with a word
SHORTEST = 12  # characters of a secret
WHOLE = 8  # of a key of words, which is cut where all of it stands, and from no caption
LONG = 16  # of one that nobody told
ENDS = 32  # characters at most of a key that a mask leaves at either end
CUT = "***"
SURE = "PASSWORD|PASSWD|PASSPHRASE|API_?KEY|SECRET|CREDENTIAL"  # anywhere in the name of a variable
KINDS = "ACCESS|PRIVATE|AUTH|ACCOUNT|STORAGE|ENCRYPTION|SIGNING"  # of keys that are no keys of a mapping
# OPENAI_API_KEY, HF_TOKEN, WANDB_KEY, PGPASSWORD, SSH_AUTH_SOCK; none of max_tokens, TOKENIZERS_PARALLELISM, PWD, OLDPWD, VLLM_PASS_CONFIG
_NAMED = re.compile(rf"{SURE}|(^|_)(KEY|TOKEN|JWT|PAT|COOKIE|AUTH|AUTHORIZATION|BEARER)(_|$)|(^|_)PASS$|_PWD$", re.I)
# where a secret lies, a folder, or that there shall be none
_HARMLESS = re.compile(r"_(FILE|PATH)$|^(APPTAINER|SINGULARITY)(ENV)?_PWD$|(^|_)DISABLE_", re.I)
_MASK = re.compile(r"[*•…·]+|\.{3,}|[xX]{4,}")  # how servers hide the middle of a key, of which they show both ends
_RUN = re.compile(r"[A-Za-z0-9]+")
_WORD = re.compile(r"[A-Z]?[a-z]{0,19}(?:[A-Z][a-z]{2,19})*\d{0,4}|[A-Z]{1,20}\d{0,4}|\d{1,8}")  # server, localServer, KEY1, 2026
_SIGN = re.compile(r"[^\sA-Za-z0-9._-]")
_SIGN_OR_DIGIT = re.compile(r"[^A-Za-z_.-]")
_LOWER = str.maketrans("ABCDEFGHIJKLMNOPQRSTUVWXYZ", "abcdefghijklmnopqrstuvwxyz")  # each character stays at its place
_URL_SAFE = str.maketrans("+/", "-_")

_told: set[str] = set()
_of_words: set[str] = set()


def is_random(secret: str) -> bool:
    """Whether a text looks drawn by lot: long, without spaces, and not made of words and small numbers, which texts may hold anyway.

    >>> [is_random(s) for s in ("sk-4fJ2pQ9xLm0Zt7", "EMPTY", "local-server-key", "localServerKey2", "token-abc123")]
    [True, False, False, False, False]
    """
    return len(secret) >= SHORTEST and not re.search(r"\s", secret) and any(_by_lot(secret))


def keep(secret: str) -> str:
    """Remember a secret of this process, and give it back. One of words is cut as a whole alone; a short one (EMPTY) never."""
    if is_random(secret):
        _told.add(secret)
    elif len(secret) >= WHOLE:
        _of_words.add(secret)
    return secret


def secrets(env: Mapping[str, str] = os.environ) -> frozenset[str]:
    """All that is known. A value that is the name of a file is none."""
    named = (value for name, value in env.items() if is_secret(name) and len(value) >= LONG and is_random(value))
    return frozenset([*_told, *(value for value in named if not os.path.exists(value))])


def told() -> list[str]:
    """All that is known, keys of words too: what a process says to another one."""
    return sorted(secrets() | _of_words)


@lru_cache(maxsize=4096)
def is_secret(name: str) -> bool:
    """Whether a variable holds a secret, by its name.

    >>> [is_secret(n) for n in ("OPENAI_API_KEY", "HF_TOKEN", "PGPASSWORD", "WANDB_KEY", "GITHUB_PAT")]
    [True, True, True, True, True]
    >>> [is_secret(n) for n in ("TOKENIZERS_PARALLELISM", "OLDPWD", "XAUTHORITY", "HF_TOKEN_PATH", "VLLM_PASS_CONFIG", "APPTAINER_PWD")]
    [False, False, False, False, False, False]
    """
    return _NAMED.search(name) is not None and not _HARMLESS.search(name)


def redacted(text: object, known: frozenset[str] | None = None, caption: bool = False) -> str:
    """The text with every piece of a secret cut out, in time that grows with its length alone.

    known: what secrets() said, for who asks often and whose environment does not change. caption: it may hold the words of a key of words.

    >>> _ = keep("sk-4fJ2pQ9xLm0Zt7"); redacted("no such key: sk-4fJ***Zt7, c2stNGZKMnBROXhMbTBadDc=, 4fJ2pQ or 4fJ2p")
    'no such key: ***, ***=, *** or 4fJ2p'
    """
    text = str(text)
    for key in () if caption else _of_words:
        text = text.replace(key, CUT)
    known = secrets() if known is None else known
    if not known or not text:
        return text
    kept, end = [], 0
    for start, stop in sorted(_pieces(text.translate(_LOWER), known)):
        if start > end or not kept:
            kept += [text[end:start], CUT]
        end = max(end, stop)
    return "".join([*kept, text[end:]])


def redacted_data(value: Any, known: frozenset[str] | None = None) -> Any:
    """Plain data with every text in it redacted, keys of mappings too; numbers and the like as they are. known: as above.

    Keys that become the same: their numbers are added up, other values get names of their own.

    >>> _ = keep("sk-4fJ2pQ9xLm0Zt7"); redacted_data({"4fJ2pQ": 2, "sk-4fJ2pQ": 3, "4fJ2pQ9xLm0Zt7": "a"})
    {'***': 5, '*** (2)': 'a'}
    """
    known = secrets() if known is None else known
    if isinstance(value, str):
        return redacted(value, known)
    if isinstance(value, Mapping):
        return _merged((redacted_data(k, known), redacted_data(v, known)) for k, v in value.items())
    if isinstance(value, (list, tuple)):
        return [redacted_data(v, known) for v in value]
    return value if value is None or isinstance(value, (bool, int, float)) else redacted(value, known)


def _merged(items: Iterable[tuple[Any, Any]]) -> dict:
    merged: dict = {}
    for key, value in items:
        if key in merged and _is_number(value) and _is_number(merged[key]):
            merged[key] += value
            continue
        name, n = key, 1
        while name in merged:
            name, n = f"{key} ({n + 1})", n + 1
        merged[name] = value
    return merged


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def _pieces(low: str, known: frozenset[str]) -> Iterator[tuple[int, int]]:
    """Where a text in small letters holds what is to be cut; places may overlap."""
    for whole in (secret.translate(_LOWER) for secret in known):
        at = low.find(whole)
        while at >= 0:
            yield at, at + len(whole)
            at = low.find(whole, at + len(whole))
        yield from _masked(low, whole)
    runs, begins = _runs(known)
    # No piece holds a space. Most texts repeat few words, and hold no piece: then the places are not looked for one by one.
    if any(word[at : at + PIECE] in begins for word in set(low.split()) for at in range(len(word) - PIECE + 1)):
        for at in range(len(low) - PIECE + 1):
            if low[at : at + PIECE] in begins:
                yield from ((at, at + len(run)) for run in runs[low[at : at + PIECE]] if low.startswith(run, at))


def _masked(low: str, secret: str) -> Iterator[tuple[int, int]]:
    """Masks with the ends of a secret at both sides, or at one side one with a digit or sign in it."""
    if secret[:2] not in low and secret[-2:] not in low:
        return
    starts, ends = _ends(secret)
    begun = {m.end(): m.start() for m in starts.finditer(low)}
    for mask in _MASK.finditer(low):
        at, behind = mask.span()
        end = ends.match(low, behind)
        shown = low[begun.get(at, at) : at], end[0] if end else ""
        if all(shown) or any(map(_SIGN_OR_DIGIT.search, shown)):
            yield at - len(shown[0]), behind + len(shown[1])


@lru_cache(maxsize=64)
def _ends(secret: str) -> tuple[re.Pattern[str], re.Pattern[str]]:
    """What finds starts of a secret before a mask, and its ends; two characters at least, as words."""
    first, more = re.escape(secret[:2]), ""
    for c in reversed(secret[2 : min(ENDS, len(secret) - 1)]):
        more = f"(?:{re.escape(c)}{more})?"
    last = "|".join(re.escape(secret[-k:]) for k in range(min(ENDS, len(secret) - 1), 1, -1))
    mask = r"(?:(?<![*•…·])[*•…·]|(?<!\.)\.{3}|(?<!x)x{4})"
    return re.compile(rf"{first}(?<![^\W_]{first}){more}(?={mask})"), re.compile(rf"(?:{last})(?![^\W_])")


def _by_lot(text: str) -> list[bool]:
    """Of each character of a secret, whether it belongs to no word or small number."""
    lot = [False] * len(text)
    for run in _RUN.finditer(text):
        if not _WORD.fullmatch(run[0]):
            lot[run.start() : run.end()] = [True] * len(run[0])
    return lot


@lru_cache(maxsize=8)
def _runs(known: frozenset[str]) -> tuple[dict[str, tuple[str, ...]], frozenset[str]]:
    """By their first PIECE characters: the runs, in small letters, of the secrets in all their forms that are cut; and those firsts.

    PIECE characters of a secret, of which half are of no word, with a digit or sign; or LETTERS of no word.
    """
    runs: dict[str, dict[str, None]] = {}
    for characters, plain, lot in (form for secret in known for form in _forms(secret)):
        for at in range(len(characters) - PIECE + 1):
            for length, counts in ((PIECE, _with_a_sign), (LETTERS, _of_letters)):
                here = slice(at, at + length)
                if len(plain[here]) == length and counts(plain[here], lot[here]):
                    run = "".join(characters[here]).translate(_LOWER)
                    runs.setdefault(run[:PIECE], {})[run] = None
    return {begin: tuple(found) for begin, found in runs.items()}, frozenset(runs)


def _with_a_sign(plain: str, lot: list[bool]) -> bool:
    chosen = "".join(c for c, drawn in zip(plain, lot, strict=True) if drawn or _SIGN.match(c))
    return 2 * len(chosen) >= len(plain) and not chosen.isalpha()


def _of_letters(plain: str, lot: list[bool]) -> bool:
    return all(lot) and plain.isalpha()


def _forms(secret: str) -> Iterator[tuple[list[str], str, list[bool]]]:
    """A secret as it is, and as each of its characters looks in JSON, HTML, an address and hexadecimal; and in base64.

    With each form its characters before they were coded, and which of them are of no word.
    """
    lot = _by_lot(secret)
    for code in _CODES:
        yield [code(c) for c in secret], secret, lot
    for before in range(3):  # bytes in front, in its group of three: what they share a character with is left out
        coded = base64.b64encode(bytes(before) + secret.encode()).decode().rstrip("=")[(0, 2, 3)[before] :]
        for text in (coded, coded.translate(_URL_SAFE)):
            yield list(text), text, [True] * len(text)


_CODES: tuple[Callable[[str], str], ...] = (
    str,
    lambda c: json.dumps(c)[1:-1],
    lambda c: json.dumps(json.dumps(c)[1:-1])[1:-1],  # JSON in a text of JSON
    lambda c: f"\\u{ord(c):04x}",
    html.escape,
    lambda c: quote(c, safe=""),
    lambda c: "".join(f"%{byte:02x}" for byte in c.encode()),
    lambda c: c.encode().hex(),
)
