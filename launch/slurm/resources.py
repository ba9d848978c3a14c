"""What the jobs of one kind of stage ask for, as frozen data: the keys of cluster=slurm; over them, for stages that ask for no GPU and for
gates, those of `cpu`; over these, those of `stages.<kind>`."""

import dataclasses
import math
import re
import sys
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from launch.config.clusters import SlurmConfig
from launch.config.times import limit, typed_time
from launch.plan.container import AUTO, Container, chosen
from launch.plan.devices import processes_of, uses_gpu
from launch.plan.mounts import user_mounts
from launch.slurm.flags import ALSO_IN_PARTITION, COUNTED, IN_PARTITION, KEY_OF, NO_JOB, OF_GPUS, OF_NODES, OF_SRUN, OURS, SET, UNCOUNTED
from launch.slurm.limits import mib
from synth.errors import InputError
from synth.host.source import SAFE

GATE_MEM = "2G"  # at most, of the memory that a job asks for
CPUS_WORKER = 4  # one feeds the device; encoding, hashing and writing take the others
_GRES = re.compile(r"[\w.-]+(?::[\w.-]+)?(?::\d+)?$")


@dataclass(frozen=True)
class Resources:
    """Of one Slurm job (array task): `workers` workers share it. Field names are the keys of the config where there is one."""

    n_jobs: int
    max_parallel: int | None
    workers: int
    gpus: int  # of the job
    gpus_worker: int
    gres: str
    cpus_per_job: int
    partition: str | None
    account: str | None
    qos: str | None
    constraint: str | None
    nodelist: str | None
    exclude: str | None
    time: str | None
    time_min: str | None
    mem: str | None
    requeue: bool
    drain_before_s: int
    modules: tuple[str, ...]
    setup: tuple[str, ...]
    env: Mapping[str, str]
    worker: tuple[str, ...]  # the command of a worker without its arguments
    container: Container | None  # that it runs in, and is not wrapped in yet: see launch.slurm.container
    python: str  # on the host of the job, for the gate
    heal: int
    max_requeues: int
    on_missing: str
    max_array_size: int | None
    freeze: bool  # whether its jobs run from a copy of the code
    extra: Mapping[str, object] = field(default_factory=dict)
    srun: tuple[str, ...] = ()  # more words for srun, before the command
    keys: Mapping[str, str] = field(default_factory=dict)  # name -> the key that has given it: {"time": "cluster.cpu.time"}
    of_cpu: bool = False  # whether the keys of cluster.cpu count

    @property
    def cpus_worker(self) -> int:
        return self.cpus_per_job // self.workers

    def flags(self) -> dict[str, object]:
        """sbatch's long options; None: not given."""
        return {
            "partition": self.partition or None,
            "account": self.account or None,
            "qos": self.qos or None,
            "constraint": self.constraint or None,
            "nodelist": self.nodelist or None,
            "exclude": self.exclude or None,
            "time": self.time or None,
            "time-min": self.time_min or None,
            "gres": self.gres or None,
            "mem": self.mem or None,
            "ntasks": self.workers,
            "cpus-per-task": self.cpus_worker,
            "signal": f"USR2@{self.signal_s()}",
            ("requeue" if self.requeue else "no-requeue"): True,
        } | dict(self.extra)

    def signal_s(self) -> int:
        """Seconds before the limit at which workers are told to drain: never in the first three quarters of the time."""
        end = limit(self.time) if self.time else None
        return max(10, min(self.drain_before_s, end // 4) if end else self.drain_before_s)


def resources_of(cluster: SlurmConfig, kind: str, config: Mapping, host_gb: float | None = None) -> Resources:
    """The resources of a kind of stage ("gate" for gates). A wrong value is an InputError.

    host_gb: what one worker needs of a node's memory, where that is known; it becomes `mem` where nothing else is said.
    """
    on_gpu = uses_gpu(kind, config)
    own = _own(cluster, kind, on_gpu)
    v = {k: own[k][1] if k in own else value for k, value in dataclasses.asdict(cluster).items() if k not in ("stages", "cpu", "kind")}

    def key(name: str) -> str:
        return f"{own[name][0] if name in own else 'cluster'}.{name}"

    of_cpu = _of_cpu(cluster, kind, on_gpu)
    if of_cpu and cluster.cpu.partition not in (None, cluster.partition):
        v |= {name: None for name in IN_PARTITION if name not in own}
    v["env"] = dict(cluster.env) | dict(own.get("env", ("", {}))[1])
    v["extra"] = _extra(cluster, kind, on_gpu, of_cpu) | dict(own.get("extra", ("", {}))[1])
    v["srun_extra"] = dict(cluster.srun_extra) | dict(own.get("srun_extra", ("", {}))[1])
    if kind == "gate" and "mem" not in own:
        v["mem"] = _gate_mem(v["mem"])
    gpus_worker = processes_of(kind, config) if on_gpu else 0
    asked = v["gpus_per_job"] if on_gpu or "gpus_per_job" in own else None
    gres = v["gres"] if on_gpu or "gres" in own else None
    asked, gres = _in_extra(v["extra"], asked, gres, key)
    gpus = _gpus(asked, gres, gpus_worker, key)
    gpus_worker = min(gpus, gpus_worker or 1)
    _check(v, key)
    workers = 1 if kind == "gate" else _workers(v["workers_per_job"], gpus, gpus_worker, key("workers_per_job"))
    elsewhere = {"mem-per-cpu", "mem-per-gpu"} & _given(v["extra"])  # sbatch takes one of the three
    if elsewhere and v["mem"]:
        other = next(key(f"extra.{flag}") for flag in v["extra"] if _flags([flag]) & elsewhere)
        raise InputError(f"{key('mem')}={v['mem']} and {other} ask for memory twice; give one of them")
    mem = f"{math.ceil(workers * host_gb)}G" if v["mem"] is None and host_gb is not None and not elsewhere else v["mem"]
    return Resources(
        n_jobs=v["n_jobs"] or 1,
        max_parallel=v["max_parallel"],
        workers=workers,
        gpus=gpus,
        gpus_worker=gpus_worker,
        gres=gres if gres is not None else f"gpu:{gpus}" if gpus and not _given(v["extra"]) & {*COUNTED} else "",
        cpus_per_job=_cpus(v["cpus_per_job"], workers, key("cpus_per_job")),
        requeue=True if kind == "gate" else v["requeue"],
        time=None if v["time"] is None else str(v["time"]),
        time_min=None if v["time_min"] is None or kind == "gate" else str(v["time_min"]),
        modules=tuple(v["modules"]),
        setup=tuple(v["setup"]),
        env={k: str(x) for k, x in v["env"].items()},
        worker=(v["python"] or sys.executable, "-u", *SAFE, "-m", "synth.worker"),
        container=None if kind == "gate" else _container(v, key("container")),
        python=v["python"] or sys.executable,
        mem=mem,
        srun=() if kind == "gate" else _srun(v["srun_extra"], key),
        **{k: v[k] for k in ("partition", "account", "qos", "constraint", "nodelist", "exclude", "drain_before_s")},
        **{k: v[k] for k in ("heal", "max_requeues", "on_missing", "max_array_size", "freeze", "extra")},
        keys={name: key(name) for name in (*v, *(f"{flags}.{flag}" for flags in ("extra", "srun_extra") for flag in v[flags]))},
        of_cpu=of_cpu,
    )


def _of_cpu(cluster: SlurmConfig, kind: str, on_gpu: bool) -> bool:
    """Whether jobs of a kind are for `cluster.cpu`: those that compute on cores, and those that were told to, unless they ask for a GPU
    of their own."""
    stage = cluster.stages.get(kind)
    if stage and (stage.gpus_per_job is not None or stage.gres):
        return not (stage.gpus_per_job or stage.gres)
    return not on_gpu or cluster.gpus_per_job == 0


def _own(cluster: SlurmConfig, kind: str, on_gpu: bool) -> dict[str, tuple[str, Any]]:
    """name -> (the part of the config that has it, value) of what a kind of stage has in the place of the cluster's; null: it has not."""
    parts: list[tuple[str, Any]] = [("cluster.cpu", cluster.cpu)] if _of_cpu(cluster, kind, on_gpu) else []
    parts += [(f"cluster.stages.{kind}", cluster.stages[kind])] if kind in cluster.stages else []
    own: dict[str, tuple[str, Any]] = {}
    for part, config in parts:
        for name, value in dataclasses.asdict(config).items():
            if kind == "gate" and config is cluster.cpu:
                value = _of_cpu_for_gate(name, value)
            if isinstance(value, Mapping):  # added to those before it
                own |= {f"{name}.{flag}": (part, said) for flag, said in value.items()}
                value = dict(own.get(name, ("", {}))[1]) | dict(value)
            if value not in (None, {}):
                own[name] = (part, value)
    return own


def _of_cpu_for_gate(name: str, value: Any) -> Any:
    """What a gate takes of a key of cluster.cpu; a GPU, where the jobs of a site must have one, is for it, too."""
    if name == "mem":
        return _gate_mem(value)
    return {flag: said for flag, said in value.items() if not _flags([flag]) & OF_NODES - OF_GPUS} if name == "extra" else value


def _extra(cluster: SlurmConfig, kind: str, on_gpu: bool, of_cpu: bool) -> dict[str, Any]:
    """Of the cluster's own `extra`, the flags that are for the jobs of a kind."""
    without = OF_NODES if kind == "gate" else frozenset() if on_gpu else OF_GPUS
    if of_cpu and cluster.cpu.partition not in (None, cluster.partition):
        without |= ALSO_IN_PARTITION
    return {name: value for name, value in cluster.extra.items() if not _flags([name]) & without}


def _gate_mem(mem: str | None) -> str | None:
    """Of the memory that jobs ask for, what a gate needs; a site that wants it to be said gets it said.

    >>> _gate_mem("400G"), _gate_mem("0"), _gate_mem("500M"), _gate_mem(None)
    ('2G', '2G', '500M', None)
    """
    size = mib(mem or "")
    return mem if size is None or 0 < size <= 2048 else GATE_MEM


def _container(v: Mapping, key: str) -> Container | None:
    """The container of a kind of stage, not looked at yet."""
    found = chosen(v, on_slurm=True, key=key)
    if found is None:
        return None
    if v["freeze"]:
        fix = f"leave freeze out, or set {key.replace('container', 'freeze')}=false where there is a container"
        raise InputError(f"cluster.freeze=true with {key}={v['container']}: an image is a copy of the code by itself; {fix}")
    mounts = tuple(user_mounts(v["container_mounts"], f"{key}_mounts"))
    by_hand = v["container_runtime"] != AUTO
    return Container(*found, key, tuple(v["container_args"]), mounts, python=v["python"] or "python3", by_hand=by_hand)


def _srun(extra: Mapping, key: Callable[[str], str]) -> tuple[str, ...]:
    """Words for srun, of which none undoes what a job's script says of its workers."""
    words = []
    for name, value in extra.items():
        flag = str(name).replace("_", "-")
        if flag in OF_SRUN:
            raise InputError(f"{key(f'srun_extra.{name}')}: {OF_SRUN[flag]}")
        if not re.fullmatch(r"[a-z][a-z0-9-]*", flag):
            raise InputError(f"{key(f'srun_extra.{name}')}: not a long option of srun")
        _one_line(value, key(f"srun_extra.{name}"))
        if value is not None and value is not False:
            words.append(f"--{flag}" if value is True else f"--{flag}={value}")
    return tuple(words)


def _flags(extra: Iterable) -> set[str]:
    return {str(name).replace("_", "-") for name in extra}


def _given(extra: Mapping) -> set[str]:
    return _flags(name for name, value in extra.items() if value is not None and value is not False)


def _in_extra(extra: Mapping, asked: int | None, gres: str | None, key: Callable[[str], str]) -> tuple[int | None, str | None]:
    """gpus_per_job and gres, where flags of `extra` ask for GPUs: what asks twice, or cannot be counted, is refused."""
    for name, value in extra.items():
        flag = str(name).replace("_", "-")
        if value is None or value is False:  # not given
            continue
        if flag in UNCOUNTED:
            raise InputError(f"{key(f'extra.{name}')}: give GPUs by {key('gpus_per_job')}; each worker of a job gets its own of them")
        if flag in COUNTED:
            if asked is not None or gres is not None:
                raise InputError(f"{key(f'extra.{name}')} and {key('gpus_per_job')} or {key('gres')} ask for GPUs twice; give one of them")
            numbers = [part.rpartition(":")[2] for part in str(value).split(",")]
            if not all(number.isdigit() for number in numbers):
                raise InputError(f"{key(f'extra.{name}')}={value}: not a number of GPUs; write 4 or a100:4")
            asked = sum(map(int, numbers))
    return asked, gres


def _gpus(asked: int | None, gres: str | None, needed: int, key: Callable[[str], str]) -> int:
    """GPUs of a job, from gpus_per_job, gres, or what one worker needs."""
    if gres and not all(_GRES.match(part) for part in gres.split(",")):
        raise InputError(f"{key('gres')}={gres!r}: not a gres; write gpu:4 or gpu:a100:4")
    in_gres = None
    for part in (gres or "").split(","):
        words = part.split(":")
        if words[0] == "gpu":
            in_gres = int(words[-1]) if words[-1].isdigit() else 1
    if asked is not None and asked < 0:
        raise InputError(f"{key('gpus_per_job')}={asked}: must be 0 or more")
    if asked is not None and in_gres is not None and asked != in_gres:
        raise InputError(f"{key('gpus_per_job')}={asked} and {key('gres')}={gres} disagree; give one of them")
    gpus = next((n for n in (asked, in_gres) if n is not None), needed)
    if 0 < gpus < needed:
        raise InputError(f"{key('gpus_per_job')}={gpus}: one worker of this stage needs {needed} GPUs")
    return gpus


def _workers(asked: object, gpus: int, gpus_worker: int, key: str) -> int:
    if asked == "auto":
        return max(1, gpus // gpus_worker) if gpus else 1
    if not isinstance(asked, int) or isinstance(asked, bool) or asked < 1:
        raise InputError(f"{key}={asked}: must be auto or a number from 1")
    if gpus and asked * gpus_worker > gpus:
        most = max(1, gpus // gpus_worker)
        raise InputError(f"{key}={asked}: workers of {gpus_worker} GPUs do not fit into a job of {gpus}; take {most} or auto")
    return asked


def _cpus(asked: int | None, workers: int, key: str) -> int:
    """Cores of a job."""
    if asked is not None and asked < workers:
        raise InputError(
            f"{key}={asked}: {workers} workers of a job need a core each; take {workers} or more, or null ({CPUS_WORKER} each)"
        )
    return CPUS_WORKER * workers if asked is None else asked


def _check(v: Mapping, key: Callable[[str], str]) -> None:
    for name in ("time", "time_min"):
        typed_time(key(name), v[name])
    most, least = (limit(str(v[name])) if v[name] is not None else None for name in ("time", "time_min"))
    if most and least and least > most:
        raise InputError(f"{key('time_min')}={v['time_min']}: is longer than {key('time')}={v['time']}")
    if v["mem"] and mib(v["mem"]) is None:
        raise InputError(f"{key('mem')}={v['mem']!r}: not a size; write 32G, 500M, or 0 for all of a node")
    for name, least in (
        ("n_jobs", 1),
        ("cpus_per_job", 1),
        ("max_parallel", 1),
        ("heal", 0),
        ("max_requeues", 0),
        ("drain_before_s", 0),
    ):
        if v[name] is not None and v[name] < least:
            raise InputError(f"{key(name)}={v[name]}: must be {least} or more")
    if v["on_missing"] not in ("cancel", "hold"):
        raise InputError(f"{key('on_missing')}={v['on_missing']}: must be cancel or hold")
    for name in v["env"]:
        if not re.fullmatch(r"[A-Za-z_]\w*", name):
            raise InputError(f"{key('env')}.{name}: not a name of a variable")
    for name, value in v["extra"].items():
        flag = str(name).replace("_", "-")
        if flag in NO_JOB:
            raise InputError(f"{key(f'extra.{name}')}: asks sbatch for something else than a job in the queue")
        if flag in OURS:
            own = KEY_OF.get(flag, flag)
            raise InputError(f"{key(f'extra.{name}')}: {f'has a key of its own: set {key(own)}' if own in v else SET}")
        if not re.fullmatch(r"[a-z][a-z0-9-]*", flag):
            raise InputError(f"{key(f'extra.{name}')}: not a long option of sbatch")
        _one_line(value, key(f"extra.{name}"))
    for name in ("partition", "account", "qos", "constraint", "nodelist", "exclude", "gres"):
        _one_line(v[name], key(name))


def _one_line(value: object, key: str) -> None:
    if "\n" in str(value):
        raise InputError(f"{key}={value!r}: has a line break, which an option of sbatch cannot have")
