"""Ctrl-C and SIGTERM of the launcher (in an allocation SIGUSR2 too): the first asks for a drain, the second for an end."""

import contextlib
import signal
from collections.abc import Callable, Iterator
from dataclasses import dataclass

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGUSR2)


@dataclass
class Stop:
    """What was asked so far. Polled by whoever waits for workers."""

    name: str = ""  # of the first signal
    count: int = 0

    @property
    def drain(self) -> bool:
        return self.count > 0

    @property
    def kill(self) -> bool:
        return self.count > 1


@contextlib.contextmanager
def catching(tell: Callable[[str], None]) -> Iterator[Stop]:
    """Inside, signals are only noted; `tell` says so once. Handlers are put back at the end."""
    stop = Stop()

    def note(number: int, frame) -> None:
        stop.name = stop.name or signal.Signals(number).name
        stop.count += 1
        if stop.count == 1:
            with contextlib.suppress(OSError):  # a terminal that hung up cannot be told
                tell("stopping: workers finish their running batch and keep it (once more: kill them)")

    before = {s: signal.signal(s, note) for s in SIGNALS}
    try:
        yield stop
    finally:
        for s, handler in before.items():
            signal.signal(s, handler)
