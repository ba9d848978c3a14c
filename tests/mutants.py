"""Mutants of files, by seed: damaged bytes, damaged text, and JSON whose shape or values are changed.

The seeds are 0, 1, ... up to `mutants(default)`: the variable SYNTHSET_MUTANTS asks for more than a run of the suite takes. A mutant is
known by its seed, so a test that names it in its message can be repeated with that one alone.
"""

import copy
import json
import os
import random
from typing import Any

# values of the wrong type, out of any range, or that harm who prints, names a file by, or counts with them
ODD: tuple[Any, ...] = (
    *(None, True, False, 0, -1, 1, 2**31, 2**63, 2**64, 10**13, 10**30, -(10**30), 1e13, 0.5, -0.0, 1e308, float("nan"), float("inf")),
    *("", " ", "\x00", "a\nb", "\x1b[2J\x1b]0;title\x07", "\x9b31m", "\u202egnp.exe", "\ud800", "é中\U0001f600", "x" * 5000, "1", "true"),
    *("../../escape", "/etc/passwd", "..", ".", "a/b", "-rf", "~", "$HOME", "%s%n", "{0}"),
    *([], {}, [[]], [None], [0, "a", {}], {"": ""}, {"a": {"b": []}}),
)
DEEP = ("[" * 100_000, '{"a":' * 50_000, "[" * 100_000 + "]" * 100_000)
RAW: tuple[bytes, ...] = (
    *(b"", b"\x00", b"\xff\xfe", b"null", b"NaN", b"1" * 10_000, b"[" * 1_000_000, b'"\\ud800"', b"\xed\xa0\x80", b"\xef\xbb\xbf{}"),
    *(b"{}{}", b"\n\n"),
)


def mutants(default: int) -> range:
    """The seeds to try: SYNTHSET_MUTANTS of them, else `default`."""
    return range(int(os.environ.get("SYNTHSET_MUTANTS", default)))


def of_bytes(data: bytes, seed: int) -> bytes:
    """Bytes with one to four damages: flipped, cut, doubled, swapped, overwritten, put in; sometimes nothing of them is left.

    >>> of_bytes(b"abcdef", 3) == of_bytes(b"abcdef", 3)
    True
    """
    rng = random.Random(f"bytes {seed}")
    if rng.random() < 0.02:
        return rng.choice(RAW)
    out = bytearray(data)
    for _ in range(rng.choice((1, 1, 1, 2, 4))):
        rng.choice(_DAMAGES)(out, rng)
    return bytes(out)


def of_json(value: Any, seed: int) -> bytes:
    """JSON text of `value` with one to three changes of shape or value; one in eight is damaged as bytes too, one in fifty is far too deep.

    It may come out equal to `value`.
    """
    rng = random.Random(f"json {seed}")
    changed = {"": copy.deepcopy(value)}
    for _ in range(rng.choice((1, 1, 1, 2, 3))):
        _change(changed, rng)
    text = json.dumps(changed.get(""), ensure_ascii=rng.random() < 0.8)
    if rng.random() < 0.02:
        text = text.replace(rng.choice(text.split(",")), rng.choice(DEEP), 1)
    data = text.encode("utf-8", "surrogatepass")
    return of_bytes(data, seed) if rng.random() < 0.125 else data


def of_lines(text: bytes, seed: int) -> bytes:
    """Lines that were dropped, doubled, swapped, joined or emptied, or whose bytes are damaged."""
    rng = random.Random(f"lines {seed}")
    lines = text.split(b"\n")
    for _ in range(rng.choice((1, 1, 2, 5))):
        at, other = rng.randrange(len(lines)), rng.randrange(len(lines))
        what = rng.randrange(6)
        if what == 0:
            lines[at : at + 1] = []
        elif what == 1:
            lines.insert(other, lines[at])
        elif what == 2:
            lines[at], lines[other] = lines[other], lines[at]
        elif what == 3:
            lines[at] = rng.choice((b"", b" ", b"\t", b"\r", b"\x0c", b"#", b","))
        elif what == 4:
            lines[at] = of_bytes(lines[at], rng.randrange(2**32))
        else:
            lines[at] = lines[at] + lines[other]
        lines = lines or [b""]
    return b"\n".join(lines)


def _change(holder: dict, rng: random.Random) -> None:
    """One change somewhere inside: a value replaced, an entry removed, renamed, added, or moved."""
    places = list(_places(holder))
    inside, key = rng.choice(places)
    what = rng.randrange(8)
    if what < 4:
        inside[key] = copy.deepcopy(rng.choice(ODD))
    elif what == 4 and (isinstance(inside, list) or inside is not holder):
        del inside[key]
    elif what == 5 and isinstance(inside[key], dict):
        inside[key][rng.choice([o for o in ODD if isinstance(o, str)])] = copy.deepcopy(rng.choice(ODD))
    elif what == 6 and isinstance(inside[key], list):
        inside[key].insert(rng.randrange(len(inside[key]) + 1), copy.deepcopy(rng.choice(ODD)))
    elif what == 7:
        there, other = rng.choice(places)
        if there is not holder:
            inside[key], there[other] = copy.deepcopy(there[other]), copy.deepcopy(inside[key])
    else:
        inside[key] = _near(inside[key], rng)


def _near(value: Any, rng: random.Random) -> Any:
    """A value of the same type, another one mostly."""
    if isinstance(value, bool) or value is None:
        return not value
    if isinstance(value, int | float):
        return value + rng.choice((-1, 1, 1000, -1000))
    if isinstance(value, str):
        at = rng.randrange(len(value) + 1)
        return value[:at] + rng.choice(("x", "/", "\n", "\x1b", "..", "0", " ")) + value[at:]
    return [copy.deepcopy(v) for v in value] * 2 if isinstance(value, list) else {}


def _places(inside: Any):
    """(container, key) of every value."""
    pending = [inside]
    while pending:
        here = pending.pop()
        for key in here if isinstance(here, dict) else range(len(here)):
            yield here, key
            if isinstance(here[key], dict | list):
                pending.append(here[key])


def _flip(out: bytearray, rng: random.Random) -> None:
    if out:
        out[rng.randrange(len(out))] ^= 1 << rng.randrange(8)


def _cut(out: bytearray, rng: random.Random) -> None:
    at = rng.randrange(len(out) + 1)
    del out[at : at + rng.choice((1, 2, 16, 512, len(out)))]


def _double(out: bytearray, rng: random.Random) -> None:
    at = rng.randrange(len(out) + 1)
    part = out[at : at + rng.choice((1, 8, 512))]
    out[at:at] = part


def _swap(out: bytearray, rng: random.Random) -> None:
    a, b = sorted(rng.randrange(len(out) + 1) for _ in range(2))
    out[a:b] = out[a:b][::-1]


def _overwrite(out: bytearray, rng: random.Random) -> None:
    at = rng.randrange(len(out) + 1)
    n = rng.choice((1, 4, 8, 512))
    out[at : at + n] = rng.choice((bytes(n), b"\xff" * n, rng.randbytes(n)))


def _put_in(out: bytearray, rng: random.Random) -> None:
    at = rng.randrange(len(out) + 1)
    out[at:at] = rng.choice((*RAW[:6], b"\x1b[31m", b"../", b"\n", b'"', b"}", b"]", b","))


_DAMAGES = (_flip, _flip, _cut, _cut, _double, _swap, _overwrite, _put_in)
