"""A stage that is whole is finished once: what lies outside units/ is written, then done.json."""

import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

from synth.errors import EXIT_AGAIN, EXIT_OK, InputError
from synth.run.empty import reasons_of
from synth.run.stage import Stage
from synth.store import faults, leases
from synth.store.folder import StageFolder
from synth.store.heartbeat import Heartbeat
from synth.store.leases import Observer, Owner


def finish_stage(
    folder: StageFolder,
    stage: Stage,
    owner: Owner,
    observer: Observer,
    beats: Heartbeat,
    *,
    patience: float,
    draining: Callable[[], bool],
    log: Callable,
) -> tuple[int, str]:
    """(exit code, why). One worker at a time finishes, under the lease after the last unit's; others wait `patience` seconds."""
    number = folder.spec.n_units
    path = folder.lease_path(number)
    end, pause = time.monotonic() + patience, 0.02
    while not folder.is_done():
        if draining():
            return EXIT_AGAIN, "drained before the stage was finished: run the same command again"
        newest = leases.newest_generations(path.parent).get(number, -1)
        free = newest < 0 or observer.is_free(number, path, newest)
        lease = leases.create(path, number, newest + 1, owner) if free else None
        if lease:
            beats.hold(lease)
            try:
                samples, tombstones = count(folder)
                if tombstones and not samples and (why := stage.hopeless(reasons_of(folder), whole=True)):
                    raise InputError(why)
                faults.point("before_finish")
                stage.finish()
                folder.mark_done({"units": number, "slots": folder.spec.slots, "samples": samples, "tombstones": tombstones})
                log("done", samples=samples, tombstones=tombstones)
                folder.sweep()
            finally:
                (beats.remove if folder.is_done() else beats.release)(lease)
            break
        if time.monotonic() >= end:
            return EXIT_OK, "another worker finishes the stage"
        time.sleep(pause)
        pause = min(1.5 * pause, 1.0, observer.times.dead_after / 20)
    return EXIT_OK, "done"


def count(folder: StageFolder) -> tuple[int, int]:
    """(samples, tombstones) of a whole stage. Reads each unit's end, so a torn unit is found here, as an InputError."""

    def one(number: int) -> tuple[int, int]:
        with folder.reader(number) as reader:
            return len(reader.index.samples), len(reader.index.tombstones)

    with ThreadPoolExecutor(4) as pool:
        totals = list(pool.map(one, range(folder.spec.n_units)))
    return sum(s for s, _ in totals), sum(t for _, t in totals)
