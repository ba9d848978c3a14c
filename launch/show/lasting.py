"""Output to a terminal that may go away: a lost connection is no error of the run."""

import contextlib
import sys
from typing import Any, TextIO


class Lasting:
    """A text stream; what it cannot write any more is left out."""

    def __init__(self, stream: TextIO):
        self._stream = stream

    def write(self, text: str) -> int:
        with contextlib.suppress(OSError):  # EIO of a terminal that hung up
            return self._stream.write(text)
        return len(text)

    def flush(self) -> None:
        with contextlib.suppress(OSError):
            self._stream.flush()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


def outlive_terminal() -> None:
    """From now on standard output and error outlive the terminal that they are, if they are one."""
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        if not isinstance(stream, Lasting) and stream.isatty():
            setattr(sys, name, Lasting(stream))
