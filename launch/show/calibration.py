"""What the doctor's trial measured of a kind of work, kept in runs_dir: an estimate takes it where no stage of that work was made yet."""

import contextlib
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

from synth import foreign
from synth.errors import InputError, StoreError
from synth.foreign import Maybe
from synth.store.files import make_folder, read_small, write_atomic
from synth.store.spec import canonical

FOLDER = ".doctor"  # in runs_dir
SOURCE = "the doctor's calibration"
_NUMBER = foreign.Shape("a number, 0 or more", lambda v: type(v) in (int, float) and 0 <= v < float("inf"))
_TEXT = foreign.Shape("a text", lambda v: type(v) is str and len(v) <= 1000)


@dataclass(frozen=True)
class Pace:
    """What one slot of some work took. Seconds are of one worker, by the clock; bytes are what its units hold."""

    slot_s: float  # mean over units
    low_s: float  # 10th and 90th percentile
    high_s: float
    start_s: float  # of a worker, before its first unit: programs and models are loaded
    slot_bytes: float
    units: int  # that were measured
    device: str
    stage: str  # the newest of those they are of, or SOURCE
    device_peak: int = 0  # bytes of its GPU that a worker held at most; 0: not known
    host_peak: int = 0


_SHAPE: Mapping[str, object] = {
    **dict.fromkeys(("slot_s", "low_s", "high_s", "start_s", "slot_bytes"), _NUMBER),
    **dict.fromkeys(("device_peak", "host_peak"), Maybe(foreign.COUNT, 0)),
    "units": foreign.whole(1, 10**9),
    "device": _TEXT,
}


def place(runs: Path, kind: str, work: str) -> Path:
    """The file of some work, whose digest `work` is (launch.show.estimate.work_of)."""
    return runs / FOLDER / f"{kind}-{work[:12]}.json"


def keep(runs: Path, kind: str, work: str, pace: Pace) -> Path:
    """Write what was measured, in the place of what was before; StoreError where the file system refuses."""
    path = place(runs, kind, work)
    make_folder(path.parent)
    write_atomic(path, canonical({"kind": kind, "work": work, "pace": asdict(pace)}) + b"\n")
    return path


def kept(runs: Path, kind: str, work: str) -> Pace | None:
    """What was measured of some work; None where nothing was, or a file says something else."""
    path = place(runs, kind, work)
    with contextlib.suppress(InputError, StoreError, OSError):
        if (data := read_small(path)) is not None:
            told = foreign.obj(foreign.parse(data, path), path, work=_TEXT, pace=dict)
            if told["work"] == work:
                return Pace(**foreign.obj(told["pace"], path, **_SHAPE), stage=SOURCE)
    return None
