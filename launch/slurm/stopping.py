"""Ctrl-C, a hangup or SIGTERM while jobs are handed to Slurm: the stage whose turn it is gets its array and its gate, and no other does."""

import contextlib
import signal
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


@dataclass
class Stop:
    count: int = 0  # signals so far
    deaf: bool = False  # to what comes now: what is queued is being told

    @property
    def asked(self) -> bool:
        return self.count > 0


@contextlib.contextmanager
def stopping(tell: Callable[[str], object]) -> Iterator[Stop]:
    """Inside, the first signal is noted, each later one is a KeyboardInterrupt unless `deaf`. Handlers are put back at the end.

    A signal that whoever started us ignores, as nohup does SIGHUP, stays ignored. Elsewhere than in the main thread nothing is caught.
    """
    stop = Stop()

    def note(number: int, frame: object) -> None:
        stop.count += 1
        if stop.deaf:
            return
        if stop.count > 1:
            raise KeyboardInterrupt
        with contextlib.suppress(OSError, RuntimeError):  # the terminal is gone, or is being written to
            tell(f"{signal.Signals(number).name}: the stage that is being submitted is completed first; ctrl-C again stops at once")

    if threading.current_thread() is not threading.main_thread():
        yield stop
        return
    before = {s: signal.signal(s, note) for s in SIGNALS if signal.getsignal(s) is not signal.SIG_IGN}
    try:
        yield stop
    finally:
        for s, handler in before.items():
            signal.signal(s, handler)
