"""A file of the user's own captions, read: the format is told by its ending and by what is in it.

.txt                `caption => class` lines, split at the last " => "; a line without one is of the dataset's only class
.csv .tsv           columns caption, and class (a name) or label (an index)
.jsonl              objects with the same keys
.json               SynCLR's {"captions_single_labeled": [[caption, [class]], ...]} (or captions_multiple_labeled),
                    GenCL's static and dynamic prompt files, or a list of such objects
"""

import csv
import difflib
import hashlib
import io
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from synth import foreign
from synth.captions.config import ClassEntry, DatasetConfig
from synth.captions.prompts import gencl
from synth.errors import InputError, not_trouble

SUFFIXES = (".txt", ".csv", ".tsv", ".jsonl", ".json")
_SYNCLR = ("captions_single_labeled", "captions_multiple_labeled")


@dataclass(frozen=True)
class Own:
    """One caption of the file. `row` is its place in the file, its name for ever, whatever classes are chosen."""

    row: int
    caption: str
    classes: tuple[ClassEntry, ...]


@dataclass(frozen=True)
class OwnFile:
    rows: tuple[Own, ...]  # of the chosen classes
    content: str  # sha256


def read_own(path: str | Path, dataset: DatasetConfig, official: tuple[str, ...] = ()) -> OwnFile:
    """The captions of the chosen classes. `official`: all class names; may be left out where all are chosen.

    InputError for a file that cannot be read, a row that is not understood, a class that is not in the list.
    """
    path = Path(path)
    if path.suffix.lower() not in SUFFIXES:
        raise InputError(f"{path}: captions are read from {', '.join(SUFFIXES)}; rename the file after what it holds")
    try:
        data = path.read_bytes()
        text = data.decode("utf-8-sig")
    except (OSError, UnicodeDecodeError) as e:
        not_trouble(path, e)
        raise InputError(f"{path}: cannot be read ({getattr(e, 'strerror', None) or e}); captions are UTF-8 text") from e
    finder = _Finder(dataset, official, str(path))
    rows = [
        Own(row, caption, classes)
        for row, (caption, labels) in enumerate(_pairs(path, text, dataset))
        if (classes := finder.classes(labels, row))
    ]
    if not rows:
        raise InputError(f"{path}: holds no caption of the chosen classes")
    return OwnFile(tuple(rows), hashlib.sha256(data).hexdigest())


Said = tuple[str | int, ...]  # names or indices of classes; () = the only class of the dataset


def _pairs(path: Path, text: str, dataset: DatasetConfig) -> Iterator[tuple[str, Said]]:
    kind = path.suffix.lower()
    if kind == ".txt":
        return _lines(text)
    if kind in (".csv", ".tsv"):
        return _table(path, text, "\t" if kind == ".tsv" else ",")
    if kind == ".jsonl":
        lines = [(n, line) for n, line in enumerate(text.split("\n")) if line.strip()]
        return _objects(path, [(n, _json(f"{path}, line {n + 1}", line)) for n, line in lines])
    return _json_file(path, _json(str(path), text), dataset)


def _lines(text: str) -> Iterator[tuple[str, Said]]:
    for line in text.split("\n"):  # and not at the other separators of Unicode, which a caption may hold
        if line.strip():
            caption, arrow, name = line.rpartition(" => ")
            yield (caption.strip(), (name.strip(),)) if arrow else (line.strip(), ())


def _table(path: Path, text: str, delimiter: str) -> Iterator[tuple[str, Said]]:
    reader = csv.DictReader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)
    try:
        if "caption" not in (reader.fieldnames or ()):
            raise InputError(f'{path}: needs a first line with the columns "caption" and "class" (or "label"); it is {reader.fieldnames}')
        for row in reader:
            yield _pair(row, f"{path}, line {reader.line_num}")
    except csv.Error as e:
        raise InputError(f"{path}, line {reader.line_num}: not CSV ({e})") from e


def _objects(path: Path, items: list[tuple[int, object]]) -> Iterator[tuple[str, Said]]:
    for n, item in items:
        if not isinstance(item, dict):
            raise InputError(f'{path}, item {n}: needs an object with "caption" and "class" (or "label"); it is {str(item)[:80]!r}')
        yield _pair(item, f"{path}, item {n}")


def _pair(item: dict, where: str) -> tuple[str, Said]:
    caption, name, label = item.get("caption"), item.get("class"), item.get("label")
    if not isinstance(caption, str):
        raise InputError(f'{where}: "caption" must be a text, it is {caption!r}')
    if isinstance(name, str) and name.strip():
        return caption, (name.strip(),)
    if name is None and label is None:
        return caption, ()
    if isinstance(label, str) and label.strip().isdigit():
        label = int(label)
    if isinstance(label, int) and not isinstance(label, bool):
        return caption, (label,)
    raise InputError(f'{where}: needs "class", a name, or "label", an index; found class {name!r}, label {label!r}')


def _json_file(path: Path, data: object, dataset: DatasetConfig) -> Iterator[tuple[str, Said]]:
    if isinstance(data, list):
        return _objects(path, list(enumerate(data)))
    if isinstance(data, dict) and any(key in data for key in _SYNCLR):
        return _synclr(path, data)
    if gencl.is_static(data):
        return ((text, (index,)) for text in gencl.static_texts(data, str(path)) for index in range(dataset.n_classes))
    if gencl.is_dynamic(data):
        return ((text, (key,)) for key, text in gencl.dynamic_texts(data, str(path)))
    raise InputError(f'{path}: not a form of captions that is known: a list of objects, {_SYNCLR[0]!r}, or GenCL\'s "metaprompts"')


def _synclr(path: Path, data: dict) -> Iterator[tuple[str, Said]]:
    for key in _SYNCLR:
        items = data.get(key, [])
        for n, item in enumerate(items if isinstance(items, list) else [items]):
            ok = isinstance(item, list) and len(item) == 2 and isinstance(item[0], str)
            labels = item[1] if ok and isinstance(item[1], list) else [item[1]] if ok else []
            if not labels or any(isinstance(x, bool) or not isinstance(x, (str, int)) for x in labels):
                raise InputError(f"{path}: {key}[{n}] must be [caption, [class, ...]], it is {str(item)[:80]!r}")
            yield item[0], tuple(labels)


def _json(where: str, text: str) -> object:
    return foreign.parse(text, where, once=True, halves=True)  # rows with half a character are named by their number


class _Finder:
    """Classes by what a file calls them: official name (also with the dataset's suffix, or _ for blanks), or index."""

    def __init__(self, dataset: DatasetConfig, official: tuple[str, ...], path: str):
        self.dataset, self.path = dataset, path
        self.chosen = {c.index: c for c in dataset.classes}
        self.by_name: dict[str, list[int]] = {}
        for index, name in enumerate(official) if official else ((c.index, c.name) for c in dataset.classes):
            self.by_name.setdefault(_fold(name), []).append(index)
        self._find = lru_cache(maxsize=None)(self._look_up)

    def classes(self, labels: Said, row: int) -> tuple[ClassEntry, ...]:
        """The chosen classes of a row; () if none of them is chosen."""
        if not labels and len(self.chosen) > 1:
            fix = "write `caption => class`, or choose one class: dataset.classes=[..]"
            raise InputError(f"{self.path}: caption {row} says no class; {fix}")
        if not labels:
            return self.dataset.classes
        indices = []
        for one in labels:
            index = self._find(one)
            if isinstance(index, str):
                raise InputError(f"{self.path}: caption {row} is of class {one!r}, {index}")
            indices.append(index)
        return tuple(self.chosen[i] for i in dict.fromkeys(indices) if i in self.chosen)

    def _look_up(self, label: str | int) -> int | str:
        """Official index, or what is wrong."""
        number = label if isinstance(label, int) else -1
        if isinstance(label, str):
            key, suffix = _fold(label), _fold(self.dataset.suffix)
            matches = self.by_name.get(key) or self.by_name.get(key.removesuffix(suffix).rstrip() if suffix else key, [])
            if len(matches) > 1:
                return f"a name of classes {matches}; say its index instead"
            if matches:
                return matches[0]
            number = int(label) if label.isdecimal() else -1
        if 0 <= number < self.dataset.n_classes:
            return number
        alike = difflib.get_close_matches(_fold(str(label)), self.by_name, n=1)
        fix = f"did you mean {alike[0]}?" if alike else "write its official name or index, or leave the row out"
        return f"which is not in dataset {self.dataset.name}; {fix}"


def _fold(name: str) -> str:
    return " ".join(name.casefold().replace("_", " ").split())
