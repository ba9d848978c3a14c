"""What a site of Slurm says of itself, beside what the config asks of it. Readings are of launch.slurm.limits and synth.host.slurm, the
judgements are pure."""

import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from launch.checkup.rows import Row, broken, ok, unknown, warn, wrong
from launch.config.clusters import SlurmConfig
from launch.config.near import did_you_mean
from launch.plan.gpu_memory import GpuMemory, gpu_memory
from launch.plan.planned import PlannedStage
from launch.plan.state import state_of
from launch.slurm.limits import Limits, Partition, figures
from launch.slurm.precheck import check_with_slurm, lacking, waits_for_ever
from launch.slurm.resources import Resources
from launch.slurm.site import Site, distinct_scripts, scratch, site_of
from synth.errors import InputError, StoreError
from synth.host.hurry import Hurry
from synth.host.slurm import SlurmError, site_config

COMMANDS = ("sbatch", "squeue", "scontrol", "scancel", "sinfo")
COUNTED = ("sacct", "sacctmgr")  # that a site without accounting has no use for
EACH, ALL = 4.0, 6.5  # seconds of the login part that one question of each kind may take, side by side, and all together
ASSUMED = "assumed"  # how the source of a GPU's memory begins that nobody told


@dataclass(frozen=True)
class Asked:
    """What the jobs of some stages ask for, all alike."""

    names: tuple[str, ...]
    resources: Resources
    memory: GpuMemory | None = None  # of their GPUs


@dataclass(frozen=True)
class Told:
    """What the site says. Empty: it does not say."""

    config: Mapping[str, str]  # scontrol show config
    limits: Limits
    figures: Mapping[str, str] = field(default_factory=dict)  # "qos NAME", "account NAME" -> limits in words
    commands: frozenset[str] = frozenset()  # that this machine has


def silent(asking: Hurry) -> list[Row]:
    """Who of Slurm's commands did not answer in time; [] if all did that were asked."""
    if not asking.silent:
        return []
    fix = "try again; where it is always slow, ask your site why"
    return [broken("Slurm's answers", f"none in time from {', '.join(asking.silent)}: what they tell is not known", fix)]


def rows(stages: Sequence[PlannedStage], cluster: SlurmConfig) -> list[Row]:
    """All that Slurm tells, and its own test of each script."""
    missing = [name for name in COMMANDS if not shutil.which(name)]
    if "sbatch" in missing:
        fix = "run this where jobs are submitted, or load its module; without Slurm: cluster=local"
        return [broken("Slurm", f"{', '.join(missing)}: not found on this machine", fix)]
    try:
        site = site_of(cluster)
        todo = [s for s in stages if not state_of(s).done]
        asked = asked_of(todo, site)
    except InputError as e:
        return [wrong("Slurm", str(e))]
    except StoreError as e:
        return [broken("Slurm", str(e))]
    told = told_of(site, asked)
    found = judged(asked, told, cluster)
    return [*found, *tested(todo, site)] if told.config else found  # sbatch would refuse all, and be told as the config's fault


def asked_of(stages: Sequence[PlannedStage], site: Site) -> list[Asked]:
    """The distinct resources of stages that are to be done, and the gate's."""
    found: dict[str, Asked] = {}
    for stage in stages:
        resources, memory = site.asked(stage), gpu_memory(site.cluster, stage.spec.kind, stage.spec.config)
        mark = str(sorted(resources.flags().items()))
        names = (*found[mark].names, stage.name) if mark in found else (stage.name,)
        found[mark] = Asked(names, resources, memory)
    return [*found.values(), Asked(("gate",), site.gate)]


def told_of(site: Site, asked: Sequence[Asked]) -> Told:
    """Ask the site."""
    named: dict[str, str] = {}
    for a in asked:
        partition = site.limits.partition(a.resources.partition)
        for entity, name in (
            ("account", a.resources.account),
            ("qos", a.resources.qos or site.limits.qos),
            ("qos", partition and partition.qos),
        ):
            if name and f"{entity} {name}" not in named:
                named[f"{entity} {name}"] = figures(name, entity)
    return Told(site_config(), site.limits, named, frozenset(c for c in (*COMMANDS, *COUNTED) if shutil.which(c)))


def judged(asked: Sequence[Asked], told: Told, cluster: SlurmConfig) -> list[Row]:
    """The judgement, without Slurm's own test. Of a site that does not answer nothing more is said."""
    found = [_slurm(told)]
    if not told.config:
        return found
    for a in asked:
        found += [_partition(a, told.limits), *_gpus(a, told.limits), *_time(a, told.limits), *_requeue(a, told)]
    found += [_account(asked, told), _qos(asked, told), _room(told.limits, cluster), _accounting(told)]
    return [*dict.fromkeys(found)]


def _slurm(told: Told) -> Row:
    version, name = told.config.get("SLURM_VERSION", ""), told.config.get("ClusterName", "")
    if not version:
        return broken("Slurm", "its controller does not answer (scontrol show config)", "try again, or ask your site")
    lacks = [c for c in COMMANDS if c not in told.commands]
    if lacks:
        return broken("Slurm", f"{version}, cluster {name}; not found here: {', '.join(lacks)}", "load its module, or mend PATH")
    return ok("Slurm", f"{version}, cluster {name}")


def _key(a: Asked, name: str) -> str:
    return a.resources.keys.get(name, f"cluster.{name}")


def _of(a: Asked) -> str:
    return ", ".join(dict.fromkeys(a.names))


def _partition(a: Asked, limits: Limits) -> Row:
    what, name = f"partition ({_of(a)})", a.resources.partition
    if not limits.partitions:
        return unknown(what, "scontrol tells no partitions")
    if name and "," in name:
        lost = [n for n in name.split(",") if n not in limits.partitions]
        return wrong(what, f"there is no {', '.join(lost)}", _others(lost[0], limits)) if lost else ok(what, name)
    partition = limits.partition(name)
    if partition is None:
        there = (
            f"{_key(a, 'partition')}={name}: there is no such partition" if name else "the site has no default partition, and none is set"
        )
        return wrong(what, there, f"{_key(a, 'partition')}=NAME{_others(name or '', limits)}")
    up = [n for n in partition.nodes if n.up]
    if not up:
        return broken(what, f"{partition.name}: none of its nodes is up", "wait, or take another partition")
    if keys := lacking(a.resources, partition.nodes):
        asks = ", ".join(_key(a, key) for key in keys)
        return wrong(what, f"{partition.name}: none of its nodes has what the jobs ask for ({asks})", f"change {asks}, or the partition")
    return ok(what, f"{partition.name}{' (the default)' * (not name)}")


def _others(name: str, limits: Limits) -> str:
    return f"; there are {', '.join(limits.partitions)}{did_you_mean(name, limits.partitions)}"


def _gpus(a: Asked, limits: Limits) -> list[Row]:
    """Of jobs that ask for GPUs: whether the partition has any, and what memory the plan counts on."""
    if not a.resources.gpus:
        return []
    what, partition = f"GPUs ({_of(a)})", limits.partition(a.resources.partition)
    if partition is None:
        return [unknown(what, "what the partition has is not known")]
    has = [g for g in partition.gres if g.startswith("gpu")]
    if not has:
        return [wrong(what, f"no node of partition {partition.name} has a GPU", f"{_key(a, 'partition')}=NAME{_with_gpus(limits)}")]
    told = f"{', '.join(has)} in {partition.name}; a job asks for {a.resources.gpus}"
    if a.memory is None:
        return [ok(what, told)]
    memory = f"planned for {a.memory.gb:g} GB each ({a.memory.source})"
    if a.memory.source.startswith(ASSUMED):
        return [warn(what, f"{told}; {memory}", "cluster.gpu_mem_gb=GB of the card, so that batches fill it, and fit")]
    return [ok(what, f"{told}; {memory}")]


def _with_gpus(limits: Limits) -> str:
    names = [p.name for p in limits.partitions.values() if any(g.startswith("gpu") for g in p.gres)]
    return f"; those with GPUs: {', '.join(names)}" if names else "; no partition of this site shows GPUs"


def _time(a: Asked, limits: Limits) -> list[Row]:
    if remark := waits_for_ever(a.resources, limits):
        return [warn(f"time ({_of(a)})", remark, f"lower {_key(a, 'time')}")]
    return []


def _requeue(a: Asked, told: Told) -> list[Row]:
    """Whether a preempted, drained or lost job comes back by itself."""
    what = f"requeue ({_of(a)})"
    if not a.resources.requeue:
        fix = f"{_key(a, 'requeue')}=true"
        return [warn(what, "off: a drained, preempted or lost job is only gone on with by its gate, when all others have ended", fix)]
    partition: Partition | None = told.limits.partition(a.resources.partition)
    if partition is not None and partition.preempts == "CANCEL":
        text = f"partition {partition.name} cancels preempted jobs (PreemptMode=CANCEL), whatever they ask for; gates go on with them"
        return [warn(what, text, "short units lose less: images.unit_size")]
    return []


def _account(asked: Sequence[Asked], told: Told) -> Row:
    names = dict.fromkeys(a.resources.account for a in asked if a.resources.account)
    known = {name.lower() for name in told.limits.accounts}
    lost = [n for n in names if known and n.lower() not in known]
    if lost:
        yours = f"yours are {', '.join(told.limits.accounts)}{did_you_mean(lost[0], told.limits.accounts)}"
        return wrong("account", f"{', '.join(lost)}: not one of yours", f"cluster.account=NAME; {yours}")
    if not names:
        if told.limits.accounts:
            return ok("account", f"the site's choice; yours are {', '.join(told.limits.accounts)}")
        return unknown("account", "none is set, and sacctmgr tells none of yours", "cluster.account=NAME where your site wants one")
    if not known:
        return unknown("account", f"{', '.join(names)}; sacctmgr tells none of yours to compare")
    return ok("account", "; ".join(f"{n}{_figures(told, 'account', n)}" for n in names))


def _figures(told: Told, entity: str, name: str) -> str:
    found = told.figures.get(f"{entity} {name}", "")
    return f" ({found})" if found else ""


def _qos(asked: Sequence[Asked], told: Told) -> Row:
    names = dict.fromkeys(n for a in asked if (n := a.resources.qos or told.limits.qos))
    names |= dict.fromkeys(p.qos for a in asked if (p := told.limits.partition(a.resources.partition)) and p.qos)
    if "sacctmgr" not in told.commands:
        return unknown("QOS", "; ".join([*names, "there is no sacctmgr here to tell limits"]))
    if not names:
        return ok("QOS", "none is set")
    return ok("QOS", "; ".join(f"{n}{_figures(told, 'qos', n)}" for n in names))


def _room(limits: Limits, cluster: SlurmConfig) -> Row:
    room = min((n for n in (limits.max_submit, limits.max_jobs) if n is not None), default=None)
    if room is None:
        return unknown("jobs in the queue", "no limit is told (sacctmgr, scontrol)", "cluster.max_submit=N, if your site has one")
    if room < 2:
        return wrong(
            "jobs in the queue",
            f"at most {room}: a stage needs two, its workers' and its gate's",
            "ask your site, or cluster=local in a job",
        )
    wanted = (cluster.n_jobs or 1) + 1
    if wanted > room:
        return warn(
            "jobs in the queue", f"at most {room:,}; a stage wants {wanted:,}", f"cluster.n_jobs={room - 1}; fewer complete it all the same"
        )
    return ok("jobs in the queue", f"at most {room:,}; a stage wants {wanted:,}")


def _accounting(told: Told) -> Row:
    storage = told.config.get("AccountingStorageType", "")
    if not storage:
        return unknown("accounting", "the controller does not tell")
    if storage == "accounting_storage/none" or not told.commands >= {*COUNTED}:
        return warn("accounting", f"{storage}: why jobs ended is known from their logs and events alone")
    return ok("accounting", storage)


# -- Slurm's own test ------------------------------------------------------------------------------------------------


def tested(stages: Sequence[PlannedStage], site: Site) -> list[Row]:
    """sbatch --test-only of every distinct script that a run would submit."""
    if not stages:
        return []
    found: list[Row] = []
    with scratch() as script:
        for text, name, resources in distinct_scripts(stages, site):
            script.write_text(text, encoding="utf-8")
            found.append(
                _test(name, lambda tell, r=resources, n=name: check_with_slurm(script, r, site.limits, n, tell, array=n != "gate"))
            )
    return found


def _test(name: str, check: Callable[[Callable[[str], None]], None]) -> Row:
    what, remarks = f"sbatch ({name})", list[str]()
    try:
        check(remarks.append)
    except InputError as e:
        return wrong(what, str(e).removesuffix("; cluster.check=false submits without this test"))
    except SlurmError as e:
        return unknown(what, str(e))
    if remarks:
        return unknown(what, "; ".join(remarks)) if "cannot be tested" in remarks[0] else warn(what, "; ".join(remarks))
    return ok(what, "sbatch --test-only takes the script")
