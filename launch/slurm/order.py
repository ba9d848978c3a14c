"""Puts the jobs of one stage into the queue, from the launcher or from a gate: arrays over what is missing, a gate behind them.

What is needed for it is the order in each record, and the scripts (see launch.slurm.stored). So a gate on a compute node does the same
as the launcher did.
"""

import contextlib
import dataclasses
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from launch.slurm.limits import split
from launch.slurm.policy import fewer_fit, time_mends
from launch.slurm.stored import Scripts, handed
from launch.slurm.submissions import ABANDONED, SUBMITTED, Array, Order, Submission, path_of, read, record
from synth.host import slurm
from synth.host.slurm import Listed, SlurmError
from synth.run.trust import secrets_of
from synth.store.folder import StageFolder


@dataclass(frozen=True)
class Live:
    """Jobs of a stage's submissions that are pending or running."""

    arrays: tuple[str, ...] = ()  # ids of arrays with a live task
    gate: str = ""  # the newest live gate
    waits_for: frozenset[str] = frozenset()  # job ids that pending array tasks wait for
    held: tuple[str, ...] = ()


def live(records: Iterable[Submission], queue: Iterable[Listed]) -> Live:
    """What of a stage is in the queue. Job numbers may be used again, so the name must agree, too."""
    wanted = {(job, s.job_name): job == s.gate for s in records for job in s.job_ids}
    arrays: dict[str, bool] = {}  # in the order of the queue, as gates and held
    gates: dict[str, bool] = {}
    held: dict[str, bool] = {}
    waits: set[str] = set()
    for listed in queue:
        is_gate = wanted.get((listed.base, listed.name))
        if is_gate is None or listed.state in slurm.ENDING:
            continue
        (gates if is_gate else arrays)[listed.base] = True
        if listed.held:
            held[listed.base] = True
        if not is_gate:
            waits |= set(slurm.depends_on(listed))
    return Live(tuple(arrays), max(gates, key=int, default=""), frozenset(waits), tuple(held))


def place(
    folder: StageFolder, turn: Submission, order: Order, scripts: Scripts, tasks: int, depends: Sequence[str], **facts: Any
) -> Submission:
    """Submit arrays of `tasks` tasks in all, then their gate; fewer where a limit counts jobs, since any number completes the stage. A
    refusal is a SlurmError; nothing of a refused order stays in the queue, and one that time mends leaves no record.

    facts: tries, goes_on, excluded (more nodes that are left out) and mem of the record.
    """
    turn = dataclasses.replace(turn, depends=tuple(depends), order=dataclasses.asdict(order), units=len(folder.committed()), **facts)
    with contextlib.suppress(FileNotFoundError):
        (folder.path / "missing.json").unlink()
    while True:
        try:
            return _placed(folder, dataclasses.replace(turn, n_jobs=tasks * order.workers), order, scripts, tasks, depends)
        except SlurmError as e:
            if tasks > 1 and fewer_fit(str(e)):
                tasks //= 2
                continue
            if time_mends(str(e)):
                path_of(folder.path, turn.number).unlink(missing_ok=True)
            raise


def _placed(folder: StageFolder, turn: Submission, order: Order, scripts: Scripts, tasks: int, depends: Sequence[str]) -> Submission:
    record(folder.path, turn)
    try:
        for offset, size in split(tasks, order.max_array):
            try:
                job = _submit_array(folder, turn, order, scripts, offset, size, tasks, depends)
            except SlurmError:
                if not turn.arrays:
                    raise
                break  # the first arrays are in, and any number of jobs completes the stage
            turn = record(folder.path, dataclasses.replace(turn, arrays=(*turn.arrays, Array(job, size, offset))))
        return add_gate(folder, turn, scripts, [a.job for a in turn.arrays])
    except SlurmError as e:
        with contextlib.suppress(SlurmError):
            if turn.arrays:
                slurm.call("scancel", *(a.job for a in turn.arrays))
        record(folder.path, dataclasses.replace(turn, state=ABANDONED, why=str(e)))
        raise


def add_gate(folder: StageFolder, turn: Submission, scripts: Scripts, after: Sequence[str]) -> Submission:
    """Submit a gate behind jobs, and close the record."""
    options = [f"--dependency=afterany:{':'.join(after)}", f"--job-name={turn.job_name}"]
    gate = _submit(folder, scripts.gate, options, [str(turn.number), *scripts.told(turn)], f"{turn.token}/gate")
    return record(folder.path, dataclasses.replace(turn, gate=gate, state=SUBMITTED))


def _submit(folder: StageFolder, script: str, options: Sequence[str], args: Sequence[str], comment: str) -> str:
    """sbatch with the very text that it is given; the job id. Of the secrets in our environment jobs get those that their stage needs."""
    with handed(script) as path:
        return slurm.submit([*options, str(path), *args], comment, secrets_of(folder.spec))


def _submit_array(
    folder: StageFolder, turn: Submission, order: Order, scripts: Scripts, offset: int, size: int, tasks: int, depends: Sequence[str]
) -> str:
    arrays = len(split(tasks, order.max_array))
    at_once = f"%{max(1, order.max_parallel // arrays)}" if order.max_parallel else ""
    after = [f"--dependency=afterany:{':'.join(depends)}"] if depends else []
    left_out = ",".join(filter(None, (order.exclude, *turn.excluded)))  # the option replaces the script's own
    options = [
        f"--array=0-{size - 1}{at_once}",
        *after,
        *([f"--exclude={left_out}"] if turn.excluded else []),
        *_memory(turn.mem),
        f"--job-name={turn.job_name}",
    ]
    args = [str(offset * order.workers), str(tasks * order.workers)]
    return _submit(folder, scripts.array, options, args, f"{turn.token}/{offset}")


def _memory(mem: str) -> list[str]:
    """Options that replace the script's own.

    >>> _memory("8G"), _memory("200M/cpu"), _memory("")
    (['--mem=8G'], ['--mem-per-cpu=200M'], [])
    """
    amount, _, a_core = mem.partition("/")
    return [f"--mem{'-per-cpu' if a_core else ''}={amount}"] if mem else []


def settle(torn: Submission) -> Submission:
    """The record of a submitter that died in the middle: with the jobs that Slurm took, else given up."""
    arrays, gate = {a.job: a for a in torn.arrays}, torn.gate
    for listed in slurm.listing([torn.user] if torn.user else ()):
        token, _, part = listed.comment.partition("/")
        if token != torn.token or listed.name != torn.job_name:
            continue
        if part == "gate":
            gate = listed.base
        elif listed.base not in arrays:
            arrays[listed.base] = Array(listed.base, 0, int(part))
    state = SUBMITTED if arrays or gate else ABANDONED
    return dataclasses.replace(torn, state=state, arrays=tuple(arrays.values()), gate=gate, why="its submitter died before it was complete")


def move(queue: Iterable[Listed], old: Iterable[str], new: Sequence[str]) -> list[str]:
    """Let every pending job that waits for one of `old` wait for `new` instead; the jobs that were moved."""
    old, moved = set(old) - set(new), {}
    for listed in queue:
        if listed.state == "PENDING" and old & set(slurm.depends_on(listed)):
            moved[listed.base] = {job: kind for job, kind in slurm.depends_on(listed).items() if job not in old}
    for job, kept in moved.items():
        wanted = [f"{kind}:{other}" for other, kind in kept.items()] + [f"afterany:{other}" for other in new if other not in kept]
        slurm.call("scontrol", "update", f"JobId={job}", f"Dependency={','.join(wanted)}")
    return list(moved)


def behind(queue: Sequence[Listed], job: str) -> list[str]:
    """Pending jobs that wait for a job, directly or not."""
    chain: dict[str, None] = {job: None}
    while True:
        new = {j.base for j in queue if j.state == "PENDING" and j.base not in chain and set(slurm.depends_on(j)) & set(chain)}
        if not new:
            return [j for j in chain if j != job]
        chain |= dict.fromkeys(sorted(new, key=int))


def users_of(stages: Iterable[Path]) -> list[str]:
    """Everyone who submitted these stages."""
    return sorted({s.user for stage in stages for s in read(stage) if s.user})
