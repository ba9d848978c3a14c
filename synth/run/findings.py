"""What a verification found, as plain data; and how kinds look at the files that they wrote beside their units."""

import hashlib
import os
import stat
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from synth import foreign
from synth.errors import InputError
from synth.store.inside import Inside

if TYPE_CHECKING:
    from synth.store.folder import StageFolder
    from synth.store.units import Stored

AGAIN = "set it aside with --repair, or remove it; then run the same command again"
MISSING = "missing; --repair lets the next run of the same command write it again"


@dataclass(frozen=True)
class Problem:
    """One thing that is wrong. `unit`: the unit that `--repair` sets aside; `file`: the file of an export that it sets aside."""

    where: str  # path of a stage, a unit or a file
    what: str
    unit: int | None = None
    file: str = ""  # below the export's folder

    def __str__(self) -> str:
        return f"{self.where}: {self.what}"


@dataclass
class Findings:
    """Of one stage or export."""

    path: str
    kind: str
    deep: bool
    units: int = 0
    samples: int = 0
    tombstones: dict[str, int] = field(default_factory=dict)  # reason -> slots
    problems: list[Problem] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)  # worth knowing, not wrong: devices, versions
    devices: Mapping[str, int] = field(default_factory=dict)  # name -> units
    unfinished: bool = False  # units are missing, so nothing that needs a whole stage was looked at

    def add(self, where: object, what: str, unit: int | None = None, file: str = "") -> None:
        self.problems.append(Problem(str(where), what, unit, file))

    @property
    def n_tombstones(self) -> int:
        return sum(self.tombstones.values())

    def bad_units(self) -> list[int]:
        return sorted({p.unit for p in self.problems if p.unit is not None})

    def __iter__(self) -> Iterator[Problem]:
        return iter(self.problems)


def ranges(numbers: list[int], most: int = 8) -> str:
    """Numbers as people write them.

    >>> ranges([1, 2, 3, 7])
    '1-3, 7'
    """
    runs: list[list[int]] = []
    for n in numbers:
        if runs and n == runs[-1][1] + 1:
            runs[-1][1] = n
        else:
            runs.append([n, n])
    text = ", ".join(str(a) if a == b else f"{a}-{b}" for a, b in runs[:most])
    return text + (f" and {sum(b - a + 1 for a, b in runs[most:])} more" if runs[most:] else "")


@dataclass(frozen=True)
class Check:
    """A look at what a stage wrote into a place. Deep compares bytes, else names and sizes.

    alone: a stage that it was made of is gone, so that there are only its own records to compare with.
    """

    out: Path
    deep: bool
    found: Findings
    progress: Callable[[int], None] = lambda slots: None
    alone: bool = False

    @cached_property
    def _inside(self) -> Inside:
        return Inside(self.out)

    @cached_property
    def _refused(self) -> set[str]:
        return set()

    def missing(self, name: str) -> None:
        """Add that a file is not there."""
        self.found.add(self.out / name, MISSING, file=name)

    def wrong(self, name: str, what: str) -> None:
        """Add that a file is not as it was written."""
        self.found.add(self.out / name, f"{what}; {AGAIN}", file=name)

    def status(self, name: str) -> os.stat_result | None:
        """What lies at a name; None if no file does, which is added: a folder on the way that leads out is told once, and not followed."""
        try:
            seen = self._inside.status(name)
        except InputError as e:
            if str(e) not in self._refused:
                self._refused.add(str(e))
                self.found.problems.append(Problem(*_where(e)))
            return None
        if seen is None:
            self.missing(name)
        elif not stat.S_ISREG(seen.st_mode):
            self.wrong(name, "is a link" if stat.S_ISLNK(seen.st_mode) else "is no file")
        else:
            return seen
        return None

    def is_folder(self, name: str) -> bool:
        """Whether a folder is there, and inside."""
        try:
            seen = self._inside.status(f"{name}/-")  # what is below it is proved, and so is the folder
            seen = self._inside.status(name)
        except InputError:
            return False
        return seen is not None and stat.S_ISDIR(seen.st_mode)

    def same(self, name: str, data: bytes) -> None:
        """A small file holds exactly `data`."""
        if (seen := self.status(name)) and (seen.st_size != len(data) or (self.out / name).read_bytes() != data):
            self.wrong(name, "was edited or torn since it was written")

    def file(self, name: str, size: int, sha256: str, what: str = "is not the picture of its unit") -> None:
        """A file is there, of this size and, deep, of this digest."""
        if (seen := self.status(name)) and (seen.st_size != size or (self.deep and file_digest(self.out / name) != sha256)):
            self.wrong(name, what)

    def records(self, folder: "StageFolder", *needs: str) -> Iterator[tuple["Stored", dict]]:
        """The samples of a stage with their JSON, judged; what cannot be read is added, and its unit with it.

        needs: what each record must say.
        """
        for number in range(folder.spec.n_units):
            unit = folder.unit(number)
            try:
                for stored in folder.samples(unit.start, unit.stop):
                    yield stored, stored.json(*needs)
            except InputError as e:
                self.blame(folder, number, e)

    def blame(self, folder: "StageFolder", number: int, error: InputError) -> None:
        """Add an error of a unit, which begins with its path."""
        self.found.add(folder.unit_path(number), _where(error)[1], number)


def _where(error: InputError) -> tuple[str, str]:
    """(path, what) of an error that begins with a path."""
    path, _, what = str(error).partition(": ")
    return path, what


def file_digest(path: Path) -> str:
    with foreign.open_file(path) as f:
        return hashlib.file_digest(f, "sha256").hexdigest()
