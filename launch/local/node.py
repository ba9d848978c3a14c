"""Workers of this machine, through the very same worker command as everywhere: one machine of several, or the only one.

cluster=local is node 0 of 1. Machines share the stage folders and nothing else: whatever one leaves undone, another takes over.
"""

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from rich.console import Console

from launch.config.clusters import ClusterConfig
from launch.local.contained import contained, container_of
from launch.local.idle import Idle, Read, Thresholds, reader
from launch.local.sequence import Stop, at_hangup, catching, run_in_order, wait_for_upstream
from launch.local.supervisor import Devices, Slot, Supervisor
from launch.local.window import shown
from launch.plan.container import Container
from launch.plan.devices import cores, grouped, n_workers, places_of, processes_of, uses_gpu, visible_gpus
from launch.plan.planned import Outcome, PlannedStage
from launch.show.lasting import outlive_terminal
from launch.show.progress import Bars
from launch.show.saying import say
from synth.errors import EXIT_AGAIN, InputError
from synth.store import leases
from synth.store.folder import StageFolder


@dataclass(frozen=True)
class Machine:
    """Which machine this is, and what of it may be used."""

    node_idx: int = 0
    total_nodes: int = 1
    n_gpus: int | None = None  # None: auto
    idle: Thresholds | None = None  # None: gpus=all
    n_jobs: int | None = None  # workers here, which may share GPUs; None: one a place

    def __post_init__(self):
        if not 0 <= self.node_idx < self.total_nodes or (self.n_gpus is not None and self.n_gpus < 1):
            given = f"NODE_IDX={self.node_idx} TOTAL_NODES={self.total_nodes} N_GPUS={self.n_gpus}"
            raise InputError(f"{given}: NODE_IDX counts from 0 to TOTAL_NODES-1, N_GPUS from 1")

    def jobs(self, workers: int) -> tuple[range, int]:
        """(job_idx of each worker here, n_jobs): job_idx = i + NODE_IDX * workers, n_jobs = TOTAL_NODES * workers.

        Machine(1, 2).jobs(8) == (range(8, 16), 16)
        """
        return range(self.node_idx * workers, (self.node_idx + 1) * workers), self.total_nodes * workers

    def places(self, kind: str, config: Mapping, gpus: Sequence[str], n_cores: int) -> list[tuple[str, ...] | None]:
        """Where the workers of a stage go here: GPUs of each, or None for a plain one. More than there is is an InputError."""
        if not (gpus and uses_gpu(kind, config)):
            return places_of((), self.n_gpus or n_cores, kind, config)
        if (self.n_gpus or 0) > len(gpus):
            raise InputError(
                f"N_GPUS={self.n_gpus}: CUDA shows {len(gpus)} GPUs here ({', '.join(gpus)}); use N_GPUS=auto or a smaller number"
            )
        if self.n_gpus and self.n_gpus < (processes := processes_of(kind, config)):
            needs = f"a worker of this {kind} stage takes {processes} GPUs, one a shard"
            raise InputError(f"{needs}, and N_GPUS gives {self.n_gpus}; use more, or merge the shards")
        return places_of(tuple(gpus[: self.n_gpus]), n_cores, kind, config)

    def pool(
        self, folder: StageFolder, gpus: Sequence[str], units: int, retired: Callable[[tuple[str, ...] | None], bool] = lambda place: False
    ) -> tuple[list[Slot], int]:
        """Slots for so many units to do, and n_jobs; no slot if no place is left beside what is retired.

        The first lingers until the leases of the dead can be taken over.
        """
        places = self.places(folder.spec.kind, folder.spec.config, gpus, cores())
        if places[0] is not None:
            good = [gpu for gpu in gpus[: self.n_gpus] if not retired((gpu,))]  # a bad GPU takes no good one with it
            places = [place for place in grouped(good, len(places[0])) if not retired(place)]
        if not places:
            return [], 0
        job_idxs, n_jobs = self.jobs(self.n_jobs or len(places))
        wanted = job_idxs[: n_workers(self.n_jobs, len(places), units)]
        return [Slot(j, places[i % len(places)], () if i else ("--linger",)) for i, j in enumerate(wanted)], n_jobs


def run(
    machine: Machine,
    stages: Sequence[PlannedStage],
    console: Console,
    retry_failed: bool = False,
    read: Read | None = None,
    container: Container | None = None,
) -> list[Outcome]:
    """All stages, in order, with this machine's workers; waits. `read`: what tells how busy the GPUs are. container: of the workers."""

    def tell(text: str) -> None:
        say(console, text)

    needed = any(uses_gpu(s.spec.kind, s.spec.config) for s in stages)
    gpus = visible_gpus(tell=tell) if needed else ()
    idle = Idle(read or reader(), machine.idle) if machine.idle is not None and needed else None
    for remark in idle.check(gpus, os.environ) if idle else ():
        tell(remark)
    devices, inside = Devices(), contained(stages, container, gpus, tell)
    trusted = {stage.folder: stage.trusted for stage in stages}

    def work(folder: StageFolder, number: int, bars: Bars, stop: Stop) -> list[int]:
        """The first round starts all workers. Later ones, while others hold what is left, as many as find something to do."""
        if code := wait_for_upstream(folder, stop, tell):
            return [code]
        pool, n_jobs = machine.pool(folder, gpus, 1 + unheld(folder) if number else folder.to_do(), devices.is_retired)
        if not pool:
            tell(f"{folder.spec.name}: every device here was left as bad; no worker is started")
            return [EXIT_AGAIN]
        with shown(folder, tell):
            more = {"devices": devices, "trusted": trusted[folder.path], "contained": inside}
            return Supervisor(folder, pool, n_jobs, stop, tell, idle, **more).run(bars)

    if lost := at_hangup(os.environ):
        tell(lost)
    outlive_terminal()
    with catching(lambda text: tell(f"\n{text}")) as stop:
        return run_in_order(stages, work, stop, console, retry_failed)


def run_local(stages: Sequence[PlannedStage], cluster: ClusterConfig, console: Console, retry_failed: bool) -> list[Outcome]:
    """cluster=local."""
    return run(Machine(n_jobs=cluster.n_jobs), stages, console, retry_failed, container=container_of(cluster))


def preview(stages: Sequence[PlannedStage], cluster: ClusterConfig, console: Console) -> None:
    """What dry_run=true adds: the image that workers would run in, looked at as before a run."""
    if (container := container_of(cluster)) is not None:
        needed = any(uses_gpu(s.spec.kind, s.spec.config) for s in stages)

        def tell(text: str) -> None:
            console.print(text, markup=False, highlight=False, soft_wrap=True)

        if inside := contained(stages, container, visible_gpus(tell=tell) if needed else (), tell):
            facts = inside.container.facts
            versions = " ".join(f"{k} {v}" for k, v in facts["inside"]["versions"].items())
            tell(f"workers run in {container.image} ({container.runtime}, {facts.get('digest', 'no digest')}): {versions}")


def unheld(folder: StageFolder) -> int:
    """How many units are neither there nor leased."""
    held = set()
    for shard in folder.shards():
        held |= set(leases.newest_generations(folder.path / "leases" / f"{shard:03d}"))
    return len(set(folder.missing()) - held)
