"""The code that a process computes with, by its digest: sources may be edited while jobs wait for their start, or while they run.

A launcher tells its workers what it planned with, in their environment; a worker that finds other sources says so in its events. With
cluster.freeze=true jobs run from a copy of the code (launch.slurm.frozen), beside which PACKAGES says what was installed then.
"""

import contextlib
import hashlib
import json
import os
from collections.abc import Callable, Iterator, Mapping
from functools import cache
from importlib.metadata import distributions
from pathlib import Path

from synth.host.source import SOURCE

PLANNED = "SYNTHSET_CODE"  # the digest of the code that planned, of the launcher that started a worker
PACKAGES = "packages.json"  # beside a frozen copy: name -> version of what was installed when it was made
NAMED = 5  # packages that are told
READ = ".schema.json"  # the ending of what modules read beside themselves
TRAINING = os.path.join("synth", "embedded", "train")  # in no wheel, and no worker's


def modules(source: Path = SOURCE, top: str = "synth") -> Iterator[str]:
    """Names of the Python files of a package below a folder, and of what they read beside themselves, relative to it, in a fixed order;
    without those that train models, and what no import finds, as the link .#x.py that an editor puts beside a file while it is changed."""
    for folder, below, files in os.walk(source / top):
        inside = os.path.relpath(folder, source)
        below[:] = sorted(name for name in below if name != "__pycache__" and os.path.join(inside, name) != TRAINING)
        yield from (os.path.join(inside, name) for name in sorted(files) if name.endswith((".py", READ)) and name[0] != ".")


def digest(source: Path = SOURCE) -> str:
    """sha256 of the modules of synth below a folder, the first 12 digits. One that cannot be read counts by its name: who imports it says
    what is wrong with it. A process reads the files once, and again when one of them is another by what its folder says."""
    there = [(name, _as_it_is(os.path.join(source, name))) for name in modules(source)]
    known = _digests.get(source)
    if known is None or known[0] != there:
        whole = hashlib.sha256()
        for name, _ in there:
            whole.update(f"{name}\0".encode())
            with contextlib.suppress(OSError), open(os.path.join(source, name), "rb") as f:
                whole.update(hashlib.sha256(f.read()).digest())
        known = _digests[source] = there, whole.hexdigest()[:12]
    return known[1]


_digests: dict[Path, tuple[list, str]] = {}  # folder -> what was read there, and its digest


def _as_it_is(path: str) -> tuple[int, ...] | None:
    """What changes with a file's bytes, however it is edited; None where nothing can be said. NFS asks its server where one is opened."""
    with contextlib.suppress(OSError), open(path, "rb", buffering=0) as f:
        s = os.fstat(f.fileno())
        return s.st_ino, s.st_size, s.st_mtime_ns, s.st_ctime_ns
    return None


@cache
def planned_with() -> str:
    """The digest of the code as it was when this process first asked: a launcher asks before it plans, and tells its workers."""
    return digest()


def packages() -> dict[str, str]:
    """name -> version of all that Python finds here; of two of one name the first, as an import does."""
    seen: dict[str, str] = {}
    for found in distributions():
        seen.setdefault(str(found.metadata["Name"]).lower().replace("_", "-"), found.version)
    return dict(sorted(seen.items()))


class Sources:
    """What a worker tells of its code: when it begins, and when it ends."""

    def __init__(self, source: Path = SOURCE, env: Mapping[str, str] = os.environ):
        self._source, self.planned = source, env.get(PLANNED, "")
        self.digest = digest(source)

    def begin(self, event: Callable[..., object]) -> None:
        """An event if the code is not that of the plan, or what is installed not what was when it was frozen."""
        if self.planned and self.planned != self.digest:
            why = f"the code is {self.digest}, and was {self.planned} when this was submitted"
            event("sources", why=f"{why}: its sources in {self._source} were edited since")
        if other := other_packages(self._source):
            event("sources", why=f"other packages are installed than when this was submitted: {other}")

    def end(self, event: Callable[..., object]) -> None:
        """An event if the sources were edited while this worker ran: it may have computed with some of each."""
        try:
            now = digest(self._source)
        except OSError:  # a folder that goes with its job, or a file system in trouble: whoever needs it says so
            return
        if now != self.digest:
            event("sources", why=f"the sources in {self._source} were edited while this worker ran: from {self.digest} to {now}")


def other_packages(source: Path) -> str:
    """How what is installed differs from what was when the code in a folder was frozen; "" where it does not, or was never frozen."""
    try:
        then = json.loads((source / PACKAGES).read_bytes())
    except FileNotFoundError:
        return ""
    now = packages()
    changed = [name for name in sorted(then.keys() | now.keys()) if then.get(name) != now.get(name)]
    said = [f"{name} is {now.get(name, 'not there')}, was {then.get(name, 'not there')}" for name in changed[:NAMED]]
    return "; ".join(said) + (f"; and {len(changed) - NAMED} more" if changed[NAMED:] else "")
