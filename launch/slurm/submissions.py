"""submissions/<number>.json: what was asked of a scheduler for one stage, one file a submission.

The file is there before anything is queued ("intended", made exclusively, so that two commands do not submit the same stage
twice), and gets the job ids one by one. A record that says "intended" belongs to a process that is submitting at this moment,
or died at it.
Files are plain JSON; scripts lie beside them and can be given to sbatch by hand.
"""

import dataclasses
import getpass
import json
import math
import os
import re
import secrets
import time
import typing
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from synth import foreign
from synth.errors import InputError, StoreError
from synth.foreign import WORD, Maybe, whole
from synth.host.slurm import NAME
from synth.store.files import make_folder, write_atomic, write_once
from synth.store.leases import Owner

FOLDER = "submissions"
TOKEN = re.compile(r"[0-9a-f]{8}")
MEM = re.compile(r"[\d.]+[KMGT]?(/cpu)?", re.IGNORECASE)
GATE = "gate"
INTENDED, SUBMITTED, ABANDONED = "intended", "submitted", "abandoned"
PATIENCE = 120.0  # seconds of our own clock that another machine's intent may stay as it is
POLL = 0.2  # seconds
MOST = 100  # arrays of one submission that are looked for
LARGEST = 1e12  # of a number in a record: seconds since the epoch are below it, and no site has as many jobs


@dataclass(frozen=True)
class Array:
    """One job array: tasks 0..tasks-1 are the stage's Slurm jobs offset..offset+tasks-1."""

    job: str
    tasks: int
    offset: int = 0


@dataclass(frozen=True)
class Order:
    """What to submit for a stage; stored in its submission."""

    script: str  # file names beside the record
    gate_script: str
    n_jobs: int  # array tasks at most
    workers: int = 1  # in each
    max_parallel: int | None = None
    max_array: int = 1001
    heal: int = 0
    max_requeues: int = 0
    on_missing: str = "cancel"
    exclude: str = ""  # nodes that the user leaves out, as sbatch wants them
    command: str = ""  # what a person runs to repair
    notice: Mapping = field(default_factory=dict)  # what the last gate of the run tells: launch.slurm.last.Notice; {}: nothing

    @staticmethod
    def of(submission: "Submission") -> "Order":
        """InputError of a record of which nothing was submitted."""
        if not submission.order:
            raise InputError(f"submission {submission.number} submitted nothing; run the command that made it again")
        order = Order(**_known(Order, submission.order))
        if not (order.n_jobs and order.workers and order.max_array):
            raise InputError(f"submission {submission.number}: n_jobs, workers and max_array count from 1")
        return order

    def tasks(self, units: int) -> int:
        """Array tasks for so many missing units: no worker without a unit, one at least."""
        return max(1, min(self.n_jobs, math.ceil(units / self.workers)))


@dataclass(frozen=True)
class Submission:
    """One file. `order` is what the scheduler's own module needs to do the same again (see launch.slurm.order)."""

    number: int
    state: str = INTENDED
    token: str = ""  # unique; with it jobs of a record that was never completed are found in the queue
    job_name: str = ""  # <stage folder>-<token>: the names of all its jobs begin with it, see named()
    user: str = ""
    owner: Mapping = field(default_factory=dict)  # the submitting process: synth.store.leases.Owner
    created: float = 0.0  # seconds since the epoch, for people
    arrays: tuple[Array, ...] = ()
    gate: str = ""  # job id
    cluster: str = ""  # that its jobs are on; until the first is queued where they may go, "a,b"; "": of an older record, this one
    submitted: Mapping = field(default_factory=dict)  # job id -> seconds since the epoch, by the controller's clock
    depends: tuple[str, ...] = ()  # job ids that the arrays wait for
    n_jobs: int = 0  # workers
    tries: int = 0  # submissions in a row by gates that gained nothing
    goes_on: int = 0  # submissions in a row by gates
    units: int = 0  # committed when it was made
    order: Mapping = field(default_factory=dict)
    container: Mapping = field(default_factory=dict)  # that its workers run in: image, runtime, digest, what is inside
    excluded: tuple[str, ...] = ()  # nodes that a gate left out, because workers left them as bad, or could not begin there
    mem: str = ""  # that a gate asked for because jobs needed more than they were given: launch.slurm.endings.Reason
    why: str = ""  # of an abandoned one

    @property
    def job_ids(self) -> tuple[str, ...]:
        """As sbatch printed them: "1234" stands for all tasks of its array. Incomplete while it is intended."""
        return tuple(a.job for a in self.arrays) + ((self.gate,) if self.gate else ())

    def named(self, part: str) -> str:
        """The name of one of its jobs, which no other job has. part: GATE, or the offset of an array."""
        return f"{self.job_name}.{part}"

    def names(self) -> list[str]:
        """Of all jobs that it may have in the queue, by what was ordered."""
        order = Order.of(self) if self.order else None
        offsets = range(0, max(1, self.n_jobs // order.workers), order.max_array)[:MOST] if order else ()
        return [self.named(GATE), *(self.named(str(offset)) for offset in offsets)]

    def part(self, name: str, comment: str = "", job: str = "") -> str:
        """Which of its jobs has this name; "" if none. In older records all have one name, and tell the part in their comment."""
        if not self.job_name or not name.startswith(self.job_name):
            return ""
        if name == self.job_name:
            token, _, part = comment.partition("/")
            name = self.named(part if token == self.token else GATE if job and job == self.gate else "0")
        part = name.removeprefix(f"{self.job_name}.")
        return part if part == GATE or part.isdecimal() else ""


def path_of(stage: Path, number: int, suffix: str = ".json") -> Path:
    return Path(stage) / FOLDER / f"{number:04d}{suffix}"


_OWNER: Mapping[str, object] = dict.fromkeys(("worker", "host", "boot", "start", "slurm_job"), Maybe(WORD)) | {
    "pid": Maybe(whole(1, (1 << 31) - 1))
}


def read(stage: Path, tell: Callable[[str], object] = lambda what: None) -> list[Submission]:
    """All submissions of a stage, oldest first; files that are no records of ours are left out, and told."""
    found = []
    for file in _files(stage):
        try:
            found.append(read_one(file))
        except FileNotFoundError:
            continue
        except (InputError, StoreError, OSError) as e:
            tell(f"{file}: is no record of a submission, and left out ({e}); look for its jobs with squeue --me")
    return found


def _files(stage: Path) -> list[Path]:
    return sorted((Path(stage) / FOLDER).glob("[0-9]*.json"))


def read_one(file: Path) -> Submission:
    """The record in a file, judged: each field of its type, job ids numbers, names of scripts plain. Anything else is an InputError."""
    raw = foreign.read_json(file, foreign.RECORD)
    try:
        known = _known(Submission, raw)
        known["arrays"] = tuple(Array(**_known(Array, a)) for a in known.get("arrays", ()))
        fields: dict[str, Any] = {k: tuple(v) if isinstance(v, list) else v for k, v in known.items()}
        submission = Submission(**fields)
        if submission.order:
            Order.of(submission)
    except (KeyError, TypeError, AttributeError) as e:
        raise InputError(f"{file}: {e}") from e
    foreign.obj(submission.owner or {}, f"{file}: owner", **_OWNER)
    jobs = (*submission.job_ids, *submission.depends)
    # by the name lost jobs are looked for, and cancelled: it is one that only `intend` gives
    named = not submission.job_name or bool(TOKEN.fullmatch(submission.token) and submission.job_name.endswith(f"-{submission.token}"))
    named = named and (not submission.mem or bool(MEM.fullmatch(submission.mem)))
    # words of a command line: -M all would be every cluster
    named = named and (not submission.cluster or all(NAME.fullmatch(c) and c != "all" for c in submission.cluster.split(",")))
    named = named and all(job.isdecimal() and _fits(at, float) for job, at in submission.submitted.items())
    fits = named and all(job.isascii() and job.isdigit() for job in jobs) and path_of(file.parents[1], submission.number) == file
    if not fits or submission.state not in (INTENDED, SUBMITTED, ABANDONED):
        raise InputError(f"{file}: is not of this stage")
    return submission


def _known(cls: type, raw: Mapping) -> dict[str, Any]:
    """The fields of a dataclass in a foreign object; TypeError for one of another type. Others are left out."""
    hints = typing.get_type_hints(cls)
    known = {name: value for name, value in raw.items() if name in hints}
    for name, value in known.items():
        if not _fits(value, hints[name]):
            raise TypeError(f"{name} is of another type")
    return known


def _fits(value: Any, tp: Any) -> bool:
    """Whether a value of JSON is of a field's type, and a number of this world.

    >>> _fits(3, int), _fits(True, int), _fits(["a"], tuple[str, ...]), _fits(None, int | None), _fits(-1, int)
    (True, False, True, True, False)
    """
    args = typing.get_args(tp)
    if typing.get_origin(tp) is tuple:
        return isinstance(value, list) and all(_fits(v, dict if args[0] is Array else args[0]) for v in value)
    if args:
        return any(_fits(value, one) for one in args)
    if tp in (int, float):
        return isinstance(value, (int, tp)) and not isinstance(value, bool) and 0 <= value < LARGEST
    return isinstance(value, dict) if tp is Mapping else isinstance(value, tp)


def record(stage: Path, submission: Submission) -> Submission:
    """Write what became of a submission; it is given back."""
    write_atomic(path_of(stage, submission.number), _dump(submission))
    return submission


def intend(stage: Path, number: int) -> Submission | None:
    """Become the one who submits under this number; None if somebody else has it."""
    token = secrets.token_hex(4)
    new = Submission(
        number,
        token=token,
        job_name=job_name(stage, token),
        user=user(),
        owner=dataclasses.asdict(Owner.me()),
        created=round(time.time(), 3),
    )
    make_folder(path_of(stage, number).parent)
    return new if write_once(path_of(stage, number), _dump(new)) else None


def another(stage: Path, turn: Submission) -> Submission:
    """A turn whose jobs have other names: those of what was cancelled would be found as its own."""
    token = secrets.token_hex(4)
    return dataclasses.replace(turn, token=token, job_name=job_name(stage, token))


def job_name(stage: Path, token: str) -> str:
    """The name of all jobs of a submission."""
    return f"{Path(stage).name}-{token}"


def user() -> str:
    """The login name, or the number where a container has no passwd entry."""
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return str(os.getuid())


def take_turn(
    stage: Path,
    settle: Callable[[Submission], Submission],
    patience: float = PATIENCE,
    clock: Callable[[], float] = time.monotonic,
    sleep: Callable[[float], object] = time.sleep,
) -> Submission:
    """An intent of our own, when nobody else is in the middle of submitting this stage.

    An open intent of a living process is waited for. When its process has ended (on another machine: when its file stayed as it
    is for `patience` seconds), settle(it) looks in the queue for its jobs and gives back the record as it should be.
    """
    seen: tuple[Submission | None, float] = (None, clock())
    while True:
        last = next(iter(reversed(read(stage))), None)
        if last is None or last.state != INTENDED:
            if mine := intend(stage, _free(stage)):
                return mine
            continue
        if last != seen[0]:
            seen = (last, clock())
        if _gone(last) or clock() - seen[1] > patience:
            record(stage, settle(last))
        else:
            sleep(POLL)


def _free(stage: Path) -> int:
    """The number behind all that files have, strange ones too."""
    return 1 + max((int(m[0]) for p in _files(stage) if (m := re.match(r"\d{1,9}(?=\.json$)", p.name))), default=0)


def _gone(submission: Submission) -> bool:
    try:
        return Owner(**submission.owner).is_gone()
    except TypeError:
        return True


def _dump(submission: Submission) -> bytes:
    return json.dumps(dataclasses.asdict(submission), indent=1, sort_keys=True, ensure_ascii=False).encode() + b"\n"
