"""What of a runs folder nothing needs any more: found by reading, removed by launch/clean.py."""

import contextlib
import os
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from launch.show.stages import REMOVING, find_stages
from synth.errors import InputError, StoreError
from synth.kinds import kind_of, makes_files
from synth.store.files import is_number
from synth.store.folder import StageFolder

DAY = 86400.0  # seconds


@dataclass(frozen=True)
class Size:
    """What a removal frees. A file with another name stays, and is counted as a file without bytes."""

    bytes: int = 0
    files: int = 0

    def __add__(self, other: "Size") -> "Size":
        return Size(self.bytes + other.bytes, self.files + other.files)


@dataclass(frozen=True)
class Removal:
    """One thing that may go. what: for people; paths: files or whole folders; stage: whose it is, or which goes whole."""

    stage: Path
    what: str
    paths: tuple[Path, ...]
    size: Size
    whole: bool = False  # the stage folder itself goes

    @property
    def out(self) -> Path:
        """The name that a whole stage has on its way out."""
        return self.stage.with_name(f"{REMOVING}{self.stage.name}")


@dataclass(frozen=True)
class Found:
    removals: tuple[Removal, ...]
    kept: tuple[str, ...]  # what stays although it was asked for, and why


@dataclass(frozen=True)
class Asked:
    """What may go beside the parts and leases of whole stages. older: seconds; failed/ and logs/ of that age and more."""

    older: float | None = None
    unused: bool = False
    exports_only: bool = False


@dataclass
class Stages:
    """All stages that are looked at. below: those that may lose something; the others are there to say what they need."""

    below: list[StageFolder] = field(default_factory=list)
    needed: dict[Path, set[Path]] = field(default_factory=dict)  # a stage -> those that are made of it
    unread: list[str] = field(default_factory=list)


def find(path: Path, asked: Asked, in_use: Callable[[StageFolder], str], now: float | None = None) -> Found:
    """What may go below a runs folder, of a dataset in it or of a stage.

    in_use: why a stage must be left alone, "" if it need not. now: seconds since the epoch. A stage that cannot be read stays, and so does
    whatever it might be made of.
    """
    now = time.time() if now is None else now
    interrupted = tuple(_interrupted(path))
    try:
        stages = read_stages(path)
    except InputError:  # no stage there
        if not interrupted:
            raise
        return Found(interrupted, ())
    busy = {folder.path: why for folder in stages.below if (why := in_use(folder))}
    kept = [f"{path.name}: {why}" for path, why in busy.items()] + stages.unread
    free = [folder for folder in stages.below if folder.path not in busy]
    going: list[Removal] = []
    if asked.exports_only:
        going, more = _all_but_exports(stages, busy)
        kept += more
    elif asked.unused:
        going, more = _unused(stages, busy)
        kept += more
    gone = {removal.stage for removal in going}
    left = [removal for folder in free if folder.path not in gone for removal in _leftovers(folder, asked.older, now)]
    return Found((*interrupted, *left, *going), tuple(kept))


def read_stages(path: Path) -> Stages:
    """The stages below a path, and what all those in the runs folder around it are made of."""
    path = Path(os.path.abspath(path))
    below = find_stages(path, lambda what: None)  # the folder around it is looked at, too
    root = path.parent.parent if path in below else path.parent if any(p.parent == path for p in below) else path
    found, mine = Stages(), set(below)
    for place in dict.fromkeys([*find_stages(root, found.unread.append), *below]):
        try:
            if place.is_symlink():
                raise InputError(f"{place}: is a link; what it leads to is cleaned where it is")
            folder = StageFolder.open(place)
        except (InputError, StoreError) as e:
            found.unread.append(str(e))
            continue
        for ups in folder.spec.upstream.values():
            for up in ups:
                found.needed.setdefault(Path(os.path.normpath(place / up.path)), set()).add(place)
        for given in folder.spec.inputs.values():  # a stage, or an export, that another run was given as its source
            if given.path:
                found.needed.setdefault(Path(os.path.abspath(given.path)), set()).add(place)
        if place in mine:
            found.below.append(folder)
    return found


# -- leftovers -----------------------------------------------------------------------------------------------------------


def _leftovers(folder: StageFolder, older: float | None, now: float) -> Iterator[Removal]:
    """Parts and leases of a whole stage; of any, what is old in failed/ and logs/. Reports of units that are not there stay: they count."""
    whole = folder.is_whole()
    if whole and (paths := tuple(p for top in ("parts", "leases") for p in _files(folder.path / top))):
        yield Removal(folder.path, "parts and leases of a whole stage", paths, size_of(paths))
    if older is None:
        return
    there = None if whole else folder.committed()
    for top in ("failed", "logs"):
        paths = tuple(
            p for p in _files(folder.path / top) if _age(p, now) >= older and (top == "logs" or there is None or _unit(p) in there)
        )
        if paths:
            yield Removal(folder.path, f"{top}/ of {older / DAY:g} days and older", paths, size_of(paths))


def _unit(report: Path) -> int:
    stem = report.name.partition(".")[0]
    return int(stem) if is_number(stem) else -1


def _interrupted(path: Path) -> Iterator[Removal]:
    """Folders that an earlier clean began to remove."""
    path = Path(os.path.abspath(path))
    for place in sorted({*path.glob(f"{REMOVING}*"), *path.glob(f"*/{REMOVING}*")}):
        yield Removal(place, "left by a clean that was interrupted", (place,), size_of([place]))


# -- whole stages --------------------------------------------------------------------------------------------------------


def _unused(stages: Stages, busy: dict[Path, str]) -> tuple[list[Removal], list[str]]:
    """Stages that no export is made of, nor anything that somebody works on, in datasets that have an export; a chain from its end on."""
    exported = {folder.path.parent for folder in stages.below if _is_export(folder)}
    users = {path: set(by) for path, by in stages.needed.items()}
    going: list[Removal] = []
    while True:
        more = [
            f
            for f in stages.below
            if f.path.parent in exported and not is_output(f) and f.path not in busy and not users.get(f.path) and not _gone(f, going)
        ]
        if not more:
            break
        for folder in more:
            going.append(_whole(folder, "no export is made of it"))
            for by in users.values():
                by.discard(folder.path)
    kept = [
        f"{root.name}: has no export, so no stage of it is called unused"
        for root in sorted({f.path.parent for f in stages.below} - exported)
    ]
    if stages.unread and going:  # nobody knows what these are made of
        return [], [*kept, "stages stay while one of the runs folder cannot be read: it may be made of them"]
    return going, kept


def _is_export(folder: StageFolder) -> bool:
    return kind_of(folder.spec.kind).group == "export"


def _has_place(folder: StageFolder) -> bool:
    return "out" in folder.spec.config


def is_output(folder: StageFolder) -> bool:
    """Whether somebody wanted it for itself: it makes files, or has a place for people, as the report of a judge has."""
    return makes_files(folder.spec.kind) or _has_place(folder)


def _gone(folder: StageFolder, going: Sequence[Removal]) -> bool:
    return any(folder.path == removal.stage for removal in going)


def _all_but_exports(stages: Stages, busy: dict[Path, str]) -> tuple[list[Removal], list[str]]:
    """All stages of the datasets whose exports are whole, and there."""
    going: list[Removal] = []
    kept: list[str] = []
    outside = {f.path for f in stages.below}
    for root in dict.fromkeys(f.path.parent for f in stages.below):
        mine = [f for f in stages.below if f.path.parent == root]
        if why := _not_finished(mine, busy) or _wanted_elsewhere(mine, stages.needed, outside):
            kept.append(f"{root.name}: {why}")
        elif stages.unread:
            kept.append(f"{root.name}: a stage of the runs folder cannot be read, which may be made of its stages")
        else:
            mine.sort(key=_is_export)  # exports last: while one is there, it is known what was wanted
            going += [_whole(f, "its dataset is finished") for f in mine]
    return going, kept


def _not_finished(mine: Sequence[StageFolder], busy: dict[Path, str]) -> str:
    """Why the exports of a dataset are not all that one wants to keep of it; "" if they are."""
    exports = [f for f in mine if is_output(f)]
    if working := [f for f in mine if f.path in busy]:
        return f"{working[0].path.name} is in use"
    if not any(map(_is_export, mine)):
        return "has no export: nothing would be left of it"
    for folder in exports:
        if not folder.is_whole() or not folder.is_done():
            return f"{folder.path.name} is not whole; complete it, or remove its folder"
        if (_is_export(folder) or _has_place(folder)) and not folder.out_dir.is_dir():
            return f"{folder.path.name}: what it wrote is not there ({folder.out_dir}); run its command again, or remove its folder"
    return ""


def _wanted_elsewhere(mine: Sequence[StageFolder], needed: dict[Path, set[Path]], going: set[Path]) -> str:
    for folder in mine:
        for by in sorted(needed.get(folder.path, set()) - going):
            return f"{by} is made of {folder.path.name}"
    return ""


def _whole(folder: StageFolder, why: str) -> Removal:
    made = len(folder.committed())
    state = "" if made == folder.spec.n_units else f", {made:,} of {folder.spec.n_units:,} units made"
    return Removal(folder.path, f"the whole stage: {why}{state}", (folder.path,), size_of([folder.path]), whole=True)


# -- sizes ---------------------------------------------------------------------------------------------------------------


def _files(folder: Path) -> Iterator[Path]:
    """Regular files below a folder; no link is followed."""
    with contextlib.suppress(FileNotFoundError), os.scandir(folder) as entries:
        for entry in sorted(entries, key=lambda e: e.name):
            if entry.is_dir(follow_symlinks=False):
                yield from _files(Path(entry.path))
            elif entry.is_file(follow_symlinks=False):
                yield Path(entry.path)


def size_of(paths: Iterable[Path]) -> Size:
    """What files, and all files below folders, take."""
    n = held = 0
    for path in paths:
        for file in _files(path) if path.is_dir() else (path,):
            with contextlib.suppress(FileNotFoundError):
                stat = file.lstat()
                n += 1
                held += stat.st_blocks * 512 if stat.st_nlink == 1 else 0
    return Size(held, n)


def _age(path: Path, now: float) -> float:
    with contextlib.suppress(FileNotFoundError):
        return now - path.lstat().st_mtime
    return 0.0
