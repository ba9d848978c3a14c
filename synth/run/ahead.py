"""What coming batches need and no device computes (files read, decoded, made ready): in a bounded pool of threads beside the device."""

import os
from collections.abc import Callable, Hashable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

BATCHES = 2  # that are made ready while one is computed: bounds memory
MAX_THREADS = 8  # more would only fight with each other, and with those that encode


def coming(slots: range, batch: int) -> range:
    """The slots of a batch and of those to be made ready meanwhile. batch: slots of one."""
    return range(slots.start, slots.stop + BATCHES * batch)


class Ahead:
    """The pool. What was begun lies in a dict of the unit's state, key -> Future, so that it goes with the unit.

    Work may wait for what was begun before it: threads take it in order, so that one of them is enough.
    """

    def __init__(self, name: str):
        """name: of its threads."""
        self._pool = ThreadPoolExecutor(min(MAX_THREADS, len(os.sched_getaffinity(0))), thread_name_prefix=name)

    def begin(self, begun: dict[Any, Future], key: Hashable, work: Callable, *args: Any) -> Future:
        """The future of work(*args), begun now unless it was."""
        if key not in begun:
            begun[key] = self._pool.submit(work, *args)
        return begun[key]

    def close(self) -> None:
        """Ends when what runs has ended; what has not begun never does."""
        self._pool.shutdown(cancel_futures=True)


def forget(begun: dict[Any, Future], before: int) -> None:
    """Drop what belongs to numbers below `before`: a unit that is taken up in its middle begins further on."""
    for key in [k for k in begun if k < before]:
        begun.pop(key).cancel()
