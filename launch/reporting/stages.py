"""One stage as a report tells it: what it was asked, what it made, why slots are empty, and what its workers took for it."""

import contextlib
import math
import os
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from launch.config.program import public
from launch.reporting.events import LIVE, UNKNOWN, Job, StageEvents, Suspect, read_stage
from launch.show.asked import asked
from launch.show.left import command_of
from launch.show.stages import StageReport, report_on
from launch.show.took_out import took_out
from launch.slurm import submissions
from synth.errors import InputError, StoreError
from synth.export.card import Model, models_of
from synth.kinds import KINDS
from synth.redaction import redacted, redacted_data
from synth.store.folder import StageFolder
from synth.store.framing import shared
from synth.store.leases import Times

DONE, RUNNING, GIVEN_UP, NOT_DONE = "done", "at work", "given up", "not done"
INDEXES = 1000  # units whose ends are read, of those whose events do not say all
NAMED = 20  # reasons, units that failed
SILENT = 1.5  # times as long as a dead lease takes: longer than any worker waits for one without a word
LISTED, LONG = 20, 2000  # entries of a list, characters of a text of a config that are shown

Tell = Callable[[str], object]


@dataclass(frozen=True)
class Empty:
    """Slots without a sample. of: units that hold some, as far as known; read: those whose reasons were counted."""

    reasons: Mapping[str, int]
    read: int
    of: int


@dataclass(frozen=True)
class Place:
    """What an export wrote. files, bytes: at least that many where `all` is False."""

    path: str
    page: str  # what is to be looked at; "" where that is no one file
    files: int
    bytes: int
    all: bool


@dataclass(frozen=True)
class Submitted:
    """A submission to a scheduler. why: of one that was abandoned."""

    number: int
    created: float
    jobs: tuple[str, ...]
    n_jobs: int
    excluded: tuple[str, ...]
    why: str


@dataclass(frozen=True)
class StageFacts:
    """All that is told of one stage. Seconds are of its workers, added up."""

    dataset: str
    folder: str
    path: str
    name: str
    kind: str
    state: str
    differs_by: str
    upstream: tuple[str, ...]  # folders
    slots: int
    units: int
    committed: int
    samples: int
    tombstones: int
    counted: int  # units of which samples and tombstones are known
    empty: Empty
    set_aside: int
    failures: tuple[str, ...]  # of units that were set aside
    given_up: str
    said: tuple[str, ...]  # what was asked of servers, not taken, cut, taken out
    command: str
    config: Mapping[str, Any]
    inputs: Mapping[str, Mapping[str, str]]  # role -> identity, path
    models: tuple[Model, ...]
    jobs: tuple[Job, ...]
    submitted: tuple[Submitted, ...]
    suspects: tuple[Suspect, ...]
    warnings: Mapping[str, int]
    unit_bytes: int
    twice: int
    twice_s: float
    differs: int
    adopted: int
    adopted_batches: int
    linked: int
    failed: int
    killed_children: int
    left_s: float | None  # of work, by the pace of its own units; None: nothing was measured
    place: Place | None

    @property
    def done(self) -> bool:
        return self.state == DONE

    @property
    def busy_s(self) -> float:
        return sum(j.busy_s or 0.0 for j in self.jobs)

    @property
    def idle_s(self) -> float:
        return sum(j.idle_s or 0.0 for j in self.jobs)

    @property
    def idle(self) -> float | None:
        """Share of the time between the begin and the end of computing."""
        known = self.busy_s + self.idle_s
        return self.idle_s / known if known else None

    @property
    def rate(self) -> float | None:
        """Samples a second of one worker, while it computes."""
        known = [j for j in self.jobs if (j.busy_s or 0.0) + (j.idle_s or 0.0) > 0]
        seconds = sum((j.busy_s or 0.0) + (j.idle_s or 0.0) for j in known)
        return sum(j.samples for j in known) / seconds if seconds else None

    @property
    def device_s(self) -> float:
        return sum(j.device_s for j in self.jobs)

    @property
    def core_s(self) -> float:
        """Of workers without a device."""
        return sum(j.seconds for j in self.jobs if not j.device_s)


def facts_of(path: Path, differs_by: str, place: Callable[[StageFolder], Place | None], tell: Tell) -> StageFacts:
    """InputError or StoreError of a stage that cannot be read; what of it cannot be is told, and the rest is there."""
    seen = report_on(path)
    for what in seen.unread:
        tell(what)
    folder, spec = StageFolder.open(path), StageFolder.open(path).spec
    since = math.inf if seen.done else time.time() - SILENT * Times.from_env().dead_after
    events = read_stage(path, spec.n_units, {h.worker for h in seen.held if h.state == "live"}, since, tell)
    committed = range(spec.n_units) if seen.done else sorted(folder.committed())
    samples, tombstones, counted, empty = _counts(folder, committed, events, tell)
    if seen.done and (told := folder.done()).keys() >= {"samples", "tombstones"}:
        samples, tombstones, counted = told["samples"], told["tombstones"], spec.n_units
    records = submissions.read(path, tell)
    return StageFacts(
        dataset=path.parent.name,
        folder=path.name,
        path=str(path),
        name=spec.name,
        kind=spec.kind,
        state=_state(seen, events),
        differs_by=differs_by,
        upstream=tuple(os.path.normpath(path / up.path) for ups in spec.upstream.values() for up in ups),
        slots=spec.slots,
        units=spec.n_units,
        committed=seen.committed,
        samples=samples,
        tombstones=tombstones,
        counted=counted,
        empty=empty,
        set_aside=seen.n_aside,
        failures=tuple(f"unit {a.unit}: {a.error}" for a in seen.aside),
        given_up=seen.verdict.why if seen.verdict else "",
        said=_said(path, spec.kind, seen),
        command=_command(folder, records),
        config=redacted_data(short(spec.config)),
        inputs={role: {"identity": i.identity, "path": i.path} for role, i in sorted(spec.inputs.items())},
        models=tuple(models_of(folder)),
        jobs=tuple(events.jobs),
        submitted=tuple(Submitted(r.number, r.created, r.job_ids, r.n_jobs, r.excluded, r.why) for r in records),
        suspects=tuple(events.suspects),
        warnings=dict(events.warnings),
        unit_bytes=events.bytes,
        **{name: getattr(events, name) for name in _SAME},
        left_s=_left(spec.slots - spec.slots_in(committed), events.jobs),
        place=place(folder),
    )


def _said(path: Path, kind: str, seen: StageReport) -> tuple[str, ...]:
    edited = (f"{n} workers: {why}" for why, n in seen.work.edited.items())
    return (*filter(None, [seen.unsettled]), *took_out(path, kind), *asked(seen.work), *edited)


_SAME = ("twice", "twice_s", "differs", "adopted", "adopted_batches", "linked", "failed", "killed_children")


def _state(seen: StageReport, events: StageEvents) -> str:
    if seen.done:
        return DONE
    if seen.live or any(j.state == LIVE for j in events.jobs):
        return RUNNING
    return GIVEN_UP if seen.verdict else NOT_DONE


def _counts(folder: StageFolder, committed: Sequence[int], events: StageEvents, tell: Tell) -> tuple[int, int, int, Empty]:
    """(samples, tombstones, units of which they are known, reasons) of the units that are there.

    The events tell the numbers. Ends of units are read for reasons, and where no event tells of a unit: of INDEXES of them at most.
    """
    wanted = [u for u in committed if events.tombstones[u]]
    reasons: Counter[str] = Counter()
    read = 0
    for unit in _spread(wanted, INDEXES):
        try:
            with folder.reader(unit) as reader:
                index = reader.index
        except (InputError, StoreError, OSError) as e:
            tell(str(e))
            continue
        events.samples[unit], events.tombstones[unit] = len(index.samples), len(index.tombstones)
        reasons.update(redacted(shared(reason)) for reason in index.tombstones.values())
        read += 1
    known = [u for u in committed if events.samples[u] != UNKNOWN]
    tombstones = sum(events.tombstones[u] for u in known)
    most = dict(sorted(reasons.items(), key=lambda r: (-r[1], r[0]))[:NAMED])
    return sum(events.samples[u] for u in known), tombstones, len(known), Empty(most, read, len(wanted))


def _spread(numbers: Sequence[int], most: int) -> list[int]:
    """At most so many of some numbers, evenly.

    >>> _spread(range(10), 4)
    [0, 2, 5, 7]
    """
    n = len(numbers)
    return [numbers[i * n // most] for i in range(most)] if n > most else list(numbers)


def _left(slots: int, jobs: Sequence[Job]) -> float | None:
    done = sum(j.slots for j in jobs)
    if not slots:
        return 0.0
    return slots * sum(j.unit_s for j in jobs) / done if done else None


def _command(folder: StageFolder, records: Sequence[submissions.Submission]) -> str:
    """The command that planned a stage, where something keeps it: exports, what was submitted, and the newest run of the dataset."""
    told = [folder.spec.settings.get("command"), *(r.order.get("command") for r in reversed(records)), command_of(folder.path)]
    return redacted(public(next((c for c in told if isinstance(c, str) and c), "")))


def short(value: Any) -> Any:
    """A config without the rest of its long lists and texts; what is left out is counted."""
    if isinstance(value, Mapping):
        many = list(value.items())
        rest = {"...": f"{len(many) - LISTED:,} more"} if len(many) > 5 * LISTED else {}
        return {str(k): short(v) for k, v in (many[:LISTED] if rest else many)} | rest
    if isinstance(value, (list, tuple)):
        rest_of = [f"... {len(value) - LISTED:,} more"] if len(value) > LISTED else []
        return [short(v) for v in value[:LISTED]] + rest_of
    return f"{value[:LONG]}\u2026" if isinstance(value, str) and len(value) > LONG else value


def place_of(folder: StageFolder, most: int) -> Place | None:
    """What an export, or another stage that writes into a place of its own, left there. most: files that are counted."""
    row = KINDS.get(folder.spec.kind)
    out = folder.out_dir
    if row is None or not out.is_dir():
        return None
    files, size, waiting = 0, 0, [out]
    with contextlib.suppress(OSError):
        while waiting and files < most:
            with os.scandir(waiting.pop()) as entries:
                for entry in entries:
                    if entry.is_dir(follow_symlinks=False):
                        waiting.append(Path(entry.path))
                    elif files < most:
                        files, size = files + 1, size + entry.stat(follow_symlinks=False).st_size
    pages = sorted(out.glob(row.look_at))[:1] if row.look_at else []
    return Place(str(out), str(pages[0]) if pages else "", files, size, files < most)
