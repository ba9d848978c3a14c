"""What the workers of a stage wrote, in one pass over all of their events: jobs, units, what was lost, and what was said of devices."""

import contextlib
from array import array
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from synth.errors import EXIT_AGAIN, EXIT_BAD_INPUT, EXIT_BUG, EXIT_OK
from synth.host.gpu import listed
from synth.store.commit import Outcome
from synth.store.events import events_in

LIVE, KILLED = "at work", "ended without a word"
ENDS = {EXIT_OK: "ended", EXIT_AGAIN: "stopped early", EXIT_BAD_INPUT: "bad input", EXIT_BUG: "error"}
CPU = "cpu"
UNKNOWN = -1  # samples of a unit that no event tells of
MOST_COUNTED = 1 << 31


@dataclass(frozen=True)
class Job:
    """One worker. Times are seconds since the epoch, by its host's clock."""

    worker: str
    job: int | None  # job_idx
    slurm: str
    host: str
    node: str
    place: str  # which of the host's devices
    device: str  # its name; "" of one that ended before it opened its stage
    gpus: int  # that it was given
    begun: float
    ended: float  # of one that did not say so: its last event
    seconds: float
    state: str  # LIVE, KILLED, or one of ENDS
    code: int | None
    why: str
    units: int
    samples: int
    slots: int
    unit_s: float  # of the units that it made, each from its begin to its commit
    behind_s: float  # after the last of them
    load_s: float
    busy_s: float | None
    idle_s: float | None
    energy_j: float | None
    versions: Mapping[str, str] = field(default_factory=dict)
    sources: str = ""
    uuid: str = ""  # of its GPU

    @property
    def device_s(self) -> float:
        """Seconds of devices; 0 of one that computed on cores, or on nothing."""
        return self.seconds * self.gpus if self.device not in ("", CPU) else 0.0

    @property
    def well(self) -> bool:
        return self.state in (LIVE, ENDS[EXIT_OK])


@dataclass(frozen=True)
class Suspect:
    """A device that a worker left as bad."""

    host: str
    node: str
    place: str
    device: str
    uuid: str
    why: str


@dataclass
class StageEvents:
    """Of one stage. samples, tombstones: of each unit, UNKNOWN where no event tells."""

    jobs: list[Job] = field(default_factory=list)
    samples: "array[int]" = field(default_factory=lambda: array("l"))
    tombstones: "array[int]" = field(default_factory=lambda: array("l"))
    bytes: int = 0
    twice: int = 0  # units that another worker had made meanwhile
    twice_s: float = 0.0
    differs: int = 0  # of these, with other bytes
    adopted: int = 0  # units that somebody went on with
    adopted_batches: int = 0  # that were not computed again
    linked: int = 0
    failed: int = 0  # errors of units
    killed_children: int = 0
    suspects: list[Suspect] = field(default_factory=list)
    warnings: Counter = field(default_factory=Counter)


def read_stage(folder: Path, units: int, live: Collection[str], since: float, tell: Callable[[str], object]) -> StageEvents:
    """The events of a stage of so many units. tell: takes what cannot be read, for people.

    live: workers that hold a lease now. since: seconds since the epoch; who wrote something later may just wait for a lease.
    """
    found = StageEvents(samples=array("l", [UNKNOWN]) * units, tombstones=array("l", [UNKNOWN]) * units)
    for path in sorted((Path(folder) / "events").glob("*.jsonl")):
        with contextlib.suppress(_NoEvents):
            found.jobs.append(_job(path.stem, events_in(path, tell), path.stem in live, since, found))
    found.jobs.sort(key=lambda j: (j.begun, j.worker))
    return found


class _NoEvents(Exception):
    """A file tells of no worker."""


def _job(worker: str, events: Iterable[dict], live: bool, since: float, found: StageEvents) -> Job:
    start: dict = {}
    opened: dict = {}
    use: dict = {}
    stop: dict = {}
    first = last = last_unit = None
    units = samples = slots = 0
    unit_s = 0.0
    for e in events:
        at = e.get("time")
        first, last = (at if first is None else first), (last if at is None else at)
        match e["event"]:
            case "start":
                start = e
            case "open":
                opened = e
            case "unit" if e.get("outcome") == Outcome.OURS.value:
                n, gone = _unit(e, found)
                units, samples, slots, unit_s = units + 1, samples + n, slots + n + gone, unit_s + e.get("seconds", 0.0)
                last_unit = at
            case "unit":
                found.twice += 1
                found.twice_s += e.get("seconds", 0.0)
                found.differs += e.get("outcome") == Outcome.DIFFERS.value
            case "adopted":
                found.adopted += 1
                found.adopted_batches += _count(e, "batches")
            case "linked":
                found.linked += 1
            case "failed":
                found.failed += 1
            case "killed":
                found.killed_children += 1
            case "device":
                found.suspects.append(Suspect(*(str(e.get(name) or "") for name in ("host", "node", "place", "gpu", "uuid", "why"))))
            case "warning":
                found.warnings[str(e.get("why"))] += 1
            case "stop":
                stop = e
        use = e if "busy_s" in e else use
    if first is None or last is None:
        raise _NoEvents
    seconds = stop.get("seconds", max(0.0, last - first))
    state = ENDS.get(stop.get("code", EXIT_BUG), ENDS[EXIT_BUG]) if stop else LIVE if live or last > since else KILLED
    made_s = max(0.0, last_unit - first) if last_unit is not None else 0.0
    return Job(
        worker=worker,
        job=start.get("job_idx"),
        slurm=_word(start, "slurm"),
        host=_word(start, "host"),
        node=_word(start, "node"),
        place=_word(start, "place"),
        device=_word(opened, "device"),
        gpus=max(1, len(listed(_word(start, "devices")))),
        begun=first,
        ended=last,
        seconds=seconds,
        state=state,
        code=stop.get("code"),
        why=_word(stop, "why"),
        units=units,
        samples=samples,
        slots=slots,
        unit_s=unit_s,
        behind_s=max(0.0, seconds - made_s),
        load_s=_number(use, "load_s") or _number(opened, "seconds") or 0.0,
        busy_s=use.get("busy_s"),
        idle_s=use.get("idle_s"),
        energy_j=_number(use, "energy_j"),
        versions=opened.get("versions") or {},
        sources=_word(start, "sources"),
        uuid=_word(opened, "uuid"),
    )


def _unit(event: Mapping, found: StageEvents) -> tuple[int, int]:
    """(samples, tombstones) of a unit that this worker made."""
    n, gone = event.get("samples", 0), event.get("tombstones", 0)
    unit = event.get("unit")
    if type(unit) is int and 0 <= unit < len(found.samples) and n < MOST_COUNTED and gone < MOST_COUNTED:
        found.samples[unit], found.tombstones[unit] = n, gone
    found.bytes += _count(event, "bytes")
    return n, gone


def _count(event: Mapping, name: str) -> int:
    value = event.get(name)
    return value if type(value) is int and value > 0 else 0


def _number(event: Mapping, name: str) -> float | None:
    value = event.get(name)
    return float(value) if isinstance(value, (int, float)) and not isinstance(value, bool) and 0 <= value < 1e300 else None


def _word(event: Mapping, name: str) -> str:
    value = event.get(name)
    return value if isinstance(value, str) else ""
