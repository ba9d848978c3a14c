"""answers/<worker>.jsonl in the stage folder: every answer as it came, so that none is paid for twice after a crash.

Each process appends to a file of its own and reads those of all. A line is "<sha256/16> <JSON>": what a kill or a full disk
tore is no answer, and the request is made again.
"""

import contextlib
import hashlib
import os
import threading
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

from synth import foreign
from synth.captions.engines import Request
from synth.errors import InputError
from synth.host.children import adding
from synth.store.files import make_folder, storing, write_atomic
from synth.store.spec import canonical

FOLDER = "answers"
CHECK = "check"  # the key of answers that only showed that the server answers


@dataclass(frozen=True)
class Answer:
    """What a server said, and what it says it cost."""

    text: str
    finish: str = ""  # stop | length | content_filter | ...
    tokens_in: int = 0
    tokens_out: int = 0


@dataclass(frozen=True)
class Totals:
    """What the answers of a stage cost together."""

    answers: int = 0
    tokens_in: int = 0
    tokens_out: int = 0

    def plus(self, answer: Answer) -> "Totals":
        return Totals(self.answers + 1, self.tokens_in + answer.tokens_in, self.tokens_out + answer.tokens_out)

    def cost(self, price_in: float, price_out: float) -> float:
        """Money, by prices for a million tokens."""
        return (self.tokens_in * price_in + self.tokens_out * price_out) / 1e6


def key_of(request: Request) -> str:
    """What a request is known by. Model and sampling are not in it: they are those of the stage whose folder this is."""
    shown = [[hashlib.sha256(picture.encode()).hexdigest() for picture in request.pictures]] if request.pictures else []
    return hashlib.sha256(canonical([request.text, request.messages, request.seed, *shown])).hexdigest()[:32]


class Journal:
    """Answers of this process and of all others in one stage. For several threads of one process."""

    def __init__(self, stage: Path, worker: str):
        self.folder, self._own = Path(stage) / FOLDER, f"{worker}.jsonl"
        self._where: dict[str, tuple[str, int, int]] = {}  # key -> file, offset and length of its line
        self._read: dict[str, int] = {}  # file -> bytes looked at
        self._f, self._torn, self._lock = None, False, threading.Lock()
        self.totals = Totals()  # of all answers that were read or added, those that were asked for twice among them

    def refresh(self) -> None:
        """Look for answers that other processes have stored since the last look."""
        with self._lock:
            for name in _names(self.folder):
                if name == self._own:  # counted when they were added
                    continue
                for key, answer, offset, length in _lines(self.folder / name, self._read.get(name, 0)):
                    self._read[name] = offset + length
                    if answer is not None:
                        self._where.setdefault(key, (name, offset, length))
                        self.totals = self.totals.plus(answer)

    def get(self, key: str) -> Answer | None:
        with self._lock:
            place = self._where.get(key)
        if place is None:
            return None
        name, offset, length = place
        try:
            with storing(self.folder / name), foreign.open_file(self.folder / name) as f:
                f.seek(offset)
                return _parse(f.read(length))[1]
        except FileNotFoundError:  # somebody tidied up: the request is made again
            return None

    def add(self, key: str, answer: Answer) -> None:
        """Store an answer before anything else is done with it. StoreError where the disk refuses."""
        body = canonical({"key": key} | asdict(answer))
        line = hashlib.sha256(body).hexdigest()[:16].encode() + b" " + body + b"\n"
        with self._lock, storing(self.folder / self._own):
            if self._f is None:
                make_folder(self.folder)
                self._f = open(self.folder / self._own, "ab", buffering=0, opener=adding)  # noqa: SIM115 (closed by close)
            before = b"\n" if self._torn else b""  # a full disk may have taken half a line
            self._torn = True
            offset = self._f.seek(0, os.SEEK_END) + len(before)
            data = before + line
            while data:
                data = data[self._f.write(data) :]
            self._torn = False
            self._where[key] = (self._own, offset, len(line))
            self.totals = self.totals.plus(answer)

    def sync(self) -> None:
        """Make what was added durable, should the machine lose power."""
        with self._lock:
            if self._f is not None:
                with storing(self.folder / self._own):
                    os.fsync(self._f.fileno())

    def close(self) -> None:
        with self._lock:
            if self._f is not None:
                with contextlib.suppress(OSError):
                    self._f.close()
                self._f = None


def ask_anew(stage: Path) -> None:
    """Make all answers of a stage count for nothing but what they cost: whoever asks the same gets another. Nobody may work on it."""
    for name in _names(Path(stage) / FOLDER):
        path = Path(stage) / FOLDER / name
        lines = []
        for key, answer, _, _ in _lines(path, 0):
            if answer is not None:
                body = canonical({"key": key if key.startswith(CHECK) else CHECK} | asdict(answer))
                lines.append(hashlib.sha256(body).hexdigest()[:16].encode() + b" " + body + b"\n")
        with storing(path):
            write_atomic(path, b"".join(lines))


def totals(stage: Path) -> Totals:
    """What all answers of a stage cost together, read anew."""
    journal = Journal(stage, "")
    journal.refresh()
    return journal.totals


def _names(folder: Path) -> list[str]:
    with storing(folder):
        try:
            return sorted(n for n in os.listdir(folder) if n.endswith(".jsonl") and not n.startswith("."))
        except FileNotFoundError:
            return []


def _lines(path: Path, start: int) -> Iterator[tuple[str, Answer | None, int, int]]:
    """(key or "", answer, offset, length) of each whole line from `start` on; a line without its newline may still grow."""
    with contextlib.suppress(FileNotFoundError), storing(path), foreign.open_file(path) as f:
        f.seek(start)
        while line := f.readline(foreign.LINE):
            if not line.endswith(b"\n"):
                return
            key, answer = _parse(line)
            yield key, answer, start, len(line)
            start += len(line)


_RECORD = {"key": str, "text": str, "finish": str, "tokens_in": foreign.COUNT, "tokens_out": foreign.COUNT}


def _parse(line: bytes) -> tuple[str, Answer | None]:
    sha, _, body = line.rstrip(b"\n").partition(b" ")
    if hashlib.sha256(body).hexdigest()[:16].encode() != sha:
        return "", None
    try:
        record = foreign.obj(foreign.parse(body, "answer"), "answer", **_RECORD)
    except InputError:  # of another version
        return "", None
    return record.pop("key"), Answer(**record)
