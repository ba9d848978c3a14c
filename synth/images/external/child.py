"""The process of a command: lines in, lines out, a time for everything, and an end that leaves nothing behind."""

import contextlib
import os
import selectors
import subprocess
import time
from collections.abc import Sequence
from pathlib import Path

from synth.errors import Killed, StoreError
from synth.host.children import end, guarded, tail
from synth.host.deaths import Watch

LONGEST = 1 << 20  # bytes of a line; more is no protocol
CHUNK = 1 << 16


ENDS = 5.0  # seconds that a command which closed its output gets to end


class Gone(Exception):
    """The command died, hung or said what is no protocol; it was killed. The message says which. nobodys: where somebody else killed it,
    or the disk took nothing, what to raise of that."""

    def __init__(self, why: str, nobodys: Killed | StoreError | None = None):
        super().__init__(why)
        self.nobodys = nobodys


class Child:
    """One life of a command, under a guardian: whatever it started dies with it, and it dies with this process.

    It writes its log, and pictures to `place`.
    """

    def __init__(self, words: Sequence[str], log: Path, place: Path, keep: Sequence[str] = ()):
        self.log, self._watch = log, Watch(log.parent, place)
        reads, self._to = os.pipe()
        self._from, writes = os.pipe()
        try:
            self._guardian: subprocess.Popen | None = guarded(words, log, reads, writes, keep)
        except BaseException:
            os.close(self._to)
            os.close(self._from)
            raise
        finally:
            os.close(reads)
            os.close(writes)
        self._out, self._in, self._lines = bytearray(), bytearray(), []
        self._wait = selectors.DefaultSelector()
        for fd in (self._to, self._from):
            os.set_blocking(fd, False)
        self._wait.register(self._from, selectors.EVENT_READ)

    def send(self, line: bytes) -> None:
        """Hand a line over; it is written while answers are waited for, so that neither side can block the other."""
        self._out += line + b"\n"

    def line(self, deadline: float, what: str) -> bytes:
        """The next line of its output, by time.monotonic(). Gone if there is none in time, or never will be."""
        while not self._lines:
            left = deadline - time.monotonic()
            if left <= 0:
                raise self.gone(f"{what}; it was killed")
            self._watch_input()
            for key, _ in self._wait.select(left):
                (self._read if key.fd == self._from else self._write)()
        return self._lines.pop(0)

    def _watch_input(self) -> None:
        watched = self._to in self._wait.get_map()
        if self._out and not watched:
            self._wait.register(self._to, selectors.EVENT_WRITE)
        elif watched and not self._out:
            self._wait.unregister(self._to)

    def _write(self) -> None:
        try:
            del self._out[: os.write(self._to, self._out[:CHUNK])]
        except BlockingIOError:
            return
        except BrokenPipeError:  # it reads no more: what it still says counts, and then its end
            self._out.clear()

    def _read(self) -> None:
        data = os.read(self._from, CHUNK)
        if not data:
            raise self.gone("it ended by itself")
        *lines, rest = (self._in + data).split(b"\n")
        self._lines += [bytes(line) for line in lines]
        self._in = bytearray(rest)
        if len(rest) > LONGEST:
            raise self.gone(f"a line of more than {LONGEST} bytes")

    def gone(self, why: str) -> Gone:
        """The error to raise: kills the command, and says why with the end of its log."""
        code = None
        if self._guardian is not None:
            with contextlib.suppress(subprocess.TimeoutExpired):  # one that just closed its output may be ending
                code = self._guardian.wait(ENDS) if why.startswith("it ended") else None
        self.close()
        ended = "" if code is None else f" (exit {code})"
        last = tail(self.log)
        return Gone(f"{why}{ended}\n{last}", self._watch.nobodys_fault(code, "the command", last))

    def close(self) -> None:
        """Kill it and all that it started. It is told by the end of its input first, but not waited for."""
        if self._guardian is None:
            return
        self._wait.close()
        os.close(self._to)
        os.close(self._from)
        end(self._guardian)
        self._guardian = None
