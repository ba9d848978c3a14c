"""Why the jobs of a submission ended: by what their workers wrote, by Slurm's word, and by the last lines of their logs.

    what ended them                                                 what follows
    bad input (exit code 65 of a worker)                            never tried again
    memory: Slurm, a worker or the job's log says so                tried once more with twice the memory
    no worker began on two nodes, or at two tries in a row          never tried again; on one node: once more, without that node
    anything else                                                   tried again as often as cluster.heal says

A submission that made units is tried again whatever ended some of its jobs; nodes on which no worker began are left out where others did.

Where the kernel kills anything of a step, srun ends with 1 whatever its worker ended with, and the job is FAILED: OUT_OF_MEMORY is only
its step, and the job's DerivedExitCode is 0:125. So states do not tell whether the worker was killed, or a child that it went on without:
its events do.
"""

import math
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from launch.slurm.limits import mib
from launch.slurm.submissions import Submission
from synth import foreign
from synth.errors import EXIT_BAD_INPUT, EXIT_OK, InputError, StoreError
from synth.host import slurm
from synth.host.squeue import OVER, JobRef, whole_state
from synth.store.events import read_events

MEMORY = "OUT_OF_MEMORY"
# what ends so by itself; COMPLETED without a worker is a script that something in `setup` or a flag of srun has ended
NOTHING_MADE = frozenset(["FAILED", "BOOT_FAIL", "COMPLETED"])
WANT = re.compile(r"memory that this job may use was full")  # of synth.host.deaths
# what slurmstepd writes of a job that it kills itself (JobAcctGatherParams=OverMemoryKill), it and srun of one of which the kernel did
FULL = re.compile(
    r"^slurmstepd\S*: error: .*(?:exceeded (?:job |step )?memory limit|oom[_-]kill)|^srun: error: \S+: tasks? [^:\n]+: Out Of Memory",
    re.IGNORECASE | re.MULTILINE,
)
BEGINS = re.compile(r"^\d\d:\d\d:\d\d job \d* task ", re.MULTILINE)  # a job's first line, also of one that was requeued
SIG_OOM = "125"  # Slurm's own, in the place of a signal's number
LINES, TAIL = 5, 4096  # lines of a log, of so many bytes at its end
KILLED = (-9, 137)  # exit codes of a job, and of what it ran
NAMED = 3  # jobs that are named of many


@dataclass(frozen=True)
class Ended:
    """How a task of a job ended, as far as Slurm still knows it."""

    job: str  # "11_3"
    state: str  # OUT_OF_MEMORY, FAILED ...
    code: int = 0  # exit code of its batch script; -9: killed by SIGKILL
    node: str = ""
    mem: str = ""  # what it was given: "4G" a node, "100M/cpu" a core
    starved: bool = False  # whether Slurm saw the kernel kill something of it, or of a step of it, for memory


@dataclass(frozen=True)
class Reason:
    """What is concluded."""

    why: str = ""  # for people; "" if nothing is known
    final: bool = False  # whether trying again cannot help
    without: tuple[str, ...] = ()  # nodes to leave out
    mem: str = ""  # to ask for, as sbatch takes it with --mem or, behind it "/cpu", with --mem-per-cpu


@dataclass(frozen=True)
class Told:
    """What the workers of a submission wrote."""

    begun: frozenset[str] = frozenset()  # jobs in which one began: "11_3"
    stops: Sequence[tuple[str, int, str]] = field(default_factory=tuple)  # (job, exit code, why) of those that ended by themselves
    cut: frozenset[str] = frozenset()  # jobs in which one did not, since their last start


def reason_of(stage: Path, kind: str, mine: Submission, gained: bool, tries: int) -> Reason:
    """Why the jobs of a submission did not make a stage of a kind whole. gained: whether it made units. tries: before it, in vain."""
    return reason_of_jobs(stage, kind, [array.job for array in mine.arrays], gained, tries, mine.mem)


def reason_of_jobs(
    stage: Path, kind: str, bases: Sequence[str], gained: bool = False, tries: int = 0, raised: str = "", cluster: str = ""
) -> Reason:
    """The same of jobs by their ids. raised: as for `judge`. cluster: where they are, if not where commands go by themselves."""
    tasks = [task for base in bases for task in ended(base, cluster)]
    told = told_by(read_events(stage), {*bases})
    logs = {job: log_of(stage, job) for job in {task.job for task in tasks} | told.begun}
    return judge(tasks, told, logs, kind, gained, tries, raised)


def judge(tasks: Sequence[Ended], told: Told, logs: Mapping[str, Path], kind: str, gained: bool, tries: int, raised: str) -> Reason:
    """The table above. raised: the memory that this submission had asked for because of an earlier one."""
    node = {task.job: task.node for task in tasks}
    refused = [(job, why) for job, code, why in told.stops if code == EXIT_BAD_INPUT]
    starved = [t for t in tasks if _is_starved(t, told, logs)]
    unbegun = [t for t in tasks if t.state in NOTHING_MADE and t.job not in told.begun and t not in starved]
    working = {node.get(job, "") for job in told.begun} - {""}
    without = tuple(sorted({t.node for t in unbegun} - working - {""})) if working else ()
    if refused and not gained:
        return Reason(_said(refused, logs), final=True)
    if starved:
        return _memory(starved, kind, raised, gained, without)
    if unbegun and not told.begun:
        nodes = tuple(sorted({t.node for t in unbegun} - {""}))
        return Reason(_unbegun(unbegun, logs), final=len(nodes) > 1 or tries > 0, without=nodes)
    failed = [(job, f"exit code {code}: {why}") for job, code, why in told.stops if code != EXIT_OK]
    why = _said(refused, logs) or (_said(failed, logs) if failed else _unbegun(unbegun, logs) if unbegun else _states(tasks))
    return Reason(why, without=without)


def _is_starved(task: Ended, told: Told, logs: Mapping[str, Path]) -> bool:
    """Whether want of memory ended the work of a job; not where its workers went on without a child that was killed."""
    if any(WANT.search(why) for job, _, why in told.stops if job == task.job):
        return True
    if task.job in told.begun - told.cut:
        return False
    return task.starved or task.state == MEMORY or bool(task.code and task.job in logs and FULL.search(end_of(logs[task.job])))


def _memory(starved: Sequence[Ended], kind: str, raised: str, gained: bool, without: tuple[str, ...]) -> Reason:
    given = next((t.mem for t in starved if t.mem), "")
    key = f"+cluster.stages.{kind}.extra.mem-per-cpu" if given.endswith("/cpu") else f"cluster.stages.{kind}.mem"
    amount = f"the {given.replace('/cpu', ' a core')} that they may use" if given else "they may use"
    more = doubled(given)
    fix = f"set {key}={more.partition('/')[0]} or more" if more else f"set {key}"
    why = f"{_jobs([t.job for t in starved])}: needed more memory than {amount} ({_by(starved)}); {fix}"
    if raised or not more:
        return Reason(why, final=not gained, without=without)
    return Reason(why, without=without, mem=more)


def _by(starved: Sequence[Ended]) -> str:
    return f"Slurm: {MEMORY}" if any(t.state == MEMORY or t.starved for t in starved) else "Slurm, or the kernel, killed them for it"


def _unbegun(tasks: Sequence[Ended], logs: Mapping[str, Path]) -> str:
    ends = Counter(f"{t.state}, exit code {t.code}{f' on {t.node}' if t.node else ''}" for t in tasks)
    log = next((logs[t.job] for t in tasks if t.job in logs and last_lines(logs[t.job])), None)
    said = f"; the last lines of {log}:\n{last_lines(log)}" if log else "; they left no log"
    return f"{_jobs([t.job for t in tasks])} ended before a worker began ({', '.join(ends)}){said}"


def _said(stops: Sequence[tuple[str, str]], logs: Mapping[str, Path]) -> str:
    """What most workers said, and where."""
    if not stops:
        return ""
    why, times = Counter(why for _, why in stops).most_common(1)[0]
    job = next(job for job, said in stops if said == why)
    others = f", and so said {times - 1} more" if times > 1 else ""
    return f"{why} (job {job}{others}; its log: {logs.get(job, 'none')})"


def _states(tasks: Sequence[Ended]) -> str:
    ends = Counter(f"{t.state}{f', exit code {t.code}' if t.code else ''}" for t in tasks if t.state != "COMPLETED")
    killed = "; SIGKILL is what the kernel sends where memory is full: see cluster.mem" if any(t.code in KILLED for t in tasks) else ""
    by_hand = "; scancel ends no run, its gates go on: launch/cancel.py does" if any(t.state == "CANCELLED" for t in tasks) else ""
    return f"jobs ended as {', '.join(f'{n} x {end}' for end, n in ends.items())}{killed}{by_hand}" if ends else ""


def _jobs(jobs: Sequence[str]) -> str:
    more = f" and {len(jobs) - NAMED} more" if len(jobs) > NAMED else ""
    return f"job{'s' if jobs[1:] else ''} {', '.join(jobs[:NAMED])}{more}"


def doubled(mem: str) -> str:
    """Twice as much memory, in whole MiB, as sbatch takes it; "" if that cannot be told: "0" is all of a node.

    >>> doubled("4G"), doubled("100M/cpu"), doubled("7.81G"), doubled("515000M"), doubled("0"), doubled("")
    ('8192M', '200M/cpu', '15995M', '1030000M', '', '')
    """
    each = "/cpu" if mem.endswith("/cpu") else ""
    size = mib(mem.removesuffix(each))
    return f"{math.ceil(2 * size)}M{each}" if size else ""


def told_by(events: Iterable[Mapping], bases: set[str]) -> Told:
    """What the workers of these jobs wrote, by the job that each names at its start. Clocks do not matter."""
    of: dict[str, JobRef] = {}
    stops, ended = [], set()
    for event in events:
        worker = str(event["worker"])
        if event["event"] == "start" and (ref := JobRef.parse(str(event.get("slurm", "")))) and ref.base in bases:
            of[worker] = ref
        elif event["event"] == "stop" and worker in of:
            ended.add(worker)
            stops.append((of[worker].job, int(event.get("code", 0)), str(event.get("why", ""))))
    last: dict[str, int] = {}
    for ref in of.values():
        last[ref.job] = max(ref.restart, last.get(ref.job, 0))
    cut = frozenset(ref.job for worker, ref in of.items() if worker not in ended and ref.restart == last[ref.job])
    return Told(frozenset(last), stops, cut)


def log_of(stage: Path, job: str) -> Path:
    """The log of a task, as launch.slurm.scripts names it."""
    return stage / "logs" / f"{job if '_' in job else f'{job}_4294967294'}.log"


def end_of(log: Path) -> str:
    """The last TAIL bytes of a log, of a requeued job those since its last start; "" if there is none."""
    try:
        with foreign.open_file(log) as f:
            f.seek(0, 2)
            f.seek(max(0, f.tell() - TAIL))
            text = f.read().decode(errors="replace")
            return text[max((m.start() for m in BEGINS.finditer(text)), default=0) :]
    except (OSError, InputError, StoreError):
        return ""  # the verdict is told all the same


def last_lines(log: Path) -> str:
    """The last LINES of a log, indented."""
    return "\n".join(f"  {line}" for line in end_of(log).rstrip().splitlines()[-LINES:])


# -- Slurm's word --------------------------------------------------------------------------------------------------------


def ended(base: str, cluster: str = "") -> list[Ended]:
    """How the tasks of a job ended, by the controller, and by accounting of those that it has forgotten. [] if nobody knows."""
    columns = "JobID,State,ExitCode,DerivedExitCode,NodeList,ReqMem"
    accounts = parse_accounts(slurm.ask("sacct", "-X", "-n", "-P", "-j", base, "-o", columns, cluster=cluster))
    records = parse_records(slurm.ask("scontrol", "-d", "-o", "show", "job", base, cluster=cluster))  # -d: or it shows no DerivedExitCode
    found = {task.job: task for task in (*accounts, *records)}
    return [task for task in found.values() if task.state in OVER]


def parse_records(text: str) -> list[Ended]:
    """Lines of scontrol -o show job.

    >>> parse_records("JobId=12 ArrayJobId=11 ArrayTaskId=3 JobState=FAILED ExitCode=65:0 NodeList=node1 MinMemoryCPU=100M")
    [Ended(job='11_3', state='FAILED', code=65, node='node1', mem='100M/cpu', starved=False)]
    """
    records = []
    for line in text.splitlines():
        found: dict[str, str] = {}
        for name, value in re.findall(r"(?:^| )(\w+)=(\S*)", line):
            found.setdefault(name, value)  # a command may hold such words, too: it stands behind them
        job = found.get("ArrayJobId", found.get("JobId", "")) + (f"_{found['ArrayTaskId']}" if "ArrayTaskId" in found else "")
        a_core = found.get("MinMemoryCPU", "")
        mem = f"{a_core}/cpu" if a_core else found.get("MinMemoryNode", "")
        state, code, node = (found.get(name, "") for name in ("JobState", "ExitCode", "NodeList"))
        records.append(Ended(job, whole_state(state), _code(code), _node(node), mem, _starved(code, found.get("DerivedExitCode", ""))))
    return records


def parse_accounts(text: str) -> list[Ended]:
    """Lines of sacct. Memory is "4Gn" or "100Mc" until Slurm 21.08, later "4G", that of the job.

    >>> parse_accounts("11_3|FAILED|1:0|0:125|node1|4Gn")
    [Ended(job='11_3', state='FAILED', code=1, node='node1', mem='4G', starved=True)]
    """
    records = []
    for words in (line.split("|") for line in text.splitlines()):
        if len(words) == 6 and words[1]:
            mem = f"{words[5][:-1]}/cpu" if words[5].endswith("c") else words[5].removesuffix("n")
            records.append(Ended(words[0], whole_state(words[1]), _code(words[2]), _node(words[4]), mem, _starved(*words[2:4])))
    return records


def _code(text: str) -> int:
    code, _, number = text.partition(":")
    return int(code) if code.isdigit() and int(code) else -int(number) if number.isdigit() else 0


def _starved(*codes: str) -> bool:
    return any(code.partition(":")[2] == SIG_OOM for code in codes)


def _node(text: str) -> str:
    return "" if text in ("(null)", "None assigned") else text
