"""Slurm's word: the only place that runs its commands, reads squeue's lines and knows the states of jobs.

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
from dataclasses import dataclass

from synth.host.environment import without_secrets
from synth.host.hurry import NO_ANSWER, Hurry
from synth.host.refusals import passing

REVOKED = "REVOKED"  # what a cluster of a federation says of a job that another one has begun
OVER = frozenset(
    ["COMPLETED", "CANCELLED", "FAILED", "TIMEOUT", "NODE_FAIL", "PREEMPTED", "OUT_OF_MEMORY", "BOOT_FAIL", "DEADLINE", REVOKED]
)
ENDING = OVER | {"COMPLETING"}  # nothing more is to be expected of it
# what a job is called on its way back into the queue, too: since Slurm 23.11 also when its nodes did not start it
WAITING = frozenset(
    [
        *("PENDING", "REQUEUED", "REQUEUE_HOLD", "REQUEUE_FED", "SPECIAL_EXIT"),
        *("RESV_DEL_HOLD", "EXPEDITING", "LAUNCH_FAILED", "RECONFIG_FAIL"),
    ]
)

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


@dataclass(frozen=True)
class JobRef:
    """One incarnation of a job: "dev/11_3@1" is task 3 of array 11 on cluster dev, after its first requeue."""

    job: str
    restart: int = 0
    cluster: str = ""

    def __str__(self) -> str:
        return (f"{self.cluster}/" if self.cluster else "") + self.job + (f"@{self.restart}" if self.restart else "")

    @property
    def base(self) -> str:
        """The id that squeue knows the whole array by: "11"."""
        return self.job.partition("_")[0]

    @staticmethod
    def parse(text: str) -> "JobRef | None":
        """Read what str() wrote; None if it is none: parse("dev/11_3@1") == JobRef("11_3", 1, "dev")."""
        m = re.fullmatch(r"(?:([^/@]+)/)?(\d+(?:_\d+)?)(?:@(\d+))?", text)
        return JobRef(m[2], int(m[3] or 0), m[1] or "") if m else None

    @staticmethod
    def from_env(env: Mapping[str, str] = os.environ) -> "JobRef | None":
        """The job that this process runs in.

        An array task is named ARRAY_TASK: the SLURM_JOB_ID of an array's last task is the id of the whole array.
        """
        job = env.get("SLURM_ARRAY_JOB_ID", env.get("SLURM_JOB_ID", ""))
        if job and env.get("SLURM_ARRAY_TASK_ID", ""):
            job = f"{job}_{env['SLURM_ARRAY_TASK_ID']}"
        restart = env.get("SLURM_RESTART_COUNT", "0")
        return JobRef(job, int(restart) if restart.isdigit() else 0, env.get("SLURM_CLUSTER_NAME", "")) if job else None


@dataclass(frozen=True)
class Listed:
    """A job of squeue: "11_3" or "12"."""

    job: str
    state: str
    reason: str
    depends: str  # squeue's %E: "afterany:11_*(unfulfilled)"
    comment: str
    name: str
    submitted: float = 0.0  # seconds since the epoch, by the controller's clock; a requeued job has it anew
    cluster: str = ""

    @property
    def base(self) -> str:
        return self.job.partition("_")[0]

    @property
    def held(self) -> bool:
        """By a user, an administrator (JobHeldAdmin), or Slurm after a failed start ("launch failed requeued held", JobHoldMaxRequeue)."""
        return self.state == "PENDING" and ("held" in self.reason.lower() or "Hold" in self.reason)


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


# the comment is the user's, and may hold bars and lines; the time behind it tells where it ends. The name is all of the rest
LISTED = re.compile(
    r"^(\d[^|\n]*)\|([A-Z][^|\n]*)\|([^|\n]*)\|([^|\n]*)\|((?:(?!\n\d[^|\n]*\|[A-Z]).)*?)\|(\d{9,}|N/A|Unknown|\d{4}-[\d:T-]+)\|([^\n]*)$",
    re.MULTILINE | re.DOTALL,
)


def parse_listing(text: str, cluster: str = "") -> list[Listed]:
    """squeue's lines; a name may hold a bar, and a comment bars and ends of lines.

    >>> parse_listing("11_3|PENDING|Dependency|afterany:9(unfulfilled)|tok|1795236000|images|1\\n")[0].name
    'images|1'
    """
    return [
        Listed(job, whole_state(state), why, after, comment, name, when(at), cluster)
        for job, state, why, after, comment, at, name in LISTED.findall(text)
    ]


def when(text: str) -> float:
    """Seconds since the epoch of a time that squeue tells, also where it does not know SLURM_TIME_FORMAT; 0 if it tells none.

    >>> when("1795236000"), when("N/A")
    (1795236000.0, 0.0)
    """
    text = text.strip()
    if text.isdigit():
        return float(text)
    try:
        return time.mktime(time.strptime(text, "%Y-%m-%dT%H:%M:%S"))
    except ValueError:
        return 0.0


def whole_state(words: str) -> str:
    """A job's state, where a column cuts it, or something is added to it.

    >>> whole_state("OUT_OF_ME+"), whole_state("CANCELLED by 1000"), whole_state("OUT_OF_ME"), whole_state("COMPLETING"), whole_state("")
    ('OUT_OF_MEMORY', 'CANCELLED', 'OUT_OF_MEMORY', 'COMPLETING', '')
    """
    word = next(iter(words.split()), "").rstrip("+")
    return next((state for state in sorted(OVER) if len(word) > 6 and state.startswith(word)), word)


def is_live(state: str) -> bool:
    """Whether a job in this state computes or may come to; a state that we do not know is one."""
    return state not in OVER


def depends_on(listed: Listed) -> dict[str, str]:
    """job id -> kind of dependency, of a pending job.

    >>> depends_on(Listed("3", "PENDING", "Dependency", "afterany:11_*(unfulfilled),afterany:12(unfulfilled)", "", ""))
    {'11': 'afterany', '12': 'afterany'}
    """
    return {job: kind for kind, job in re.findall(r"(after\w*):(\d+)", listed.depends)}


@dataclass(frozen=True)
class Seen:
    """A task of a job that Slurm still knows, ended or not."""

    job: str  # "11_3" or "12"
    state: str
    restarts: int
    submitted: float  # seconds since the epoch, by the controller's clock; a requeued job has it anew
    name: str

    @property
    def base(self) -> str:
        return self.job.partition("_")[0]


SEEN = "JobArrayID:60,State:30,RestartCnt:12,SubmitTime:24,Name:1100"  # of squeue -O; the longest name has 1024 characters


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


def parse_seen(text: str) -> list[Seen]:
    """squeue's lines of job, state, restarts, time of submission, name.

    >>> parse_seen("11_3   RUNNING  1   1795236000  my images  ")
    [Seen(job='11_3', state='RUNNING', restarts=1, submitted=1795236000.0, name='my images')]
    """
    lines = [line.split(None, 4) for line in text.splitlines()]
    return [Seen(w[0], whole_state(w[1]), int(w[2]), when(w[3]), w[4].rstrip()) for w in lines if len(w) == 5 and w[2].isdigit()]


def job_states(base: str, timeout: float = TIMEOUT) -> dict[str, tuple[str, int]] | None:
    """State and restarts of every task of a job that Slurm still knows; None if Slurm could not be asked."""
    done = command("squeue", "-h", "-r", "-a", "-t", "all", "-j", base, "-O", "JobArrayID:60,State:30,RestartCnt:12", timeout=timeout)
    if done is None or done[0]:
        return {} if done and "Invalid job id" in done[2] else None
    return parse_states(done[1])


def parse_states(text: str) -> dict[str, tuple[str, int]]:
    """squeue's lines of job, state, restarts.

    >>> parse_states("11_3  RUNNING  1")
    {'11_3': ('RUNNING', 1)}
    """
    lines = [line.split() for line in text.splitlines()]
    return {words[0]: (whole_state(words[1]), int(words[2])) for words in lines if len(words) == 3 and words[2].isdigit()}


def accounted(ids: Sequence[str], timeout: float = TIMEOUT, cluster: str = "") -> dict[str, str]:
    """States of the tasks of jobs that squeue has forgotten, where there is accounting; else {}."""
    return parse_sacct(ask("sacct", "-X", "-n", "-P", "-j", ",".join(ids), "-o", "JobID,State", timeout=timeout, cluster=cluster))


def parse_sacct(text: str) -> dict[str, str]:
    """Lines of job and state; the not yet split rest of an array, "11_[4-7]", counts as one.

    >>> parse_sacct("11_3|CANCELLED by 1000")
    {'11_3': 'CANCELLED'}
    """
    pairs = [(job, whole_state(state)) for job, bar, state in (line.partition("|") for line in text.splitlines()) if bar]
    return {job: state for job, state in pairs if job and state}


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
