"""What the site allows, read from scontrol, sinfo and sacctmgr. Each of them may be missing or forbidden: then nothing is
known, and the config says what counts. Parsers are pure.
"""

import getpass
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import partial

from launch.config.times import seconds
from synth.host.slurm import ask, parse_config

DEFAULT_ARRAY = 1001  # Slurm's own MaxArraySize: indices 0..1000
QUICK = 10.0  # seconds: a site whose accounting is down must not hold up a launch


@dataclass(frozen=True)
class Partition:
    name: str
    max_time: int | None = None  # seconds; None: no limit or not known
    default: bool = False
    gres: tuple[str, ...] = ()  # of its nodes: ("gpu:a100:4",)


@dataclass(frozen=True)
class Limits:
    """None and empty: not known."""

    max_array: int = DEFAULT_ARRAY  # array indices are below it
    max_jobs: int | None = None  # jobs that the controller holds at all
    max_submit: int | None = None  # jobs of this user in the queue
    partitions: Mapping[str, Partition] = field(default_factory=dict)
    accounts: tuple[str, ...] = ()


def read(max_array: int | None = None, max_submit: int | None = None, account: str | None = None, qos: str | None = None) -> Limits:
    """The limits of this site; the first two arguments are the config's overrides."""
    say = partial(ask, timeout=QUICK)
    config = parse_config(say("scontrol", "show", "config"))
    partitions = parse_partitions(say("scontrol", "-o", "show", "partition"), say("sinfo", "-h", "-a", "-o", "%R|%G"))
    associated: int | None = None
    accounts: tuple[str, ...] = ()
    if config.get("AccountingStorageType", "") not in ("", "accounting_storage/none"):
        associations = say("sacctmgr", "-nP", "show", "assoc", f"user={getpass.getuser()}", "format=Account,MaxSubmitJobs,QOS,DefaultQOS")
        accounts = tuple(sorted({line.split("|")[0] for line in associations.splitlines() if "|" in line}))
        if max_submit is None:
            qualities = say("sacctmgr", "-nP", "show", "qos", "format=Name,MaxSubmitJobsPerUser")
            associated = parse_submit(associations, qualities, account, qos)
    return Limits(
        max_array=max_array or _number(config.get("MaxArraySize")) or DEFAULT_ARRAY,
        max_jobs=_number(config.get("MaxJobCount")),
        max_submit=max_submit if max_submit is not None else associated,
        partitions=partitions,
        accounts=accounts if config.get("AccountingStorageEnforce", "none") != "none" else (),
    )


def parse_partitions(text: str, gres: str = "") -> dict[str, Partition]:
    """scontrol -o show partition, and sinfo -o "%R|%G" for what the nodes have.

    >>> parse_partitions("PartitionName=a Default=YES MaxTime=1-00:00:00 State=UP", "a|gpu:a100:4(S:0-1)")["a"]
    Partition(name='a', max_time=86400, default=True, gres=('gpu:a100:4',))
    """
    has: dict[str, set[str]] = {}
    for line in gres.splitlines():
        name, _, kinds = line.strip().partition("|")
        has.setdefault(name, set()).update(re.sub(r"\([^)]*\)", "", k) for k in kinds.split(",") if k and k != "(null)")
    partitions = {}
    for line in text.splitlines():
        facts = dict(word.split("=", 1) for word in line.split() if "=" in word)
        if name := facts.get("PartitionName", ""):
            limit = facts.get("MaxTime", "UNLIMITED")
            time = seconds(limit) if limit[:1].isdigit() else None
            partitions[name] = Partition(name, time, facts.get("Default") == "YES", tuple(sorted(has.get(name, ()))))
    return partitions


def parse_submit(associations: str, qualities: str, account: str | None, qos: str | None) -> int | None:
    """The smallest limit of jobs in the queue that holds for this account and QOS; None if there is none.

    associations: lines of Account|MaxSubmitJobs|QOS|DefaultQOS; qualities: lines of Name|MaxSubmitJobsPerUser.

    >>> parse_submit("lab|500|normal,long|normal", "normal|200\\nlong|20", None, None)
    200
    """
    bounds: list[str] = []
    names = {qos} if qos else set()
    for line in associations.splitlines():
        words = line.split("|")
        if len(words) == 4 and account in (None, words[0]):
            bounds.append(words[1])
            if not qos:
                names.add(words[3] or "normal")
    bounds += [words[1] for line in qualities.splitlines() if len(words := line.split("|")) == 2 and words[0] in names]
    numbers = [int(b) for b in bounds if b.isdigit()]
    return min(numbers, default=None)


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
