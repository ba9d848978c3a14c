"""cluster.n_jobs=auto:8h: as few workers as end each stage in that time, by what earlier stages of the same work took.

It says how many jobs there are, and nothing of what they make.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from launch.config.clusters import ClusterConfig, n_jobs_of, wanted_time
from launch.config.program import as_typed
from launch.plan.devices import uses_gpu
from launch.plan.planned import PlannedStage, Point
from launch.plan.state import state_of
from launch.show.dry_run import workers_of
from launch.show.estimate import Pace, Paces, places_of_paces, seconds_of
from synth.errors import InputError


@dataclass(frozen=True)
class Enough:
    """Of one stage. workers: the fewest that end it in time, or as many as have a unit each where none do."""

    workers: int
    wall_s: float
    in_time: bool


def enough(units: int, slots_a_unit: float, pace: Pace, limit_s: float, most: int | None = None) -> Enough:
    """For so many units that are left, all of about the same size. most: workers that there is room for.

    >>> pace = Pace(slot_s=2.0, low_s=2.0, high_s=2.0, start_s=40.0, slot_bytes=1.0, units=9, device="H100", stage="images")
    >>> enough(100, 10.0, pace, 240.0)  # 200 s hold ten units of 20 s
    Enough(workers=10, wall_s=240.0, in_time=True)
    >>> enough(100, 10.0, pace, 45.0)
    Enough(workers=100, wall_s=60.0, in_time=False)
    """
    unit_s = slots_a_unit * pace.slot_s
    time_s = limit_s - pace.start_s
    rounds = 0 if time_s <= 0 else units if time_s >= units * unit_s else int(time_s / unit_s + 1e-9)
    wanted = math.ceil(units / rounds) if rounds else units
    workers = min(wanted, most or wanted)
    return Enough(workers, math.ceil(units / workers) * unit_s + pace.start_s, bool(rounds) and workers == wanted)


def one_end(points: Sequence[Point]) -> None:
    """InputError for points that differ in where they run, or in what is run at their end: they end together."""
    if any(p.cluster != points[0].cluster for p in points):
        raise InputError("cluster: a sweep runs on one cluster with one n_jobs; start one command each")
    if any(p.notify != points[0].notify for p in points):
        raise InputError(
            "notify: points of a sweep end together, and run one command; give notify.command one value, or start one command each"
        )


def settled(points: Sequence[Point], stages: Sequence[PlannedStage], a_job: Callable[[PlannedStage], int]) -> tuple[list[Point], list[str]]:
    """(the points with a number in the place of auto:TIME, what to say of it). a_job: workers of one job of a stage.

    InputError where nothing tells how long a sample of a stage takes that more than one worker can share.
    """
    first = points[0].cluster
    limits = [wanted_time(p.cluster.n_jobs) for p in points]
    if not any(limits):
        return list(points), []
    one_end(points)
    limit = limits[0]
    room = None if first.kind == "slurm" else workers_of([replace(p, cluster=replace(p.cluster, n_jobs=None)) for p in points], stages)
    paces = Paces(places_of_paces(stages))
    asked = {s.folder for p in points for s in p.chosen()}
    todo = [s for s in stages if s.folder in asked and n_jobs_of(first, s.spec.kind, uses_gpu(s.spec.kind, s.spec.config)) == first.n_jobs]
    jobs: dict[str, int] = {}
    lines: list[str] = []
    unknown: list[str] = []
    for stage in todo:
        state = state_of(stage)
        left = stage.spec.n_units - state.units
        if state.done or left <= 1:
            continue
        if (pace := paces.of(stage.spec)) is None:
            unknown.append(stage.name)
            continue
        found = enough(left, stage.spec.slots / stage.spec.n_units, pace, limit, room(stage) if room else None)
        n = math.ceil(found.workers / a_job(stage))
        jobs[stage.spec.kind] = max(n, jobs.get(stage.spec.kind, 1))
        late = "" if found.in_time else ": there is room for no more" if room else ": no number ends it sooner, one unit takes that"
        lines.append(f"cluster.n_jobs={first.n_jobs}: {stage.spec.folder_name}: {n} (about {seconds_of(found.wall_s)}{late})")
    if unknown:
        names = ", ".join(dict.fromkeys(unknown))
        first_run = f"run the same with try=2 or {as_typed('doctor')} first, or give a number"
        raise InputError(f"cluster.n_jobs={first.n_jobs}: no earlier stage tells how long a sample of {names} takes: {first_run}")
    cluster = _with(first, jobs)
    return [replace(p, cluster=cluster) for p in points], lines


def _with(cluster: ClusterConfig, jobs: dict[str, int]) -> ClusterConfig:
    """The cluster with so many jobs of each kind: here one number is for all, on Slurm each kind has its own."""
    stages: Any = getattr(cluster, "stages", None)
    if stages is None:
        return replace(cluster, n_jobs=max(jobs.values(), default=1))
    own = {kind: replace(of, n_jobs=jobs[kind]) if kind in jobs else of for kind, of in stages.items()}
    return replace(cluster, n_jobs=1, stages=own)
