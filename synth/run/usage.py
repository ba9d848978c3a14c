"""How a worker spent its time: what the device computed, and how long it sat idle."""

import contextlib
import time
from collections.abc import Callable, Iterator

from synth.host.energy import Meter


class Usage:
    """Sums up the computing of one worker. All times are of the host's monotonic clock, in seconds.

    A stage that returns while a GPU still draws its last batch is counted idle a little longer than the GPU was; gaps inside
    a batch are not seen. tests/bench/images.py measures with the GPU's own events.
    """

    def __init__(self) -> None:
        self.units = self.samples = 0  # committed
        self.energy = Meter()
        self.busy = self.load = 0.0
        self.longest = 0.0  # batch so far; what was only slow because something was compiled is left out
        self._first: float | None = None  # begin of computing
        self._last = 0.0  # end of computing

    @contextlib.contextmanager
    def computing(self, usual: Callable[[], bool] = lambda: False) -> Iterator[None]:
        """Around what runs on the device; not counted if it raises.

        usual: asked at its end, whether it was a batch as others are: not what a unit's batches share, nor one in which something was
        compiled. The longest of these says whether one more would end before the job does.
        """
        begun = time.monotonic()
        if self._first is None:
            self._first = self._last = begun
        yield
        self._last = time.monotonic()
        self.busy += self._last - begun
        if usual():
            self.longest = max(self.longest, self._last - begun)

    def facts(self) -> dict[str, float]:
        """Seconds that the device was computing, and sat idle between the first begin and the last end of computing.

        Joules of its GPU since the stage was opened, where they are counted.
        """
        wall = self._last - self._first if self._first is not None else 0.0
        return {"busy_s": round(self.busy, 3), "idle_s": round(max(0.0, wall - self.busy), 3)} | self.energy.facts()
