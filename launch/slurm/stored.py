"""The two scripts of a submission: beside its record for people, and in Slurm's hands by their bytes alone.

Others may write in a stage's folder, and a folder may come from elsewhere. So a launcher submits what it has in memory, and tells its gate
the digests of these and of what it ordered; the gate, which submits the same again in its user's name, takes nothing from the folder that
differs from them.
"""

import contextlib
import dataclasses
import hashlib
import json
import os
import re
import stat
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from launch.slurm.submissions import FOLDER, Order, Submission, path_of
from synth.errors import InputError, not_trouble
from synth.host.scratch import Scratch
from synth.store.files import write_atomic

NAMES = "{number:04d}.sbatch", "{number:04d}.gate.sbatch"
PLAIN = re.compile(r"\d{4,9}\.sbatch"), re.compile(r"\d{4,9}\.gate\.sbatch")
LARGEST = 4 << 20  # bytes of a script
AGAIN = "run the command of this run again, which writes its own"


@dataclass(frozen=True)
class Scripts:
    """The exact texts that sbatch gets."""

    array: str
    gate: str

    def told(self, submission: Submission) -> tuple[str, str, str]:
        """What the gate of a submission is told on its command line: digests of both scripts, and of what was ordered."""
        return _digest(self.array), _digest(self.gate), _ordered(submission)


def write(stage: Path, order: Order, scripts: Scripts) -> None:
    """Put the scripts beside the record, for people who submit a part of it by hand."""
    write_atomic(stage / FOLDER / order.script, scripts.array.encode())
    write_atomic(stage / FOLDER / order.gate_script, scripts.gate.encode())


def read(stage: Path, submission: Submission, digests: Sequence[str]) -> Scripts:
    """The scripts of a submission. InputError unless they, and its order, are what their launcher wrote, by the digests that it told us."""
    if len(digests) != 3:
        raise InputError(f"{stage / FOLDER}: whoever submitted this gate did not tell it which scripts and order are theirs; {AGAIN}")
    order, texts = Order.of(submission), []
    if _ordered(submission) != digests[2]:
        raise InputError(f"{path_of(stage, submission.number)}: was changed since it was submitted, and is not submitted again; {AGAIN}")
    for name, plain, expected in zip((order.script, order.gate_script), PLAIN, digests, strict=False):
        if not plain.fullmatch(name):
            raise InputError(f"{stage / FOLDER}: names a script {ascii(name)[:100]}, where only its own may be; {AGAIN}")
        text = _text(stage / FOLDER / name)
        if _digest(text) != expected:
            raise InputError(f"{stage / FOLDER / name}: was changed since it was submitted, and is not submitted again; {AGAIN}")
        texts.append(text)
    return Scripts(*texts)


@contextlib.contextmanager
def handed(text: str) -> Iterator[Path]:
    """A file of ours alone that holds a script, while sbatch reads it."""
    scratch = Scratch()  # whoever comes next removes it, were this process killed
    try:
        path = scratch.path / "script.sbatch"
        path.write_text(text, encoding="utf-8")
        yield path
    finally:
        scratch.remove()


def _text(path: Path) -> str:
    try:
        with open(os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK), "rb") as f:
            if not stat.S_ISREG(os.fstat(f.fileno()).st_mode):
                raise InputError(f"{path}: is no plain file; {AGAIN}")
            return f.read(LARGEST).decode()
    except (OSError, ValueError) as e:
        not_trouble(path, e)
        raise InputError(f"{path}: cannot be read ({e}); {AGAIN}") from e


def _ordered(submission: Submission) -> str:
    """Digest of all in a record by which a gate tells what to submit, and how often."""
    counts = [submission.number, submission.tries, submission.goes_on, submission.units, submission.created]
    counts += [submission.mem] if submission.mem else []  # type: ignore[list-item]
    order = {k: v for k, v in dataclasses.asdict(Order.of(submission)).items() if k != "notice" or v}
    return _digest(json.dumps([order, *counts], sort_keys=True))


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()
