"""Limits of accounting, QOS and partitions, by the names that Slurm has for them: what one bounds, the keys that keep to it, and whether
time mends it.

sbatch has one sentence for all of them ("Job violates accounting/QOS policy"); which one it is stands in the line before, and is squeue's
reason of a job that was taken all the same. Names are those of Slurm 22.05 to 25.05 (job_state_reason_string).
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass

NAME = re.compile(r"\b(?:(?:Assoc|QOS)(?:Grp|Max|Min)|Max(?!Array)|Partition(?=Time|Node))[A-Z]\w*")
# the first one that a name holds says what it bounds: in words, and the keys of cluster=slurm
BOUNDS: tuple[tuple[str, str, tuple[str, ...]], ...] = (
    (r"Submit", "jobs in the queue", ("n_jobs", "max_submit")),
    (r"Min(?:ute)?s|RunMin", "time times resources", ("time", "cpus_per_job", "gpus_per_job")),
    (r"Wall|Time", "time", ("time",)),
    (r"GRES|Gres", "GPUs", ("gpus_per_job",)),
    (r"Cpu|CPU", "cores", ("cpus_per_job",)),
    (r"Mem", "memory", ("mem",)),
    (r"Node", "nodes", ()),
    (r"", "resources", ()),
)
# a submission that is refused by these may be taken later, as it is
FULL = re.compile(
    r"Max\w*SubmitJob|GrpSubmitJob|temporarily (?:unable|unavailable)|job queue full|partition not available \(inactive or drain\)"
    r"|system submissions disabled",  # the cluster is drained, or inactive, in its federation
    re.IGNORECASE,
)
COUNTED = re.compile(r"Max\w*SubmitJob|GrpSubmitJob")
# jobs that wait for these wait for ever, whatever ends before them; not PartitionNodeLimit, which is also told of nodes that are down
NEVER = re.compile(r"PartitionTimeLimit|MaxMemPerLimit|\w*(?:PerJob|WallDuration|PerNode)\w*|QOSMin(?:GRES|Cpu|Mem|Node|Billing)\w*")


@dataclass(frozen=True)
class Limit:
    """One that words of Slurm name."""

    name: str  # QOSMaxWallDurationPerJobLimit
    bounds: str  # what, in words
    keys: tuple[str, ...]  # of cluster=slurm that ask for it
    least: bool  # it asks for more, and not for less

    @property
    def of(self) -> str:
        """The key whose other value has another such limit: "qos", "account", "partition" or ""."""
        scopes = (("QOS", "qos"), ("Assoc", "account"), ("Part", "partition"))
        return next((key for beginning, key in scopes if self.name.startswith(beginning)), "")


def limit_in(words: str) -> Limit | None:
    """The limit that Slurm names in an answer; None if it names none.

    >>> limit_in("sbatch: error: QOSMinGRES").least, limit_in("QOSMaxWallDurationPerJobLimit").keys, limit_in("Invalid qos specification")
    (True, ('time',), None)
    >>> limit_in("AssocGrpSubmitJobsLimit").bounds, limit_in("QOSMaxCpuMinutesPerJobLimit").bounds, limit_in("MaxMemPerLimit").bounds
    ('jobs in the queue', 'time times resources', 'memory')
    """
    m = NAME.search(words)
    if not m:
        return None
    least = bool(re.match(r"QOSMin", m[0]))
    bare = re.sub(r"^(?:Assoc|QOS)?(?:Grp|Max|Min)?", "", m[0])
    bounds, keys = next((bounds, keys) for pattern, bounds, keys in BOUNDS if re.search(pattern, bare))
    return Limit(m[0], bounds, keys, least)


def time_mends(words: str) -> bool:
    """Whether what sbatch refused may be taken later without a change: the queue is full, or the partition closed for now.

    >>> time_mends("sbatch: error: AssocMaxSubmitJobLimit"), time_mends("Slurm temporarily unable to accept job, sleeping and retrying")
    (True, True)
    >>> time_mends("Requested time limit is invalid"), time_mends("QOSGrpGRES")
    (False, False)
    """
    return bool(FULL.search(words))


def fewer_fit(words: str) -> bool:
    """Whether fewer jobs at once may be taken now: a limit counts them. (At MaxJobCount each sbatch tries for minutes.)"""
    return bool(COUNTED.search(words))


def later(words: str) -> str:
    """When to run the same command again, of what time mends.

    >>> later("System submissions disabled").partition(":")[0]
    'run the same command again when this cluster takes jobs, or take another one of its federation'
    """
    if "submissions disabled" in words.lower():
        return "run the same command again when this cluster takes jobs, or take another one of its federation: cluster.clusters=NAME"
    return "run the same command again when jobs have ended; to have fewer of them in it: cluster.n_jobs, cluster.max_submit"


def stuck(reasons: Iterable[str]) -> str:
    """What to say of pending jobs that will not start whatever ends before them, by squeue's reasons; "" if there is no such reason.

    >>> stuck(["AssocMaxWallDurationPerJobLimit", "Priority"])
    '; AssocMaxWallDurationPerJobLimit: no time mends that, cancel them and change cluster.time or cluster.account'
    >>> [stuck([r]) for r in ("QOSMaxGRESPerUser", "AssocGrpCpuLimit", "Resources", "None")]
    ['', '', '', '']
    """
    found = sorted(reason for reason in reasons if NEVER.fullmatch(reason))
    limits = [limit for reason in found if (limit := limit_in(reason))]
    keys = dict.fromkeys(f"cluster.{key}" for limit in limits for key in (*limit.keys, limit.of) if key)
    change = f"change {' or '.join(keys)}" if keys else "ask for less"
    return f"; {', '.join(found)}: no time mends that, cancel them and {change}" if found else ""


def short(words: str) -> str:
    """What sbatch or srun said, in one line.

    >>> short("sbatch: sbatch: error: QOSMinGRES\\nallocation failure: Job violates accounting/QOS policy")
    'QOSMinGRES'
    """
    before = re.compile(r"^(?:s(?:batch|run): )*(?:error: )?(?:allocation failure: |Batch job submission failed: )?")
    lines = [before.sub("", line.strip()) for line in words.splitlines()]
    lines = list(dict.fromkeys(line for line in lines if line and not line.startswith("Try ")))
    return "; ".join([line for line in lines if not (line.startswith("Job violates accounting/QOS policy") and NAME.search(words))])
