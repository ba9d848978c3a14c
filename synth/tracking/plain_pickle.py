"""Reads pickles that hold plain data, and nothing else: lists, tuples, dicts with text keys, numbers, text, None, numpy's numbers.

A pickle is a program for a stack machine that may call anything (that is why data in it is a danger). This is another, smaller machine for
the same programs: it knows the instructions that build plain data, and calls nothing. Where numpy writes a scalar as a call of its own
functions, the call is recognised by its name and its arguments and worked out (synth.tracking.pickle_values). Every other instruction or
name is refused.

What a file can make this use is bounded: by its size, by the number of containers, and every length by the bytes that are there.
Opcodes: the table of CPython's Lib/pickletools.py. Protocols 0 to 5, as Python 3 writes them.
"""

import struct
from collections.abc import Callable
from pathlib import Path

from synth.errors import InputError
from synth.tracking.pickle_values import CALLS, ORDERS, WORKED_OUT, Call, Dtype, Refused, paired, plain, tupled

MAX_BYTES = 4 << 30  # of a file
MAX_CONTAINERS = 50_000_000  # lists, tuples, dicts and open marks in a file
MAX_INT_BYTES = 16
MAX_LINE = 1 << 20  # bytes of a line of text


def load(path: Path) -> object:
    """What a pickle holds. InputError naming the file, and the place in it, if it is torn or not plain data."""
    path = Path(path)
    try:
        if (size := path.stat().st_size) > MAX_BYTES:
            raise InputError(f"{path}: has {size:,} bytes, more than the {MAX_BYTES:,} that are read; give the parts one by one")
        data = path.read_bytes()
    except OSError as e:
        raise InputError(f"{path}: cannot be read ({e.strerror})") from e
    try:
        return loads(data)
    except Refused as e:
        raise InputError(f"{path}: {e}") from e


def loads(data: bytes) -> object:
    machine = Machine(data)
    try:
        return machine.run()
    except Refused as e:
        raise Refused(f"{e} (at byte {machine.at})") from e
    except (
        IndexError,
        KeyError,
        ValueError,
        struct.error,
        UnicodeDecodeError,
        AttributeError,
        TypeError,
    ) as e:  # what bad programs lead to
        raise Refused(f"torn, or not a pickle ({type(e).__name__}: {str(e)[:100]}; at byte {machine.at})") from e


class Machine:
    """One program: `data` from `at` on, a stack, the stacks below open marks, and what was memorised."""

    def __init__(self, data: bytes):
        self.data, self.at = data, 0
        self.stack: list = []
        self.below: list[list] = []
        self.memo: dict[int, object] = {}
        self.containers = 0

    def run(self) -> object:
        data, dispatch = self.data, DISPATCH
        while True:
            if self.at >= len(data):
                raise Refused("torn: it ends before its STOP")
            code = data[self.at]
            self.at += 1
            if code == STOP:
                break
            action = dispatch.get(code)
            if action is None:
                raise Refused(f"instruction {bytes([code])!r}{NAMES.get(code, '')} is not one that plain data needs; nothing was run")
            action(self)
        if self.at != len(data):
            raise Refused(f"{len(data) - self.at:,} bytes follow its end")
        if len(self.stack) != 1 or self.below:
            raise Refused("torn: it ends with more, or less, than one value")
        return plain(self.stack[0])

    # -- reading -----------------------------------------------------------------------------------------------------

    def take(self, n: int) -> bytes:
        end = self.at + n
        if n < 0 or end > len(self.data):
            raise Refused(f"torn, or false: {n:,} bytes are told, {len(self.data) - self.at:,} are left")
        found = self.data[self.at : end]
        self.at = end
        return found

    def number(self, form: str) -> int | float:
        return struct.unpack(form, self.take(struct.calcsize(form)))[0]

    def line(self) -> bytes:
        end = self.data.find(b"\n", self.at, self.at + MAX_LINE)
        if end < 0:
            raise Refused("torn: a line does not end")
        return self.take(end - self.at + 1)[:-1]

    # -- the stack ---------------------------------------------------------------------------------------------------

    def push(self, value: object) -> None:
        self.stack.append(value)

    def count(self) -> None:
        self.containers += 1
        if self.containers > MAX_CONTAINERS:
            raise Refused(f"more than {MAX_CONTAINERS:,} lists, tuples and dicts")

    def container(self, value: object) -> None:
        self.count()
        self.stack.append(value)

    def mark(self) -> None:
        self.count()
        self.below.append(self.stack)
        self.stack = []

    def to_mark(self) -> list:
        if not self.below:
            raise Refused("torn: nothing was marked")
        items, self.stack = self.stack, self.below.pop()
        return items

    def appended(self, items: list) -> None:
        target = self.stack[-1]
        if type(target) is not list:
            raise Refused(f"items are put into a {type(target).__name__}, not a list")
        target.extend(map(plain, items))

    def set_items(self, items: list) -> None:
        target = self.stack[-1]
        if type(target) is not dict or len(items) % 2:
            raise Refused("pairs are put into what is no dict, or one is half")
        target.update(paired(items))

    def memorise(self, number: int) -> None:
        self.memo[number] = self.stack[-1]

    def recall(self, number: int) -> None:
        if number not in self.memo:
            raise Refused(f"torn: value {number} was never memorised")
        self.stack.append(self.memo[number])

    # -- names and calls ---------------------------------------------------------------------------------------------

    def name(self, module: str, name: str) -> None:
        what = CALLS.get((module, name))
        if what is None:
            raise Refused(f"names {module[:60]!r} {name[:60]!r}, which plain data does not need; nothing was run")
        self.stack.append(Call(what))

    def stack_name(self) -> None:
        name, module = self.stack.pop(), self.stack.pop()
        if not (type(name) is str and type(module) is str):
            raise Refused("a name is not text")
        self.name(module, name)

    def call(self) -> None:
        args, target = self.stack.pop(), self.stack.pop()
        if type(target) is not Call or type(args) is not tuple:
            raise Refused(f"calls a {type(target).__name__}; nothing was run")
        self.stack.append(WORKED_OUT[target.what](args))

    def build(self) -> None:
        """The state of a dtype: its byte order, and that it has no fields."""
        state, target = self.stack.pop(), self.stack[-1]
        if type(target) is not Dtype:
            raise Refused(f"sets the state of a {type(target).__name__}; nothing was run")
        if (
            type(state) is not tuple
            or len(state) != 8
            or state[0] != 3
            or state[1] not in ORDERS
            or state[2:] != (None, None, None, -1, -1, 0)
        ):
            raise Refused("a numpy dtype has a state that no plain number has")
        target.order = ORDERS[state[1]]


# -- instructions ------------------------------------------------------------------------------------------------------


def _int_line(m: Machine) -> None:
    text = m.line()
    m.push({b"00": False, b"01": True}[text] if text in (b"00", b"01") else _decimal(text))


def _decimal(text: bytes) -> int:
    text = text.removesuffix(b"L")
    if len(text) > 40:
        raise Refused("a number of more than 40 digits")
    return int(text)


def _long(m: Machine, size: int) -> None:
    if size > MAX_INT_BYTES:
        raise Refused(f"a number of {size} bytes")
    m.push(int.from_bytes(m.take(size), "little", signed=True))


def _tuple(n: int) -> Callable[[Machine], None]:
    def action(m: Machine) -> None:
        items = tupled(m.stack[-n:])
        if len(items) != n:
            raise Refused("torn: a tuple of values that are not there")
        del m.stack[-n:]
        m.container(items)

    return action


def _proto(m: Machine) -> None:
    if (version := m.number("<B")) > 5:
        raise Refused(f"is of protocol {version}; 0 to 5 are read")


def _frame(m: Machine) -> None:
    if (size := m.number("<Q")) > len(m.data) - m.at:
        raise Refused(f"torn, or false: a frame of {size:,} bytes, {len(m.data) - m.at:,} are left")


def _text(form: str) -> Callable[[Machine], None]:
    return lambda m: m.push(m.take(m.number(form)).decode("utf-8", "surrogatepass"))


def _bytes(form: str) -> Callable[[Machine], None]:
    return lambda m: m.push(m.take(m.number(form)))


def _set_item(m: Machine) -> None:
    value, key = m.stack.pop(), m.stack.pop()
    m.set_items([key, value])


STOP = ord(".")
ACTIONS: dict[bytes, Callable[[Machine], None]] = {
    b"\x80": _proto,
    b"\x95": _frame,
    b"(": Machine.mark,
    b"N": lambda m: m.push(None),
    b"\x88": lambda m: m.push(True),
    b"\x89": lambda m: m.push(False),
    b"J": lambda m: m.push(m.number("<i")),
    b"K": lambda m: m.push(m.number("<B")),
    b"M": lambda m: m.push(m.number("<H")),
    b"I": _int_line,
    b"L": lambda m: m.push(_decimal(m.line())),
    b"\x8a": lambda m: _long(m, m.number("<B")),
    b"\x8b": lambda m: _long(m, m.number("<I")),
    b"F": lambda m: m.push(float(m.line()[:64])),
    b"G": lambda m: m.push(m.number(">d")),
    b"V": lambda m: m.push(m.line().decode("raw-unicode-escape")),
    b"X": _text("<I"),
    b"\x8c": _text("<B"),
    b"\x8d": _text("<Q"),
    b"B": _bytes("<I"),
    b"C": _bytes("<B"),
    b"\x8e": _bytes("<Q"),
    b"]": lambda m: m.container([]),
    b"l": lambda m: m.container([plain(v) for v in m.to_mark()]),
    b"a": lambda m: m.appended([m.stack.pop()]),
    b"e": lambda m: m.appended(m.to_mark()),
    b")": lambda m: m.container(()),
    b"t": lambda m: m.container(tupled(m.to_mark())),
    b"\x85": _tuple(1),
    b"\x86": _tuple(2),
    b"\x87": _tuple(3),
    b"}": lambda m: m.container({}),
    b"d": lambda m: m.container(paired(m.to_mark())),
    b"s": _set_item,
    b"u": lambda m: m.set_items(m.to_mark()),
    b"p": lambda m: m.memorise(_decimal(m.line())),
    b"q": lambda m: m.memorise(m.number("<B")),
    b"r": lambda m: m.memorise(m.number("<I")),
    b"\x94": lambda m: m.memorise(len(m.memo)),
    b"g": lambda m: m.recall(_decimal(m.line())),
    b"h": lambda m: m.recall(m.number("<B")),
    b"j": lambda m: m.recall(m.number("<I")),
    b"c": lambda m: m.name(m.line().decode(), m.line().decode()),
    b"\x93": Machine.stack_name,
    b"R": Machine.call,
    b"b": Machine.build,
}
DISPATCH = {code[0]: action for code, action in ACTIONS.items()}
NAMES = {  # of instructions that are refused, as pickletools calls them
    code[0]: f" ({name})"
    for code, name in (
        *(
            (b"i", "INST"),
            (b"o", "OBJ"),
            (b"\x81", "NEWOBJ"),
            (b"\x92", "NEWOBJ_EX"),
            (b"\x82", "EXT1"),
            (b"\x83", "EXT2"),
            (b"\x84", "EXT4"),
        ),
        *(
            (b"P", "PERSID"),
            (b"Q", "BINPERSID"),
            (b"\x96", "BYTEARRAY8"),
            (b"\x97", "NEXT_BUFFER"),
            (b"\x98", "READONLY_BUFFER"),
        ),
        *(
            (b"\x8f", "EMPTY_SET"),
            (b"\x90", "ADDITEMS"),
            (b"\x91", "FROZENSET"),
            (b"S", "STRING"),
            (b"T", "BINSTRING"),
            (b"U", "SHORT_BINSTRING"),
        ),
        *((b"0", "POP"), (b"1", "POP_MARK"), (b"2", "DUP")),
    )
}
