"""submissions/<id>.json in a stage folder: one file a submission to a scheduler, written before sbatch as an intent, then with job ids.

    {"id", "stage", "n_jobs", "array", "job_offset", "intended": true, "job_ids": [], "job_name", "host", "user", "time"}

A file that stays without job ids is a submission of which nobody knows whether sbatch took it: its jobs are found by `job_name`,
which is unique. Files are only ever added and completed, so two people who submit at once never overwrite each other.
"""

import dataclasses
import getpass
import json
import os
import secrets
import socket
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from synth.store.files import read_small, write_atomic

FOLDER = "submissions"


@dataclass(frozen=True)
class Submission:
    """One array (or one job) that was asked of the scheduler for one stage."""

    id: str  # sorts by time
    stage: str  # name of the stage folder
    n_jobs: int  # of the whole stage; an array is a part of it where MaxArraySize splits it
    array: str  # "0-15" as given to sbatch; "" for a single job
    job_offset: int  # job_idx = job_offset + SLURM_ARRAY_TASK_ID
    job_name: str  # unique; what squeue -n finds when the job ids never reached the file
    kind: str = "array"  # array | gate
    intended: bool = True
    job_ids: tuple[str, ...] = ()  # as sbatch printed them: "1234" stands for all tasks of its array
    host: str = ""
    user: str = ""
    time: float = 0.0  # seconds since the epoch, of the submitting host; for people


def new(stage: Path, n_jobs: int, array: str = "", job_offset: int = 0, kind: str = "array") -> Submission:
    """A submission that nobody has made yet."""
    now = time.time()
    name = f"{time.strftime('%Y%m%dT%H%M%S', time.gmtime(now))}-{secrets.token_hex(3)}"
    return Submission(
        id=name,
        stage=stage.name,
        n_jobs=n_jobs,
        array=array,
        job_offset=job_offset,
        job_name=f"{stage.name}-{name}" if kind == "array" else f"{kind}-{stage.name}-{name}",
        kind=kind,
        host=socket.gethostname(),
        user=getpass.getuser() if "USER" in os.environ or os.environ.get("LOGNAME") else str(os.getuid()),
        time=round(now, 3),
    )


def intend(stage: Path, submission: Submission) -> Path:
    """Write the intent, durably, before sbatch is called; the file."""
    path = Path(stage) / FOLDER / f"{submission.id}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomic(path, _to_json(submission))
    return path


def record(stage: Path, submission: Submission, job_ids: Sequence[str]) -> Submission:
    """Complete the file with the job ids that sbatch printed."""
    done = dataclasses.replace(submission, job_ids=tuple(job_ids))
    write_atomic(Path(stage) / FOLDER / f"{submission.id}.json", _to_json(done))
    return done


def withdraw(stage: Path, submission: Submission) -> None:
    """sbatch refused: nothing was submitted."""
    (Path(stage) / FOLDER / f"{submission.id}.json").unlink(missing_ok=True)


def read(stage: Path) -> list[Submission]:
    """All submissions of a stage, oldest first; torn or foreign files are left out."""
    names = {f.name for f in dataclasses.fields(Submission)}
    found = []
    for path in sorted((Path(stage) / FOLDER).glob("*.json")):
        try:
            raw = json.loads(read_small(path) or b"")
            found.append(Submission(**{k: v for k, v in raw.items() if k in names} | {"job_ids": tuple(raw["job_ids"])}))
        except (ValueError, KeyError, TypeError, AttributeError):
            continue
    return found


def _to_json(submission: Submission) -> bytes:
    return json.dumps(dataclasses.asdict(submission), indent=1, sort_keys=True).encode() + b"\n"
