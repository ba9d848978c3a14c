"""All facts of a report: what stage folders, events and exports say of a run. Plain dataclasses, which are the JSON as they are."""

import dataclasses
import statistics
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from launch.reporting.captions import Captions, captions
from launch.reporting.events import KILLED, Job
from launch.reporting.pictures import Decided, Gallery, Shown, Sweep, decisions, galleries, sweeps
from launch.reporting.stages import DONE, Place, StageFacts, Tell, facts_of, place_of
from launch.show.judge import REPORT, judged
from launch.show.points import told_apart
from launch.show.stages import find_stages
from synth.errors import EXIT_AGAIN, InputError, StoreError
from synth.kinds import KINDS, PICTURES
from synth.store.folder import StageFolder

if TYPE_CHECKING:
    from synth.judge.reading import Point

HOUR, KWH = 3600.0, 3.6e6
FILES = 20_000  # files of exports that are counted, all together
SLOW = 1.1  # times what its stage takes on all nodes


@dataclass(frozen=True)
class Node:
    """How fast a node worked, against all nodes of the same stages. slot_s: seconds a slot; times: of what all took for these slots."""

    name: str
    stages: tuple[str, ...]
    slots: int
    slot_s: float
    times: float


@dataclass(frozen=True)
class Totals:
    """Of all stages. Hours of devices count each GPU of a worker; those of workers without a device are core_hours, a worker each.

    lost_hours: of workers on devices, by what ended them, behind their last whole unit. What was finished of it may have been taken up:
    adopted_batches. left_hours: None where a stage that is not whole has no pace of its own.
    """

    stages: int
    done: int
    samples: int  # pictures that were made, or what the last stages made where there are none
    tombstones: int
    taken_out: int  # by filters
    set_aside: int
    failed: int  # errors of units
    device_hours: float
    core_hours: float
    lost_hours: Mapping[str, float]
    left_hours: float | None
    twice: int
    adopted: int
    adopted_batches: int
    idle: float | None
    energy_kwh: float | None
    energy_jobs: int  # of which it is known
    co2_kg: float | None
    devices: Mapping[str, int]  # name -> workers


@dataclass(frozen=True)
class Report:
    """What is told of a run, as it was at `time` (seconds since the epoch)."""

    path: str
    time: float
    done: bool
    totals: Totals
    stages: tuple[StageFacts, ...]
    nodes: tuple[Node, ...]
    versions: Mapping[str, Mapping[str, int]]  # package -> version -> workers, of those of which there are several
    same_versions: Mapping[str, str]  # of the others
    sources: Mapping[str, int]  # digest of the code -> workers
    captions: tuple[Captions, ...]
    galleries: tuple[Gallery, ...]
    sweeps: tuple[Sweep, ...]
    filters: tuple[Decided, ...]
    notes: tuple[str, ...]  # what could not be read
    co2_g_per_kwh: float | None = None
    judged: "Sequence[Sequence[Point]]" = field(default=(), repr=False)  # told by synth.judge

    @property
    def jobs(self) -> list[tuple[StageFacts, Job]]:
        return [(s, j) for s in self.stages for j in s.jobs]


def gather(path: Path, tell: Tell, co2: float | None = None, now: Callable[[], float] = time.time) -> Report:
    """The report of the stages at, in or below a path; InputError where there is none. What cannot be read is told, and noted.

    co2: grams a kWh.
    """
    notes: list[str] = []

    def note(what: str) -> None:
        if what not in notes:
            notes.append(what)
            tell(what)

    folders = find_stages(path, note)
    apart = told_apart(folders)
    left = FILES
    stages = []

    def place(folder: StageFolder) -> Place | None:
        nonlocal left
        try:
            folder.prove_out()
            found = place_of(folder, left)
        except (InputError, StoreError, OSError) as e:
            note(str(e))
            return None
        left -= found.files if found else 0
        return found

    for folder in folders:
        try:
            stages.append(facts_of(folder, apart.get(folder, ""), place, note))
        except (InputError, StoreError, OSError) as e:
            note(str(e))
    jobs = [j for s in stages for j in s.jobs]
    several, same = _versions(jobs)
    return Report(
        path=str(path),
        time=now(),
        done=bool(stages) and all(s.done for s in stages) and len(stages) == len(folders),
        totals=_totals(stages, jobs, co2),
        stages=tuple(stages),
        nodes=tuple(_nodes(stages)),
        versions=several,
        same_versions=same,
        sources=dict(Counter(j.sources for j in jobs if j.sources)),
        captions=tuple(captions(stages, note)),
        galleries=tuple(galleries(stages, note)),
        sweeps=tuple(sweeps(stages, note)),
        filters=tuple(decisions(stages, note)),
        judged=_judged(stages, note),
        co2_g_per_kwh=co2,
        notes=tuple(notes),
    )


def as_json(report: Report) -> dict[str, Any]:
    """For programs: the same facts, without pictures. "points": the judgements, as judge.json tells each."""
    points = [{"label": p.label, "folder": str(p.folder)} | dict(p.facts) for group in report.judged for p in group]
    return {"points": points} | {f.name: _plain(getattr(report, f.name)) for f in dataclasses.fields(report) if f.name != "judged"}


def _plain(value: Any) -> Any:
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        left_out = {"data"} if isinstance(value, Shown) else set()
        more = {name: getattr(value, name) for name in ("idle", "rate", "device_s", "core_s")} if isinstance(value, StageFacts) else {}
        fields = {f.name: getattr(value, f.name) for f in dataclasses.fields(value) if f.name not in left_out}
        return {name: _plain(v) for name, v in (fields | more).items()}
    if isinstance(value, Mapping):
        return {str(k): _plain(v) for k, v in value.items()}
    return [_plain(v) for v in value] if isinstance(value, (list, tuple)) else value


def _totals(stages: Sequence[StageFacts], jobs: Sequence[Job], co2: float | None) -> Totals:
    makers = [s for s in stages if _makes_pictures(s)] or _last(stages)
    by_path = {s.path: s for s in stages}
    pending = [s for s in stages if not s.done]
    left = [(s.left_s or 0.0) * max(j.gpus for j in s.jobs if j.device_s) for s in pending if s.device_s]
    idle, busy = sum(s.idle_s for s in stages if s.device_s), sum(s.busy_s for s in stages if s.device_s)
    if not busy + idle:
        idle, busy = sum(s.idle_s for s in stages), sum(s.busy_s for s in stages)
    metered = [j for j in jobs if j.energy_j is not None]
    kwh = _joules(metered) / KWH if metered else None
    return Totals(
        stages=len(stages),
        done=sum(s.done for s in stages),
        samples=sum(s.samples for s in makers),
        tombstones=sum(s.tombstones for s in makers),
        taken_out=sum(taken_out(s, by_path) for s in stages),
        set_aside=sum(s.set_aside for s in stages),
        failed=sum(s.failed for s in stages),
        device_hours=sum(j.device_s for j in jobs) / HOUR,
        core_hours=sum(s.core_s for s in stages) / HOUR,
        lost_hours=_lost(jobs),
        left_hours=None if any(s.left_s is None for s in pending) else sum(left) / HOUR,
        twice=sum(s.twice for s in stages),
        adopted=sum(s.adopted for s in stages),
        adopted_batches=sum(s.adopted_batches for s in stages),
        idle=idle / (busy + idle) if busy + idle else None,
        energy_kwh=kwh,
        energy_jobs=len(metered),
        co2_kg=kwh * co2 / 1000 if kwh is not None and co2 is not None else None,
        devices=dict(Counter(j.device for j in jobs if j.device)),
    )


def _joules(jobs: Sequence[Job]) -> float:
    """Of the GPUs of jobs that know it. Each of several at once on one GPU counted all of it: a time counts once, evenly over a job."""
    until: dict[str, float] = defaultdict(lambda: float("-inf"))
    total = 0.0
    for job in sorted(jobs, key=lambda j: j.begun):
        gpu = job.uuid or job.worker
        alone = max(0.0, job.ended - max(job.begun, until[gpu]))
        total += (job.energy_j or 0.0) * (alone / (job.ended - job.begun) if job.ended > job.begun else 1.0)
        until[gpu] = max(until[gpu], job.ended)
    return total


def taken_out(stage: StageFacts, by_path: Mapping[str, StageFacts]) -> int:
    """Slots that a filter emptied itself: what was empty before stays so."""
    if stage.kind not in KINDS or not KINDS[stage.kind].chooses:
        return 0
    read = [by_path[up] for up in stage.upstream if up in by_path]
    before = sum(s.tombstones for s in read if s.kind in KINDS and PICTURES in KINDS[s.kind].makes)
    return max(0, stage.tombstones - before)


def _makes_pictures(stage: StageFacts) -> bool:
    return stage.kind in KINDS and PICTURES in KINDS[stage.kind].makes and not KINDS[stage.kind].chooses


def _last(stages: Sequence[StageFacts]) -> list[StageFacts]:
    """Those that no other one reads."""
    read = {up for s in stages for up in s.upstream}
    return [s for s in stages if s.path not in read]


def _lost(jobs: Iterable[Job]) -> dict[str, float]:
    """Hours of devices behind the last whole unit of workers that did not end well, by how they ended."""
    lost = {"killed": 0.0, "stopped early": 0.0, "errors": 0.0}
    for job in jobs:
        if not job.well and job.device_s:
            why = "killed" if job.state == KILLED else "stopped early" if job.code == EXIT_AGAIN else "errors"
            lost[why] += job.behind_s * job.gpus / HOUR
    return lost


def _nodes(stages: Sequence[StageFacts]) -> list[Node]:
    """Nodes that took longer than others for slots of the same stages, the slowest first."""
    spent: dict[str, list[tuple[StageFacts, int, float, float]]] = defaultdict(list)
    for stage in stages:
        by_node: dict[str, list[Job]] = defaultdict(list)
        for job in stage.jobs:
            if job.slots:
                by_node[job.node or job.host].append(job)
        if len(by_node) < 2:
            continue
        usual = statistics.median(sum(j.unit_s for j in own) / sum(j.slots for j in own) for own in by_node.values())
        for name, own in by_node.items():
            slots = sum(j.slots for j in own)
            spent[name].append((stage, slots, sum(j.unit_s for j in own), usual * slots))
    nodes = []
    for name, of_stages in spent.items():
        slots, seconds, expected = sum(n for _, n, _, _ in of_stages), sum(s for *_, s, _ in of_stages), sum(e for *_, e in of_stages)
        times = seconds / expected if expected else 1.0
        if times >= SLOW:
            nodes.append(Node(name, tuple(s.folder for s, *_ in of_stages), slots, seconds / slots, times))
    return sorted(nodes, key=lambda n: (-n.times, n.name))


def _versions(jobs: Iterable[Job]) -> tuple[dict[str, dict[str, int]], dict[str, str]]:
    """(package -> version -> workers, of those that differ; package -> the version of all)."""
    found: dict[str, Counter[str]] = defaultdict(Counter)
    for job in jobs:
        for name, version in job.versions.items():
            found[name][version] += 1
    return (
        {name: dict(n) for name, n in sorted(found.items()) if len(n) > 1},
        {name: next(iter(n)) for name, n in sorted(found.items()) if len(n) == 1},
    )


def _judged(stages: Sequence[StageFacts], tell: Tell) -> "Sequence[Sequence[Point]]":
    paths = []
    for stage in stages:
        if stage.kind != REPORT:
            continue
        if stage.state != DONE:
            tell(f"{stage.path}: is not done; the command that planned it completes it")
            continue
        try:
            judged([Path(stage.path)], {})
        except (InputError, StoreError, OSError) as e:
            tell(str(e))
        else:
            paths.append(Path(stage.path))
    return judged(paths, {}) if paths else ()
