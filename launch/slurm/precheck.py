"""What is wrong with the keys of cluster=slurm, said before anything is written or queued.

First what can be judged from the values and from what the site says of itself; then Slurm's own `sbatch --test-only`, whose
terse words are turned into the key to change. A site that says nothing, or whose nodes are busy or down, refuses nothing here.
"""

import os
import re
from collections.abc import Callable
from pathlib import Path

from launch.config.near import did_you_mean
from launch.config.times import seconds
from launch.slurm.limits import Limits, Partition
from launch.slurm.resources import Resources
from synth.errors import InputError
from synth.host.slurm import SlurmError, call

# Slurm's words -> the keys that cause them. What is not here (nodes down, no permission to test) is not an error of the config.
REFUSALS = {
    # in words of a site's own, behind which Slurm says "Access/permission denied" or "Unspecified error"
    r"\b(work(ing)?|submi\w+|current)[ _-]?dir(ectory)?\b|\bworking folder|\bchdir\b|\bsubmi\w+ (\w+ )*from\b": ("extra.chdir",),
    r"invalid partition|invalid partition name": ("partition",),
    r"invalid account|account/partition combination": ("account", "partition"),
    r"invalid qos": ("qos",),
    r"invalid feature": ("constraint",),
    r"invalid node name": ("nodelist", "exclude"),
    r"generic resource|invalid gres": ("gres", "gpus_per_job"),
    r"invalid --time|time limit specification|invalid time": ("time", "time_min"),
    r"invalid --mem": ("mem",),
    r"requested reservation is invalid": ("extra.reservation",),
    r"unrecognized option|invalid option|ambiguous option|requires an argument|unrecognized arguments": ("extra",),
    r"node configuration is not available|node count specification invalid": (
        "gres",
        "gpus_per_job",
        "cpus_per_job",
        "mem",
        "constraint",
    ),
    r"requested time limit is invalid|exceeds.*time limit|time limit.*(partition|invalid)": ("time",),
    r"user's group not permitted|access/permission denied|not permitted to use": ("partition", "account"),
    r"policy|limit": ("n_jobs", "max_submit"),
}


def check_site(resources: Resources, limits: Limits, stage: str) -> None:
    """Judge one kind of stage by what the site says of itself; the first wrong thing is an InputError."""
    partition = _partition(resources, limits)
    if resources.account and limits.accounts and resources.account not in limits.accounts:
        hint = did_you_mean(resources.account, limits.accounts)
        raise InputError(f"cluster.account={resources.account} ({stage}): not yours; yours are {', '.join(limits.accounts)}{hint}")
    if limits.max_array < 1:
        raise InputError("this site allows no job arrays (MaxArraySize=0); where that is not so, set cluster.max_array_size")
    if partition is None:
        return
    if resources.time and partition.max_time is not None and seconds(resources.time) > partition.max_time:
        most = _clock(partition.max_time)
        raise InputError(f'cluster.time={resources.time} ({stage}): longer than partition {partition.name} allows; at most "{most}"')
    if resources.gpus and resources.gres and not any(g.startswith("gpu") for g in partition.gres) and partition.gres != ():
        raise InputError(f"cluster.gres={resources.gres} ({stage}): nodes of partition {partition.name} have {', '.join(partition.gres)}")


def check_with_slurm(script: Path, resources: Resources, limits: Limits, stage: str, tell: Callable[[str], None]) -> None:
    """sbatch --test-only; what Slurm would refuse for good is an InputError that names the keys."""
    try:
        call("sbatch", "--test-only", "--array=0", str(script), patience=10.0)
    except SlurmError as e:
        words = str(e)
        keys = next((keys for pattern, keys in REFUSALS.items() if re.search(pattern, words, re.IGNORECASE)), None)
        if keys is None:
            tell(f"{stage}: {_short(words)}")
            return
        given = ", ".join(f"cluster.{k}={v}" for k in keys if (v := _value(resources, k)) not in (None, "", (), {}))
        raise InputError(
            f"{given or 'cluster.' + keys[0]} ({stage}): Slurm refuses it: {_short(words)}{_there(resources, limits, keys)}"
        ) from e


def _partition(resources: Resources, limits: Limits) -> Partition | None:
    known = limits.partitions
    if not known:
        return None
    if not resources.partition:
        return next((p for p in known.values() if p.default), None)
    names = resources.partition.split(",")
    for name in names:
        if name not in known:
            raise InputError(f"cluster.partition={name}: no such partition; there are {', '.join(known)}{did_you_mean(name, known)}")
    return known[names[0]] if len(names) == 1 else None


def _there(resources: Resources, limits: Limits, keys: tuple[str, ...]) -> str:
    """What the site has, where that helps."""
    if "extra.chdir" in keys and not resources.extra.get("chdir"):
        return f"; jobs begin in the folder of this command, {os.getcwd()}: run it from another one, or set +cluster.extra.chdir=FOLDER"
    if keys[0] == "partition" and limits.partitions:
        return f"; partitions: {', '.join(limits.partitions)}"
    partition = limits.partitions.get(resources.partition or "") or next((p for p in limits.partitions.values() if p.default), None)
    if "gres" in keys and partition:
        return f"; nodes of partition {partition.name} have gres {', '.join(partition.gres) or 'of no kind'}"
    return ""


def _value(resources: Resources, key: str) -> object:
    names = {"gpus_per_job": "gpus"}
    if key.startswith("extra."):
        return resources.extra.get(key.partition(".")[2])
    return getattr(resources, names.get(key, key), None)


def _short(words: str) -> str:
    lines = [re.sub(r"^(sbatch: )?(error: )?", "", line.strip()) for line in words.splitlines()]
    return "; ".join(dict.fromkeys(line for line in lines if line and not line.startswith("Try ")))


def _clock(s: int) -> str:
    days, rest = divmod(s, 86400)
    return (f"{days}-" if days else "") + f"{rest // 3600}:{rest // 60 % 60:02d}:{rest % 60:02d}"
