"""Where stages run."""

from dataclasses import dataclass, field
from typing import Any

from omegaconf import MISSING

from synth.kinds import KINDS


@dataclass
class Cluster:
    """What every cluster has. cluster=slurm adds its own keys in a subclass."""

    kind: str = MISSING  # a key of launch.config.clusters.CLUSTERS
    n_jobs: int | None = None
    gpu_mem_gb: float | None = None


@dataclass
class SlurmStage:
    """Keys of cluster=slurm that a kind of stage may have for itself; null: as in the cluster."""

    n_jobs: int | None = None
    gpu_mem_gb: float | None = None
    max_parallel: int | None = None
    workers_per_job: Any = None  # auto or a number
    partition: str | None = None
    account: str | None = None
    qos: str | None = None
    constraint: str | None = None
    nodelist: str | None = None
    exclude: str | None = None
    time: Any = None  # Any: a number that YAML made of an unquoted time is refused by launch.config.times, not made a text of
    time_min: Any = None
    gpus_per_job: int | None = None
    gres: str | None = None
    cpus_per_job: int | None = None
    mem: str | None = None
    requeue: bool | None = None
    drain_before_s: int | None = None
    modules: list[str] | None = None
    setup: list[str] | None = None
    env: dict[str, Any] = field(default_factory=dict)  # added to the cluster's
    python: str | None = None
    container: str | None = None
    container_exec: list[str] | None = None
    extra: dict[str, Any] = field(default_factory=dict)  # added to the cluster's
    heal: int | None = None
    max_requeues: int | None = None
    on_missing: str | None = None
    max_array_size: int | None = None


def _slurm_stages() -> dict[str, SlurmStage]:
    return {name: SlurmStage() for name in ("gate", *KINDS)}


@dataclass
class Slurm(Cluster):
    """cluster=slurm: the keys of SlurmStage with their defaults in conf/cluster/slurm.yaml, and by kind of stage."""

    max_parallel: int | None = None
    workers_per_job: Any = MISSING
    partition: str | None = None
    account: str | None = None
    qos: str | None = None
    constraint: str | None = None
    nodelist: str | None = None
    exclude: str | None = None
    time: Any = None
    time_min: Any = None
    gpus_per_job: int | None = None
    gres: str | None = None
    cpus_per_job: int = MISSING
    mem: str | None = None
    requeue: bool = MISSING
    drain_before_s: int = MISSING
    modules: list[str] = MISSING
    setup: list[str] = MISSING
    env: dict[str, Any] = MISSING
    python: str | None = None
    container: str | None = None
    container_exec: list[str] = MISSING
    extra: dict[str, Any] = MISSING
    heal: int = MISSING
    max_requeues: int = MISSING
    on_missing: str = MISSING
    max_array_size: int | None = None
    max_submit: int | None = None
    stages: dict[str, SlurmStage] = field(default_factory=_slurm_stages)
