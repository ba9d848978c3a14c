"""What the variables of sbatch in the environment mean for us: what they mean for plain sbatch, as far as keys leave them room.

For sbatch an option of the command line goes before a variable, and a variable before a line of the script. Keys are our command line:
one that is set wins, one that is null takes the variable. What is taken stands in the scripts, so that a gate, whose environment is that of
a job, submits the same again. Variables of an enclosing job are none of these, and go to no command (synth.host.slurm.clean).
"""

import os
import shlex
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from launch.config.clusters import SlurmConfig
from synth.errors import InputError
from synth.host.slurm import NAME

KEYS = {  # variable -> key of cluster=slurm
    "SBATCH_ACCOUNT": "account",
    "SBATCH_PARTITION": "partition",
    "SBATCH_QOS": "qos",
    "SBATCH_CONSTRAINT": "constraint",
    "SBATCH_TIMELIMIT": "time",
    "SBATCH_CLUSTERS": "clusters",
    "SLURM_CLUSTERS": "clusters",  # of all commands; the other one goes before it
}
FLAGS = {  # variable -> option of sbatch
    "SBATCH_RESERVATION": "reservation",
    "SBATCH_WCKEY": "wckey",
    "SBATCH_ACCTG_FREQ": "acctg-freq",
    "SBATCH_CORE_SPEC": "core-spec",
    "SBATCH_EXPORT": "export",
    "SBATCH_DELAY_BOOT": "delay-boot",
    "SBATCH_EXCLUSIVE": "exclusive",
    "SBATCH_HINT": "hint",
    "SBATCH_NETWORK": "network",
    "SBATCH_POWER": "power",
    "SBATCH_PREFER": "prefer",
    "SBATCH_PROFILE": "profile",
    "SBATCH_REQ_SWITCH": "switches",
    "SBATCH_THREADS_PER_CORE": "threads-per-core",
    "SBATCH_THREAD_SPEC": "thread-spec",
}
_OTHERS = "begin chdir comment contiguous deadline gpu-bind gpus-per-node licenses mail-type mail-user mem-per-cpu mem-per-gpu nice tmp"
OPTIONS = frozenset([*FLAGS.values(), *_OTHERS.split()])  # of sbatch that have no key, and that people look for one for
ALONE = frozenset(["exclusive"])  # options that may have no value
INSTEAD = {  # what jobs of ours have from keys alone: said, not taken
    "SBATCH_GRES": "gres",
    "SBATCH_GPUS": "gpus_per_job",
    "SBATCH_GPUS_PER_NODE": "gpus_per_job",
    "SBATCH_GPUS_PER_TASK": "gpus_per_job",
    "SBATCH_MEM_PER_NODE": "mem",
    "SBATCH_MEM_PER_CPU": "extra.mem-per-cpu",
    "SBATCH_MEM_PER_GPU": "extra.mem-per-gpu",
    "SBATCH_ARRAY_INX": "n_jobs",
    "SBATCH_NO_REQUEUE": "requeue",
}


def inherited(cluster: SlurmConfig, env: Mapping[str, str] = os.environ) -> SlurmConfig:
    """The config with the variables of sbatch where keys are null. Names of clusters that cannot be are InputErrors."""
    keys: dict[str, Any] = {key: env[name] for name, key in reversed(KEYS.items()) if env.get(name) and getattr(cluster, key) is None}
    given = {str(flag).replace("_", "-") for flag in cluster.extra}
    flags = {
        flag: env[name] or True for name, flag in FLAGS.items() if flag not in given and (env.get(name) or (flag in ALONE and name in env))
    }
    _check_clusters(cluster.clusters or keys.get("clusters"), "SLURM_CLUSTERS" if "clusters" in keys else "cluster.clusters")
    return replace(cluster, extra={**cluster.extra, **flags}, **keys) if keys or flags else cluster


def notes(cluster: SlurmConfig, env: Mapping[str, str] = os.environ) -> list[str]:
    """For people: which variables an inherited config holds, and which have no effect."""
    taken = [f"{name}={env[name]} (cluster.{key})" for name, key, own in _set(cluster, env) if str(own) == env[name]]
    left = [
        f"{name}={env[name]} is not used: cluster.{key}={own} goes before it{'; null takes it' if key == 'time' else ''}"
        for name, key, own in _set(cluster, env)
        if str(own) != env[name]
    ]
    left += [f"{name}={env[name]} is not used: set cluster.{key}" for name, key in INSTEAD.items() if env.get(name)]
    return ([f"from the environment: {', '.join(taken)}"] if taken else []) + left


def assignments(cluster: SlurmConfig, env: Mapping[str, str] = os.environ) -> str:
    """What stands before a command that is to mean the same in another shell: "SLURM_CLUSTERS=far "; "" if nothing was taken."""
    return "".join(f"{name}={shlex.quote(env[name])} " for name, _, own in _set(cluster, env) if str(own) == env[name])


def _set(cluster: SlurmConfig, env: Mapping[str, str]) -> list[tuple[str, str, object]]:
    """(variable, key, what the config has there) of all that are set."""
    extra = {str(flag).replace("_", "-"): value for flag, value in cluster.extra.items()}
    keys = [(name, key, getattr(cluster, key)) for name, key in KEYS.items()]
    flags = [(name, f"extra.{flag}", extra.get(flag)) for name, flag in FLAGS.items()]
    return [(name, key, own) for name, key, own in keys + flags if env.get(name)]


def payer(account: str | None, env: Mapping[str, str] = os.environ) -> dict[str, str]:
    """account -> the variable that it was taken from, where it was."""
    return {account: "SBATCH_ACCOUNT"} if account and account == env.get("SBATCH_ACCOUNT") else {}


def variable_of(key: str, value: object, env: Mapping[str, str] = os.environ) -> str:
    """The variable that a key of cluster=slurm has its value from; "" where it is the user's own.

    >>> [variable_of(key, "gpu", {"SBATCH_PARTITION": "gpu"}) for key in ("cluster.partition", "cluster.cpu.partition")]
    ['SBATCH_PARTITION', '']
    """
    names = [*KEYS.items()] + [(name, f"extra.{flag}") for name, flag in FLAGS.items()]
    return next((name for name, own in names if f"cluster.{own}" == key and env.get(name) == str(value)), "")


def _check_clusters(clusters: str | None, key: str) -> None:
    """Names of clusters, "a,b". "all" is refused: what is asked of every cluster is wrong on most of them."""
    for name in (clusters or "").split(",") if clusters else ():
        if name == "all" or not NAME.fullmatch(name):
            raise InputError(f"{key}={clusters}: {name!r} is no cluster; name one, or several with commas (sacctmgr show clusters)")
