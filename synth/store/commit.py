"""Commit: the first-wins link that makes a unit exist. Everything else only saves work."""

import contextlib
import errno
import os
import secrets
import shutil
import time
from collections.abc import Sequence
from enum import Enum
from pathlib import Path

from synth import foreign
from synth.errors import InputError
from synth.store import faults
from synth.store.damage import ASIDE
from synth.store.files import NO_LINKS, fsync_folder, names_in, rename_once, storing
from synth.store.folder import StageFolder

CLAIM_PATIENCE = 5.0  # seconds that a claim without a name in it is waited for


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
        faults.point("before_link")
        ours = _place(part, target, folder.links)
        faults.point("after_link")
        with contextlib.suppress(FileNotFoundError):
            part.unlink()
        fsync_folder(target.parent)
    faults.point("after_commit")
    if ours:
        return Outcome.OURS
    with folder.reader(unit) as reader:
        return Outcome.THEIRS if reader.digest == digest else Outcome.DIFFERS


def _place(part: Path, target: Path, links: bool) -> bool:
    """Give `part` the name `target` unless that exists; whether it was ours. Where links work `part` keeps its name too."""
    if links:
        with contextlib.suppress(FileNotFoundError):  # the shard's folder or the part: the second try tells
            return _link(part, target)
    target.parent.mkdir(parents=True, exist_ok=True)
    return _link(part, target) if links else _claim(part, target)


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
    except OSError as e:
        if e.errno not in NO_LINKS:
            raise
        return _claim(part, target)  # the folder was moved to another file system after it was planned
    return True


def _claim(part: Path, target: Path) -> bool:
    """Without hard links: rename without replacing where the kernel can, else an exclusive claim that names the part.

    Whoever meets a claim finishes it, by renaming the part that it names: so a dead claimer blocks nobody, and one that was
    stopped before its rename finds its part gone. A claim is only made after its part is sealed, and only removed once the
    unit exists (or its part does not).
    """
    try:
        renamed = rename_once(part, target)
    except FileNotFoundError:
        if target.exists():
            return False
        raise
    if renamed is not None:
        return renamed
    claim = part.with_name(f"{target.name}.claim")
    patience = time.monotonic() + CLAIM_PATIENCE
    while True:
        mine = _make_claim(claim, part.name)
        faults.point("after_claim")
        if target.exists():
            claim.unlink(missing_ok=True)
            return False
        chosen = part.name if mine else _read_claim(claim)
        if not chosen and time.monotonic() < patience:
            time.sleep(0.05)  # it went just now, or its maker has not written the name yet
            continue
        try:
            os.rename(part.with_name(chosen or part.name), target)
        except FileNotFoundError:
            gone = not target.exists()
            claim.unlink(missing_ok=True)
            if not gone:
                return False
            if mine:
                raise
            continue
        claim.unlink(missing_ok=True)
        return chosen in (part.name, "")


def _make_claim(claim: Path, name: str) -> bool:
    """Create a claim that names a part, unless there is one. A symlink: name and content come to be in one step."""
    try:
        os.symlink(name, claim)
    except FileExistsError:
        return False
    except OSError as e:
        if e.errno not in (errno.EPERM, errno.ENOTSUP, errno.ENOSYS):
            raise
        try:
            with open(claim, "xb") as f:
                f.write(name.encode())
        except FileExistsError:
            return False
    return True


def _read_claim(claim: Path) -> str:
    """The part that a claim names; "" if it is empty or gone."""
    try:
        return os.readlink(claim)
    except FileNotFoundError:
        return ""
    except OSError:
        with contextlib.suppress(FileNotFoundError, InputError):  # what is no file claims nothing
            return foreign.read_text(claim, foreign.RECORD)
        return ""


def link_from_relative(folder: StageFolder, relatives: Sequence[StageFolder], unit: int, inputs: str) -> StageFolder | None:
    """Take a unit from a stage that differs only in slots or upstream, if it has one of the same slots and inputs.

    Its samples are not read for that, except where ours was set aside.
    """
    want = folder.spec.unit(unit)
    doubted = None  # whether one of ours was set aside: it may be one file with theirs, or a copy of it
    for other in relatives:
        source = other.unit_path(unit)
        if unit >= other.spec.n_units or other.spec.unit(unit) != want or not source.exists():
            continue
        if doubted is None:
            doubted = any(name.startswith(f"{unit:06d}.") for name in names_in(folder.path / ASIDE))
        try:
            with other.reader(unit) as reader:
                agrees = reader.index.inputs == inputs and (reader.index.first, reader.index.count) == (want.start, len(want))
                for entry in reader.index.samples if agrees and doubted else ():
                    reader.files(entry)
        except InputError:
            continue
        if agrees:
            target = folder.unit_path(unit)
            with storing(target):
                _share(folder, source, target)
                fsync_folder(target.parent)
            return other
    return None


def _share(folder: StageFolder, source: Path, target: Path) -> None:
    """A hard link to another stage's unit, or else a copy, placed as first-wins as any unit."""
    if folder.links:
        target.parent.mkdir(parents=True, exist_ok=True)
        try:
            with contextlib.suppress(FileExistsError):
                os.link(source, target)
            return
        except OSError as e:  # too many links, another file system
            if e.errno not in NO_LINKS:
                raise
    shard = folder.path / "parts" / target.parent.name
    shard.mkdir(parents=True, exist_ok=True)
    temp = shard / f"{target.stem}.copy-{os.getpid()}-{secrets.token_hex(4)}{target.suffix}"
    try:
        shutil.copyfile(source, temp)
        with open(temp, "rb+") as f:
            os.fsync(f.fileno())
        _place(temp, target, folder.links)
    finally:
        temp.unlink(missing_ok=True)
