"""What plain data in a pickle is made of: numpy's scalars, worked out from what their calls say, and the checks of every value."""

import struct
from collections.abc import Callable, Sequence
from dataclasses import dataclass

DTYPES = {  # numpy's name -> struct's letter
    "b1": "?",
    "i1": "b",
    "i2": "h",
    "i4": "i",
    "i8": "q",
    "u1": "B",
    "u2": "H",
    "u4": "I",
    "u8": "Q",
    "f2": "e",
    "f4": "f",
    "f8": "d",
}
SCALAR, DTYPE, ENCODE = "scalar", "dtype", "encode"
CALLS = {  # what a pickle may name -> what is worked out in its place
    ("numpy.core.multiarray", "scalar"): SCALAR,
    ("numpy._core.multiarray", "scalar"): SCALAR,  # numpy 2
    ("numpy", "dtype"): DTYPE,
    ("_codecs", "encode"): ENCODE,  # how protocols 0 to 2 write bytes
}
ORDERS = {"<": "<", ">": ">", "|": "<"}  # numpy's byte orders, | of one byte


class Refused(Exception):
    """A pickle that is torn, or is not plain data."""


@dataclass(frozen=True)
class Call:
    what: str


@dataclass
class Dtype:
    """A numpy dtype of one number, while its parts arrive."""

    letter: str
    order: str = ""  # of bytes, as struct writes it; "": not told yet


def _dtype(args: tuple) -> Dtype:
    if not 1 <= len(args) <= 3 or type(args[0]) is not str or args[0] not in DTYPES or any(type(a) not in (bool, int) for a in args[1:]):
        raise Refused(f"a numpy dtype {_told(args)} is not one of plain numbers ({', '.join(DTYPES)})")
    return Dtype(DTYPES[args[0]])


def _scalar(args: tuple) -> int | float | bool:
    if not _of_scalar(args):
        raise Refused("a numpy scalar is not made of a dtype and bytes")
    return struct.unpack((args[0].order or "<") + args[0].letter, args[1])[0]


def _encode(args: tuple) -> bytes:
    if len(args) != 2 or type(args[0]) is not str or args[1] != "latin1":
        raise Refused("bytes are not written as Python writes them")
    return args[0].encode("latin-1")


WORKED_OUT: dict[str, Callable[[tuple], object]] = {SCALAR: _scalar, DTYPE: _dtype, ENCODE: _encode}


def plain(value: object) -> object:
    """The value itself, unless it is a part that only numpy's scalars have."""
    if type(value) in (Call, Dtype, bytes) or _of_scalar(value):
        raise Refused(f"holds a {type(value).__name__.lower()} of numpy's as a value; plain data has numbers and text")
    return value


def tupled(items: Sequence) -> tuple:
    """A tuple of plain values, or of what a numpy scalar is made of."""
    found = tuple(items)
    return found if _of_scalar(found) else tuple(map(plain, found))


def _of_scalar(value: object) -> bool:
    """Whether these are the arguments of a numpy scalar, the one place where dtypes and bytes belong."""
    return type(value) is tuple and len(value) == 2 and type(value[0]) is Dtype and type(value[1]) is bytes


def paired(items: list) -> dict:
    """A dict of keys and values by turns."""
    keys = items[::2]
    for key in keys:
        if type(key) is not str:  # hashing anything else may recurse without end
            raise Refused(f"the key of a dict is a {type(key).__name__}, not text")
    return dict(zip(keys, map(plain, items[1::2]), strict=True))


def _told(args: tuple) -> str:
    return repr(args[0])[:40] if args and type(args[0]) is str else ""
