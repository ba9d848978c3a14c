"""dry_run=true: what would be done, in a table. Reads, computes nothing, writes nothing."""

import shlex
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from rich.console import Console
from rich.table import Table

from launch.config.clusters import n_jobs_of, preview
from launch.config.program import as_typed
from launch.plan.absent import unknown
from launch.plan.devices import cores, n_workers, places_of, uses_gpu, visible_gpus
from launch.plan.planned import PlannedStage, Point
from launch.plan.state import state_of
from launch.show.estimate import costs
from launch.show.saying import say

PHASES = {"weights": "weights", "encode": "to encode texts", "denoise": "to denoise", "decode": "to decode"}


def show(points: Sequence[Point], stages: Sequence[PlannedStage], console: Console, words: Sequence[str] = ()) -> None:
    """Stages, slots, units, batches, jobs and what is there of each; then the folders, and the weights that are not here. words: of the
    command line, for the command that fetches these."""
    workers = workers_of(points, stages)
    lost = unknown(stages)
    title = f"plan: {len(points)} point{'s' * (len(points) != 1)}, {len(stages)} stages, each once"
    table = Table(title=title, title_justify="left")
    for name in ("stage", "slots", "units", "batches", "jobs", "state"):
        table.add_column(name, justify="left" if name in ("stage", "state") else "right")
    for stage in stages:
        state, spec = state_of(stage), stage.spec
        jobs = 0 if state.done else workers(stage)
        name, there = (spec.folder_name, str(state)) if stage.folder not in lost else (spec.name, "not known without weights")
        table.add_row(name, *(f"{n:,}" for n in (spec.slots, spec.n_units, stage.n_batches, jobs)), there)
    console.print(table)
    for stage in stages:
        if price := stage.spec.settings.get("price"):
            say(console, f"{stage.spec.folder_name}: {price}")
    for stage in stages:
        if memory := stage.spec.settings.get("memory"):
            say(console, f"{stage.spec.folder_name}: {memory_line(stage, memory)}")
    for line in costs(points, stages, workers).lines():
        say(console, line)
    for point in points:
        say(console, f"{point.label or 'run'}:")
        for stage in point.stages:
            chosen = "" if stage in point.chosen() else "  (not asked for)"
            folder = stage.folder.with_name(f"{stage.name}-..") if stage.folder in lost else stage.folder
            say(console, f"  {folder}{chosen}")
    if (more := preview(points[0].cluster.kind)) and not lost:
        more(stages, points[0].cluster, console)
    missing = list(dict.fromkeys(text for point in points for text in point.missing))
    if missing:
        say(console, "missing here, so that batches and windows of auto, memory, fingerprints and what is done already are not known:")
    for text in missing:
        say(console, f"  {text}")
    groups = tuple({f"{text.partition('.')[0]}{mark}" for text in missing if "fetch " in text for mark in ".="})
    if named := [word for word in words if word.startswith(groups)]:
        say(console, f"what can be fetched: {as_typed('prefetch')} {shlex.join(named)}")
    console.print("dry run: nothing was computed, nothing was written")


def workers_of(points: Sequence[Point], stages: Sequence[PlannedStage]) -> Callable[[PlannedStage], int]:
    """How many workers, or array tasks, a stage gets for what is left of it."""
    on_this_machine = any(p.cluster.kind == "local" for p in points) and any(uses_gpu(s.spec.kind, s.spec.config) for s in stages)
    gpus = visible_gpus() if on_this_machine else ()
    jobs_of = {s.folder: n_jobs_of(p.cluster, s.spec.kind, uses_gpu(s.spec.kind, s.spec.config)) for p in points for s in p.chosen()}

    def workers(stage: PlannedStage) -> int:
        spec = stage.spec
        places = places_of(gpus, cores(), spec.kind, spec.config)
        return n_workers(jobs_of.get(stage.folder), len(places), spec.n_units - state_of(stage).units)

    return workers


def memory_line(stage: PlannedStage, memory: Mapping[str, Any]) -> str:
    """What a worker of a stage that runs a model on a GPU needs, and what it was planned for."""
    if "device" not in memory:  # of a training: nobody counted what its steps keep
        beside = "what a step needs beside them is not known: if it does not fit, lower the batch"
        return (
            f"weights of {memory['weights']:.1f} GB in {memory['dtype']} on a GPU of {memory['gpu']:g} GB ({memory['source']}); {beside}; "
            f"{memory['host']:.1f} GB on the host"
        )
    together = stage.spec.batch
    phases = ", ".join(f"{memory[name]:.1f} {said}" for name, said in PHASES.items() if name in memory)
    if "rows" in memory:
        size = f"window {together}, {memory['rows']} rows"
    else:
        size = f"batch {together}, vae_batch {stage.spec.config['vae_batch'] or together}"
    lacks = " DOES NOT FIT: lower the batch" if memory["device"] > memory["gpu"] else ""
    return (
        f"{size} in {memory['dtype']}: a worker needs {memory['device']:.1f} GB on its GPU ({phases}) of {memory['gpu']:g} GB "
        f"({memory['source']}), {memory['host']:.1f} GB on the host{lacks}"
    )
