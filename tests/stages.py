"""Probe stages for tests, and what is compared of them."""

import hashlib
import time
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from synth.keys import dump
from synth.numerics import EXACT
from synth.run.loop import Worker
from synth.store.events import read_events
from synth.store.folder import StageFolder
from synth.store.spec import StageSpec
from tests.configs import ProbeConfig

T = TypeVar("T")


def probe(root: Path, slots=40, unit_size=4, batch=2, **config) -> StageFolder:
    """A planned probe stage below `root`; config: the keys of ProbeConfig."""
    return StageFolder.create(
        root, StageSpec("probe", "probe", dump(ProbeConfig(**config)), slots, unit_size, batch, EXACT, framing=config.get("framing", "tar"))
    )


def digests(folder: StageFolder) -> list[str]:
    """sha256 of every unit, which must all be there."""
    return [hashlib.sha256(folder.unit_path(u).read_bytes()).hexdigest() for u in range(folder.spec.n_units)]


def alone(tmp_path: Path, folder: StageFolder) -> list[str]:
    """The digests of the same slots made by one worker in one go. `sleep` is not repeated: it changes no byte of a unit."""
    config = {k: v for k, v in folder.spec.config.items() if k != "sleep"}
    twin = probe(tmp_path / "alone", folder.spec.slots, folder.spec.unit_size, folder.spec.batch, **config)
    assert Worker(twin, 0, 1).run() == 0
    return digests(twin)


def events(folder: StageFolder, name: str) -> list[dict]:
    """Those of this name, of all workers, as they came; files of events sort by process numbers, which may begin anew."""
    return sorted((e for e in read_events(folder.path) if e["event"] == name), key=lambda e: e["time"])


def wait_for(what: Callable[[], T], seconds: float = 300) -> T:
    """What `what` says once it is true. A limit is for what never comes: it has no say in how busy a machine may be."""
    end = time.monotonic() + seconds
    while not (value := what()):
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.005)
    return value
