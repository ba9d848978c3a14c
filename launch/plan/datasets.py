"""The classes of a run: lists read in the forms in which they come, checked, and cut down to the chosen ones.

Class lists live in JSON, CSV or text files or in the folders of an ImageFolder, not in YAML: YAML turns `no`, `on`, `1:20`
and `0123` into other things. A class keeps its official index whatever is chosen: labels and seeds are made of it.

text   a name a line
CSV    a column `name` (or `class`, `class_name`, ..), and at will `superclass`, `spoken`, `count`, `id`; or names alone, without a
       heading; commas, semicolons, tabs or bars between columns; .tsv: tabs
JSON   a list, or {"classes": [...]}, of names or of objects with those keys;
       {"classes": [names], "superclass": {name: superclass}} says the same
folder a subfolder a class, in the order of their names, or as its classes.json says; count = its pictures
"""

import re
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from types import MappingProxyType
from typing import Any

from launch.config.near import did_you_mean
from launch.plan.class_tables import Listed, lines_of, table_of
from launch.plan.inputs import seen
from synth import foreign
from synth.captions.config import ClassEntry, DatasetConfig
from synth.captions.normalise import composed, looked_up
from synth.errors import InputError, not_trouble
from synth.images.sources import TABLE_SUFFIXES, TABLES, layout_of, reader
from synth.images.sources.class_folders import ClassFolders, class_folders, classes_file, is_training, listed_classes
from synth.keys import WrongKey
from synth.store import trees

_RANGE = re.compile(r"(\d+)\.\.(\d+)$")
MAX_NAME = 200  # characters; a caption has to repeat the name, and a prompt has to hold it several times
SOURCE = "dataset.source"
KEYS = ("superclass", "spoken", "count", "id")


@dataclass(frozen=True)
class Entry:
    """One class as its list states it. `id` tells apart classes of one name (WordNet ids of ImageNet). `also`: what others call it."""

    name: str
    superclass: str = ""
    spoken: str = ""
    count: int | None = None
    id: str | None = None
    also: tuple[str, ...] = ()


def dataset_of(dataset: DatasetConfig) -> DatasetConfig:
    """A dataset of the config with its chosen classes, and their official indices."""
    if not dataset.suffix.isprintable() or "=>" in dataset.suffix:
        raise WrongKey("suffix", dataset.suffix, "must be one line without =>", group="dataset")
    classes = official(list_path(dataset))
    wanted: Any = dataset.classes  # as the user wrote them
    if dataset.classes_file is not None:
        if wanted != "all":
            raise InputError("dataset.classes and dataset.classes_file are both set; give one of them")
        wanted = names_in(dataset.classes_file)
    suffix = f" {dataset.suffix}" if dataset.suffix[:1].isascii() and dataset.suffix[:1].isalnum() else dataset.suffix  # no "puffinbird"
    return replace(dataset, classes=choose(classes, wanted), n_classes=len(classes), suffix=suffix)


@cache
def official(path: str) -> tuple[ClassEntry, ...]:
    """The official list of a file or folder (`entries`), checked; its order is the official index."""
    return tuple(ClassEntry(i, e.name, e.superclass, e.spoken) for i, e in enumerate(_checked(path)))


def list_path(dataset: DatasetConfig) -> str:
    """The file or folder that holds the class list of a dataset."""
    if dataset.annotated:
        raise InputError(f"dataset={dataset.name}: has annotated images and no list of classes to ask for; it is for recipe=tracking")
    path = dataset.source or dataset.classes_json
    if not path:
        what = "a text, CSV or JSON file of class names, or a folder with a subfolder of pictures for each class"
        raise InputError(f"dataset.source: not set; it must name {what}: dataset.source=/path")
    return str(Path(path).expanduser())


def counts(dataset: DatasetConfig) -> dict[int, int]:
    """official index -> pictures in the real training set, for the classes whose file says so; {} where none does."""
    return {i: e.count for i, e in enumerate(_checked(list_path(dataset), counting=True)) if e.count is not None}


def other_names(dataset: DatasetConfig) -> dict[str, int]:
    """What files of prompts call classes beside their official names, looked up -> official index: as they are spoken, ids, other names
    that the list states, each also with the word that the original scripts put behind all names of a dataset ("car", "aircraft").

    A name of several classes is none. But an official name of several is the first of them: the original scripts, which know classes by
    their names, make them one; `name~index` says which.
    """
    listed = _checked(list_path(dataset))
    supers = {e.superclass for e in listed}
    behind = [f" {word}" for word in supers.pop().split()[-1:]] if len(supers) == 1 else []
    official_of: dict[str, list[int]] = defaultdict(list)
    others: dict[str, set[int]] = defaultdict(set)
    for i, entry in enumerate(listed):
        official_of[looked_up(entry.name)].append(i)
        words = [part for name in entry.also for part in (name, *name.split(", "))]
        own_id = "" if foreign.number_in(entry.id or "") is not None else entry.id  # a number is an index
        known = [entry.name, entry.spoken, *words, own_id, f"{entry.name}~{i}"]
        for name in filter(None, known):
            for end in ("", dataset.suffix, *behind):
                others[looked_up(name + end)].add(i)
    found = {name: min(of) for name, of in others.items() if len(of) == 1 and name not in official_of}
    return found | {name: of[0] for name, of in official_of.items() if len(of) > 1}


def remarks(dataset: DatasetConfig) -> list[str]:
    """How the list of a dataset was read, where that was not plain to see."""
    path = Path(list_path(dataset))
    if _is_tables(path):
        return [f"{SOURCE}: {note}" for note in _tables(path)[1]]
    if path.is_dir():
        return [] if _classes_json(path) else [f"{SOURCE}: {note}" for note in _class_folders(path).notes]
    remark = _listed(path, False)[1]
    return [f"{SOURCE}: {path}: {remark}"] if remark else []


@cache
def _checked(path: str, counting: bool = False) -> tuple[Entry, ...]:
    listed = entries(Path(path), counting=counting)
    if not listed:
        raise InputError(f"{path}: holds no class; it needs one name at least")
    ids = defaultdict(list)
    for i, entry in enumerate(listed):
        if wrong := _wrong(entry.name) or (entry.spoken and _wrong(entry.spoken)):
            raise InputError(f"{path}: class {i} ({_short(entry.name)}) {wrong}")
        ids[entry.name].append(entry.id)
    for name, same in ids.items():  # two classes of one name are two classes where the list tells them apart
        if len(same) > 1 and (None in same or len(set(same)) < len(same)):
            raise InputError(f'{path}: {_short(name)} is there twice; give each class a name of its own, or both an "id" that differs')
    return tuple(listed)


def _wrong(name: str) -> str:
    """What keeps a name from being asked for, with the fix; "" if nothing does."""
    if len(name) > MAX_NAME:
        return f"has {len(name):,} characters; at most {MAX_NAME} fit into a prompt: shorten it"
    if any(0xD800 <= ord(c) <= 0xDFFF for c in name):
        return "holds half of a character (a lone surrogate), which is no text: write the whole character"
    if bad := next((c for c in name if not c.isprintable()), None):
        return f"holds the character {bad!r}; a name is one line of printable text"
    if "=>" in name:
        return "holds =>, which prompts and caption files put between a class and its caption: write it in another way"
    if not any(c.isalnum() for c in name):
        return "has no letter and no digit, so that no caption can name it"
    return ""


def _short(name: str) -> str:
    return repr(name if len(name) <= 60 else name[:57] + "...")


def choose(classes: tuple[ClassEntry, ...], wanted: object, where: str = "dataset.classes") -> tuple[ClassEntry, ...]:
    """The classes that `wanted` names, in official order.

    `wanted`: "all", a range "0..4" (both ends included), an index, a name, or a list of those.
    """
    if wanted == "all":
        return classes
    items = wanted if isinstance(wanted, (list, tuple)) else [wanted]
    if not items:
        raise InputError(f"{where}: an empty list; choose one class at least, or all")
    chosen: set[int] = set()
    for item in items:
        indices = set(_indices(classes, item, where))
        if chosen & indices:
            both = classes[min(chosen & indices)].name
            raise InputError(f"{where}: {both!r} is chosen twice (again by {item!r}); name each class once")
        chosen |= indices
    return tuple(classes[i] for i in sorted(chosen))


def names_in(path: str) -> list[str]:
    """The names of a *_file twin: JSON list or one a line; ranges and indices as text are fine too."""
    return [e.name for e in entries(Path(path), choice=True)]


def _indices(classes: tuple[ClassEntry, ...], item: Any, where: str) -> range | list[int]:
    if isinstance(item, (bool, float)) or item is None:
        raise InputError(f"{where}: {item!r} is no name: YAML made it of an unquoted word; quote it: ['no'], or use {where}_file")
    by_name = [c.index for c in classes if c.name == composed(str(item))]
    if len(by_name) > 1:
        raise InputError(f"{where}: {item!r} is the name of classes {', '.join(map(str, by_name))}; choose by index")
    if by_name:  # a class may be called "3" or "0..4"
        return by_name
    match = _RANGE.match(str(item))
    if match:
        first, last = int(match[1]), int(match[2])
        if first > last or last >= len(classes):
            there = f"the list has classes 0..{len(classes) - 1}"
            raise InputError(f"{where}: {item}: {there}; a range counts from its lower end, both ends included")
        return range(first, last + 1)
    index = item if isinstance(item, int) else foreign.number_in(str(item))
    if index is not None:
        if not 0 <= index < len(classes):
            raise InputError(f"{where}: index {foreign.seen(index)}: the list has classes 0..{len(classes) - 1}")
        return [index]
    names = {c.name: c.index for c in classes}
    raise InputError(f"{where}: no class {str(item)!r} among {len(classes)}{did_you_mean(str(item), names)}")


# -- the forms of a list ---------------------------------------------------------------------------------------------


def entries(path: Path, choice: bool = False, counting: bool = False) -> list[Entry]:
    """The entries of a class list in official order. `choice`: a list of chosen classes, where numbers are indices.
    `counting`: count the pictures of a folder's classes too, which takes a minute for a million of them."""
    found = _tables(path)[0] if _is_tables(path) else _folder(path, counting) if path.is_dir() else _listed(path, choice)[0]
    return [replace(e, name=composed(e.name), superclass=composed(e.superclass), spoken=composed(e.spoken)) for e in found]


def _listed(path: Path, choice: bool) -> tuple[list[Entry], str]:
    """(entries, how they were read) of a file."""
    try:
        text = foreign.read_text(path)  # spreadsheets put a byte order mark before CSV
    except OSError as e:
        raise InputError(f"{path}: cannot be read ({e.strerror or e}); check the path of the class list") from e
    except InputError as e:
        raise InputError(f"{e}; check the path of the class list") from e
    if path.suffix.lower() == ".json":
        return _json(path, text, choice), ""
    table = path.suffix.lower() in (".csv", ".tsv")
    listed: Listed = table_of(path, text, KEYS, choice) if table else lines_of(text, choice)
    return [_entry(path, i, item) for i, item in enumerate(listed.items)], listed.remark


def _json(path: Path, text: str, choice: bool) -> list[Entry]:
    data = foreign.parse(text, path, "write a list of names", once=True, halves=True)  # names with half a character are named below
    items = data.get("classes") if isinstance(data, dict) else data
    if not isinstance(items, list):
        raise InputError(f'{path}: needs a list of names, or {{"classes": [...]}}')
    if choice:  # an unquoted 3 is the index 3
        items = [str(i) if isinstance(i, int) and not isinstance(i, bool) else i for i in items]
    supers = data.get("superclass") if isinstance(data, dict) else None
    if not isinstance(supers, dict):
        supers = {}
    return [_entry(path, i, {"name": item} if isinstance(item, str) else item, supers) for i, item in enumerate(items)]


def _entry(path: Path, i: int, item: object, supers: Mapping[str, str] = MappingProxyType({})) -> Entry:
    if not isinstance(item, dict) or not isinstance(item.get("name"), str) or not item["name"].strip():
        raise InputError(f'{path}: class {i} is {seen(item)}; write a name in quotes, or an object with "name" and "superclass"')
    name, given = item["name"], {}
    if item.get("index", i) != i:
        raise InputError(f"{path}: class {i} ({name!r}) says index {item['index']}; the order of the file is the official index")
    for key in KEYS:
        value = item.get(key)
        if key == "superclass" and value is None:
            value = supers.get(name)
        if value is None:
            continue
        if not (type(value) is int and value >= 0 if key == "count" else isinstance(value, str)):
            wanted = "a whole number, 0 or more" if key == "count" else "a text"
            raise InputError(f"{path}: class {i} ({name!r}): {key} is {seen(value)}; it must be {wanted}")
        given[key] = value
    if not foreign.fits(also := item.get("also", []), [str]):
        raise InputError(f"{path}: class {i} ({name!r}): also is {seen(also)}; it must be a list of texts")
    return Entry(name, **given, also=tuple(also))


def _folder(path: Path, counting: bool) -> list[Entry]:
    try:
        if listed := _classes_json(path):
            return _exported(path, listed, counting)
        if layout_of(path, SOURCE) == "img2dataset":
            fix = f"write the names of the classes into a file: {SOURCE}=FILE"
            raise InputError(f"{SOURCE}: the folders of {path} are shards of img2dataset (00012/000120007.jpg), and no classes; {fix}")
        by_name = defaultdict(list)  # a file system may compose the letters of a name, another one not
        for folder in _class_folders(path).folders:
            by_name[composed(folder.rpartition("/")[2])].append(folder)
        return [Entry(name, count=_pictures(path, by_name[name]) if counting else None) for name in sorted(by_name)]
    except OSError as e:
        not_trouble(e.filename or path, e)
        raise InputError(f"{e.filename or path}: cannot be read ({e.strerror}); dataset.source needs a folder that can be listed") from e


def _is_tables(path: Path) -> bool:
    """Whether a list lies in Parquet or HDF5 files of pictures, without a classes.json that says as much in an instant."""
    if path.is_dir():
        return not _classes_json(path) and layout_of(path, SOURCE) in TABLES
    return path.is_file() and path.name.lower().endswith(TABLE_SUFFIXES)


@cache
def _tables(path: Path) -> tuple[list[Entry], list[str]]:
    """The classes of Parquet or HDF5 files of pictures, with how many each has, and how the files were read."""
    inputs = reader(layout_of(path, SOURCE), path, False, SOURCE)
    inputs.identify = lambda file: ""  # only their classes are taken
    count = Counter(label for item in inputs for label in item.labels[:1])
    listed = sorted((c.index is None, c.index or 0, composed(c.name), count[n]) for n, c in enumerate(inputs.classes))
    numbers = Counter((unnumbered, index) for unnumbered, index, _, _ in listed if not unnumbered)
    if len({unnumbered for unnumbered, *_ in listed}) > 1 or max(numbers.values(), default=0) > 1:
        raise InputError(f"{SOURCE}: {path}: its files do not number their classes in one way; name one of them: {SOURCE}=FILE")
    entries = [Entry(name, id=None if unnumbered else str(index), count=n) for unnumbered, index, name, n in listed]
    return entries, inputs.notes


def _classes_json(path: Path) -> list[tuple[int, str, str]]:
    """(index, name, folder) of each class of an ImageFolder that synthset made: names in full, official order; [] of another one."""
    return listed_classes(file) if (file := classes_file(path)) else []


@cache
def _class_folders(path: Path) -> ClassFolders:
    return class_folders(path, SOURCE, "write the names of the classes into a file: dataset.source=FILE")


def _exported(path: Path, listed: Sequence[tuple[int, str, str]], counting: bool) -> list[Entry]:
    file, classes = classes_file(path) or path, []
    for i, (index, name, folder) in enumerate(listed):
        plain = counting and folder and Path(folder).name == folder
        there = [f for f in (folder, f"train/{folder}") if plain and (path / f).is_dir()]
        item = {"name": name, "id": str(index)} | ({"count": _pictures(path, there)} if there else {})
        classes.append(_entry(file, i, item))
    return classes


def _pictures(path: Path, folders: Sequence[str]) -> int:
    """How many the class in these folders has, decodable here or not; of a data set with splits, for training."""
    training = [f for f in folders if any(map(is_training, f.split("/")[:-1]))] or folders
    return sum(trees.is_picture_file(entry) and entry.is_file() for folder in training for _, entry in trees.walk(path, folder, SOURCE))
