"""What a verification found, as plain data."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field


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
