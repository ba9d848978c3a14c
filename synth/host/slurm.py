"""Slurm's word: the only place that runs its commands. What they say of jobs is read by synth.host.squeue.

Workers never need it: where squeue is missing or silent nothing is known, and leases are judged by their beat as everywhere else.
Submitting does: a controller that restarts is waited for, a refusal is a SlurmError with Slurm's own words.

A site may have several clusters behind one slurmdbd, each with numbers of its own. `cluster` names one of them, in what is asked and in
what is answered; "" is the one that commands here talk to by themselves. Where they are a federation, sbatch would hand a job that is no
array to all of them, and the first one that has room would run it: so each job is bound to one cluster (see `at`).
"""

import contextlib
import os
import re
import shutil
import signal
import subprocess
import time
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence

from synth.host.environment import without_secrets
from synth.host.hurry import NO_ANSWER, Hurry
from synth.host.refusals import passing
from synth.host.squeue import REVOKED, SEEN, Listed, Seen, parse_listing, parse_sacct, parse_seen, parse_states

# Variables of an enclosing job (or of a distributed run in it) change what sbatch and srun do (a leaked SLURM_CPU_BIND has tripled
# run times), and SQUEUE_FORMAT, SQUEUE_USERS, SLURM_CLUSTERS ... the meaning of our own options.
LEAKS = (
    *("SLURM_", "SLURMD_", "SRUN_", "SBATCH_", "SALLOC_", "SQUEUE_", "SACCT_", "SCANCEL_", "SCONTROL_", "SINFO_"),
    *("SUBMITIT_", "PMI_", "PMIX_"),
)
LEAK_NAMES = frozenset([
    "MASTER_ADDR", "MASTER_PORT", "RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE", "JOB_IDX", "N_JOBS", "JOB_OFFSET",
    "CUDA_VISIBLE_DEVICES", "GPU_DEVICE_ORDINAL", "ROCR_VISIBLE_DEVICES", "ZE_AFFINITY_MASK",
])  # fmt: skip
# submitit.helpers.clean_env also drops SLURM_CONF, without which sites with several clusters cannot submit at all. The others say
# where a site without configuration files keeps them, and who we are where a token says so.
KEPT = frozenset({"SLURM_CONF", "SLURM_CONF_SERVER", "SLURM_JWT"})

TIMEOUT = 20.0  # seconds that a question may take: a controller that restarts answers late
CALL = 60.0  # seconds that an order may take
PATIENCE = 60.0  # seconds that a controller may be away
SILENCE = 60.0  # seconds for which a controller that did not answer is not asked for its config again
NAME = re.compile(r"[A-Za-z0-9][\w.-]*")  # of a cluster
OF_ONE = frozenset(["squeue", "sinfo", "sacct"])  # show all clusters of a federation where FederationParameters=fed_display
_hurry: Hurry | None = None
_name = ""  # of the one that commands here talk to, once it has said it
_federation: tuple[str, ...] | None = None  # of that one, likewise


class SlurmError(Exception):
    """A Slurm command that is not there, not allowed, or refused.

    passing: it may do later (see synth.host.refusals). unsure: an sbatch of which nobody knows whether it queued its jobs.
    """

    def __init__(self, words: str, passing: bool = False, unsure: bool = False):
        super().__init__(words)
        self.passing, self.unsure = passing, unsure


# -- commands ------------------------------------------------------------------------------------------------------------


def clean(env: Mapping[str, str] = os.environ, keep: Collection[str] = ()) -> dict[str, str]:
    """The environment of a Slurm command: all but what belongs to an enclosing allocation, and secrets.

    keep: names of the secrets that the jobs of an sbatch need.

    >>> clean({"SLURM_CPU_BIND": "x", "SLURM_CONF": "/etc/slurm.conf", "HOME": "/root"})
    {'SLURM_CONF': '/etc/slurm.conf', 'HOME': '/root'}
    """
    return {k: v for k, v in without_secrets(env, {*KEPT, *keep}).items() if k in KEPT or not (k.startswith(LEAKS) or k in LEAK_NAMES)}


def elsewhere(cluster: str, timeout: float = TIMEOUT) -> bool:
    """Whether this is another cluster than the one that commands here talk to by themselves."""
    return bool(cluster) and cluster != cluster_name(timeout)


def at(cluster: str, program: str, timeout: float = TIMEOUT) -> tuple[str, ...]:
    """Words that send a command to a cluster, or to several ("a,b"), and to no other one of a federation.

    sbatch needs -M for its own cluster, too, where that has siblings; all others do without, since -M needs a slurmdbd that answers.
    A SlurmError where nobody knows now whether there are siblings.
    """
    if elsewhere(cluster, timeout):
        return ("-M", cluster)
    if program == "sbatch":
        siblings = federation(timeout)
        if siblings is None:
            raise SlurmError("scontrol show federation: no answer", passing=True)
        return ("-M", siblings[0]) if siblings else ()
    return ("--local",) if program in OF_ONE else ()


def command(*args: str, timeout: float = TIMEOUT, keep: Collection[str] = (), cluster: str = "") -> tuple[int, str, str] | None:
    """Exit code, stdout and stderr of a Slurm command; None if there is no such command. No answer in time is a failure, too.

    It is a session of its own: a ctrl-C at the terminal must not cut off the answer of an sbatch that has queued its jobs.
    """
    if shutil.which(args[0]) is None:
        return None
    if _hurry is not None:
        _config.update(parse_config(_hurry.begin()))
        return _hurry.command((args[0], *at(cluster, args[0]), *args[1:]), timeout, keep)
    return _run((args[0], *at(cluster, args[0], min(timeout, TIMEOUT)), *args[1:]), timeout, keep)


def _run(args: Sequence[str], timeout: float, keep: Collection[str] = ()) -> tuple[int, str, str]:
    # a job would inherit the format of times from sbatch
    env = clean(keep=keep) | ({"SLURM_TIME_FORMAT": "%s"} if args[0] == "squeue" else {})
    pipe = subprocess.PIPE
    try:
        with subprocess.Popen(
            args, env=env, stdout=pipe, stderr=pipe, stdin=subprocess.DEVNULL, text=True, errors="replace", start_new_session=True
        ) as child:
            try:
                out, err = child.communicate(timeout=timeout)
            except BaseException:  # with what a wrapper has started: an sbatch that lives on would queue its jobs after we have looked
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(child.pid, signal.SIGKILL)
                raise
    except subprocess.TimeoutExpired as e:  # what it said until then: at a full controller sbatch says so, and tries again by itself
        heard = (e.stderr or b"").decode(errors="replace")
        return NO_ANSWER, "", f"{heard}Socket timed out: no answer in {timeout:g} s"
    except OSError as e:
        return 1, "", str(e)
    return child.returncode, out, err


@contextlib.contextmanager
def hurry(first: float, seconds: float) -> Iterator[Hurry]:
    """All questions of the block end in so many seconds together: see `Hurry`. Nothing is tried again."""
    global _hurry
    before, _hurry = _hurry, Hurry(_run, first, seconds)
    try:
        yield _hurry
    finally:
        _hurry = before


def ask(*args: str, timeout: float = TIMEOUT, cluster: str = "") -> str:
    """stdout of a Slurm command; "" if it cannot be asked or says no."""
    done = command(*args, timeout=timeout, cluster=cluster)
    return done[1] if done and done[0] == 0 else ""


def call(*args: str, patience: float = PATIENCE, keep: Collection[str] = (), cluster: str = "") -> str:
    """stdout of a Slurm command. Repeated, less and less often, while what it says may pass; a SlurmError has Slurm's own words."""
    global _again
    end, pause = time.monotonic() + patience, 0.5
    while True:
        done = command(*args, timeout=CALL, keep=keep, cluster=cluster)
        _again = 0.0  # it answers, or is waited for
        if done is None:
            raise SlurmError(f"{args[0]}: not found on this machine")
        code, out, err = done
        if code == 0:
            return out
        error = SlurmError(f"{args[0]}: {err.strip() or f'exit code {code}'}", code == NO_ANSWER or passing(err))
        if not error.passing or time.monotonic() > end or _hurry is not None:
            raise error
        time.sleep(pause)
        pause = min(2 * pause, 5.0)


# -- what is in the queue ------------------------------------------------------------------------------------------------


def listing(users: Sequence[str] = (), clusters: Iterable[str] = ("",)) -> list[Listed]:
    """Jobs in the queue of each of these clusters: ours, and those of other users who submitted the same stages. One line an array task."""
    who = ["-u", ",".join(users)] if users else ["--me"]
    jobs: list[Listed] = []
    for cluster in sorted({home(name) for name in clusters}):
        try:
            out = call("squeue", "-h", "-a", "-r", *who, "-o", "%i|%T|%r|%E|%k|%V|%j", cluster=cluster)
        except SlurmError as e:
            if not users or e.passing or "user" not in str(e).lower():
                raise
            return listing(clusters=clusters)
        jobs += parse_listing(out, cluster)
    return jobs


def seen(
    ids: Sequence[str] = (), names: Sequence[str] = (), cluster: str = "", timeout: float = TIMEOUT, mine: bool = False
) -> list[Seen] | None:
    """The tasks of the jobs with these ids, or of these names (mine: those of this user alone); None if Slurm could not be asked.

    By names, tasks that wait are one: "11_[3-9]". A job that another cluster of a federation has begun is asked of that one, by its id;
    by its name, the copies that it left behind are none.
    """
    tasks = _seen(ids, names, cluster, timeout, mine)
    if tasks is None or names:
        return tasks and [task for task in tasks if task.state != REVOKED]
    taken = {task.base: task for task in tasks if task.state == REVOKED}
    for other in (federation(timeout) or ()) if taken else ():
        there = _seen(list(taken), (), other, timeout) if other != home(cluster, timeout) else []
        if there is None:
            return None
        there = [task for task in there if task.state != REVOKED]
        tasks = [task for task in tasks if task.base not in {one.base for one in there}] + there
    return tasks


def _seen(ids: Sequence[str], names: Sequence[str], cluster: str, timeout: float, mine: bool = False) -> list[Seen] | None:
    which = ["-n", ",".join(names), *(["--me"] if mine else [])] if names else ["-r", "-j", ",".join(ids)]
    done = command("squeue", "-h", "-a", "-t", "all", *which, "-O", SEEN, timeout=timeout, cluster=cluster)
    if done is None or done[0]:
        return [] if done and "Invalid job id" in done[2] else None
    return [task for task in parse_seen(done[1]) if not names or task.name in names]


def job_states(base: str, timeout: float = TIMEOUT) -> dict[str, tuple[str, int]] | None:
    """State and restarts of every task of a job that Slurm still knows; None if Slurm could not be asked."""
    done = command("squeue", "-h", "-r", "-a", "-t", "all", "-j", base, "-O", "JobArrayID:60,State:30,RestartCnt:12", timeout=timeout)
    if done is None or done[0]:
        return {} if done and "Invalid job id" in done[2] else None
    return parse_states(done[1])


def accounted(ids: Sequence[str], timeout: float = TIMEOUT, cluster: str = "") -> dict[str, str]:
    """States of the tasks of jobs that squeue has forgotten, where there is accounting; else {}."""
    return parse_sacct(ask("sacct", "-X", "-n", "-P", "-j", ",".join(ids), "-o", "JobID,State", timeout=timeout, cluster=cluster))


_config: dict[str, str] = {}  # of the site, once it was told
_again = 0.0  # when a controller that did not tell it may be asked for it again, by the monotonic clock


def site_config(timeout: float = TIMEOUT) -> dict[str, str]:
    """What scontrol show config says; {} where it cannot be asked, and for the next SILENCE seconds."""
    global _again
    if not _config and time.monotonic() >= _again:
        _config.update(parse_config(ask("scontrol", "show", "config", timeout=timeout)))
        _again = 0.0 if _config else time.monotonic() + SILENCE
    return _config


def parse_config(text: str) -> dict[str, str]:
    """scontrol show config.

    >>> parse_config("Configuration data as of now\\nMaxArraySize            = 1001\\nMaxJobCount = 10000")
    {'MaxArraySize': '1001', 'MaxJobCount': '10000'}
    """
    return {m[1]: m[2].strip() for m in re.finditer(r"^(\w+)\s*=\s?(.*)$", text, re.MULTILINE)}


def cluster_name(timeout: float = TIMEOUT) -> str:
    """Name of the cluster that commands here talk to; "" if there is none. A lease of another cluster says nothing to them."""
    global _name
    if not _name:
        _name = site_config(timeout).get("ClusterName", "")
    return _name


def federation(timeout: float = TIMEOUT) -> tuple[str, ...] | None:
    """The clusters among which sbatch shares jobs out, the one that commands here talk to first; () if it is alone, or where scontrol
    tells users nothing; None if it does, and has no answer now."""
    global _federation
    if _federation is None and site_config(timeout):
        code, out, err = command("scontrol", "show", "federation", timeout=timeout) or (1, "", "not found")
        if code and (code == NO_ANSWER or passing(err)):
            return None
        _federation = parse_federation(out)
    return _federation or ()


def parse_federation(text: str) -> tuple[str, ...]:
    """scontrol show federation; the ports say nothing, an address may have colons.

    >>> parse_federation("Federation: all\\nSelf:    dev:10.0.0.1:6817 ID:1\\nSibling: far:10.0.0.2:6817 ID:2 FedState:DRAIN")
    ('dev', 'far')
    """
    found = re.findall(rf"^(Self|Sibling):\s*({NAME.pattern}):", text, re.MULTILINE)
    return tuple(name for _, name in sorted(found, key=lambda pair: pair[0] != "Self"))


def hides_jobs(timeout: float = TIMEOUT) -> bool:
    """Whether users see their own jobs alone: that Slurm does not know another one's says nothing then."""
    return "jobs" in re.split(r"[,\s]+", site_config(timeout).get("PrivateData", "").lower())


def home(cluster: str, timeout: float = TIMEOUT) -> str:
    """A cluster by its name, where there is one: the jobs of records that name none are on the one that commands here talk to."""
    return cluster or cluster_name(timeout)
