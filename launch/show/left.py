"""How long a run still takes, all of its stages together, and how long it was thought to take when it began.

What a run begins with is kept as estimate.json in the folder of its dataset, for whoever looks at it later. A stage of which nothing is
known counts as unknown and never as no time.
"""

import contextlib
import json
import time
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from launch.config.program import public
from launch.plan.planned import PlannedStage
from launch.show.estimate import Costs, seconds_of
from synth import foreign
from synth.errors import InputError, StoreError
from synth.foreign import Maybe, Shape
from synth.store.files import make_folder, write_atomic

FILE = "estimate.json"
NAMED = 3  # stages of unknown length in a line; of more the others are counted
SECONDS = Shape("seconds", lambda v: type(v) is float and 0 <= v < 1e12)


@dataclass(frozen=True)
class Part:
    """One stage of a run as it was thought of before. seconds: by the clock; None: nothing was known."""

    folder: str  # its name in the folder of the dataset
    name: str
    seconds: float | None


@dataclass(frozen=True)
class Left:
    """seconds: of the stages of which that is known; unknown: the names of the others."""

    seconds: float = 0.0
    unknown: tuple[str, ...] = ()

    def __add__(self, other: "Left") -> "Left":
        return Left(self.seconds + other.seconds, (*self.unknown, *other.unknown))

    def __str__(self) -> str:
        names = list(dict.fromkeys(self.unknown))
        more = len(names) - NAMED
        if more > 1:
            names[NAMED:] = [f"{more} more"]
        known = f"about {seconds_of(self.seconds)}" if self.seconds or not names else ""
        unknown = f"an unknown time of {', '.join(names)}" if names else ""
        return " and ".join(filter(None, [known, unknown]))

    def compared(self, at_first: "Left") -> str:
        """Itself, and what was thought when the run began, if anything was."""
        return f"{self}; thought at first: {at_first}" if at_first.seconds else str(self)


def left(parts: Iterable[Part], done: Collection[str] = (), now: Mapping[str, float | None] | None = None) -> Left:
    """What is left of a run, one stage behind the other. now: folder -> seconds left of a stage that is at work, None where its pace is
    not known: then what was thought of it before counts.

    >>> parts = [Part("a-1", "a", 60.0), Part("b-2", "b", None), Part("c-3", "c", 30.0)]
    >>> left(parts, done=["a-1"], now={"b-2": 5.0}), left(parts)
    (Left(seconds=35.0, unknown=()), Left(seconds=90.0, unknown=('b',)))
    """
    whole = Left()
    for part in parts:
        if part.folder in done:
            continue
        live = (now or {}).get(part.folder)
        seconds = part.seconds if live is None else live
        whole += Left(unknown=(part.name,)) if seconds is None else Left(seconds)
    return whole


_NOTED: dict[Path, tuple[list[Part], str]] = {}  # of the run of this process, until it is stored


def begin(stages: Sequence[PlannedStage], costs: Costs | None, command: str = "") -> None:
    """Note what a run begins with, and the command that began it; `store` keeps it. costs: None where not even that could be read."""
    _NOTED.clear()
    if costs is None:
        return
    known = {e.stage.folder: e.wall_s for e in costs.estimates}
    todo = [s for s in stages if s.folder in known or s in costs.unknown]
    for root in dict.fromkeys(s.dataset_root for s in todo):
        _NOTED[root] = [Part(s.folder.name, s.name, known.get(s.folder)) for s in todo if s.dataset_root == root], public(command)


def store() -> None:
    """Keep what was noted in the folder of each dataset, once workers are started or jobs submitted: what is refused leaves no folder."""
    while _NOTED:
        root, (parts, command) = _NOTED.popitem()
        keep(root, parts, command)


def begun(stages: Sequence[PlannedStage]) -> list[Part]:
    """What was kept of these stages, by the names that they have here: others may write the file, and a terminal takes [names] for more."""
    names = {s.folder.name: s.name for s in stages}
    parts = (part for root in dict.fromkeys(s.dataset_root for s in stages) for part in kept(root) if part.folder in names)
    return [replace(part, name=names[part.folder]) for part in parts]


def keep(root: Path, parts: Sequence[Part], command: str = "") -> None:
    """A file system that does not take it takes no stage either, and says so there."""
    with contextlib.suppress(InputError, StoreError, OSError):
        make_folder(root)
        text = json.dumps({"begun": round(time.time(), 3), "command": command, "stages": [asdict(part) for part in parts]}, indent=1)
        write_atomic(root / FILE, text.encode() + b"\n")


def kept(root: Path) -> list[Part]:
    """What the newest run of a dataset began with; [] where nothing can be read of it."""
    try:
        raw = foreign.obj(foreign.read_json(root / FILE, foreign.RECORD), root / FILE, stages=[dict])
        shape = {"folder": str, "name": str, "seconds": (SECONDS, None)}
        return [Part(**foreign.obj(stage, root / FILE, **shape)) for stage in raw["stages"]]
    except (InputError, StoreError, OSError):
        return []


def command_of(folder: Path) -> str:
    """The command that began the newest run of a stage's dataset, if it had this stage to do; "" where nothing can be read of it."""
    try:
        raw = foreign.obj(
            foreign.read_json(folder.parent / FILE, foreign.RECORD), folder.parent / FILE, command=Maybe(str, ""), stages=[dict]
        )
    except (InputError, StoreError, OSError):
        return ""
    return raw["command"] if any(stage.get("folder") == folder.name for stage in raw["stages"]) else ""
