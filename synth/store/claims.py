"""Which unit a worker does next: its own first (unit % n_jobs == job_idx), then what nobody holds, then what the dead left.

No worker needs another one: n_jobs may differ at every submission, and any subset of jobs completes the stage.
"""

import random
import time
from collections import Counter, deque
from collections.abc import Callable

from synth.store import leases
from synth.store.blame import TRIES
from synth.store.folder import StageFolder
from synth.store.leases import Lease, Observer, Owner

LINGERERS = 2  # jobs 0 and 1 stay a little longer than a dead lease takes
STALE = 1.0  # seconds after which a failed try makes us list the folders again


class Claims:
    """Hands out leases of units that are to be done. The last "unit", number n_units, is the finishing of the stage."""

    def __init__(self, folder: StageFolder, job_idx: int, n_jobs: int, owner: Owner, observer: Observer, lingers: bool = False):
        self.folder, self.job_idx, self.owner, self.observer = folder, job_idx, owner, observer
        committed, failed = folder.committed(), folder.failures()
        todo = [u for u in range(folder.spec.n_units) if u not in committed]
        others = [u for u in todo if u % n_jobs != job_idx]
        random.Random(owner.worker).shuffle(others)  # so that helpers do not all try the same unit first
        self.lingers = lingers or job_idx < LINGERERS
        # what failed before comes last: a unit that ends its worker must not keep every worker from all others
        self._own = deque(sorted((u for u in todo if u % n_jobs == job_idx), key=lambda u: u in failed))
        self._others = deque(sorted(others, key=lambda u: u in failed))
        self._held: set[int] = set()
        self._aside = folder.to_blame()
        self._tries: Counter[int] = Counter()  # errors of a unit in this process
        self._generations: dict[int, int] = {}
        self._looked = 0.0  # monotonic time of the last listing; 0 = what we know is no good any more
        self._pause = STALE

    def next(self) -> Lease | None:
        """A lease of a unit that is not there yet, or None if there is none to be had at this moment (see `waiting`)."""
        while self._own:
            if lease := self._try(self._own.popleft()):
                return lease
        if self._others and not self._looked:
            self._refresh()
        while self._others:
            unit = self._others.popleft()
            if unit in self._generations:
                self._held.add(unit)
            elif lease := self._try(unit):
                return lease
            elif time.monotonic() - self._looked > self._pause:
                self._refresh()
        if self._looked and (lease := self._take_over()):
            return lease
        self._refresh()  # "none to be had" is only said after a fresh look
        return self._take_over()

    def _take_over(self) -> Lease | None:
        for unit in sorted(self._held):
            newest = self._generations.get(unit, -1)
            path = self.folder.lease_path(unit)
            if newest >= 0 and not self.observer.is_free(unit, path, newest):
                continue
            self._held.discard(unit)
            if lease := self._take(unit, newest + 1):
                return lease
        return None

    def waiting(self) -> bool:
        """Whether units are held by others, so that there may be something to take over later."""
        return bool(self._held)

    def give_back(self, unit: int) -> None:
        """A unit failed here: it comes again at the end, unless it failed too often."""
        self._tries[unit] += 1
        self._aside = self.folder.to_blame()
        if self._may_try(unit):
            self.keep_in_mind(unit)

    def left_to_others(self) -> list[int]:
        """Units that failed here as often as one process may try them, and that no other device has judged yet."""
        tried = (u for u, n in self._tries.items() if n >= TRIES and u not in self._aside)
        return sorted(u for u in tried if not self.folder.unit_path(u).exists())

    def _may_try(self, unit: int) -> bool:
        return unit not in self._aside and self._tries[unit] < TRIES

    def keep_in_mind(self, unit: int) -> None:
        """A unit that we let go unfinished, or that was taken from us: it may have to be taken over later."""
        self._held.add(unit)
        self._looked = 0.0

    def _try(self, unit: int) -> Lease | None:
        return self._take(unit, 0)

    def _take(self, unit: int, generation: int) -> Lease | None:
        if not self._may_try(unit):
            return None
        lease = leases.create(self.folder.lease_path(unit), unit, generation, self.owner)
        if lease is None:
            self._held.add(unit)
            return None
        if self.folder.unit_path(unit).exists():  # made since the listing
            lease.remove()
            return None
        if generation and unit in (aside := self.folder.to_blame()):  # its last error came since the listing
            self._aside = aside
            lease.release()
            return None
        return lease

    def _refresh(self) -> None:
        """Look again at what is there: units, newest leases, failures. A few listings a thousand units."""
        if not (self._held or self._others):
            return
        shards = {u // 1000 for u in self._held} | {u // 1000 for u in self._others}
        self._generations, self._looked = {}, time.monotonic()
        committed = self.folder.committed(shards)
        for shard in shards:
            self._generations |= leases.newest_generations(self.folder.path / "leases" / f"{shard:03d}")
        self._aside = self.folder.to_blame()
        self._pause = max(STALE, 20 * (time.monotonic() - self._looked))  # listings take 5 % of the time at most
        self._held = {u for u in self._held if u not in committed and self._may_try(u)}
        self._others = deque(u for u in self._others if u not in committed)
        self.observer.forget(committed)


def linger(
    claims: Claims,
    observer: Observer,
    stop: Callable[[], bool],
    clock: Callable[[], float] = time.monotonic,
    sleep: Callable[[float], object] = time.sleep,
) -> Lease | None:
    """Wait for a lease to become free: jobs 0 and 1 (and whoever is asked to) a little longer than a dead
    lease takes, the rest not at all.

    The first look already took over what a process of this host or a released lease left.
    """
    lease = claims.next()
    patience = observer.times.dead_after * 1.1 + 2 * observer.times.beat if claims.lingers else 0.0
    end = clock() + patience
    pause = 0.05  # seconds; grows, so that a short stage ends soon and a long wait costs few listings
    while lease is None and claims.waiting() and clock() < end and not stop():
        sleep(pause)
        pause = min(1.5 * pause, 2.0, observer.times.dead_after / 20)
        lease = claims.next()
    return lease
