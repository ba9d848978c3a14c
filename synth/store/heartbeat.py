"""Keeps the beat of the leases that this process holds, in a thread of its own."""

import contextlib
import threading

from synth.store.leases import Lease, Times


class Heartbeat:
    """Leases under `hold` are rewritten every `times.beat` seconds and looked at: was the unit taken over?"""

    def __init__(self, times: Times):
        self.stopped = threading.Event()
        self._every = times.beat
        self._held: dict[int, Lease] = {}
        self._lock = threading.Lock()
        self._thread = threading.Thread(target=self._run, name="beats", daemon=True)
        self._thread.start()

    def hold(self, lease: Lease) -> None:
        with self._lock:
            self._held[lease.unit] = lease

    def forget(self, unit: int) -> None:
        """Beat no more for a unit whose lease somebody else released, removed or closed."""
        with self._lock:
            self._held.pop(unit, None)

    def release(self, lease: Lease) -> None:
        """Let an unfinished unit go: the next worker may take it at once."""
        self.forget(lease.unit)
        lease.release()

    def remove(self, lease: Lease) -> None:
        """The unit exists: its lease means nothing any more."""
        self.forget(lease.unit)
        lease.remove()

    def close(self) -> None:
        """Stop beating and let everything go that is still held."""
        self.stopped.set()
        self._thread.join()
        for lease in self._held.values():
            lease.release()
        self._held = {}

    def _run(self) -> None:
        while not self.stopped.wait(self._every):
            with self._lock:
                for lease in self._held.values():
                    with contextlib.suppress(OSError):
                        lease.beat()
                        lease.check()
