"""What the site allows, read from scontrol, sinfo and sacctmgr. Each of them may be missing or forbidden: then nothing is
known, and the config says what counts. Parsers are pure. Nothing is refused by it: it explains what sbatch refuses (launch.slurm.precheck).
"""

import getpass
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import partial

from launch.config.times import seconds
from launch.slurm.payer import default_account
from synth.host.slurm import ask, home, parse_config

DEFAULT_ARRAY = 1001  # Slurm's own MaxArraySize: indices 0..1000
SIZE = re.compile(r"(\d+(?:\.\d+)?)([KMGT]?)B?", re.IGNORECASE)  # of memory, as sbatch takes it
UNITS = {"K": 1 / 1024, "": 1, "M": 1, "G": 1024, "T": 1024 * 1024}  # MiB
QUICK = 10.0  # seconds: a site whose accounting is down must not hold up a launch


def mib(text: str) -> float | None:
    """MiB of memory as sbatch takes it; None if it is no size: mib("1.5G") == 1536, mib("500") == 500, mib("all") is None."""
    m = SIZE.fullmatch(text)
    return float(m[1]) * UNITS[m[2].upper()] if m else None


@dataclass(frozen=True)
class Nodes:
    """Nodes of a partition that are alike. None: not known."""

    gres: tuple[str, ...] = ()  # ("gpu:a100:4",)
    cpus: int | None = None
    memory: int | None = None  # MiB
    features: frozenset[str] = frozenset()
    up: bool = True  # not down, drained or kept for something


@dataclass(frozen=True)
class Partition:
    name: str
    max_time: int | None = None  # seconds; None: no limit or not known
    default: bool = False
    nodes: tuple[Nodes, ...] = ()
    qos: str = ""  # whose limits hold for all its jobs
    preempts: str = ""  # PreemptMode: what becomes of its jobs where more urgent ones need their nodes

    @property
    def gres(self) -> tuple[str, ...]:
        """Of all its nodes."""
        return tuple(sorted({g for nodes in self.nodes for g in nodes.gres}))


@dataclass(frozen=True)
class Limits:
    """None and empty: not known."""

    max_array: int = DEFAULT_ARRAY  # array indices are below it
    max_jobs: int | None = None  # jobs that the controller holds at all
    max_submit: int | None = None  # jobs of this user in the queue
    partitions: Mapping[str, Partition] = field(default_factory=dict)
    accounts: tuple[str, ...] = ()
    qos: str = ""  # of jobs that name none
    qualities: tuple[str, ...] = ()  # QOS that this user may name
    clusters: str = ""  # of a site with several: those that jobs may go to, the first of which the others above are of

    def partition(self, names: str | None) -> Partition | None:
        """The one of a key that names one, or of one that is not given; None if it is not known, or several are given."""
        return self.partitions.get(names) if names else next((p for p in self.partitions.values() if p.default), None)


def read(
    max_array: int | None = None, max_submit: int | None = None, account: str | None = None, qos: str | None = None, clusters: str = ""
) -> Limits:
    """The limits of this site; the first two arguments are the config's overrides."""
    cluster = clusters.partition(",")[0]
    say = partial(ask, timeout=QUICK, cluster=cluster)
    config = parse_config(say("scontrol", "show", "config"))
    # -a: hidden partitions, too
    partitions = parse_partitions(say("scontrol", "-a", "-o", "show", "partition"), say("sinfo", "-h", "-a", "-e", "-o", SINFO))
    associated: int | None = None
    associations, default = "", ""
    if config.get("AccountingStorageType", "") not in ("", "accounting_storage/none"):
        whose = [f"user={getpass.getuser()}", *([f"cluster={home(cluster)}"] if home(cluster) else [])]
        associations = ask("sacctmgr", "-nP", "show", "assoc", *whose, "format=Account,MaxSubmitJobs,QOS,DefaultQOS", timeout=QUICK)
        account = account or default_account(cluster) or None
        default = next(iter(default_qos(associations, account)), "")
        if max_submit is None:
            qualities = ask("sacctmgr", "-nP", "show", "qos", "format=Name,MaxSubmitJobsPerUser", timeout=QUICK)
            associated = parse_submit(associations, qualities, account, qos)
    return Limits(
        max_array=max_array or _number(config.get("MaxArraySize")) or DEFAULT_ARRAY,
        max_jobs=_number(config.get("MaxJobCount")),
        max_submit=max_submit if max_submit is not None else associated,
        partitions=partitions,
        accounts=tuple(sorted({line.split("|")[0] for line in associations.splitlines() if "|" in line})),
        qos=default,
        qualities=tuple(
            sorted({q for line in associations.splitlines() if line.count("|") == 3 for q in line.split("|")[2].split(",") if q})
        ),
        clusters=clusters,
    )


SINFO = "%R|%G|%c|%m|%f|%T"  # partition, gres, cores, MiB, features, state, of nodes that are alike in all of them
AWAY = ("down", "drain", "fail", "maint", "unk", "err", "futur", "inval", "block")  # beginnings of states of nodes that take no jobs now


def parse_partitions(text: str, nodes: str = "") -> dict[str, Partition]:
    """scontrol -o show partition, and sinfo -o SINFO for what the nodes have.

    >>> parse_partitions("PartitionName=a Default=YES MaxTime=1-00:00:00 QoS=N/A", "a|gpu:a100:4(S:0-1)|64|512000|ib|mixed")["a"].nodes
    (Nodes(gres=('gpu:a100:4',), cpus=64, memory=512000, features=frozenset({'ib'}), up=True),)
    """
    has: dict[str, list[Nodes]] = {}
    for line in nodes.splitlines():
        name, *words = line.strip().split("|")
        has.setdefault(name, []).append(_nodes(*words[:5]))
    partitions = {}
    for line in text.splitlines():
        facts = dict(word.split("=", 1) for word in line.split() if "=" in word)
        if name := facts.get("PartitionName", ""):
            limit = facts.get("MaxTime", "UNLIMITED")
            time = seconds(limit) if limit[:1].isdigit() else None
            qos = facts.get("QoS", "N/A")
            partitions[name] = Partition(
                name,
                time,
                facts.get("Default") == "YES",
                tuple(has.get(name, ())),
                "" if qos == "N/A" else qos,
                facts.get("PreemptMode", ""),
            )
    return partitions


def _nodes(gres: str = "", cpus: str = "", memory: str = "", features: str = "", state: str = "") -> Nodes:
    kinds = tuple(sorted({re.sub(r"\([^)]*\)", "", g) for g in gres.split(",") if g and g != "(null)"}))
    known = frozenset(f for f in features.split(",") if f and f != "(null)")
    return Nodes(kinds, _number(cpus.rstrip("+")), _number(memory.rstrip("+")), known, not state.startswith(AWAY))


def default_qos(associations: str, account: str | None) -> tuple[str, ...]:
    """The QOS of jobs that name none, by lines of Account|MaxSubmitJobs|QOS|DefaultQOS. Slurm takes an account in any letter case.

    >>> default_qos("lab|500|normal,long|long\\nold|1|normal|", "LAB")
    ('long',)
    """
    lines = [words for line in associations.splitlines() if len(words := line.split("|")) == 4]
    return tuple(words[3] or "normal" for words in lines if account is None or words[0].lower() == account.lower())


def parse_submit(associations: str, qualities: str, account: str | None, qos: str | None) -> int | None:
    """The smallest limit of jobs in the queue that holds for this account and QOS; None if there is none.

    associations: lines of Account|MaxSubmitJobs|QOS|DefaultQOS; qualities: lines of Name|MaxSubmitJobsPerUser.

    >>> parse_submit("lab|500|normal,long|normal", "normal|200\\nlong|20", None, None)
    200
    """
    lines = [words for line in associations.splitlines() if len(words := line.split("|")) == 4]
    bounds = [words[1] for words in lines if account is None or words[0].lower() == account.lower()]
    names = {qos.lower()} if qos else set(default_qos(associations, account))
    bounds += [words[1] for line in qualities.splitlines() if len(words := line.split("|")) == 2 and words[0].lower() in names]
    return min((int(b) for b in bounds if b.isdigit()), default=None)


# what sacctmgr tells of a QOS and of an association, and a limit's refusal may be about
OF_BOTH = "MaxWall,MaxTRES,MaxTRESPerNode,MaxTRESMins,GrpTRES,GrpTRESMins,GrpWall,GrpSubmit"
OF_QOS = f"{OF_BOTH},MinTRES,MaxTRESPU,MaxTRESPA,MaxSubmitPU,MaxSubmitPA"
OF_ACCOUNT = f"{OF_BOTH},MaxSubmit"


def figures(name: str, entity: str) -> str:
    """The limits of a QOS ("qos") or of this user in an account ("account"), as sacctmgr has them; "" if it says nothing of it."""
    user = getpass.getuser()
    which = ["qos", "where", f"name={name}", f"format={OF_QOS}"]
    if entity == "account":
        which = ["assoc", "where", f"user={user}", *([f"account={name}"] if name else []), f"format={OF_ACCOUNT}"]
    return parse_figures(ask("sacctmgr", "-P", "show", *which, timeout=QUICK).splitlines())


def parse_figures(lines: Iterable[str]) -> str:
    """A head and lines of sacctmgr -P, those that are empty left out.

    >>> parse_figures(["MaxWall|MinTRES|GrpTRES", "01:00:00|gres/gpu=2|"])
    'MaxWall=01:00:00, MinTRES=gres/gpu=2'
    """
    head, *rows = [line.split("|") for line in lines] or [[]]
    return "; ".join(filter(None, (", ".join(f"{k}={v}" for k, v in zip(head, row, strict=False) if v) for row in rows)))


def split(tasks: int, max_array: int) -> list[tuple[int, int]]:
    """(offset, tasks) of each array: MaxArraySize bounds the index, so every array counts from 0.

    >>> split(25, 10)
    [(0, 10), (10, 10), (20, 5)]
    """
    size = max(1, max_array)
    return [(first, min(size, tasks - first)) for first in range(0, tasks, size)]


def shares(wanted: list[int], room: int) -> list[int]:
    """How many array tasks each stage gets where `room` jobs may be queued: each keeps one for its gate; 0: not now.

    Fewer tasks complete a stage all the same, so the largest is cut; stages that do not fit at all are the last.

    >>> shares([8, 8, 1], 12), shares([4, 4], 3)
    ([4, 4, 1], [2, 0])
    """
    given = list(wanted)
    while len([g for g in given if g]) * 2 > room and any(given):
        given[max(i for i, g in enumerate(given) if g)] = 0
    while sum(g + 1 for g in given if g) > room and any(given):
        largest = max(given)
        given[max(i for i, g in enumerate(given) if g == largest)] -= 1
    return given


def _number(text: str | None) -> int | None:
    return int(text) if text and text.isdigit() else None
