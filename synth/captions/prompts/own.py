"""Files of the user's own captions, read whole: each text on one line, its classes found, and what cannot be taken named by its line.

The forms of a file are in synth.captions.prompts.own_forms.
"""

import difflib
import hashlib
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path

from synth import foreign
from synth.captions.config import ClassEntry, DatasetConfig
from synth.captions.normalise import composed, looked_up, one_line
from synth.captions.prompts.own_forms import SUFFIXES, Line, Said, form_of
from synth.errors import InputError, not_trouble
from synth.store.spec import canonical

SHOWN, RANGES = 40, 100  # reasons that a message shows, and runs of lines of each


@dataclass(frozen=True)
class Own:
    """One caption of the files. `row` is its place in them, its name for ever, whatever classes are chosen."""

    row: int
    caption: str
    classes: tuple[ClassEntry, ...]


@dataclass(frozen=True)
class OwnFile:
    rows: tuple[Own, ...]  # of the chosen classes
    content: str  # sha256 of the files; where something was changed or left out, also of the rows as they were read
    also: Mapping[str, int] = field(default_factory=dict)  # of the names in `Reading.also`, those that were needed
    remarks: tuple[str, ...] = ()  # what the user has to know of how they were read


@dataclass(frozen=True)
class Reading:
    """How files are read. official: all class names; may be left out where all are chosen. also: other names of classes, looked up, ->
    official index. key: which of SynCLR's lists. skip: lines that cannot be taken are left out, and told in the remarks."""

    official: tuple[str, ...] = ()
    also: Mapping[str, int] = field(default_factory=dict)
    key: str | None = None
    skip: bool = False


def read_own(paths: str | Path | Sequence[str | Path], dataset: DatasetConfig, reading: Reading | None = None) -> OwnFile:
    """The captions of the chosen classes, of one file or of several, one behind the other.

    InputError for a file that cannot be read, and for lines that are not understood or whose class is not in the list: all of them.
    """
    reading = reading or Reading()
    files = [Path(p) for p in ([paths] if isinstance(paths, (str, Path)) else paths)]
    finder = _Finder(dataset, reading)
    rows: list[Own] = []
    digests, remarks, row = [], [], 0
    for path in files:
        data, text = _text_of(path)
        digests.append(hashlib.sha256(data).hexdigest())
        form = form_of(path, text, dataset.n_classes, reading.key)
        remarks += [f"{path}: {said}" for said in form.remarks]
        judged = _Judged(finder, form.delimiter)
        for line in form.lines:
            rows += judged.take(row, line)
            row += 1
        if judged.bad and not reading.skip:
            raise InputError(f"{path}: {_told(judged.bad)}; mend it, or leave such captions out: prompts.on_bad=skip")
        remarks += [f"{path}: {said}" for said in judged.remarks()]
    where = ", ".join(map(str, files[:3])) + (" .." if files[3:] else "")
    remarks += finder.remarks(where)
    if not rows:
        raise InputError("\n".join([f"{where}: holds no caption of the chosen classes", *remarks]))
    content = digests[0] if len(digests) == 1 else hashlib.sha256("".join(digests).encode()).hexdigest()
    if remarks:
        as_read = [[own.row, own.caption, [c.index for c in own.classes]] for own in rows]
        content = hashlib.sha256(content.encode() + canonical(as_read)).hexdigest()
    return OwnFile(tuple(rows), content, dict(finder.used), tuple(remarks))


def _text_of(path: Path) -> tuple[bytes, str]:
    if path.suffix.lower() not in SUFFIXES:
        raise InputError(f"{path}: captions are read from {', '.join(SUFFIXES)}; rename the file after what it holds")
    try:
        data = foreign.read(path, foreign.TABLE)
        return data, data.decode("utf-8-sig")
    except (OSError, UnicodeDecodeError) as e:
        not_trouble(path, e)
        raise InputError(f"{path}: cannot be read ({getattr(e, 'strerror', None) or e}); captions are UTF-8 text") from e


class _Judged:
    """The lines of one file as they are taken, or why not."""

    def __init__(self, finder: "_Finder", delimiter: str):
        """delimiter: of a table, "" of another form."""
        self.finder, self.delimiter = finder, delimiter
        self.bad: list[tuple[str, str]] = []  # (at, why)
        self.broken = self.composed = 0  # captions with line breaks, and in another form than NFC
        self.first = ""

    def take(self, row: int, line: Line) -> list[Own]:
        """The caption of a line, if its class is chosen."""
        classes = line.wrong or self.finder.classes(line.classes)
        if not isinstance(classes, str) and self.delimiter and self.finder.swallowed(line.caption, self.delimiter):
            classes = 'holds what looks like rows of the table: a " that is text must be doubled, and its text put in quotes'
        if isinstance(classes, str):
            self.bad.append((line.at, classes))
            return []
        if not classes:
            return []
        if "\n" in line.caption.strip():
            self.broken += 1
            self.first = self.first or line.at
        self.composed += composed(line.caption) != line.caption
        return [Own(row, one_line(line.caption), classes)]

    def remarks(self) -> list[str]:
        remarks = []
        if self.broken:
            remarks.append(f"captions with line breaks: {self.broken:,}, the first at {self.first}; they are taken whole, on one line")
        if self.composed:
            remarks.append(f"captions in another form than Unicode's NFC: {self.composed:,}; they are composed")
        return remarks + ([f"left out: {_told(self.bad)}"] if self.bad else [])


def _told(bad: Sequence[tuple[str, str]]) -> str:
    """All lines that cannot be taken, those with one reason together.

    >>> _told([("line 2", "has no class"), ("line 3", "has no class"), ("line 9", "has no class")])
    '3 captions cannot be taken: lines 2..3, 9: has no class'
    """
    of: dict[str, list[str]] = {}
    for at, why in bad:
        of.setdefault(why, []).append(at)
    shown = [f"{_places(of[why])}: {why}" for why in list(of)[:SHOWN]]
    if more := sum(len(of[why]) for why in list(of)[SHOWN:]):
        shown.append(f"and {more:,} captions for {len(of) - SHOWN:,} other reasons")
    count = f"{len(bad):,} captions cannot be taken" if len(bad) > 1 else "a caption cannot be taken"
    return f"{count}: {shown[0]}" if len(shown) == 1 else f"{count}:\n  " + "\n  ".join(shown)


def _places(at: Sequence[str]) -> str:
    """Lines as runs: lines 2..3, 9; other places as they are."""
    if len(at) == 1 or not all(a.startswith("line ") for a in at):
        return ", ".join(at[:RANGES]) + (f" and {len(at) - RANGES:,} more" if at[RANGES:] else "")
    runs: list[list[int]] = []
    for n in (int(a.removeprefix("line ")) for a in at):
        if runs and n == runs[-1][1] + 1:
            runs[-1][1] = n
        else:
            runs.append([n, n])
    shown = ", ".join(str(a) if a == b else f"{a}..{b}" for a, b in runs[:RANGES])
    return f"lines {shown}" + (f" and {len(runs) - RANGES:,} runs more" if runs[RANGES:] else "")


class _Finder:
    """Classes by what a file calls them: official name (also with the dataset's suffix, or _ for blanks), another name, or index."""

    def __init__(self, dataset: DatasetConfig, reading: Reading):
        self.dataset, self.also = dataset, reading.also
        self.chosen = {c.index: c for c in dataset.classes}
        self.by_name: dict[str, list[int]] = {}
        names: Iterable[tuple[int, str]] = enumerate(reading.official) if reading.official else ((c.index, c.name) for c in dataset.classes)
        for index, name in names:
            self.by_name.setdefault(looked_up(name), []).append(index)
        self.used: dict[str, int] = {}
        self.spelt: dict[str, str] = {}  # other name that was used -> as it was written first
        self.count: Counter[str] = Counter()  # captions by it
        self.unknown = 0  # names that are of no class
        self._find = lru_cache(maxsize=None)(self._look_up)

    def classes(self, labels: Said) -> tuple[ClassEntry, ...] | str:
        """The chosen classes of a line; () if none of them is chosen; or why none can be told."""
        if not labels and len(self.chosen) > 1:
            return 'says no class; write `caption => class`, in tables and JSON a "class", or choose one class: dataset.classes=[..]'
        if not labels:
            return self.dataset.classes
        indices = [self._find(one) for one in labels]
        if wrong := next((i for i in indices if isinstance(i, str)), ""):
            return wrong
        for one in labels:
            if isinstance(one, str) and (key := looked_up(one)) in self.used:
                self.count[key] += 1
        return tuple(self.chosen[i] for i in dict.fromkeys(indices) if i in self.chosen)

    def swallowed(self, caption: str, delimiter: str) -> bool:
        """Whether a cell of several lines holds rows of the table: one of its lines ends in the delimiter and a class. A quote that was
        meant as text opens such a cell, and the next one, some rows on, closes it. Behind a blank a class is a word of a text."""
        ends = (part.rstrip("\r").rpartition(delimiter) for part in caption.split("\n")[:-1])
        return any(found and end[:1].strip() and looked_up(end) in self.by_name for _, found, end in ends)

    def remarks(self, where: str) -> list[str]:
        """Which names were taken for which classes."""
        if not self.used:
            return []
        several = [name for name in self.used if len(self.by_name.get(name, ())) > 1]
        others = [name for name in self.used if name not in several]
        remarks = [
            f"{where}: {self.spelt[name]!r} is the name of classes {', '.join(map(str, self.by_name[name]))}: captions of it "
            f"({self.count[name]:,}) are taken for {self.used[name]}; write the index for another one"
            for name in several
        ]
        if others:
            first, n = others[0], sum(self.count[name] for name in others)
            said = f"{self.spelt[first]!r} for class {self.used[first]}"
            remarks.append(f"{where}: captions that call their class otherwise than the dataset does: {n:,}, such as {said}")
        return remarks

    def _look_up(self, label: str | int) -> int | str:
        """Official index, or what is wrong."""
        number = label if isinstance(label, int) else -1
        if isinstance(label, str):
            key, suffix = looked_up(label), looked_up(self.dataset.suffix)
            matches = self.by_name.get(key) or self.by_name.get(key.removesuffix(suffix).rstrip() if suffix else key, [])
            if len(matches) == 1:
                return matches[0]
            if key in self.also:
                self.used[key] = self.also[key]
                self.spelt.setdefault(key, label)
                return self.also[key]
            if matches:
                return f"class {label!r} is the name of classes {', '.join(map(str, matches))}; write the index instead"
            number = -1 if (index := foreign.number_in(label)) is None else index
        if 0 <= number < self.dataset.n_classes:
            return number
        self.unknown += 1
        alike = difflib.get_close_matches(looked_up(str(label)), self.by_name, n=1) if self.unknown <= SHOWN else []
        fix = f"did you mean {alike[0]}?" if alike else "write its official name or index"
        return f"class {foreign.seen(label)} is not in dataset {self.dataset.name}; {fix}"
