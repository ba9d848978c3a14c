"""Commit: the first-wins link that makes a unit exist. Everything else only saves work."""

import contextlib
import ctypes
import os
import shutil
from enum import Enum
from pathlib import Path

from synth.errors import InputError
from synth.store import faults
from synth.store.files import fsync_folder, storing
from synth.store.folder import StageFolder

_RENAME_NOREPLACE, _AT_FDCWD = 1, -100


class Outcome(Enum):
    OURS = "ours"
    THEIRS = "theirs"  # another worker was first, with the same bytes
    DIFFERS = "differs"  # another worker was first, with other bytes: the stage is not deterministic


def commit(folder: StageFolder, part: Path, unit: int, digest: str) -> Outcome:
    """Give a sealed, fsynced part its final name, unless the unit exists. The part's own name is gone afterwards.

    digest: sha256 of the part's index. A part that an adopter removed meanwhile counts as THEIRS: it removed it after its commit.
    """
    target = folder.unit_path(unit)
    with storing(target):
        target.parent.mkdir(parents=True, exist_ok=True)
        faults.point("before_link")
        ours = _link(part, target) if folder.links else _claim(part, target)
        faults.point("after_link")
        with contextlib.suppress(FileNotFoundError):
            part.unlink()
        with contextlib.suppress(FileNotFoundError):
            Path(f"{part}.idx").unlink()
        fsync_folder(target.parent)
    faults.point("after_commit")
    if ours:
        return Outcome.OURS
    with folder.reader(unit) as reader:
        return Outcome.THEIRS if reader.digest == digest else Outcome.DIFFERS


def _link(part: Path, target: Path) -> bool:
    try:
        os.link(part, target)
    except FileExistsError:
        # a network file system may repeat a call whose answer got lost: then the existing file is ours
        with contextlib.suppress(FileNotFoundError):
            return os.path.samefile(part, target)
        return False
    except FileNotFoundError:
        if target.exists():
            return False
        raise
    return True


def _claim(part: Path, target: Path) -> bool:
    """Without hard links: rename without replacing where the kernel can, else an exclusive claim file, then rename."""
    libc = ctypes.CDLL(None, use_errno=True)
    if hasattr(libc, "renameat2"):
        if libc.renameat2(_AT_FDCWD, os.fsencode(part), _AT_FDCWD, os.fsencode(target), _RENAME_NOREPLACE) == 0:
            return True
        if target.exists():
            return False
    claim = part.with_name(f"{target.name}.claim-{part.name}")  # a claim of a dead worker binds nobody else
    os.close(os.open(claim, os.O_CREAT | os.O_EXCL))
    try:
        if target.exists():
            return False
        os.rename(part, target)
        return True
    finally:
        claim.unlink(missing_ok=True)


def link_from_relative(folder: StageFolder, relatives: list[StageFolder], unit: int, inputs: str) -> StageFolder | None:
    """Take a unit from a stage that differs only in slots or upstream, if it has one of the same slots and inputs."""
    want = folder.spec.unit(unit)
    for other in relatives:
        source = other.unit_path(unit)
        if unit >= other.spec.n_units or other.spec.unit(unit) != want or not source.exists():
            continue
        try:
            with other.reader(unit) as reader:
                agrees = reader.index.inputs == inputs and (reader.index.first, reader.index.count) == (want.start, len(want))
        except InputError:
            continue
        if agrees:
            target = folder.unit_path(unit)
            with storing(target):
                target.parent.mkdir(parents=True, exist_ok=True)
                _share(source, target, folder.links)
                fsync_folder(target.parent)
            return other
    return None


def _share(source: Path, target: Path, links: bool) -> None:
    if links:
        try:
            with contextlib.suppress(FileExistsError):
                os.link(source, target)
            return
        except OSError:  # too many links, another file system
            pass
    temp = target.with_name(f".{target.name}.{os.getpid()}.tmp")
    shutil.copyfile(source, temp)
    with open(temp, "rb+") as f:
        os.fsync(f.fileno())
    os.replace(temp, target)
