"""What is wrong with the keys of cluster=slurm, said before anything is written or queued.

Slurm's own `sbatch --test-only` has the last word: what it takes is right, and what it refuses is explained by the keys that caused it
and by what the site says of itself. A refusal that time mends (a full queue, nodes that are busy or down) is none of the config.
"""

import os
import re
from collections.abc import Callable
from pathlib import Path

from launch.config.clusters import SlurmConfig
from launch.config.inherited import variable_of
from launch.config.near import did_you_mean
from launch.config.times import limit as time_limit
from launch.slurm.flags import KEY_OF, NO_JOB, OF_NODES, OURS, SET, UNCOUNTED
from launch.slurm.limits import Limits, Nodes, figures, mib
from launch.slurm.policy import limit_in, short, time_mends
from launch.slurm.resources import Resources
from synth.errors import InputError
from synth.host.hurry import NO_ANSWER
from synth.host.slurm import SlurmError, call, command

# Slurm's words -> the keys that cause them.
REFUSALS = {
    # in words of a site's own, behind which Slurm says "Access/permission denied" or "Unspecified error"
    r"\b(work(ing)?|submi\w+|current)[ _-]?dir(ectory)?\b|\bworking folder|\bchdir\b|\bsubmi\w+ (\w+ )*from\b": ("extra.chdir",),
    r"no cluster '|entry for --cluster": ("clusters",),
    r"invalid partition|invalid partition name|no partition specified": ("partition",),
    r"not in this partition": ("nodelist", "partition"),
    r"invalid account|account/partition combination|job's account not permitted": ("account", "partition"),
    r"invalid qos|job's qos not permitted": ("qos",),
    r"invalid feature": ("constraint",),
    r"invalid node name": ("nodelist", "exclude"),
    r"generic resource|invalid (?:--)?gres": ("gres", "gpus_per_job"),
    r"invalid --time|time limit specification|invalid time": ("time", "time_min"),
    r"invalid --mem|memory required by task": ("mem",),
    r"cpu count per node|more processors requested|invalid --cpus-per": ("cpus_per_job",),
    r"requested reservation is invalid": ("extra.reservation",),
    r"unrecognized option|invalid option|ambiguous option|requires an argument|unrecognized arguments|invalid --": ("extra",),
    r"invalid preferred feature": ("extra.prefer",),
    r"invalid license": ("extra.licenses",),
    r"invalid wckey": ("extra.wckey",),
    r"breached requested qos": ("account", "qos"),
    r"node configuration is not available|node count specification invalid": (
        "gres",
        "gpus_per_job",
        "cpus_per_job",
        "mem",
        "constraint",
    ),
    r"requested time limit is invalid|exceeds.*time limit|time limit.*(partition|invalid)": ("time",),
    r"user's group not permitted|access/permission denied|not permitted to use": ("partition", "account"),
}
NO_SUCH_NODE = re.compile(r"node configuration is not available", re.IGNORECASE)  # also said of nodes that are all down
FLAG = re.compile(r"(?<![\w-])--([a-z][a-z-]*[a-z])")
# of nodes as they are now: the same script may be taken tomorrow
BUSY = re.compile(r"nodes? .*(?:busy|not available \(down)|DOWN, DRAINED|not responding|: not found on this machine$", re.IGNORECASE)


def check_with_slurm(
    script: Path, resources: Resources, limits: Limits, stage: str, tell: Callable[[str], None], array: bool = True
) -> None:
    """sbatch --test-only of one script; what it refuses for good is an InputError that names the keys. `tell`: what else is to be known."""
    try:
        call("sbatch", "--test-only", *(["--array=0"] if array else []), str(script), patience=10.0, cluster=limits.clusters)
    except SlurmError as e:
        words = str(e)
        if untestable(e, resources, limits):
            tell(f"{stage}: cannot be tested now: {short(words)}")
            return
        way_out = "cluster.check=false submits without this test"
        raise InputError(f"{refusal(words, resources, limits, stage)}; {way_out}") from e
    if remark := waits_for_ever(resources, limits):
        tell(f"{stage}: {remark}")


def untestable(error: SlurmError, resources: Resources, limits: Limits) -> bool:
    """Whether a refusal of sbatch says something of this hour, and nothing of the config."""
    words = str(error)
    if limit_in(words) is None and NO_SUCH_NODE.search(words):
        partition = limits.partition(resources.partition)
        # Slurm leaves out nodes that are down before it looks
        return partition is not None and not all(n.up for n in partition.nodes) and not lacking(resources, partition.nodes)
    return error.passing or time_mends(words) or bool(BUSY.search(words))


def refusal(words: str, resources: Resources, limits: Limits, stage: str) -> str:
    """A refusal of sbatch as people can mend it: the keys that caused it with their values, Slurm's words, what the site has instead."""
    bound = limit_in(words)
    if bound is not None:
        mend = "raise" if bound.least else "lower"
        other = f", or take another {_key(bound.of, resources)}" if bound.of else ""
        size = "less than this site demands" if bound.least else "more than this site allows"
        why = f"{bound.name}: {size} ({bound.bounds}); {mend} {'it' if bound.keys else 'what its jobs ask for'}{other}"
        hint = _for_cpu(resources) if bound.least else ""
        return f"{_head(bound.keys, resources, stage)}: Slurm refuses it: {why}{_figures(bound.of, resources, limits)}{hint}"
    keys = _blamed(words, resources, limits)
    by_itself = keys == ("qos",) and _key("qos", resources) != "cluster.qos"  # it has a key of its own already
    hint = _for_cpu(resources) if keys in ((), ("qos",), ("partition", "account")) and not by_itself else ""
    return (
        f"{_head(keys, resources, stage)}: Slurm refuses it: {short(words)}{_there(resources, limits, keys)}{_as_keys(words, keys)}{hint}"
    )


def _blamed(words: str, resources: Resources, limits: Limits) -> tuple[str, ...]:
    """The keys that a refusal is about; () if nobody knows."""
    own = {str(name).replace("_", "-"): f"extra.{name}" for name in resources.extra}
    if named := [own[flag] for flag in FLAG.findall(words) if flag in own]:
        return (named[0],)
    keys = next((keys for pattern, keys in REFUSALS.items() if re.search(pattern, words, re.IGNORECASE)), ())
    if NO_SUCH_NODE.search(words) and (partition := limits.partition(resources.partition)):
        # what keys ask for is there: then it is what other flags ask for
        keys = lacking(resources, partition.nodes) or tuple(key for flag, key in own.items() if flag in OF_NODES) or keys
    return keys


def _as_keys(words: str, keys: tuple[str, ...]) -> str:
    """How to type the flags that a site's own words demand."""
    flags = dict.fromkeys(flag for flag in FLAG.findall(words) if flag not in NO_JOB) if not keys else {}
    return f"; {', '.join(f'--{flag} {_typed(flag)}' for flag in flags)}" if flags else ""


def _typed(flag: str) -> str:
    if flag in UNCOUNTED:
        return "asks for GPUs, which cluster.gpus_per_job does"
    if flag not in OURS:
        return f"is +cluster.extra.{flag}"
    key = KEY_OF.get(flag, flag)
    return f"is cluster.{key}" if key in SlurmConfig.__dataclass_fields__ else SET


def check_srun(resources: Resources, stage: str) -> None:
    """InputError for words of srun that it does not know here, or whose values it does not take: jobs would wait, and end by it."""
    done = command("srun", *resources.srun, "--help", timeout=10.0) if resources.srun else None
    if done is None or done[0] in (0, NO_ANSWER):
        return
    words = done[2]
    flags = [f"srun-extra.{flag}" for flag in FLAG.findall(words)]
    key = next((key for name, key in resources.keys.items() if name.replace("_", "-") in flags), "cluster.srun_extra")
    raise InputError(f"{key} ({stage}): srun refuses it: {short(words)}; cluster.check=false submits without this test")


def waits_for_ever(resources: Resources, limits: Limits) -> str:
    """What sbatch takes and the scheduler will not start, unless a QOS says otherwise; "" if there is no such thing."""
    partition = limits.partition(resources.partition)
    seconds = time_limit(resources.time) if resources.time else 0
    if partition is None or partition.max_time is None or (seconds is not None and seconds <= partition.max_time):
        return ""
    most = f'partition {partition.name} allows at most "{_clock(partition.max_time)}"'
    told = f"{resources.keys['time']}={resources.time}: sbatch takes it, but {most}"
    return f"{told}: unless their QOS lifts that, its jobs wait for ever (PartitionTimeLimit)"


def lacking(resources: Resources, nodes: tuple[Nodes, ...]) -> tuple[str, ...]:
    """The keys that ask for more than any of these nodes has, whatever state it is in; () if a node has it all, or nothing is known."""
    fits = [{key: _has(node, key, resources) for key in ("gpus_per_job", "cpus_per_job", "mem", "constraint")} for node in nodes]
    if not fits or any(all(has.values()) for has in fits):
        return ()
    nowhere = tuple(key for key in fits[0] if not any(has[key] for has in fits))
    return nowhere or tuple(key for key in fits[0] if not all(has[key] for has in fits))


def _has(node: Nodes, key: str, resources: Resources) -> bool:
    """Whether a node has what a key asks for; what cannot be judged counts as there."""
    if key == "cpus_per_job":
        return node.cpus is None or resources.cpus_per_job <= node.cpus
    if key == "mem":
        return node.memory is None or (mib(resources.mem or "") or 0) <= node.memory
    if key == "constraint":
        simple = re.fullmatch(r"[\w.-]+(?:\|[\w.-]+)*", resources.constraint or "")
        return not simple or bool(node.features & set(simple[0].split("|")))
    return all(_count(node.gres, part) >= _number_of(part) for part in resources.gres.split(",") if part)


def _count(gres: tuple[str, ...], part: str) -> int:
    """How many of what a part of --gres asks for a node has: of its kind and, where one is given, its type."""
    words = part.split(":")
    kind = words[0] if len(words) < 2 or words[1].isdigit() else f"{words[0]}:{words[1]}"
    return sum(_number_of(g) for g in gres if g == kind or g.startswith(f"{kind}:"))


def _number_of(part: str) -> int:
    last = part.rpartition(":")[2]
    return int(last) if last.isdigit() else 1


def _there(resources: Resources, limits: Limits, keys: tuple[str, ...]) -> str:
    """What the site has, where that helps."""
    if "extra.chdir" in keys and not resources.extra.get("chdir"):
        return f"; jobs begin in the folder of this command, {os.getcwd()}: run it from another one, or set +cluster.extra.chdir=FOLDER"
    partition = limits.partition(resources.partition)
    if keys[:1] == ("partition",) and limits.partitions:
        unknown = next((name for name in (resources.partition or "").split(",") if name and name not in limits.partitions), "")
        return f"; partitions: {', '.join(limits.partitions)}{did_you_mean(unknown, limits.partitions) if unknown else ''}"
    if keys[:1] == ("account",) and limits.accounts:
        return f"; yours are {', '.join(limits.accounts)}{did_you_mean(resources.account or '', limits.accounts)}"
    if keys[:1] == ("qos",) and limits.qualities:
        return f"; yours are {', '.join(limits.qualities)}{did_you_mean(resources.qos or '', limits.qualities)}"
    if keys[:1] == ("time",) and partition and partition.max_time is not None:
        return f'; partition {partition.name} allows at most "{_clock(partition.max_time)}"'
    if {"gres", "gpus_per_job"} & {*keys} and partition:
        return f"; nodes of partition {partition.name} have gres {', '.join(partition.gres) or 'of no kind'}"
    if partition and (most := _most(keys, partition.nodes)):
        return f"; nodes of partition {partition.name} have {most}"
    return ""


def _most(keys: tuple[str, ...], nodes: tuple[Nodes, ...]) -> str:
    """The most that a node has of what keys ask for, in words."""
    cpus, memory = [n.cpus for n in nodes if n.cpus], [n.memory for n in nodes if n.memory]
    features = sorted({f for n in nodes for f in n.features})
    words = {
        "cpus_per_job": f"at most {max(cpus)} cores" if cpus else "",
        "mem": f"at most {max(memory)}M" if memory else "",
        "constraint": f"features {', '.join(features)}" if features else "no features",
    }
    return ", ".join(words[key] for key in keys if words.get(key))


def _figures(of: str, resources: Resources, limits: Limits) -> str:
    """The limits behind a refusal, where sacctmgr tells them."""
    if of == "account":
        found = figures(resources.account or "", "account")
        return f"; limits of your account: {found}" if found else ""
    if of == "qos":
        partition = limits.partition(resources.partition)
        names = dict.fromkeys(filter(None, (resources.qos or limits.qos, partition and partition.qos)))
        return "".join(f"; limits of QOS {name}: {found}" for name in names if (found := figures(str(name), "qos")))
    return ""


def _for_cpu(resources: Resources) -> str:
    """Of a job without GPUs that is refused for its place, or for what nobody knows: mostly it is where jobs with GPUs belong."""
    if not resources.of_cpu or resources.gpus:
        return ""
    return (
        "; stages without GPUs, and gates, have keys of their own: cluster.cpu.partition, cluster.cpu.account, cluster.cpu.qos; where they "
        "must take a GPU, cluster.cpu.gpus_per_job=1"
    )


def _head(keys: tuple[str, ...], resources: Resources, stage: str) -> str:
    """The keys with their values, where they have some, and the stage."""
    if resources.gres not in ("", f"gpu:{resources.gpus}"):  # GPUs were asked for by it
        keys = tuple(dict.fromkeys("gres" if k == "gpus_per_job" else k for k in keys))
    else:
        keys = tuple(dict.fromkeys("gpus_per_job" if k == "gres" else k for k in keys))
    values = {_key(k, resources): v for k in keys if (v := _value(resources, k)) not in (None, "", (), {}, 0)}
    named = ", ".join(f"{key}={value}{_from(key, value)}" for key, value in values.items()) or (_key(keys[0], resources) if keys else "")
    return f"{named} ({stage})" if named else stage


def _from(key: str, value: object) -> str:
    """Where a value was taken from the environment: who never typed the key looks for it there."""
    name = variable_of(key, value)
    return f" (of {name} in the environment)" if name else ""


def _key(key: str, resources: Resources) -> str:
    return resources.keys.get(key, f"cluster.{key}")


def _value(resources: Resources, key: str) -> object:
    names = {"gpus_per_job": "gpus"}
    if key.startswith("extra."):
        return resources.extra.get(key.partition(".")[2])
    return getattr(resources, names.get(key, key), None)


def _clock(s: int) -> str:
    days, rest = divmod(s, 86400)
    return (f"{days}-" if days else "") + f"{rest // 3600}:{rest // 60 % 60:02d}:{rest % 60:02d}"
