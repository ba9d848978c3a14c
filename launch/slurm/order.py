"""Puts the jobs of one stage into the queue, from the launcher or from a gate: arrays over what is missing, a gate behind them.

What is needed for it is the order in each record, and the scripts (see launch.slurm.stored). So a gate on a compute node does the same
as the launcher did.
"""

import contextlib
import dataclasses
import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from launch.slurm import sbatch
from launch.slurm.limits import split
from launch.slurm.policy import fewer_fit, time_mends
from launch.slurm.sbatch import Queued
from launch.slurm.stored import Scripts, handed
from launch.slurm.submissions import ABANDONED, GATE, SUBMITTED, Array, Order, Submission, another, path_of, read, record, user
from synth.errors import InputError
from synth.host import slurm, squeue
from synth.host.slurm import SlurmError
from synth.host.squeue import Listed
from synth.run.trust import secrets_of
from synth.store.folder import StageFolder


@dataclass(frozen=True)
class Live:
    """Jobs of a stage's submissions that are pending or running, all on one cluster."""

    arrays: tuple[str, ...] = ()  # ids of arrays with a live task
    gate: str = ""  # the newest live gate
    waits_for: frozenset[str] = frozenset()  # job ids that pending array tasks wait for
    held: tuple[str, ...] = ()
    cluster: str = ""
    reasons: frozenset[str] = frozenset()  # why array tasks wait


def live(records: Iterable[Submission], queue: Iterable[Listed]) -> Live:
    """What of a stage is in the queue, by the names of its jobs, which no others have; job numbers are used again.

    A site may give jobs names of its own: one is known by its cluster, number and time of submission, too, and is not released, since
    others may write records. Jobs on more than one cluster: those where arrays are, for no job can wait for one of another cluster.
    """
    records = list(records)
    by_cluster: dict[str, dict[str, dict[str, bool]]] = {}  # cluster -> arrays, gates, ...: in the order of the queue
    for listed in queue:
        part = next(filter(None, (part_of(record, listed) for record in records)), "")
        if not part or listed.state in squeue.ENDING:
            continue
        found = by_cluster.setdefault(listed.cluster, {"arrays": {}, "gates": {}, "held": {}, "waits": {}, "reasons": {}})
        found["gates" if part == GATE else "arrays"][listed.base] = True
        if listed.held and any(record.part(listed.name) for record in records):
            found["held"][listed.base] = True
        if part != GATE:
            found["waits"] |= dict.fromkeys(squeue.depends_on(listed), True)
            found["reasons"][listed.reason] = True
    if not by_cluster:
        return Live()
    cluster, found = max(by_cluster.items(), key=lambda item: (bool(item[1]["arrays"]), bool(item[1]["gates"])))
    gate = max(found["gates"], key=int, default="")
    return Live(tuple(found["arrays"]), gate, frozenset(found["waits"]), tuple(found["held"]), cluster, frozenset(found["reasons"]))


def part_of(record: Submission, listed: Listed) -> str:
    """Which of a submission's jobs this is: GATE, the offset of an array, or "" if it is none of them."""
    if part := record.part(listed.name, listed.comment, listed.base):
        return part
    at = record.submitted.get(listed.base)
    if not at or at != listed.submitted or slurm.home(record.cluster) != listed.cluster:
        return ""
    return GATE if listed.base == record.gate else next((str(a.offset) for a in record.arrays if a.job == listed.base), "")


def queue_of(stages: Iterable[Path], clusters: str = "") -> list[Listed]:
    """What is in the queues of all clusters that have jobs of these stages, and of those on which more may be put.

    A cluster of a record that Slurm does not know here is an InputError: its jobs may live all the same.
    """
    records = {path_of(stage, s.number): s for stage in stages for s in read(stage)}
    names = {name for s in records.values() for name in s.cluster.split(",")}
    try:
        return slurm.listing(sorted({s.user for s in records.values() if s.user}), {*names, *clusters.split(",")})
    except SlurmError as e:
        unknown = [path for path, s in records.items() if s.cluster and any(f"'{name}'" in str(e) for name in s.cluster.split(","))]
        if e.passing or not unknown:
            raise
        raise InputError(
            f"{unknown[0]}: jobs of this submission are on cluster {records[unknown[0]].cluster}, which Slurm does not know here ({e}); "
            "run this where it does, or remove that file if they are gone"
        ) from e


def place(
    folder: StageFolder, turn: Submission, order: Order, scripts: Scripts, tasks: int, depends: Sequence[str], **facts: Any
) -> Submission:
    """Submit arrays of `tasks` tasks in all, then their gate; fewer where a limit counts jobs, since any number completes the stage. A
    refusal is a SlurmError; nothing of a refused order stays in the queue, and one that time mends leaves no record.

    facts: tries, goes_on, excluded (more nodes that are left out), mem and cluster of the record. Where nobody knows whether a job
    is queued the record stays open: whoever comes next looks for it by its name.
    """
    turn = dataclasses.replace(turn, depends=tuple(depends), order=dataclasses.asdict(order), units=folder.kept(), **facts)
    with contextlib.suppress(FileNotFoundError):
        (folder.path / "missing.json").unlink()
    while True:
        try:
            return _placed(folder, dataclasses.replace(turn, n_jobs=tasks * order.workers), order, scripts, tasks, depends)
        except SlurmError as e:
            if tasks == 1 or e.unsure or not fewer_fit(str(e)):
                _withdrawn(folder, turn, e)
                raise
            tasks, turn = tasks // 2, another(folder.path, turn)  # it stays ours meanwhile


def _placed(folder: StageFolder, turn: Submission, order: Order, scripts: Scripts, tasks: int, depends: Sequence[str]) -> Submission:
    record(folder.path, turn)
    try:
        for offset, size in split(tasks, order.max_array):
            try:
                job = _submit_array(folder, turn, order, scripts, offset, size, tasks, depends)
            except SlurmError as e:
                if not turn.arrays or e.unsure:
                    raise
                break  # the first arrays are in, and any number of jobs completes the stage
            turn = record(folder.path, with_job(turn, job, arrays=(*turn.arrays, Array(job.job, size, offset))))
        return _gated(folder, turn, scripts, [a.job for a in turn.arrays])
    except SlurmError as e:
        if not e.unsure and turn.arrays:
            with contextlib.suppress(SlurmError):
                slurm.call("scancel", *(a.job for a in turn.arrays), cluster=turn.cluster)
        raise


def _withdrawn(folder: StageFolder, turn: Submission, error: SlurmError) -> None:
    """The record of a turn of which nothing is in the queue: given up, with the reason; away where the same is tried again and again. It
    stays open where nobody knows what is in the queue."""
    if error.unsure:
        return
    if time_mends(str(error)):
        path_of(folder.path, turn.number).unlink(missing_ok=True)
    else:
        record(folder.path, dataclasses.replace(turn, state=ABANDONED, why=str(error)))


def with_job(turn: Submission, job: Queued, **facts: Any) -> Submission:
    """The record with one more job that is queued."""
    submitted = {**turn.submitted, **({job.job: job.submitted} if job.submitted else {})}
    return dataclasses.replace(turn, cluster=job.cluster or turn.cluster, submitted=submitted, **facts)


def add_gate(folder: StageFolder, turn: Submission, scripts: Scripts, after: Sequence[str]) -> Submission:
    """Submit a gate behind jobs that are there already, and close its record."""
    try:
        return _gated(folder, turn, scripts, after)
    except SlurmError as e:
        _withdrawn(folder, turn, e)
        raise


def _gated(folder: StageFolder, turn: Submission, scripts: Scripts, after: Sequence[str]) -> Submission:
    options = [f"--dependency=afterany:{':'.join(after)}"]
    gate = _submit(folder, turn, scripts.gate, options, [str(turn.number), *scripts.told(turn)], GATE)
    return record(folder.path, with_job(turn, gate, gate=gate.job, state=SUBMITTED))


def _submit(folder: StageFolder, turn: Submission, script: str, options: Sequence[str], args: Sequence[str], part: str) -> Queued:
    """sbatch with the very text that it is given. Of the secrets in our environment jobs get those that their stage needs."""
    with handed(script) as path:
        return sbatch.submit([*options, str(path), *args], turn.named(part), turn.cluster, secrets_of(folder.spec))


def _submit_array(
    folder: StageFolder, turn: Submission, order: Order, scripts: Scripts, offset: int, size: int, tasks: int, depends: Sequence[str]
) -> Queued:
    arrays = len(split(tasks, order.max_array))
    at_once = f"%{max(1, order.max_parallel // arrays)}" if order.max_parallel else ""
    after = [f"--dependency=afterany:{':'.join(depends)}"] if depends else []
    left_out = ",".join(filter(None, (order.exclude, *turn.excluded)))  # the option replaces the script's own
    options = [
        f"--array=0-{size - 1}{at_once}",
        *after,
        *([f"--exclude={left_out}"] if turn.excluded else []),
        *_memory(turn.mem),
    ]
    args = [str(offset * order.workers), str(tasks * order.workers)]
    return _submit(folder, turn, scripts.array, options, args, str(offset))


def _memory(mem: str) -> list[str]:
    """Options that replace the script's own.

    >>> _memory("8G"), _memory("200M/cpu"), _memory("")
    (['--mem=8G'], ['--mem-per-cpu=200M'], [])
    """
    amount, _, a_core = mem.partition("/")
    return [f"--mem{'-per-cpu' if a_core else ''}={amount}"] if mem else []


def unseen(stage: Path, records: Sequence[Submission]) -> str:
    """Why a stage is not submitted again: nobody here can know whether its newest jobs still live. "" where that can be known, or their
    gate has given the stage up."""
    if not (why := hidden(stage, records)):
        return ""
    last = next(s for s in reversed(records) if s.state == SUBMITTED)
    gone = f"If they are gone, remove {path_of(stage, last.number)} and run this again"
    return f"{why}: ask {last.user}, who can go on with the same command. {gone}"


def hidden(stage: Path, records: Sequence[Submission]) -> str:
    """That a stage's newest jobs are somebody else's, on a site that hides jobs of others; "" as above."""
    last = next((s for s in reversed(records) if s.state == SUBMITTED), None)
    if last is None or last.user in ("", user()) or os.geteuid() == 0 or (stage / "missing.json").exists() or not slurm.hides_jobs():
        return ""
    return (
        f"{last.user} submitted it (jobs {' '.join(last.job_ids)}), and this site shows nobody the jobs of others (PrivateData), so "
        "whether they wait or run is not known here"
    )


def release(jobs: Sequence[str], cluster: str = "") -> str:
    """Let held jobs go; what is to be said of them, and of those that stay: an administrator's hold is theirs alone to end."""
    stay = {}
    for job in jobs:
        try:
            slurm.call("scontrol", "release", job, patience=0.0, cluster=cluster)
        except SlurmError as e:
            stay[job] = str(e)
    gone = [job for job in jobs if job not in stay]
    said = f"; released, as they were held: {' '.join(gone)}" if gone else ""
    if not stay:
        return said
    by = "by an administrator, who alone can release them" if any("denied" in why.lower() for why in stay.values()) else "still"
    why = "; ".join(dict.fromkeys(words.partition("\n")[0] for words in stay.values()))  # scontrol says it twice
    return f"{said}; held {by}: {' '.join(stay)} ({why})"


def settle(torn: Submission) -> Submission:
    """The record of a submitter that died in the middle: with the jobs that Slurm took, else given up."""
    arrays, gate, cluster = {a.job: a for a in torn.arrays}, torn.gate, torn.cluster
    submitted = dict(torn.submitted)
    for listed in slurm.listing([torn.user] if torn.user else (), torn.cluster.split(",")):
        part = torn.part(listed.name, listed.comment, listed.base)
        if not part:
            continue
        cluster, submitted[listed.base] = listed.cluster, submitted.get(listed.base, listed.submitted)
        if part == GATE:
            gate = listed.base
        elif listed.base not in arrays:
            arrays[listed.base] = Array(listed.base, 0, int(part))
    torn = dataclasses.replace(torn, arrays=tuple(arrays.values()), gate=gate, cluster=cluster, submitted=submitted)
    why = "its submitter died before it was complete"
    return dataclasses.replace(torn, state=SUBMITTED if arrays or gate else ABANDONED, why=why)


def move(queue: Iterable[Listed], old: Iterable[str], new: Sequence[str], cluster: str = "") -> list[str]:
    """Let every pending job of a cluster that waits for one of `old` wait for `new` instead; the jobs that were moved."""
    old, moved = set(old) - set(new), {}
    for listed in queue:
        if listed.cluster == slurm.home(cluster) and listed.state == "PENDING" and old & set(squeue.depends_on(listed)):
            moved[listed.base] = {job: kind for job, kind in squeue.depends_on(listed).items() if job not in old}
    for job, kept in moved.items():
        wanted = [f"{kind}:{other}" for other, kind in kept.items()] + [f"afterany:{other}" for other in new if other not in kept]
        slurm.call("scontrol", "update", f"JobId={job}", f"Dependency={','.join(wanted)}", cluster=cluster)
    return list(moved)


def bind(queue: Sequence[Listed], arrays: Iterable[str], gates: Sequence[str], cluster: str = "") -> list[str]:
    """Let arrays of which no task runs wait for these gates; those that did not. What a held job waited for is forgotten when it ends."""
    loose = []
    for array in arrays:
        tasks = [j for j in queue if j.base == array and j.cluster == slurm.home(cluster) and j.state not in squeue.ENDING]
        if all(j.state == "PENDING" for j in tasks) and not all(set(gates) <= set(squeue.depends_on(j)) for j in tasks):
            loose.append(array)
            after = ",".join(f"afterany:{gate}" for gate in gates)
            slurm.call("scontrol", "update", f"JobId={array}", f"Dependency={after}", cluster=cluster)
    return loose


def revoked(jobs: Iterable[str], cluster: str = "") -> set[str]:
    """Those that nobody will begin: a cluster that is drained in its federation drops what could begin meanwhile. Slurm does not count them
    as ended, so what waits for them waits for ever."""
    jobs = sorted(jobs)
    tasks = slurm.seen(jobs, cluster=cluster) if jobs else None
    return {task.base for task in tasks or () if task.state == squeue.REVOKED}


def drop(jobs: Iterable[str], cluster: str = "") -> None:
    """Take revoked jobs out of the queue, in which they would stay, as far as they are ours."""
    if jobs := sorted(jobs):
        with contextlib.suppress(SlurmError):
            slurm.call("scancel", *jobs, patience=0.0, cluster=cluster)


def behind(queue: Sequence[Listed], job: str) -> list[str]:
    """Pending jobs that wait for a job, directly or not."""
    chain: dict[str, None] = {job: None}
    while True:
        new = {j.base for j in queue if j.state == "PENDING" and j.base not in chain and set(squeue.depends_on(j)) & set(chain)}
        if not new:
            return [j for j in chain if j != job]
        chain |= dict.fromkeys(sorted(new, key=int))


def users_of(stages: Iterable[Path]) -> list[str]:
    """Everyone who submitted these stages."""
    return sorted({s.user for stage in stages for s in read(stage) if s.user})
