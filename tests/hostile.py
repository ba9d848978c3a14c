"""What others may put in the place of a file: each form is made by a function of the path and of the bytes that belong there."""

import json
import os
import shutil
import signal
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

ESCAPES = "\x1b[2J\x1b]0;owned\x07\x9b31m\u202eevil\nwhole    everything"


def clear(path: Path) -> Path:
    """The place of a file, free for something else."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    path.unlink(missing_ok=True)
    path.parent.mkdir(parents=True, exist_ok=True)
    return path


def _socket(path: Path, _: bytes) -> None:
    here = os.getcwd()
    os.chdir(path.parent)  # the name of a socket has 107 bytes at most
    try:
        with socket.socket(socket.AF_UNIX) as s:
            s.bind(path.name)
    finally:
        os.chdir(here)


def _every(value: Any, change: Callable[[Any], Any]) -> Any:
    """A JSON value with each leaf changed."""
    if isinstance(value, dict):
        return {k: _every(v, change) for k, v in value.items()}
    return [_every(v, change) for v in value] if isinstance(value, list) else change(value)


def _leaves(change: Callable[[Any], Any]) -> Callable[[Path, bytes], object]:
    """A form that is the JSON of the file, or each line of it, with each leaf changed."""

    def make(path: Path, data: bytes) -> None:
        lines = data.splitlines() if path.suffix == ".jsonl" else [data]
        try:
            values = [json.loads(line) for line in lines]
        except ValueError:  # no JSON: its text would be changed alike
            values = [None]
        path.write_bytes(b"\n".join(json.dumps(_every(v, change)).encode() for v in values) + b"\n")

    return make


FORMS: dict[str, Callable[[Path, bytes], object]] = {
    "fifo": lambda path, _: os.mkfifo(path),
    "folder": lambda path, _: path.mkdir(),
    "zero device": lambda path, _: path.symlink_to("/dev/zero"),
    "socket": _socket,
    "dangling link": lambda path, _: path.symlink_to("nowhere"),
    "link to itself": lambda path, _: path.symlink_to(path.name),
    "empty": lambda path, _: path.write_bytes(b""),
    "deep": lambda path, _: path.write_bytes(b"[" * 1_000_000),
    "deep object": lambda path, _: path.write_bytes(b'{"a":' * 200_000 + b"1" + b"}" * 200_000),
    "bytes": lambda path, data: path.write_bytes(b"\xff" * max(100, len(data))),
    "a list": lambda path, _: path.write_bytes(b"[1, 2]\n"),
    "a number": lambda path, _: path.write_bytes(b"1" * 5000),
    "lone surrogates": _leaves(lambda v: "\ud800"),
    "other types": _leaves(lambda v: [v] if isinstance(v, int | float) else 10**13 if isinstance(v, str) else "x"),
    "large floats": _leaves(lambda v: 1e13 if isinstance(v, int | float) else v),
    "negative": _leaves(lambda v: -v - 1 if isinstance(v, int | float) else v),
    "escapes": _leaves(lambda v: ESCAPES if isinstance(v, str) else v),
    "nothing": _leaves(lambda v: None),
}


def put(path: Path, form: str) -> None:
    """Replace a file, or what would be one, by a form of FORMS."""
    data = path.read_bytes() if path.is_file() else b"{}"
    FORMS[form](clear(path), data)


class TooLong(BaseException):
    """Not an Exception: nobody may take it for an error of a file."""


@contextmanager
def within(seconds: int, what: str) -> Iterator[None]:
    """TooLong when the body does not end in time, even where it waits in open()."""

    def late(number: int, frame: object) -> None:
        raise TooLong(f"{what}: still running after {seconds} s")

    before = signal.signal(signal.SIGALRM, late)
    signal.alarm(seconds)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)
