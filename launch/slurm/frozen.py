"""cluster.freeze=true: jobs and gates run from a copy of the code, made at submission, whatever becomes of the sources while they wait.

The copy is one small archive beside the submission's scripts. Others may write there, so a script carries its digest, and unpacks, into a
folder of the job alone, what it has found to be that. Installed packages are not copied: their versions are, and workers compare.
"""

import gzip
import hashlib
import io
import json
import tarfile
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from synth import foreign
from synth.errors import InputError
from synth.host.code import PACKAGES, modules, packages
from synth.host.source import SOURCE
from synth.store.files import write_atomic


@dataclass(frozen=True)
class Archive:
    """A copy of the code."""

    data: bytes
    sha256: str

    @property
    def name(self) -> str:
        return f"code-{self.sha256[:12]}.tar.gz"


@cache
def archive(source: Path = SOURCE) -> Archive:
    """The modules below a folder, and the versions of what is installed; the same bytes for the same files."""
    packed = io.BytesIO()
    with gzip.GzipFile(fileobj=packed, mode="wb", mtime=0) as stream, tarfile.open(fileobj=stream, mode="w") as tar:
        for name in (*modules(source), *modules(source, "launch")):
            _add(tar, name, (source / name).read_bytes())
        _add(tar, PACKAGES, json.dumps(packages(), indent=1).encode())
    return Archive(packed.getvalue(), hashlib.sha256(packed.getvalue()).hexdigest())


def write(folder: Path, copy: Archive) -> None:
    """Put the archive into a folder, unless it is there, whole: the command of a run is what mends a damaged one."""
    path = folder / copy.name
    try:
        there = foreign.read(path, len(copy.data))
    except (OSError, InputError):  # not there, cut off, too long
        there = b""
    if hashlib.sha256(there).hexdigest() != copy.sha256:
        write_atomic(path, copy.data)


def _add(tar: tarfile.TarFile, name: str, data: bytes) -> None:
    info = tarfile.TarInfo(name)
    info.size, info.mode = len(data), 0o644
    tar.addfile(info, io.BytesIO(data))
