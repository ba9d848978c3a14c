"""Slots of a runs folder that something outside of them left empty: found by reading, made to be filled again by launch/clean.py."""

import contextlib
import os
import secrets
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from launch.show.removable import Stages, is_output, read_stages
from launch.show.stages import REMOVING
from synth.captions.remote.journal import ask_anew
from synth.errors import InputError, StoreError
from synth.run.reopened import asks_a_server, from_outside
from synth.store.files import replace, storing
from synth.store.folder import StageFolder
from synth.store.framing import shared

ALIVE = 10.0  # seconds after which a long one says that it is still at work


@dataclass(frozen=True)
class Reopening:
    """A stage with slots to be filled. units: that hold some. reasons: of these -> how many. own: those that stay empty. behind: all stages
    that are made of it, directly or not, from the nearest on."""

    folder: StageFolder
    units: tuple[int, ...]
    reasons: Counter[str]
    own: Counter[str]
    behind: tuple[StageFolder, ...]

    @property
    def all(self) -> tuple[StageFolder, ...]:
        return (self.folder, *self.behind)

    @property
    def answers_are_forgotten(self) -> bool:
        """Whether what a server answered is the reason, so that it must be asked anew."""
        return asks_a_server(self.folder.spec) and any(not reason.startswith("refused_by_server") for reason in self.reasons)


@dataclass(frozen=True)
class Reopenable:
    stages: tuple[Reopening, ...]
    kept: tuple[str, ...]  # what stays as it is although it has such slots, and why


def find(path: Path, in_use: Callable[[StageFolder], str]) -> Reopenable:
    """The slots below a runs folder, of a dataset in it or of a stage, that may be filled. in_use: as launch.show.removable.find has it."""
    stages = read_stages(path)
    found, kept = [], list(stages.unread)
    for folder in stages.below:
        if is_output(folder):  # what it left out is missing upstream
            continue
        reasons, own, units = _empty(folder)
        if not reasons and not folder.reopening.is_on():
            continue
        try:
            behind = tuple(_behind(stages, folder))
        except (InputError, StoreError) as e:
            kept.append(f"{folder.path.name}: what is made of it cannot be read: {e}")
            continue
        if why := _not_now(folder, behind, stages, in_use):
            kept.append(f"{folder.path.name}: {told(reasons)}: {why}")
        else:
            found.append(Reopening(folder, tuple(units), reasons, own, behind))
    return Reopenable(tuple(found), tuple(kept))


def _empty(folder: StageFolder) -> tuple[Counter[str], Counter[str], list[int]]:
    """(reasons from outside, the samples' own reasons, units with some of the first), of the units that are there."""
    outside, own, units = Counter[str](), Counter[str](), []
    for number in sorted(folder.committed()):
        with folder.reader(number) as reader:
            mine = Counter(shared(r) for r in reader.index.tombstones.values() if from_outside(folder.spec, r))
            own.update(shared(r) for r in reader.index.tombstones.values() if not from_outside(folder.spec, r))
        outside.update(mine)
        if mine:
            units.append(number)
    return outside, own, units


def _behind(stages: Stages, folder: StageFolder) -> Iterator[StageFolder]:
    """All stages that read a stage, directly or by others, each once, the nearest first."""
    seen, edge = {folder.path}, [folder.path]
    while edge:
        edge = sorted({by for path in edge for by in stages.needed.get(path, ())} - seen)
        seen.update(edge)
        yield from map(StageFolder.open, edge)


def _not_now(folder: StageFolder, behind: Sequence[StageFolder], stages: Stages, in_use: Callable[[StageFolder], str]) -> str:
    """Why a stage must stay as it is; "" if its slots may be filled."""
    if stages.unread and behind:
        return "a stage of the runs folder cannot be read, which may be made of it"
    for each in (folder, *behind):
        if why := in_use(each):
            return f"{each.path.name}: {why}"
    places = {str(place): each for each in (folder, *behind) for place in (each.path, each.out_dir)}
    for by in behind:
        for file in by.spec.inputs.values():
            if file.path and (source := places.get(os.path.abspath(file.path))):
                return f"{_name(by)} was given {source.path.name} as a source, and would be another stage: remove it first"
    absent = [u for u in folder.missing() if not folder.before_path(u).exists()]
    return f"{len(absent)} of its {folder.spec.n_units} units are to be made: run its command to the end first" if absent else ""


def lines(found: Reopenable) -> list[str]:
    """What would be made again, and what stays empty."""
    text, behind = [], {}
    for each in found.stages:
        folder = each.folder
        slots = f"{each.reasons.total():,} of {folder.spec.slots:,} slots, in {len(each.units):,} of {folder.spec.n_units:,} units"
        if each.units:
            text.append(f"again  {_name(folder)}: {slots}: {told(each.reasons)}")
        else:
            text.append(f"again  {_name(folder)}: an earlier one was interrupted and has left nothing to do but its end")
        if each.answers_are_forgotten:
            text.append(f"       {_name(folder)}: the server is asked anew for these; its earlier answers count only as paid")
        if each.own:
            text.append(f"stay   {_name(folder)}: {told(each.own)}: their own")
        behind |= {f.path: f for f in each.behind}
    for folder in behind.values():
        made = f"{len(folder.committed()):,} units made"
        if is_output(folder):
            text.append(f"anew   {_name(folder)}: is made of it; {folder.out_dir} is moved aside and written again")
        else:
            text.append(f"anew   {_name(folder)}: is made of it; those of its units that read what changes, {made}")
    return text + [f"kept   {why}" for why in found.kept]


def told(reasons: Counter[str]) -> str:
    """For people: told(Counter({"empty file": 2})) == "2 x empty file"."""
    return ", ".join(f"{n:,} x {reason}" for reason, n in sorted(reasons.items(), key=lambda r: (-r[1], r[0])))


def _name(folder: StageFolder) -> str:
    return f"{folder.path.parent.name}/{folder.path.name}"


def reopen(found: Sequence[Reopening], in_use: Callable[[StageFolder], str], tell: Callable[[str], object]) -> list[str]:
    """Take the units of stages from their places; why that could not be, a line a stage. What else moved is told.

    First all stages are marked, and those that read them: a worker that starts from here on does nothing but say so, and one that started
    a moment before has left a trace. Whatever interrupts this leaves the mark, and nothing that is out of step goes unnoticed.
    """
    failures, chosen = [], []
    for each in found:
        seen = {folder.path: _traces(folder) for folder in each.all}
        try:
            if why := next(
                (f"{f.path.name}: {why}" for f in each.all if f.path.exists() and f.reopening.settled() and (why := in_use(f))), ""
            ):
                raise InputError(why)
            goes_on = each.folder.reopening.is_on()
            each.folder.reopening.begin()
            for folder in each.behind:
                if folder.path.exists():  # behind two stages that are made again
                    folder.reopening.doubt(each.folder.path.name)
            if late := [f.path.name for f in each.all if _traces(f) != seen[f.path]]:
                if not goes_on:  # nothing of it moved
                    each.folder.reopening.end()
                raise InputError(f"{late[0]}: in use: a worker began there just now; try again when it has ended")
            chosen.append(each)
        except (InputError, StoreError) as e:
            failures.append(str(e))
    for each in chosen:
        try:
            _take_out(each, tell)
        except (InputError, StoreError) as e:
            failures.append(str(e))
    return failures


def _take_out(each: Reopening, tell: Callable[[str], object]) -> None:
    for folder in reversed(each.behind):
        if is_output(folder):
            for line in _set_out(folder):
                tell(line)
    if each.answers_are_forgotten:
        ask_anew(each.folder.path)
    each.folder.forget_parts(set(each.units))
    told = time.monotonic()
    for number in each.units:
        with contextlib.suppress(FileNotFoundError):  # another clean was first
            each.folder.put_beside(number, "before")
        if time.monotonic() - told > ALIVE:
            each.folder.reopening.begin()
            told = time.monotonic()
    each.folder.reopening.end()


def _traces(folder: StageFolder) -> set[tuple[str, int]]:
    """What workers and launchers leave as soon as they begin."""
    with storing(folder.path):
        found = set()
        for pattern in ("events/*", "submissions/*", "leases/*/*"):
            for path in folder.path.glob(pattern):
                with contextlib.suppress(FileNotFoundError):
                    found.add((str(path), path.lstat().st_mtime_ns))
    return found


def _set_out(folder: StageFolder) -> list[str]:
    """A stage that wrote into a place of its own: the place is moved beside, the stage gets the name of one on its way out."""
    if not folder.path.exists():  # behind two stages that are made again
        return []
    lines, out = [], folder.out_dir
    folder.prove_out()
    with storing(out):
        if out.is_dir() and not out.is_symlink():
            aside = out.with_name(f"{out.name}.before-{secrets.token_hex(3)}")
            replace(out, aside)
            lines.append(f"moved {out} -> {aside}")
    replace(folder.path, folder.path.with_name(f"{REMOVING}{folder.path.name}"))
    return lines
