"""submissions/<number>.json: what was asked of a scheduler for one stage, one file a submission.

The file is there before anything is queued ("intended", made exclusively, so that two commands do not submit the same stage
twice), and gets the job ids one by one. A record that says "intended" belongs to a process that is submitting at this moment,
or died at it.
Files are plain JSON; scripts lie beside them and can be given to sbatch by hand.
"""

import dataclasses
import getpass
import json
import os
import secrets
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from synth.store.files import read_small, write_atomic, write_once
from synth.store.leases import Owner

FOLDER = "submissions"
INTENDED, SUBMITTED, ABANDONED = "intended", "submitted", "abandoned"
PATIENCE = 120.0  # seconds of our own clock that another machine's intent may stay as it is
POLL = 0.2  # seconds


@dataclass(frozen=True)
class Array:
    """One job array: tasks 0..tasks-1 are the stage's Slurm jobs offset..offset+tasks-1."""

    job: str
    tasks: int
    offset: int = 0


@dataclass(frozen=True)
class Submission:
    """One file. `order` is what the scheduler's own module needs to do the same again (see launch.slurm.order)."""

    number: int
    state: str = INTENDED
    token: str = ""  # unique; with it jobs of a record that was never completed are found in the queue
    job_name: str = ""  # of all its jobs: <stage folder>-<token>
    user: str = ""
    owner: Mapping = field(default_factory=dict)  # the submitting process: synth.store.leases.Owner
    created: float = 0.0  # seconds since the epoch, for people
    arrays: tuple[Array, ...] = ()
    gate: str = ""  # job id
    depends: tuple[str, ...] = ()  # job ids that the arrays wait for
    n_jobs: int = 0  # workers
    tries: int = 0  # submissions in a row by gates that gained nothing
    goes_on: int = 0  # submissions in a row by gates
    units: int = 0  # committed when it was made
    order: Mapping = field(default_factory=dict)
    container: Mapping = field(default_factory=dict)  # that its workers run in: image, runtime, digest, what is inside
    excluded: tuple[str, ...] = ()  # nodes that a gate left out, because workers left them as bad
    why: str = ""  # of an abandoned one

    @property
    def job_ids(self) -> tuple[str, ...]:
        """As sbatch printed them: "1234" stands for all tasks of its array. Incomplete while it is intended."""
        return tuple(a.job for a in self.arrays) + ((self.gate,) if self.gate else ())


def path_of(stage: Path, number: int, suffix: str = ".json") -> Path:
    return Path(stage) / FOLDER / f"{number:04d}{suffix}"


def read(stage: Path) -> list[Submission]:
    """All submissions of a stage, oldest first; torn or foreign files are left out."""
    files = sorted((Path(stage) / FOLDER).glob("[0-9]*.json"))
    return [s for s in map(_parse, map(read_small, files)) if s is not None]


def _parse(data: bytes | None) -> Submission | None:
    try:
        raw = json.loads(data or b"")
        raw["arrays"] = tuple(Array(**a) for a in raw["arrays"])
        raw["depends"] = tuple(raw["depends"])
        raw["excluded"] = tuple(raw.get("excluded", ()))
        known = {f.name for f in dataclasses.fields(Submission)}
        return Submission(**{k: v for k, v in raw.items() if k in known})
    except (ValueError, KeyError, TypeError):
        return None


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
        job_name=f"{Path(stage).name}-{token}",
        user=user(),
        owner=dataclasses.asdict(Owner.me()),
        created=round(time.time(), 3),
    )
    path_of(stage, number).parent.mkdir(parents=True, exist_ok=True)
    return new if write_once(path_of(stage, number), _dump(new)) else None


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
            if mine := intend(stage, last.number + 1 if last else 1):
                return mine
            continue
        if last != seen[0]:
            seen = (last, clock())
        if _gone(last) or clock() - seen[1] > patience:
            record(stage, settle(last))
        else:
            sleep(POLL)


def _gone(submission: Submission) -> bool:
    try:
        return Owner(**submission.owner).is_gone()
    except TypeError:
        return True


def _dump(submission: Submission) -> bytes:
    return json.dumps(dataclasses.asdict(submission), indent=1, sort_keys=True, ensure_ascii=False).encode() + b"\n"
