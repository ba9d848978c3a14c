"""The folder that an export writes into, and whose it is.

.synthset.claim.json   while it is being written: which export does; first come, first served
.synthset.json         the marker, written last: the export is whole
.synthset.part/        files on their way to their names
.synthset.grown/       all files of an export that takes the place of an earlier one of fewer classes or captions. That one stays as it is
                       until they are whole; then its marker goes, they take their names, what only the earlier one had goes, and
                       the new marker comes
"""

import contextlib
import ctypes
import errno
import itertools
import json
import os
import secrets
import shutil
import stat
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

from synth import foreign
from synth.errors import InputError
from synth.foreign import WORD, Maybe
from synth.store.files import NO_LINKS, fsync_folder, read_small, replace, storing, write_atomic, write_once
from synth.store.folder import StageFolder
from synth.store.inside import Inside, misplaced
from synth.store.trees import MARKER
from synth.terminal import printable

CLAIM = ".synthset.claim.json"
PART = ".synthset.part"
GROWN = ".synthset.grown"
OURS = (".synthset.", "..synthset.", ".nfs")  # how names begin that may lie there before the claim: of files on their way, or just removed


class OutFolder:
    """The export folder of a stage. Two workers of one stage may write into it at once; two different stages may not."""

    def __init__(self, folder: StageFolder, grows: Callable[[Path], bool] = lambda earlier: False):
        """grows: whether the export of the stage in a folder may grow into this one."""
        self.folder, self.root, self._grows = folder, Path(folder.out_dir), grows
        self._fingerprint = folder.spec.fingerprint
        self._temp, self._numbers = f"{PART}/{os.getpid()}-{secrets.token_hex(6)}-", itertools.count()
        self._write_below(self.root)

    def _write_below(self, path: Path) -> None:
        self.path = path
        self.inside = Inside(path)  # every path below is one of these

    @property
    def growing(self) -> bool:
        """Whether it takes the place of an earlier export. Known once it is claimed."""
        return self.path != self.root

    def check(self) -> None:
        """InputError if the folder holds another dataset, or files that no export made, or if a link leads to it that nobody chose."""
        self.folder.prove_out()
        if self._owner(self.root / CLAIM) or self._owner(self.root / MARKER):
            return
        foreign_names = [n for n in self._names() if not n.startswith(OURS)]
        if foreign_names and not (self._owner(self.root / CLAIM) or self._owner(self.root / MARKER)):
            raise InputError(
                f"{self.root}: is not empty (it holds {printable(min(foreign_names), 100)}) and was not made by an export; choose another "
                f"folder for export.{self.folder.spec.kind}.out"
            )

    def _names(self) -> list[str]:
        try:
            return os.listdir(self.root)
        except FileNotFoundError:
            return []
        except NotADirectoryError as e:
            raise InputError(f"{self.root}: is a file; choose another folder for export.{self.folder.spec.kind}.out") from e

    def _owner(self, file: Path) -> str:
        """Fingerprint in a marker or claim, "" if there is none; another stage's is an InputError, but for a marker of an export that may
        grow into this one."""
        try:
            marker = marker_in(file)
        except NotADirectoryError:
            return ""
        except InputError as e:
            raise InputError(f"{e}; remove the folder {self.root} or choose another one") from e
        if marker is None:
            return ""
        owner, who = marker["fingerprint"], marker["stage"]
        if owner != self._fingerprint and file.name == CLAIM:
            raise InputError(
                f"{self.root}: {who or 'stage'} {owner} is not finished there; run its command again first, then this one, or choose "
                f"another folder for export.{self.folder.spec.kind}.out"
            )
        if owner != self._fingerprint and not self._grows_from(marker):
            raise InputError(
                f"{self.root}: holds another dataset ({who or 'stage'} {owner}, {file.name}), which is not this one with fewer classes or "
                f"captions; choose another folder for export.{self.folder.spec.kind}.out, or remove that one if it is not wanted"
            )
        return owner

    def _grows_from(self, marker: dict) -> bool:
        """Whether the export that wrote a marker may grow into this one: its stage lies beside ours."""
        name = marker["stage"]
        return not misplaced(name) and "/" not in name and self._grows(self.folder.path.parent / name)

    def claim(self) -> None:
        """Make the folder ours, before the first file is written. Cheap when it is already."""
        self.check()
        if not self._owner(self.root / CLAIM) and self._owner(self.root / MARKER) != self._fingerprint:
            earlier, inside = self._earlier(), Inside(self.root)
            inside.folder(GROWN if earlier else PART)
            if earlier and marker_in(self.root / CLAIM) is None:  # what lies there was left by a worker of an earlier growth
                with storing(self.root), contextlib.suppress(FileNotFoundError):
                    shutil.rmtree(self.root / GROWN)
                inside.folder(GROWN)
            write_once(self.root / CLAIM, self._tag(earlier))
            self._owner(self.root / CLAIM)  # somebody else's, if they were first
        self._write_below(self.root / GROWN if self._is_growing() else self.root)
        self.inside.folder(PART)

    def _is_growing(self) -> bool:
        """Whether the place is still that of an earlier export. Without a marker or files below GROWN it is ours, to be completed."""
        claimed = marker_in(self.root / CLAIM)
        if not claimed or not claimed["grown_from"]:
            return False
        marker = marker_in(self.root / MARKER)
        return (self.root / GROWN).is_dir() or (marker is not None and marker["fingerprint"] != self._fingerprint)

    def _grown_from(self) -> list[str]:
        """As our claim says; as our marker does where another worker was first."""
        for file in (CLAIM, MARKER):
            if (said := marker_in(self.root / file)) and said["fingerprint"] == self._fingerprint:
                return said["grown_from"]
        return []

    def _earlier(self) -> list[str]:
        """Fingerprints of the exports whose place this one takes, the newest last."""
        marker = marker_in(self.root / MARKER)
        return [*marker["grown_from"], marker["fingerprint"]] if marker else []

    def reopen(self) -> None:
        """The place is to be completed anew: our marker becomes a claim; a place without either becomes ours, what is not ours stays."""
        try:
            self.folder.prove_out()
            finished, claimed = self._owner(self.root / MARKER), self._owner(self.root / CLAIM)
        except InputError:
            return
        with storing(self.root):
            if finished == self._fingerprint:
                replace(self.root / MARKER, self.root / CLAIM)
            elif not claimed and not finished and self.root.is_dir():
                write_once(self.root / CLAIM, self._tag())

    def _tag(self, grown_from: Sequence[str] = ()) -> bytes:
        facts = {"fingerprint": self._fingerprint, "stage": self.folder.spec.folder_name, "path": str(self.folder.path)}
        return json.dumps(facts | ({"grown_from": grown_from} if grown_from else {}), sort_keys=True).encode() + b"\n"

    def part(self, name: str) -> Path:
        """A name of its own for a file on its way to `name`."""
        temp = self.inside.path(f"{PART}/{os.getpid()}-{secrets.token_hex(6)}{Path(name).suffix}")
        self._parts()
        return Path(temp)

    def _parts(self) -> None:
        """The folder of files on their way: another worker that completes this export clears it."""
        if not os.path.isdir(os.path.join(self.path, PART)):
            with storing(self.path):
                os.makedirs(os.path.join(self.path, PART), exist_ok=True)

    def link(self, name: str, data: bytes, source: Path) -> bool:
        """Give an existing file of the same bytes a second name here; False where that cannot be, and `put` has to write it."""
        temp, final = self.part(name), self.inside.path(name)
        with storing(final):
            try:
                if source.stat().st_size != len(data) or foreign.read(source, len(data)) != data:
                    return False
                os.link(source, temp)
                os.replace(temp, final)
            except OSError as e:
                if e.errno not in NO_LINKS | {errno.ENOENT, errno.ENOTDIR}:
                    raise
                return False
        return True

    def put(self, name: str, data: bytes) -> None:
        """Write one of many files by temporary name and rename, without waiting for the disk (see `complete`)."""
        final, temp = self.inside.path(name), self.inside.path(f"{self._temp}{next(self._numbers)}")
        with storing(self.path):
            try:
                _write(temp, data)
            except FileNotFoundError:
                self._parts()
                _write(temp, data)
            try:
                os.replace(temp, final)
            except FileNotFoundError:  # done, and its answer got lost; or cleared by another worker, where an older file may have the name
                if not self.has(name, len(data)):
                    os.makedirs(os.path.dirname(final), exist_ok=True)
                    write_atomic(Path(final), data, sync=False)

    def write(self, name: str, data: bytes) -> None:
        """Write one of few files, durably."""
        write_atomic(Path(self.inside.file(name)), data)

    def place(self, temp: Path, name: str) -> None:
        """Give a finished file of `part` its name."""
        final = self.inside.file(name)
        with storing(final):
            replace(temp, final)

    def make_folder(self, name: str) -> None:
        """Make a folder, and those above it."""
        self.inside.folder(name)

    def has(self, name: str, size: int) -> bool:
        """Whether a file of this size is there, and no link. Files get their names when they are whole, so the size tells."""
        seen = self.inside.status(name)
        return seen is not None and stat.S_ISREG(seen.st_mode) and seen.st_size == size

    def complete(self, earlier: Iterable[str] = ()) -> None:
        """Everything is written: flush it to disk, put the marker, drop the claim, point `latest` here.

        earlier: the files of the export whose place this one takes; those that it does not have go.
        """
        with contextlib.suppress(FileNotFoundError):
            shutil.rmtree(self.path / PART)
        grown_from = self._grown_from()
        if self.growing and self._is_growing():  # else another worker has done so
            self._take_place(earlier)
        self._write_below(self.root)
        _flush(self.root)  # once for all files, so that a marker never outlives files lost with the power
        write_atomic(self.root / MARKER, self._tag(grown_from))
        with contextlib.suppress(FileNotFoundError):
            (self.root / CLAIM).unlink()
        self.folder.link_latest()

    def _take_place(self, earlier: Iterable[str]) -> None:
        """Give all files their names in the place, which from here on is nobody's whole export: its marker goes first. Whoever is killed
        here leaves the claim: files that have their names already are then written once more. What tells of all others has names at the
        top, and gets them last."""
        inside, new = Inside(self.root), []
        with storing(self.path):
            os.stat(self.path)  # os.walk finds nothing in a folder that is gone
            for folder, _, files in os.walk(self.path):
                below = os.path.relpath(folder, self.path).removeprefix(".").removeprefix("/")
                if below:
                    inside.folder(below)  # an empty one too
                new += [f"{below}/{name}" if below else name for name in files]
            stale = set(earlier).difference(new)
            (self.root / MARKER).unlink(missing_ok=True)
            fsync_folder(self.root)
            for name in stale:
                if (seen := inside.status(name)) is not None and stat.S_ISREG(seen.st_mode):
                    os.unlink(inside.path(name))
            for name in sorted(new, key=lambda name: (-name.count("/"), name)):
                os.replace(self.path / name, inside.path(name))
            shutil.rmtree(self.path)


def marker_in(file: Path) -> dict | None:
    """{"fingerprint", "stage", "path", "grown_from"} of a marker or claim; None if there is none. Anything else is an InputError."""
    data = read_small(file)
    where = f"{file}: torn or not ours"
    shapes = {"fingerprint": WORD, "stage": Maybe(WORD, ""), "path": Maybe(str), "grown_from": Maybe([WORD], [])}
    return None if data is None else foreign.obj(foreign.parse(data, where, halves=True), where, **shapes)


def _write(path: str, data: bytes) -> None:
    """A new file, without Python's layers: with small pictures these take as long as the file system. Gone again after an error."""
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666)
    try:
        left = memoryview(data)
        while left:
            left = left[os.write(fd, left) :]
    except OSError:
        with contextlib.suppress(OSError):
            os.unlink(path)
        raise
    finally:
        os.close(fd)


def _flush(path: Path) -> None:
    """Write to disk what the file system of `path` still holds in memory; other file systems of a busy node are left alone."""
    fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        if ctypes.CDLL(None).syncfs(fd):
            os.sync()
    except AttributeError:  # not Linux
        os.sync()
    finally:
        os.close(fd)
