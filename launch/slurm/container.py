"""cluster=slurm in containers: only the worker of a job is wrapped. sbatch, squeue and gates stay on the host."""

import dataclasses
import re
from collections.abc import Callable, Iterable, Mapping, Sequence

from launch.plan.container import PYXIS, PYXIS_SETUP, Container, srun_words, variables_in, wrapped
from launch.plan.inspection import inspected, merged
from launch.plan.mounts import mounts_of
from launch.plan.planned import PlannedStage
from launch.slurm.resources import Resources
from synth.errors import InputError
from synth.host.slurm import ask

Wanted = Callable[[PlannedStage], Resources]


def looked_at(stages: Sequence[PlannedStage], wanted: Wanted, tell: Callable[[str], None]) -> dict[Container, Container]:
    """Every container of these stages with what is known of its image. InputError: workers could not begin in it."""
    users: dict[Container, list[tuple[PlannedStage, Resources]]] = {}
    for stage in stages:
        resources = wanted(stage)
        if resources.container is not None:
            users.setdefault(resources.container, []).append((stage, resources))
    known = {}
    for container, uses in users.items():
        if container.runtime == PYXIS and "container-image" not in ask("srun", "--help"):
            raise InputError(
                f"{container.key}={container.image}: srun has no --container-image here: this site has no pyxis; take a .sif (Apptainer)"
            )
        mounts = merged(mounts_of(stage.folder, stage.spec) for stage, _ in uses)
        machines = architectures(ask("scontrol", "-o", "show", "node"), {r.partition for _, r in uses})
        gpus = any(r.gpus for _, r in uses)
        # what is loaded by modules or setup, or was named by hand, may be on compute nodes alone
        strict = not any(r.modules or r.setup for _, r in uses) and not container.by_hand
        known[container] = inspected(container, mounts, gpus, tell, machines, strict)
    return known


def architectures(nodes: str, partitions: Iterable[str | None]) -> frozenset[str]:
    """Of the nodes in some partitions (None: in any), from scontrol -o show node; empty where it is not told.

    >>> sorted(architectures("NodeName=a Arch=x86_64 Partitions=cpu,gpu\\nNodeName=b Arch=aarch64 Partitions=gh", {"gh"}))
    ['aarch64']
    """
    wanted = {name for p in partitions for name in (p or "").split(",")}
    found = set()
    for line in nodes.splitlines():
        arch, own = re.search(r"\bArch=(\S+)", line), re.search(r"\bPartitions=(\S+)", line)
        if arch and ("" in wanted or (own and wanted & set(own[1].split(",")))):
            found.add(arch[1])
    return frozenset(found)


def inside(resources: Resources, known: Mapping[Container, Container], stage: PlannedStage) -> Resources:
    """The resources of a stage, its worker wrapped where it runs in a container."""
    if resources.container is None:
        return resources
    c = known.get(resources.container, resources.container)
    mounts = mounts_of(stage.folder, stage.spec)
    env = dict(resources.env) | c.environment
    if c.runtime == PYXIS:
        setup = (*resources.setup, *PYXIS_SETUP)
        srun = (*resources.srun, *srun_words(c, mounts))
        return dataclasses.replace(resources, container=c, worker=c.command(), srun=srun, env=env, setup=setup)
    names = (*resources.env, *variables_in([stage.spec.config, stage.spec.settings]))
    return dataclasses.replace(resources, container=c, worker=wrapped(c, mounts, c.command(), resources.gpus > 0, names), env=env)
