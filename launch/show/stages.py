"""What a stage folder says about itself, in one quick look: a few listings and the ends of a few files, whatever the number of units."""

import contextlib
import errno
import os
import time
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from synth import foreign
from synth.errors import InputError, StoreError, owned
from synth.store import leases
from synth.store.blame import report_in
from synth.store.events import event_in
from synth.store.folder import StageFolder
from synth.store.leases import Owner, Times

HEAD, TAIL = 4096, 16384  # bytes of a worker's events that are read: its start, and its last units
FIRST, LAST = 6, 21  # events that are read of them
LINES = 8  # of a traceback
REMOVING = ".removing-"  # how the name of a folder begins that launch/clean.py is removing
AT_MOST = 2000  # leases that are read
SPENT = ("requests", "retries", "alone", "tokens_in", "tokens_out", "price")  # what engines that ask a server count
OF_THE_DISK = "lost+found"  # at the root of a file system, for nobody to read


@dataclass(frozen=True)
class Held:
    """A unit that somebody works on, or did."""

    unit: int
    worker: str
    host: str
    slurm: str  # "dev/11_3@1"; "" outside Slurm
    seconds: float  # since it was taken, by the count of its beats
    state: str  # live | silent (no beat for longer than a dead lease takes) | dead (its process on this host has ended)


@dataclass(frozen=True)
class Aside:
    """A unit that failed three times."""

    unit: int
    error: str
    traceback: tuple[str, ...]  # last lines
    report: str  # path of the last report


@dataclass(frozen=True)
class Work:
    """What the workers' events say."""

    workers: int = 0  # ever started
    restarts: int = 0  # starts of a job_idx beyond its first
    samples_per_s: float = 0.0  # of those that hold a live lease
    slots_per_s: float = 0.0
    idle: float | None = None  # share of the time between begin and end of computing in which the device waited
    devices: Mapping[str, int] = field(default_factory=dict)  # name -> workers
    refused: Mapping[str, int] = field(default_factory=dict)  # reason -> answers that were not taken, slots left empty
    cut: Mapping[str, int] = field(default_factory=dict)  # kind -> answers of which that was cut away
    said: Mapping[str, str] = field(default_factory=dict)  # reason -> an answer that was not taken because of it
    sources: Mapping[str, int] = field(default_factory=dict)  # digest of the code -> workers that began with it
    edited: Mapping[str, int] = field(default_factory=dict)  # what workers said of their code or packages -> workers
    spent: Mapping[str, float] = field(default_factory=dict)  # what SPENT names, asked of a server


@dataclass(frozen=True)
class Verdict:
    """Why a gate gave a stage up, and what its launcher said to run."""

    why: str
    command: str


@dataclass(frozen=True)
class StageReport:
    name: str
    path: str
    kind: str
    slots: int
    units: int
    committed: int
    missing: int  # neither there nor leased nor set aside
    first_missing: tuple[int, ...]
    held: tuple[Held, ...]
    n_aside: int  # set aside
    aside: tuple[Aside, ...]  # the first of them
    done: bool
    work: Work
    eta_s: float | None
    samples: int | None  # once the stage is done
    preview: str | None = None  # a picture of the newest samples
    verdict: Verdict | None = None  # of the gate that gave it up
    unsettled: str = ""  # why units that are there may not stay
    unread: tuple[str, ...] = ()  # files that are no leases, events .. : what and why, for people

    @property
    def live(self) -> int:
        return sum(h.state == "live" for h in self.held)


def find_stages(path: Path, tell: Callable[[str], object]) -> list[Path]:
    """Stage folders at, in or two levels below a path (RUNS_DIR, RUNS_DIR/<dataset> or a stage), upstreams first by age.

    tell: of folders that may not be read, in which a stage may be. If they are all that is there, that is a StoreError.
    """
    path = Path(os.path.abspath(path))  # a stage has its name also where it is the folder that one stands in
    below = (*path.glob("*/"), *path.glob("*/*/"))
    places = [path, *(p for p in below if not p.name.startswith(REMOVING) and p.name != OF_THE_DISK)]
    folders = [p for p in places if os.path.lexists(p / "stage.json")]  # a link that leads nowhere is told, too
    found = set(folders)
    closed = [
        f"{p}: cannot be read{owned(p, errno.EACCES)}; whether a stage is there is not known"
        for p in places
        if not found & {p, p.parent} and p.is_dir() and not os.access(p, os.R_OK | os.X_OK)
    ]
    if not folders:
        if closed:
            raise StoreError(closed[0])
        raise InputError(
            f"{path}: no stage here; give a runs folder (runs), a dataset's (runs/<dataset>) or a stage's "
            "(runs/<dataset>/<stage>-<fingerprint>)"
        )
    for what in closed:
        tell(what)
    return sorted(folders, key=lambda p: (p.parent, (p / "stage.json").lstat().st_mtime, p.name))


def report_on(path: Path, now: float | None = None) -> StageReport:
    """One stage as it is now. `now`: seconds since the epoch, for the silence of leases."""
    folder, now = StageFolder.open(path), time.time() if now is None else now
    done, n = folder.is_done(), folder.spec.n_units
    committed = set(range(n)) if done else folder.committed()
    unread: list[str] = []
    held = () if done else tuple(_held(folder, committed, now, unread.append))
    failures = folder.failures()
    aside = sorted(folder.to_blame() - committed)
    absent = sorted(set(range(n)) - committed - {h.unit for h in held} - set(aside)) if len(committed) < n else []
    work = _work(folder.path, {h.worker for h in held if h.state == "live"}, unread.append)
    left = folder.spec.slots - folder.spec.slots_in(committed)
    return StageReport(
        name=folder.spec.name,
        path=str(folder.path),
        kind=folder.spec.kind,
        slots=folder.spec.slots,
        units=n,
        committed=len(committed),
        missing=len(absent),
        first_missing=tuple(absent[:10]),
        held=held,
        n_aside=len(aside),
        aside=tuple(_aside(u, failures[u][-1]) for u in aside[:20]),
        done=done,
        work=work,
        eta_s=left / work.slots_per_s if left and work.slots_per_s else None,
        samples=folder.done().get("samples") if done else None,
        preview=str(folder.preview_path) if folder.preview_path.exists() else None,
        verdict=None if done or any(h.state == "live" for h in held) else _verdict(folder.path, unread.append),
        unsettled=folder.reopening.why(),
        unread=tuple(unread),
    )


def _verdict(folder: Path, tell: Callable[[str], object]) -> Verdict | None:
    """None, too, where a worker wrote something since: somebody goes on."""
    path = folder / "missing.json"
    try:
        given = path.lstat().st_mtime
        if any(p.stat().st_mtime > given for p in (folder / "events").glob("*.jsonl")):
            return None
        said = foreign.obj(foreign.read_json(path, foreign.RECORD), path, why=str, command=str)
    except FileNotFoundError:
        return None
    except (InputError, StoreError, OSError) as e:
        tell(str(e))
        return None
    return Verdict(said["why"], said["command"])


def _held(folder: StageFolder, committed: set[int], now: float, tell: Callable[[str], object]) -> Iterable[Held]:
    times, read = Times.from_env(), 0
    for shard in folder.shards():
        newest = leases.newest_generations(folder.path / "leases" / f"{shard:03d}")
        for unit, generation in sorted(newest.items()):
            if unit in committed or unit >= folder.spec.n_units or read >= AT_MOST:
                continue
            read += 1
            path = folder.lease_path(unit).with_name(f"{unit:06d}.g{generation}")
            try:
                record, silent = leases.parse(foreign.read(path, foreign.RECORD)), now - path.stat().st_mtime
            except OSError:
                continue  # removed this moment
            except (InputError, StoreError) as e:
                tell(str(e))
                continue
            if record is None or record["state"] == "released":
                continue
            owner = Owner(**{k: record[k] for k in Owner.__dataclass_fields__})
            state = "dead" if owner.is_gone() else "silent" if silent > times.dead_after else "live"
            yield Held(unit, owner.worker, owner.host, owner.slurm_job, record["beat"] * times.beat, state)


def _aside(unit: int, path: Path) -> Aside:
    try:
        report = report_in(path)
    except (InputError, StoreError, OSError) as e:
        return Aside(unit, f"its report cannot be read: {e}", (), str(path))
    return Aside(unit, report["error"], tuple(report["traceback"].rstrip().splitlines()[-LINES:]), str(path))


def ends(path: Path) -> tuple[list[dict], list[dict]]:
    """A few first and last events of one worker, and the last that tells how busy it was; whole lines only."""
    with foreign.open_file(path) as f:
        head = f.read(HEAD)
        size = os.fstat(f.fileno()).st_size
        if size <= HEAD:
            tail = head
        else:
            f.seek(max(0, size - TAIL))
            tail = f.read()
            tail = tail if size <= TAIL else tail.partition(b"\n")[2]
    lines = tail.splitlines()
    use = [line for line in lines[:-LAST] if b'"busy_s"' in line][-1:]
    return _parse(head.split(b"\n", FIRST)[:FIRST]), _parse(use + lines[-LAST:])


def _parse(texts: Iterable[bytes]) -> list[dict]:
    lines = []
    for line in texts:
        with contextlib.suppress(InputError):  # torn, or cut by the limits above
            lines.append(event_in(line, "event"))
    return lines


def rate(tail: list[dict]) -> tuple[float, float]:
    """(samples, slots) a second of one worker by its last units: those after the first one, over the time between first and last.

    >>> unit = {"event": "unit", "samples": 9, "tombstones": 1, "seconds": 5}
    >>> rate([unit | {"time": 100}, unit | {"time": 110}])
    (0.9, 1.0)
    """
    units = [e for e in tail if e.get("event") == "unit"][-20:]
    if not units:
        return 0.0, 0.0
    seconds = units[-1].get("time", 0.0) - units[0].get("time", 0.0)
    counted = units[1:] if seconds > 0 else units[-1:]
    seconds = seconds if seconds > 0 else max(1e-3, units[-1].get("seconds", 0.0))
    samples = sum(e.get("samples", 0) for e in counted)
    return samples / seconds, (samples + sum(e.get("tombstones", 0) for e in counted)) / seconds


def work_of(path: Path) -> Work:
    """What the events of a stage's workers say; files that cannot be read are left out."""
    return _work(path, set(), lambda _: None)


def _work(path: Path, live: set[str], tell: Callable[[str], object]) -> Work:
    jobs, devices, busy, idle, samples, slots, workers = set(), Counter(), 0.0, 0.0, 0.0, 0.0, 0
    refused: Counter[str] = Counter()
    cut: Counter[str] = Counter()
    said: dict[str, str] = {}
    sources: Counter[str] = Counter()
    edited: Counter[str] = Counter()
    spent: Counter[str] = Counter()
    for file in (path / "events").glob("*.jsonl"):
        try:
            head, tail = ends(file)
        except (InputError, StoreError, OSError) as e:
            tell(str(e))
            continue
        workers += 1
        jobs.update(e.get("job_idx") for e in head[:1])
        sources.update(e["sources"] for e in head[:1] if e.get("sources"))
        edited.update({str(e.get("why")) for e in (*head, *tail) if e["event"] == "sources"})
        devices.update(e["device"] for e in head if e.get("event") == "open" and e.get("device"))
        use = next((e for e in reversed(tail) if "busy_s" in e), {})
        refused.update(use.get("refused") or {})
        cut.update(use.get("cut") or {})
        said |= use.get("said") or {}
        spent.update({name: use[name] for name in SPENT if name in use})
        busy, idle = busy + use.get("busy_s", 0.0), idle + use.get("idle_s", 0.0)
        if file.stem in live:
            mine = rate(tail)
            samples, slots = samples + mine[0], slots + mine[1]
    share = idle / (busy + idle) if busy + idle > 0 else None
    told = (dict(refused), dict(cut), said, dict(sources), dict(edited), dict(spent))
    return Work(workers, max(0, workers - len(jobs)), samples, slots, share, dict(devices), *told)
