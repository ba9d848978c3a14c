"""What the index of a unit may say, judged when it is read: whoever made the unit must not choose what else is read or written.

The rules are those that writing keeps. A unit of 100,000 samples is judged column by column, in a small part of the time in which its JSON
is parsed; only where that fails is the sample looked for that is to blame.
"""

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import chain
from operator import add, le, lt

# WebDataset readers take everything up to the first dot of the file name for the key
_KEY, _EXT = re.compile(r"[^./\x00-\x1f\x7f-\x9f]+"), re.compile(r"[^/\x00-\x1f\x7f-\x9f]+")
LONGEST_KEY, LONGEST_EXT = 200, 50  # bytes: `<key>.<ext>` is a file name, and no file system takes more than 255
MOST_SLOTS = 1 << 48  # of a stage; a slot's number is below that
LONGEST_INPUTS = 1 << 20  # bytes of the digest of what a unit is made of
_HEX = re.compile(r"[0-9a-f]{64}")
Span = Sequence[int]  # offset in the unit file, bytes
Row = tuple[int, str, Mapping[str, Span], str]  # slot, key, extension -> span, sha256


class BadIndex(ValueError):
    """Says which item of an index cannot be, and why."""


def misnamed(key: object, exts: Iterable[object]) -> str:
    """Why a sample cannot have this key and files of these extensions; "" if it can.

    >>> misnamed("000000012", ["json", "png"]), misnamed("../x", ["png"])
    ('', "its key '../x' is no name: a key has no dot, slash or control character")
    """
    if not (isinstance(key, str) and _KEY.fullmatch(key)):
        return f"its key {_short(key)} is no name: a key has no dot, slash or control character"
    if _bytes(key) > LONGEST_KEY:
        return f"its key {_short(key)} has more than {LONGEST_KEY} bytes, or a character that is none"
    for ext in exts:
        if not (isinstance(ext, str) and _EXT.fullmatch(ext)):
            return f"its extension {_short(ext)} is none: an extension has no slash or control character"
        if _bytes(ext) > LONGEST_EXT:
            return f"its extension {_short(ext)} has more than {LONGEST_EXT} bytes, or a character that is none"
    return ""


def judge(raw: Mapping, exts: frozenset[str] | None, end: int) -> None:
    """BadIndex unless `raw`, the parsed index of a unit, can be true.

    exts: the extensions that a sample has in this framing; None: any. end: bytes of the unit file in front of its index.
    """
    for name in ("unit", "first", "count"):
        if not (_is_int(raw[name]) and 0 <= raw[name] < MOST_SLOTS):
            raise BadIndex(f"its {name} is {_short(raw[name])}, which is no number of it")
    if not (isinstance(raw["inputs"], str) and _bytes(raw["inputs"]) <= LONGEST_INPUTS):
        raise BadIndex("its inputs are no text")
    samples, tombstones, first, count = raw["samples"], raw["tombstones"], raw["first"], raw["count"]
    if type(samples) is not list or type(tombstones) is not list:
        raise BadIndex("its samples and tombstones are no lists")
    judge_rows(samples, tombstones, exts, end, range(first, first + count))
    if len(samples) + len(tombstones) != count:
        raise BadIndex(f"holds {len(samples)} samples and {len(tombstones)} tombstones for {count} slots")


def judge_rows(samples: list, tombstones: list, exts: frozenset[str] | None, end: int, slots: range) -> None:
    """BadIndex unless these can be the samples and tombstones of `slots`, in slot order, in the first `end` bytes of a file."""
    if not _quickly(lambda: _samples_are_right(samples, exts, end, slots)):
        _blame(samples, exts, end, slots)
    if not _quickly(lambda: _tombstones_are_right(tombstones, slots)):
        raise BadIndex("its tombstones are no rising slots of the unit with a reason each")
    if tombstones and (twice := {row[0] for row in samples} & {row[0] for row in tombstones}):
        raise BadIndex(f"slot {min(twice)} stands twice in its index, as a sample and as a tombstone")


def _quickly(right: Callable[[], bool]) -> bool:
    try:
        return right()
    except (TypeError, ValueError):  # what columns of other types raise
        return False


def _samples_are_right(samples: list, exts: frozenset[str] | None, end: int, slots: range) -> bool:
    if not samples:
        return True
    if set(map(type, samples)) != {list} or set(map(len, samples)) != {4}:
        return False
    flat = list(chain.from_iterable(samples))  # faster than zip, which makes a tuple a column
    numbers, keys, files, digests = flat[::4], flat[1::4], flat[2::4], flat[3::4]
    if set(map(type, numbers)) != {int} or set(map(type, files)) != {dict} or set(map(type, keys)) != {str}:
        return False
    return (
        _rising(numbers, slots)
        and _are_keys(keys)
        and _are_files(files, exts, end)
        and set(map(len, digests)) == {64}
        and _is_hex("".join(digests))
    )


def _rising(numbers: Sequence[int], slots: range) -> bool:
    return all(map(lt, numbers, numbers[1:])) and slots.start <= numbers[0] and numbers[-1] < slots.stop


def _are_keys(keys: Sequence[str]) -> bool:
    if len(set(keys)) != len(keys) or not all(keys) or max(map(len, keys)) > LONGEST_KEY:
        return False
    joined = "".join(keys)
    return (joined.isascii() and joined.isalnum()) or not any(misnamed(key, ()) for key in keys)


def _are_files(files: Sequence[dict], exts: frozenset[str] | None, end: int) -> bool:
    """Whether these lie one behind the other, as they are written: in the order of samples and of extensions."""
    names = set(chain.from_iterable(files))
    if not all(files) or misnamed("k", names) or (exts is not None and names != exts):
        return False
    spans = list(chain.from_iterable(map(dict.values, files)))
    if set(map(type, spans)) != {list} or set(map(len, spans)) != {2}:
        return False
    flat = list(chain.from_iterable(spans))
    offsets, sizes = flat[::2], flat[1::2]
    if set(map(type, flat)) != {int} or min(flat) < 0:
        return False
    stops = list(map(add, offsets, sizes))
    return all(map(le, stops, offsets[1:])) and stops[-1] <= end


def _is_hex(digits: str) -> bool:
    return not digits.encode().translate(None, b"0123456789abcdef")


def _tombstones_are_right(tombstones: list, slots: range) -> bool:
    if not tombstones:
        return True
    if set(map(type, tombstones)) != {list} or set(map(len, tombstones)) != {2}:
        return False
    numbers, reasons = zip(*tombstones, strict=True)
    "".join(reasons).encode()  # a TypeError, or a ValueError of what is no text
    return set(map(type, numbers)) == {int} and _rising(numbers, slots)


def _blame(samples: list, exts: frozenset[str] | None, end: int, slots: range) -> None:
    """Raise BadIndex for the first sample that is wrong."""
    keys: set[str] = set()
    last, behind = slots.start - 1, 0
    for n, row in enumerate(samples):
        if type(row) is not list or len(row) != 4:
            raise BadIndex(f"its sample {n} is no list of slot, key, files and sha256")
        slot, key, files, digest = row
        if not _is_int(slot) or slot not in slots:
            raise BadIndex(f"sample {n} is in slot {_short(slot)}, which is none of {slots.start}..{slots.stop - 1}")
        if slot <= last:
            raise BadIndex(f"slot {slot} stands twice in its index, or out of order")
        if why := misnamed(key, files if isinstance(files, dict) else ()):
            raise BadIndex(f"sample {n} (slot {slot}): {why}")
        where = f"sample {key}"
        if key in keys:
            raise BadIndex(f"{where}: its key {_short(key)} is that of another sample")
        if not isinstance(files, dict) or not files or (exts is not None and set(files) != exts):
            raise BadIndex(f"{where}: its files are {_short(files)}" + (f", where {', '.join(exts)} is stored" if exts else ""))
        for ext, span in files.items():
            if not (isinstance(span, list) and len(span) == 2 and all(map(_is_int, span)) and span[0] >= 0 and span[1] >= 0):
                raise BadIndex(f"{where}: the place of its {ext} is {_short(span)}, not an offset and a number of bytes")
            if span[0] < behind:
                raise BadIndex(f"{where}: its {ext} overlaps what stands before it")
            behind = span[0] + span[1]
            if behind > end:
                raise BadIndex(f"{where}: its {ext} ends at byte {_short(behind)}, behind the last one that holds samples ({end})")
        if not (isinstance(digest, str) and _HEX.fullmatch(digest)):
            raise BadIndex(f"{where}: its sha256 is {_short(digest)}, not 64 hexadecimal digits")
        keys.add(key)
        last = slot
    raise BadIndex("its samples are not such as are written")


def _is_int(value: object) -> bool:
    return type(value) is int  # bool is another type


def _bytes(text: str) -> int:
    """Its length in UTF-8; of text that cannot be encoded, more than any limit."""
    try:
        return len(text.encode())
    except UnicodeEncodeError:
        return 1 << 62


def _short(value: object) -> str:
    text = ascii(value)
    return text if len(text) <= 60 else f"{text[:57]}..."
