"""Reads pickles of plain data: lists, tuples, dicts with text keys, numbers, text, None, and numpy's scalars as numbers.

A pickle is a program that may call anything. Here every opcode is checked before the first one runs, and only those that
plain data needs pass; Python's unpickler then knows three names alone, those of a numpy scalar, and calls stand-ins for them;
and whatever comes out is looked at. What a file can make this use is bounded: by its size, by the number of containers, and
every length by the bytes that are there. Opcodes: CPython's Lib/pickletools.py; protocols 0 to 5, as Python 3 writes them.
"""

import io
import pickle
import pickletools
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

from synth import foreign
from synth.errors import InputError, not_trouble

MAX_BYTES = 4 << 30  # of a file
MAX_CONTAINERS = 50_000_000  # lists, tuples, dicts and marks in a file
MAX_INT_BITS = 128
MAX_SCALAR = 8  # bytes
FIX = "copy it again whole, or give one that OVTrack's generation wrote"

PUTS = {"PUT", "BINPUT", "LONG_BINPUT", "MEMOIZE"}
GETS = {"GET", "BINGET", "LONG_BINGET"}
COUNTED = {"MARK", "EMPTY_LIST", "LIST", "EMPTY_DICT", "DICT", "EMPTY_TUPLE", "TUPLE", "TUPLE1", "TUPLE2", "TUPLE3"}
KEYS = {"DICT": slice(0, None, 2), "SETITEM": slice(1, None, 2), "SETITEMS": slice(1, None, 2)}  # of what they take
OTHERS = """PROTO FRAME STOP NONE NEWTRUE NEWFALSE INT BININT BININT1 BININT2 LONG LONG1 LONG4 FLOAT BINFLOAT UNICODE BINUNICODE
    SHORT_BINUNICODE BINUNICODE8 BINBYTES SHORT_BINBYTES BINBYTES8 APPEND APPENDS GLOBAL STACK_GLOBAL REDUCE BUILD"""
OPCODES = {*PUTS, *GETS, *COUNTED, *KEYS, *OTHERS.split()}

LETTERS = {"b1": "?", "i1": "b", "i2": "h", "i4": "i", "i8": "q", "u1": "B", "u2": "H", "u4": "I", "u8": "Q"}
LETTERS |= {"f2": "e", "f4": "f", "f8": "d"}  # numpy's name of a dtype -> struct's
STATES = [(3, order, None, None, None, -1, -1, 0) for order in "<>|"]  # of a dtype without fields
MISLED = (pickle.UnpicklingError, EOFError, LookupError, ValueError, TypeError, AttributeError, OverflowError, struct.error)


class Refused(Exception):
    """A pickle that is torn, or is not plain data."""


def load(path: Path) -> object:
    """What a pickle holds. InputError naming the file, the place in it and the fix, if it is torn or not plain data."""
    try:
        if (size := path.stat().st_size) > MAX_BYTES:
            raise InputError(f"{path}: {size:,} bytes are more than the {MAX_BYTES:,} that are read; give the parts one by one")
        return loads(foreign.read(path, MAX_BYTES))
    except OSError as e:
        not_trouble(path, e)
        raise InputError(f"{path}: cannot be read ({e.strerror})") from e
    except Refused as e:
        raise InputError(f"{path}: {e}; {FIX}") from e


def loads(data: bytes) -> object:
    file = io.BytesIO(data)
    try:
        _check_opcodes(file, len(data))
        file.seek(0)
        value = _PlainUnpickler(file).load()
    except Refused as e:
        raise Refused(f"{e} (before byte {file.tell():,})") from e
    except MISLED as e:
        raise Refused(f"torn, or not a pickle ({type(e).__name__}: {str(e)[:100]}; before byte {file.tell():,})") from e
    _check_values(value)
    return value


def _check_opcodes(file: io.BytesIO, size: int) -> None:
    """Refused unless all are of plain data and keep the bounds. Follows which values are text, as keys of dicts must be."""
    stack: list[bool] = []  # whether a value is text
    marks: list[int] = []
    memo: dict[int, bool] = {}
    containers = frame_end = 0
    arg: Any
    for op, arg, _ in pickletools.genops(file):
        name, takes = op.name, op.stack_before
        if name not in OPCODES:
            raise Refused(f"instruction {op.code!a} ({name}) is not one that plain data needs; nothing was run")
        end = file.tell()
        if name == "FRAME":
            if frame_end or arg > size - end:
                raise Refused(f"torn, or false: a frame of {arg:,} bytes, {(frame_end or size) - end:,} are left")
            frame_end = end + arg
        elif frame_end and end > frame_end:  # C's unpickler would skip bytes there, and run others than those checked here
            raise Refused("torn: an instruction crosses the end of a frame")
        if end == frame_end:
            frame_end = 0
        if type(arg) is int and arg.bit_length() > MAX_INT_BITS:
            raise Refused(f"a number of {arg.bit_length():,} bits")
        if name in COUNTED and (containers := containers + 1) > MAX_CONTAINERS:
            raise Refused(f"more than {MAX_CONTAINERS:,} lists, tuples and dicts")
        if name in PUTS:
            number = len(memo) if arg is None else arg
            if number > len(memo) + 1:  # C's unpickler allocates up to the largest; picklers count from 0 or 1
                raise Refused(f"torn, or false: value {number:,} is memorised after {len(memo):,} others")
            memo[number] = stack[-1]
        elif name in GETS:
            stack.append(memo[arg])
        elif name == "MARK":
            marks.append(len(stack))
        else:
            marked = pickletools.markobject in takes
            start = marks.pop() - takes.index(pickletools.markobject) if marked else len(stack) - len(takes)
            if start < 0:
                raise Refused("torn: it takes values that are not there")
            if name in KEYS and not all(stack[start:][KEYS[name]]):  # hashing tuples within tuples may recurse without end
                raise Refused("the key of a dict is not text")
            stack[start:] = [kind is pickletools.pyunicode for kind in op.stack_after]
    if stack or marks or file.tell() != size:
        raise Refused(f"torn: it ends with more, or less, than one value, or {size - file.tell():,} bytes follow its end")


def _check_values(value: object) -> None:
    """Refused if bytes, or another part of a numpy scalar, are anywhere in a value."""
    seen, left = set(), [value]
    while left:
        value = left.pop()
        if isinstance(value, list | tuple | dict):
            if id(value) not in seen:
                seen.add(id(value))
                left.extend(value.values() if isinstance(value, dict) else value)
        elif type(value) not in (int, float, bool, str, type(None)):
            raise Refused(f"holds a {type(value).__name__.strip('_').lower()} as a value; plain data has numbers and text")


class _PlainUnpickler(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> object:
        if (module, name) not in FUNCTIONS:
            raise Refused(f"names {module[:60]!r} {name[:60]!r}, which plain data does not need; nothing was run")
        return FUNCTIONS[module, name]


class _Function:
    """What a pickle may call; unlike a function of Python's, it has no state that a pickle could set."""

    __slots__ = ("_work",)

    def __init__(self, work: Callable[..., object]):
        self._work = work

    def __call__(self, *args: object) -> object:
        return self._work(*args)

    def __setstate__(self, state: object) -> None:
        raise Refused("sets the state of a function; nothing was run")


class _Dtype:
    """A numpy dtype of one number; its state tells the byte order."""

    __slots__ = ("form",)

    def __init__(self, name: object, *flags: object):
        if type(name) is not str or name not in LETTERS or len(flags) > 2 or not all(isinstance(flag, int) for flag in flags):
            named = repr(name)[:40] if type(name) is str else ""
            raise Refused(f"a numpy dtype {named} is not one of plain numbers ({', '.join(LETTERS)})")
        self.form = "<" + LETTERS[name]

    def __setstate__(self, state: object) -> None:
        if state not in STATES:
            raise Refused("a numpy dtype has a state that no plain number has")
        self.form = (">" if state == STATES[1] else "<") + self.form[1]


def _scalar(dtype: object, data: object) -> object:
    if type(dtype) is not _Dtype or type(data) is not bytes:
        raise Refused("a numpy scalar is not made of a dtype and bytes")
    return struct.unpack(dtype.form, data)[0]


def _encode(text: object, codec: object) -> bytes:
    """How protocols 0 to 2 write bytes. Longer ones than a number's, made over and over of one text, would fill the memory."""
    if type(text) is not str or len(text) > MAX_SCALAR or codec != "latin1":
        raise Refused("bytes are not written as Python writes those of a number")
    return text.encode("latin-1")


FUNCTIONS = {
    ("numpy.core.multiarray", "scalar"): _Function(_scalar),
    ("numpy._core.multiarray", "scalar"): _Function(_scalar),  # numpy 2
    ("numpy", "dtype"): _Function(_Dtype),
    ("_codecs", "encode"): _Function(_encode),
}
