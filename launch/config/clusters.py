"""Where stages run: the keys of clusters, and the registry of what runs or submits on each kind, imported when used."""

import dataclasses
import importlib
from collections.abc import Callable, Mapping
from typing import Any

from launch.config.times import length
from synth.errors import InputError
from synth.keys import dict_of, key, schema
from synth.kinds import KINDS

CLUSTERS = {
    "local": "launch.local.node:run_local",
    "debug": "launch.local.sequence:run_here",
    "slurm": "launch.slurm.submit:run",
}
PREVIEWS = {"local": "launch.local.node:preview", "slurm": "launch.slurm.preview:show"}
AUTO = "auto:"  # how n_jobs begins where it is a time
NULL: Any = None  # of a key that nobody set
GATE = "gate"  # in cluster.stages, beside the kinds of stages
NOT_OF_STAGES = ("kind", "stages", "cpu", "max_submit", "clusters", "check")  # keys of cluster=slurm that all jobs have in common


@dataclasses.dataclass(frozen=True, kw_only=True)
class ClusterConfig:
    """What every cluster has."""

    kind: str = key("a key of launch.config.clusters.CLUSTERS")
    n_jobs: Any = key(
        "workers, or array tasks a stage; auto:8h: as few as end each stage in that time; never changes the bytes of a unit",
        given=Any,
        null="as many as GPUs or cores",
    )
    gpu_mem_gb: float = key(
        "GB of one GPU, as 80: batch sizes and windows of auto are planned by it", null="what Slurm or nvidia-smi says, else 24"
    )
    container: str = key("an image that workers run in: a .sif (Apptainer), a .sqsh or a name", null="workers run on the host")
    container_runtime: str = key(
        "auto: by the name, and for others pyxis on Slurm, Docker or Podman elsewhere; or one of apptainer, pyxis, docker, podman",
        choices=("auto", "apptainer", "pyxis", "docker", "podman"),
    )
    container_args: tuple[str, ...] = key("more words for the runtime, before the image (pyxis: for srun)")
    container_mounts: tuple[str, ...] = key(
        "more that workers see: SOURCE, SOURCE:ro or SOURCE:TARGET:ro; runs, inputs and models they see by themselves"
    )


@dataclasses.dataclass(frozen=True, kw_only=True)
class SlurmConfig(ClusterConfig):
    """cluster=slurm. `cpu` overrides any of its keys for jobs without GPUs, `stages` for a kind of stage."""

    max_parallel: int = key("array tasks that run at once", null="all")
    workers_per_job: Any = key("auto: GPUs of the job // GPUs a worker, so that a whole node is filled; or a number", given=Any)
    clusters: str = key(
        "of a site with several, as sbatch --clusters: far; of far,near that where jobs start first; a run stays there",
        null="that of SLURM_CLUSTERS, else the one that sbatch talks to",
    )
    partition: str = key("partition of the jobs", null="the site's default")
    account: str = key("who pays", null="your default")
    qos: str = key("quality of service", null="the site's default")
    constraint: str = key('features of nodes: "a100|h100"', null="not given to sbatch")
    nodelist: str = key("nodes to use, as sbatch --nodelist", null="not given to sbatch")
    exclude: str = key("nodes to leave out", null="not given to sbatch")
    time: Any = key(
        "limit of a job, in quotes; a worker drains before it and its job is requeued: a limit never ends a run",
        given=Any,
        null="not given to sbatch",
    )
    time_min: Any = key("a lower limit that the scheduler may choose to start the job earlier", given=Any, null="not given to sbatch")
    gpus_per_job: int = key(
        "GPUs of a job; 0: run on cores", null="what one worker of the stage needs (one GPU, a captioner of n shards n)"
    )
    gres: str = key('written as Slurm wants it: gpu:a100:4; "": not given', null="gpu:<gpus_per_job>")
    cpus_per_job: int = key("cores of a job, shared by its workers; encoding and writing go on beside the device", null="4 a worker")
    mem: str = key("per node: 32G; 0: all of a node", null="what the workers of a model need, else the site's default")
    requeue: bool = key("a drained, preempted or lost job goes back into the queue")
    drain_before_s: int = key("seconds before the limit at which a job is told to drain (a quarter of the limit at most)")
    modules: tuple[str, ...] = key("module load ...")
    setup: tuple[str, ...] = key("shell lines before the worker starts")
    env: Mapping[str, Any] = key("variables of the job: +cluster.env.HF_HUB_OFFLINE=1")
    python: str = key(
        "interpreter on the compute nodes",
        null="the one that runs this command (in a container: python3)",
    )
    freeze: bool = key("jobs run from a copy of the code that is made at submission and kept with the stage")
    extra: Mapping[str, Any] = key("any other sbatch flag: +cluster.extra.reservation=maint; true: the flag alone")
    srun_extra: Mapping[str, Any] = key("any other srun flag, those of pyxis too: +cluster.srun_extra.cpu-bind=none; true: the flag alone")
    heal: int = key("times that a gate resubmits what is missing although nothing was gained since the last time; 0: never")
    max_requeues: int = key("times that a job may go back into the queue, and that a gate may go on with a stage")
    on_missing: str = key(
        "cancel | hold: what a gate does to the jobs that wait for a stage that cannot be completed", choices=("cancel", "hold")
    )
    max_array_size: int = key("tasks of one array", null="MaxArraySize of scontrol show config")
    max_submit: int = key("jobs that one may have in the queue", null="as sacctmgr says, or no limit")
    check: bool = key("sbatch --test-only tests each script before the first is submitted, and its word counts; false: submit untested")
    cpu: Any = key("any key above, for all stages that ask for no GPU and for gates: cluster.cpu.partition=cpu", given=dict[str, Any])
    stages: Mapping[str, Any] = key("kind of stage -> any key above", given=dict[str, Any])


def wanted_time(n_jobs: object) -> int | None:
    """Seconds of auto:8h; None of a number and of null. InputError for anything else.

    >>> wanted_time("auto:8h"), wanted_time("auto:1-00:00:00"), wanted_time(4)
    (28800, 86400, None)
    """
    text = getattr(n_jobs, "text", n_jobs)  # of Hydra's grammar
    if isinstance(text, str) and text.startswith(AUTO):
        if wanted := length(text.removeprefix(AUTO), "cluster.n_jobs"):
            return wanted
        raise InputError(f"cluster.n_jobs={text}: no stage ends in no time; write auto:30m")
    if text is not None and (isinstance(text, bool) or not isinstance(text, int)):
        raise InputError(f"cluster.n_jobs={text}: must be a whole number or null, or a time such as auto:8h")
    if text is not None and text < 1:
        raise InputError(f"cluster.n_jobs={text}: must be 1 or more")
    return None


def without_time(cluster: ClusterConfig) -> ClusterConfig:
    """The cluster without a number of jobs in the place of auto:8h, for whoever starts workers by a number of its own."""
    return cluster if wanted_time(cluster.n_jobs) is None else dataclasses.replace(cluster, n_jobs=NULL)


def n_jobs_of(cluster: ClusterConfig, kind: str, on_gpu: bool) -> Any:
    """What the config says of the jobs of a kind of stage, in the order in which Slurm's resources look for it."""
    stages, cpu = getattr(cluster, "stages", {}), getattr(cluster, "cpu", None)
    own = [getattr(stages.get(kind), "n_jobs", None), None if on_gpu else getattr(cpu, "n_jobs", None), cluster.n_jobs]
    return next((n for n in own if n is not None), None)


def stage_schema() -> type:
    """Hydra's type of cluster.cpu and cluster.stages.<kind>: keys of cluster=slurm that these may have for themselves; null: as in the
    cluster."""
    own = [f for f in dataclasses.fields(schema(SlurmConfig)) if f.name not in NOT_OF_STAGES]
    fields: list[tuple[str, Any, Any]] = []
    for f in own:
        tp: Any = f.type
        if tp == dict[str, Any]:  # env and extra are added to the cluster's
            fields.append((f.name, tp, dataclasses.field(default_factory=dict)))
        elif f.name == "n_jobs":  # of a kind it is a number
            fields.append((f.name, int | None, None))
        else:
            fields.append((f.name, tp if tp is Any else tp | None, None))
    return dataclasses.make_dataclass("SlurmStage", fields)


def slurm_schema() -> type:
    """Hydra's type of cluster=slurm, with a place for jobs without GPUs, and one for every kind of stage."""
    stage, base = stage_schema(), schema(SlurmConfig)
    stages = dataclasses.field(default_factory=lambda: {name: stage() for name in (GATE, *KINDS)})
    fields: list[tuple[str, Any, Any]] = [("stages", dict_of(stage), stages), ("cpu", stage, dataclasses.field(default_factory=stage))]
    return dataclasses.make_dataclass("Slurm", fields, bases=(base,), namespace={"config_class": SlurmConfig})


def runner(kind: str) -> Callable:
    """run(stages, cluster, console, retry_failed) -> outcomes of a kind of cluster."""
    if kind not in CLUSTERS:
        raise InputError(f"cluster.kind={kind}: no such cluster; there are {', '.join(CLUSTERS)}")
    module, name = CLUSTERS[kind].split(":")
    return getattr(importlib.import_module(module), name)


def preview(kind: str) -> Callable | None:
    """show(stages, cluster, console): what dry_run=true adds for a kind of cluster, or None."""
    if kind not in PREVIEWS:
        return None
    module, name = PREVIEWS[kind].split(":")
    return getattr(importlib.import_module(module), name)
