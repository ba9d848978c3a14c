"""Reading what others may have written: files of run folders, of users and of models, answers of servers and of children.

A file is opened without waiting for anybody, must be a regular one, and is read up to a limit. JSON is UTF-8, no deeper than DEEPEST,
without NaN, infinities and half characters. What does not fit is an InputError that names the file, what stands there and the fix; what
tells of the file system and not of the file is a StoreError.
"""

import errno
import io
import json
import os
import stat
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from synth.errors import InputError, not_trouble
from synth.terminal import printable

MiB = 1 << 20
RECORD = 16 * MiB  # bytes of a record of a run folder: a report, a marker, a submission
STAGE = 256 * MiB  # of stage.json, inputs.json and listings' indices: a config may name ten thousands of classes
EVENTS = 1024 * MiB  # of one worker's events: 300 bytes a unit
TABLE = 4096 * MiB  # of what users give: lists, tables, annotations (LVIS is 1.2 GB)
ANSWER = 16 * MiB  # of a server's or a child's answer
LINE = 16 * MiB  # of one line of a file with lines
DEEPEST = 64  # arrays and objects inside each other; what is read here has ten at most

# how files begin that stand in the place of others -> what they are, and what to do
STAND_INS = (
    (b"version https://git-lfs", "is a pointer of Git LFS, not the file: run git lfs pull, or fetch it anew"),
    (b"<", "is a web page or XML: fetch the file itself"),
)

_KINDS: tuple[tuple[Callable[[int], bool], str], ...] = (
    (stat.S_ISFIFO, "a FIFO"),
    (stat.S_ISDIR, "a folder"),
    (stat.S_ISCHR, "a device"),
    (stat.S_ISBLK, "a device"),
    (stat.S_ISSOCK, "a socket"),
)


# -- files ---------------------------------------------------------------------------------------------------------------


def kind_of(mode: int) -> str:
    """What a file is that is no regular one, by its st_mode; "" if it is one."""
    return "" if stat.S_ISREG(mode) else next((said for test, said in _KINDS if test(mode)), "no regular file")


def open_file(path: str | os.PathLike) -> io.BufferedReader:
    """Open a regular file for reading. Nothing is waited for, as open() would for the other end of a FIFO, or for a tape.

    Raises InputError for anything but a regular file, StoreError for trouble of the file system, else the OSError of open().
    """
    try:
        fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC)
    except OSError as e:
        if e.errno == errno.ENXIO:  # nothing stands behind a socket or a device of this name
            raise _not_regular(path, kind_of(os.stat(path).st_mode) or "no file") from e
        if e.errno == errno.ELOOP:
            raise _not_regular(path, "a link that leads nowhere") from e
        not_trouble(path, e)
        raise
    if kind := kind_of(os.fstat(fd).st_mode):
        os.close(fd)
        raise _not_regular(path, kind)
    return open(path, "rb", opener=lambda *_: fd)  # so that its name is known


def _not_regular(path: str | os.PathLike, kind: str) -> InputError:
    return InputError(f"{_named(path)}: is {kind}, where a file is expected; remove it")


def read(path: str | os.PathLike, most: int) -> bytes:
    """The bytes of a regular file of at most `most` bytes; raises as `open_file`, and InputError for a larger one."""
    with open_file(path) as f:
        size = os.fstat(f.fileno()).st_size
        if size > most:
            raise InputError(f"{_named(path)}: has {size:,} bytes, at most {most:,} are read here; it is no such file: remove it")
        try:
            data = f.read(size + 1)  # never `most` at once: so much memory would be asked for
            while size < len(data) <= most:  # it grew meanwhile; what /proc holds has no size
                size = len(data)
                if not (more := f.read(min(MiB, most + 1 - size))):
                    break
                data += more
        except OSError as e:
            not_trouble(path, e)
            raise
    if len(data) > most:
        raise InputError(f"{_named(path)}: has more than the {most:,} bytes that are read here; it is no such file: remove it")
    return data


def lines(path: str | os.PathLike, most: int = EVENTS, longest: int = LINE) -> Iterator[bytes]:
    """The lines of a regular file, without their ends; raises as `read`, and InputError for a line of more than `longest` bytes."""
    with open_file(path) as f:
        size = os.fstat(f.fileno()).st_size
        if size > most:
            raise InputError(f"{_named(path)}: has {size:,} bytes, at most {most:,} are read here; it is no such file: remove it")
        for number in range(1, size + 2):
            line = f.readline(longest + 1)
            if not line:
                return
            if len(line) > longest:
                raise InputError(f"{_named(path)}: line {number} has more than {longest:,} bytes; remove or mend it")
            yield line.rstrip(b"\n")


def _named(path: str | os.PathLike) -> str:
    return printable(os.fsdecode(path))


def read_text(path: str | os.PathLike, most: int = TABLE) -> str:
    """The text of a UTF-8 file, without its byte order mark; raises as `read`, and InputError for bytes that are no UTF-8."""
    try:
        return str(read(path, most), "utf-8-sig")
    except UnicodeDecodeError as e:
        raise InputError(f"{_named(path)}: is not UTF-8 text ({e}); convert it") from e


def stand_in(head: bytes) -> str:
    """What a file is that only stands in the place of another, and what to do, by its first bytes; "" if it is none of these."""
    start = head[:100].lstrip()
    return next((what for begins, what in STAND_INS if start.startswith(begins)), "")


def absent(path: str | os.PathLike) -> str:
    """Why no file or folder of a name is found: it is missing, or the name is a link that leads nowhere."""
    if not os.path.islink(path):
        return "missing"
    try:
        os.stat(path)
    except OSError as e:
        not_trouble(path, e)
        if e.errno == errno.ELOOP:
            return "a link that leads round in a circle"
    return f"a link to {_named(os.readlink(path))}, which is not there"


def number_in(text: str) -> int | None:
    """The whole number that a text spells in plain digits; None if it spells none, or one that counts nothing.

    >>> number_in("12"), number_in("-1"), number_in("\u00b2"), number_in("9" * 5000)
    (12, None, None, None)
    """
    return int(text) if text.isascii() and text.isdigit() and len(text) <= 18 else None


# -- JSON ----------------------------------------------------------------------------------------------------------------


def _no_number(name: str) -> Any:
    raise ValueError(f"{name} is no JSON")


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    made = dict(pairs)
    if len(made) < len(pairs):
        seen_keys: set[str] = set()
        twice = next(key for key, _ in pairs if key in seen_keys or seen_keys.add(key))  # type: ignore[func-returns-value]
        raise ValueError(f"the key {printable(twice, 80)!r} stands twice in an object")
    return made


_DECODER = json.JSONDecoder(parse_constant=_no_number)
_ONCE = json.JSONDecoder(parse_constant=_no_number, object_pairs_hook=_once)
_ANY_NUMBER = json.JSONDecoder()


def parse(data: bytes | str, where: object, fix: str = "", once: bool = False, halves: bool = False, infinite: bool = False) -> Any:
    """The value of JSON text. `where`: names it in messages, which end in `fix`.

    once: a key that stands twice in an object is an error, as in what people write by hand, where one entry would get lost; else the last
    one counts. halves: text may hold half characters (lone surrogates), which stand in the names of files that are no UTF-8.
    infinite: NaN and infinities are numbers, as in the configs of schedulers.
    """
    try:
        text = data if isinstance(data, str) else str(data, "utf-8")
        value = (_ONCE if once else _ANY_NUMBER if infinite else _DECODER).decode(text[1:] if text.startswith("\ufeff") else text)
        if text.count("[") + text.count("{") > DEEPEST and _deeper(value, DEEPEST):
            raise RecursionError
        if not halves and ("\\ud" in text or "\\uD" in text):
            json.dumps(value, ensure_ascii=False).encode()
    except RecursionError:
        raise InputError(f"{where}: is not JSON that is read here: more than {DEEPEST} levels inside each other{_end(fix)}") from None
    except UnicodeEncodeError:
        raise InputError(f"{where}: holds half of a character (a lone surrogate), which is no text{_end(fix)}") from None
    except ValueError as e:  # torn, no UTF-8, NaN, a number of thousands of digits
        if known := stand_in(data[:100] if isinstance(data, bytes) else data[:100].encode(errors="replace")):
            raise InputError(f"{where}: {known}") from e
        raise InputError(f"{where}: is not JSON in UTF-8 ({printable(e, 300)}){_end(fix)}") from e
    return value


def read_json(path: str | os.PathLike, most: int, fix: str = "", **allowed: bool) -> Any:
    """The value of a JSON file; raises as `read` and `parse`. allowed: once, halves, infinite of `parse`."""
    return parse(read(path, most), _named(path), fix, **allowed)


def _deeper(value: Any, levels: int) -> bool:
    """Whether arrays and objects stand in each other more than `levels` deep; level by level, so that depth costs no stack."""
    level = [value] if type(value) in (dict, list) else []
    for _ in range(levels):
        level = [c for v in level for c in (v.values() if type(v) is dict else v) if type(c) is dict or type(c) is list]
        if not level:
            return False
    return True


def _end(fix: str) -> str:
    return f"; {fix}" if fix else ""


# -- shapes --------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Shape:
    """What a value must be, in words, and the test of it."""

    said: str
    test: Callable[[Any], bool]


@dataclass(frozen=True)
class Maybe:
    """A field that may be absent; then it is `default`."""

    shape: Any
    default: Any = None


def whole(low: int, high: int) -> Shape:
    """A whole number within limits; 1e13 and true are none."""
    return Shape(f"a whole number, {low:,} to {high:,}", lambda v: type(v) is int and low <= v <= high)


def _text(value: Any) -> bool:
    return type(value) is str and value.isprintable()


WORD = Shape("printable text on one line", _text)
COUNT = whole(0, (1 << 63) - 1)
_LARGEST = 1e300  # of numbers with a fraction: what is above overflows in the first sum


def fits(value: Any, shape: Any) -> bool:
    """Whether a parsed value has a shape: a type (float takes finite numbers, int no booleans), None, a Shape; (a, b): one of them;
    [a]: a list of them; {str: a}: an object of them; object: anything.

    >>> fits([1, 2], [int]), fits({"a": True}, {str: int}), fits(float("nan"), float), fits(None, (str, None))
    (True, False, False, True)
    """
    if isinstance(shape, Shape):
        return shape.test(value)
    if isinstance(shape, tuple):
        return any(fits(value, s) for s in shape)
    if isinstance(shape, list):
        return type(value) is list and all(fits(v, shape[0]) for v in value)
    if isinstance(shape, dict):
        return type(value) is dict and all(fits(v, shape[str]) for v in value.values())
    if shape is float:
        return type(value) in (int, float) and -_LARGEST < value < _LARGEST
    return shape is object or value is None if shape in (object, None) else type(value) is shape


def said(shape: Any) -> str:
    """A shape in words.

    >>> said([int]), said({str: (str, None)})
    ('a list, each a whole number', 'an object, each text or null')
    """
    if isinstance(shape, Shape):
        return shape.said
    if isinstance(shape, tuple):
        return " or ".join(map(said, shape))
    if isinstance(shape, list):
        return f"a list, each {said(shape[0])}"
    if isinstance(shape, dict):
        return f"an object, each {said(shape[str])}"
    return _SAID[shape]


_SAID = {
    int: "a whole number",
    float: "a number",
    str: "text",
    bool: "true or false",
    None: "null",
    list: "a list",
    dict: "an object",
    object: "anything",
}


def obj(raw: Any, where: object, fix: str = "", /, **shapes: Any) -> dict[str, Any]:
    """The named fields of an object, each of its shape (see `fits`; Maybe: may be absent); others are left out. Else an InputError.

    >>> obj({"slots": 3, "more": 1}, "stage.json", slots=int, name=Maybe(str, "?"))
    {'slots': 3, 'name': '?'}
    """
    if type(raw) is not dict:
        raise InputError(f"{where}: is {seen(raw)}, expected an object with {', '.join(map(repr, shapes))}{_end(fix)}")
    fields = {}
    for name, shape in shapes.items():
        optional = isinstance(shape, Maybe)
        if name not in raw:
            if not optional:
                raise InputError(f"{where}: has no {name!r}{_end(fix)}")
            fields[name] = shape.default
            continue
        value, shape = raw[name], shape.shape if optional else shape
        if not fits(value, shape):
            raise InputError(f"{where}: {name!r} is {seen(value)}, expected {said(shape)}{_end(fix)}")
        fields[name] = value
    return fields


def seen(value: Any) -> str:
    """A value as a message shows it: on one line, short."""
    try:
        text = repr(value) if not isinstance(value, dict | list) or len(value) < 20 else f"{type(value).__name__} of {len(value)}"
    except (RecursionError, ValueError):  # too deep; an int of more digits than are printed
        text = f"a {type(value).__name__}"
    return printable(text, 80)
