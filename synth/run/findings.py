"""What a verification found, as plain data; and how kinds look at the files that they wrote beside their units."""

import hashlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

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

    def missing(self, name: str) -> None:
        """Add that a file is not there."""
        self.found.add(self.out / name, MISSING, file=name)

    def wrong(self, name: str, what: str) -> None:
        """Add that a file is not as it was written."""
        self.found.add(self.out / name, f"{what}; {AGAIN}", file=name)

    def same(self, name: str, data: bytes) -> None:
        """A small file holds exactly `data`."""
        try:
            there = (self.out / name).read_bytes()
        except FileNotFoundError:
            self.missing(name)
            return
        if there != data:
            self.wrong(name, "was edited or torn since it was written")

    def file(self, name: str, size: int, sha256: str, what: str = "is not the picture of its unit") -> None:
        """A file is there, of this size and, deep, of this digest."""
        path = self.out / name
        try:
            there = path.stat().st_size
        except (FileNotFoundError, NotADirectoryError):
            self.missing(name)
            return
        if there != size or (self.deep and file_digest(path) != sha256):
            self.wrong(name, what)


def file_digest(path: Path) -> str:
    with open(path, "rb") as f:
        return hashlib.file_digest(f, "sha256").hexdigest()
