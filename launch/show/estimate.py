"""What a plan will take, by what earlier stages of the same work took: their workers' own events; else by the doctor's trial of it.
Nothing measured: nothing known; of pictures a guess is told, which counts for nothing else."""

import contextlib
import functools
import heapq
import math
import statistics
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.filesize import decimal

from launch.plan.devices import device_of, uses_gpu
from launch.plan.planned import PlannedStage, Point
from launch.plan.state import state_of
from launch.plan.trial import FOLDER as TRIES
from launch.show import calibration
from launch.show.calibration import Pace
from launch.show.guesses import FACTOR, guess
from launch.show.stages import ends
from synth import foreign
from synth.errors import InputError, StoreError
from synth.kinds import CORES
from synth.store.files import read_small
from synth.store.spec import StageSpec, digest

HOUR, GB = 3600.0, 1e9
STAGES, WORKERS = 5, 200  # the newest stages of the same work that are read, and the newest workers of each
ENOUGH = 400  # units
# keys of a stage's config that say what is drawn or written, and not how much work that is
FREE = frozenset(
    {
        *(
            "seed",
            "dataset",
            "counts",
            "subset",
            "per_caption",
            "per_image",
            "variants",
            "random_count",
            "classes",
            "source_classes",
            "negative_prompt",
            "out",
        ),
        *("templates", "senses", "content", "official", "also", "prompt_template", "class_names", "total"),
    }
)
PROMPTS = "prompts"  # of a story: how many each chapter has; of captions it is a group
# how roles of inputs begin that are data; of any other, as weights of every kind of model, other contents are other work
DATA = ("source", "images", "annotations", "captions", "examples", "backgrounds", "relations", "metaprompts", "hypernyms", "definitions")


@dataclass(frozen=True)
class Estimate:
    """Of what is left of a stage."""

    stage: PlannedStage
    pace: Pace
    workers: int
    worker_s: float  # seconds of all workers together
    wall_s: float
    bytes: float
    files: int

    def __str__(self) -> str:
        pace, s = self.pace, "s" * (self.workers != 1)
        per = f"{seconds_of(pace.slot_s)} a sample on {pace.device} ({seconds_of(pace.low_s)} to {seconds_of(pace.high_s)})"
        return (
            f"about {seconds_of(self.wall_s)} with {self.workers:,} worker{s}, {seconds_of(self.worker_s)} of work, "
            f"{decimal(round(self.bytes))} in {self.files:,} units; {per}, by {pace.units:,} unit{'s' * (pace.units != 1)} of {pace.stage}"
            f"{_memory(pace)}"
        )


class Paces:
    """The paces of all work that was done, or tried, below a runs folder; each kind of work is looked up once."""

    def __init__(self, runs: Iterable[Path]):
        self._runs = tuple(dict.fromkeys(runs))
        self._known: dict[str, Pace | None] = {}

    def of(self, spec: StageSpec) -> Pace | None:
        """None: nothing of this kind of work was ever measured here."""
        work = work_of(spec.kind, spec.config, spec.numerics, spec.batch, {role: i.identity for role, i in spec.inputs.items()})
        if work not in self._known:
            measured = pace_of(self._stages(spec.kind, work))
            tried = (calibration.kept(runs, spec.kind, work) for runs in self._runs)
            self._known[work] = measured or next(filter(None, tried), None)
        return self._known[work]

    def _stages(self, kind: str, work: str) -> list[Path]:
        """The newest stages of the same work."""
        return [path for path, of in self._there.get(kind, ()) if of == work][:STAGES]

    @functools.cached_property
    def _there(self) -> dict[str, list[tuple[Path, str]]]:
        """kind -> (stage, its work), the newest first. Each stage.json is read once; what cannot be read is no measure of anything."""
        found: dict[str, list[tuple[float, Path, str]]] = {}
        for path in (p for runs in self._runs for p in runs.glob("*/*/stage.json")):
            with contextlib.suppress(InputError, StoreError, OSError, KeyError, TypeError, AttributeError):
                raw = foreign.parse(read_small(path, foreign.STAGE) or b"", path)
                work = work_of(raw["kind"], raw["config"], raw["numerics"], raw["batch"], raw["inputs"])
                found.setdefault(raw["kind"], []).append((path.stat().st_mtime, path.parent, work))
        return {kind: [(path, work) for _, path, work in sorted(stages, reverse=True)] for kind, stages in found.items()}


def work_of(kind: str, config: Mapping, numerics: Mapping, batch: int, inputs: Mapping[str, str]) -> str:
    """What the time of a slot depends on, as a digest: two stages of the same work draw other things in the same time.

    A guidance scale counts by whether there is guidance, which doubles the work.
    """
    models = {role: identity for role, identity in inputs.items() if not role.startswith(DATA)}
    # what cores write or count takes them a time a slot, however many go together
    return digest([kind, _kept(config), numerics, 0 if device_of(kind) == CORES else batch, models])


def _kept(config: Any) -> Any:
    if isinstance(config, Mapping):
        return {k: _guided(k, _kept(v)) for k, v in config.items() if k not in FREE and not (k == PROMPTS and isinstance(v, (list, tuple)))}
    return [_kept(v) for v in config] if isinstance(config, (list, tuple)) else config


def _guided(key: str, value: Any) -> Any:
    return value > 1 if key == "guidance_scale" and isinstance(value, (int, float)) else value


def pace_of(stages: Sequence[Path], warm: bool = False) -> Pace | None:
    """By the events of some stages, newest first. warm: without the first unit of each worker, in which kernels are chosen and compiled."""
    slots: list[float] = []
    held: list[float] = []
    starts: list[float] = []
    peaks = {"device_peak": 0, "host_peak": 0}
    device = newest = ""
    for stage in stages:
        for head, tail in _workers(stage):
            on = next((str(e["device"]) for e in head if e["event"] == "open" and e.get("device")), "")
            device = device or on
            if not on or on != device:
                continue  # another card's pace is not this one's
            stop = next((e for e in reversed(tail) if e["event"] == "stop"), {})
            if stop.get("taken_over"):
                continue  # what others had made took no time: nobody knows which units held it
            made = [e for e in [*head, *tail] if e["event"] == "unit" and e.get("outcome") == "ours" and isinstance(e.get("unit"), int)]
            for unit in _once(made)[1 if warm else 0 :]:
                n = unit.get("samples", 0) + unit.get("tombstones", 0)
                if n and unit.get("seconds", 0) > 0 and isinstance(unit.get("bytes"), int):
                    newest = newest or stage.name
                    slots.append(unit["seconds"] / n)
                    held.append(unit["bytes"] / n)
            for name in peaks:
                peaks[name] = max(peaks[name], _count(stop.get(name)))
            if "busy_s" in stop and "seconds" in stop:
                starts.append(max(0.0, stop["seconds"] - stop["busy_s"] - stop.get("idle_s", 0.0)))
        if len(slots) >= ENOUGH:
            break
    if not slots:
        return None
    ordered = sorted(slots)
    low, high = ordered[len(ordered) // 10], ordered[min(len(ordered) - 1, len(ordered) * 9 // 10)]
    start = statistics.median(starts) if starts else 0.0
    return Pace(statistics.mean(slots), low, high, start, statistics.mean(held), len(slots), device, newest, **peaks)


def _workers(stage: Path) -> Iterable[tuple[list[dict], list[dict]]]:
    """(first, last events) of the newest workers of a stage."""
    with contextlib.suppress(OSError):
        files = heapq.nlargest(WORKERS, (stage / "events").glob("*.jsonl"), key=lambda p: p.stat().st_mtime)
        for file in files:
            with contextlib.suppress(InputError, StoreError, OSError):
                yield ends(file)


def _count(value: object) -> int:
    return value if isinstance(value, int) and value > 0 else 0


def _once(events: Sequence[dict]) -> list[dict]:
    """Events without those that stand in the head and in the tail."""
    return list({(e["event"], e.get("unit"), e.get("time")): e for e in events}.values())


def estimate(stage: PlannedStage, workers: int, paces: Paces) -> Estimate | None:
    """Of what a stage still has to do; None if it is done, or nothing is known of such work."""
    spec, state = stage.spec, state_of(stage)
    left = spec.n_units - state.units
    if state.done or not left or (pace := paces.of(spec)) is None:
        return None
    slots = spec.slots * left / spec.n_units
    rounds = math.ceil(left / workers)
    wall = rounds * spec.slots / spec.n_units * pace.slot_s + pace.start_s
    return Estimate(stage, pace, workers, slots * pace.slot_s + workers * pace.start_s, wall, slots * pace.slot_bytes, left)


@dataclass(frozen=True)
class Costs:
    """Of all that is left of a plan. unknown: stages of which nothing is known."""

    estimates: tuple[Estimate, ...]
    unknown: tuple[PlannedStage, ...]

    @property
    def device_hours(self) -> float:
        """Of workers of stages that use a GPU, where there is one."""
        return sum(e.worker_s for e in self.estimates if uses_gpu(e.stage.spec.kind, e.stage.spec.config)) / HOUR

    @property
    def gb(self) -> float:
        return sum(e.bytes for e in self.estimates) / GB

    def lines(self) -> list[str]:
        """For people: each stage, then the whole."""
        told = [f"{e.stage.spec.folder_name}: {e}" for e in self.estimates]
        names = ", ".join(dict.fromkeys(s.name for s in self.unknown))
        tried = any(uses_gpu(s.spec.kind, s.spec.config) for s in self.unknown)
        tries = "; the command doctor, with the same arguments, measures it" if tried else ""
        nothing = f"not known of {names}: nothing like it was made in these runs yet{tries}" if names else ""
        guessed = self._guessed()
        if told:
            wall = seconds_of(sum(e.wall_s for e in self.estimates))
            size = decimal(round(sum(e.bytes for e in self.estimates)))
            whole = f"in all about {wall}, one stage behind the other; {self.device_hours:,.3g} device hours; {size} in units"
            return [*told, f"{whole}; {nothing}" if nothing else whole, *guessed]
        return [f"how long it takes is {nothing}", *guessed] if nothing else []

    def _guessed(self) -> list[str]:
        """A line, where there are stages of pictures of which nothing is known but what their models compute."""
        guesses = [found for s in self.unknown if (found := guess(s.spec))]
        cards = {card: sum(found[card] for found in guesses) for card in (guesses[0] if guesses else ())}
        told = " or ".join(f"{seconds_of(seconds)} of {card}" for card, seconds in cards.items())
        return [f"a guess for its pictures, by what their models compute, within a factor of {FACTOR}: {told}"] if told else []

    def check(self, max_device_hours: float | None, max_gb: float | None) -> None:
        """InputError where what is known is already more than one wants to spend."""
        for key, limit, value, what in (
            ("max_device_hours", max_device_hours, self.device_hours, "device hours"),
            ("max_gb", max_gb, self.gb, "GB in units"),
        ):
            if limit is not None and value > limit:
                raise InputError(
                    f"{key}={limit:g}: the plan takes about {value:,.3g} {what}; plan less, or raise {key}. dry_run=true shows each stage"
                )


def places_of_paces(stages: Iterable[PlannedStage]) -> list[Path]:
    """The runs folders whose stages tell the pace of these: their own, and that of its tries; of a try the run's, too."""
    runs = dict.fromkeys(s.dataset_root.parent for s in stages)
    return [place for of in runs for place in (of, of / TRIES, *([of.parent] if of.name == TRIES else []))]


def costs(points: Sequence[Point], stages: Sequence[PlannedStage], workers: Callable[[PlannedStage], int]) -> Costs:
    """workers: that a stage gets. Stages that are done, or not asked for, cost nothing."""
    paces = Paces(places_of_paces(stages))
    asked = {s.folder for p in points for s in p.chosen()}
    todo = [s for s in stages if s.folder in asked and not state_of(s).done]
    found = {s.folder: e for s in todo if (e := estimate(s, workers(s), paces))}
    return Costs(tuple(found.values()), tuple(s for s in todo if s.folder not in found))


def _memory(pace: Pace) -> str:
    """What a worker held at most, where that is known."""
    told = [f"{decimal(n)} {where}" for n, where in ((pace.device_peak, "of its GPU"), (pace.host_peak, "on the host")) if n]
    return f"; a worker held {' and '.join(told)}" if told else ""


def seconds_of(seconds: float) -> str:
    """For people: 0.031 s, 45 s, 12 min, 3.4 h."""
    if seconds < 100:
        return f"{seconds:.2g} s"
    return f"{seconds / 60:.0f} min" if seconds < 2 * HOUR else f"{seconds / HOUR:,.1f} h"
