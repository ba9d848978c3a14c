"""Class lists: read, checked, and cut down to the chosen ones.

Class lists live in JSON, CSV or text files or in the folders of an ImageFolder, not in YAML: YAML turns `no`, `on`, `1:20`
and `0123` into other things. A class keeps its official index whatever is chosen: labels and seeds are made of it.
"""

import re
from collections import defaultdict
from functools import cache
from pathlib import Path

from launch.config.near import did_you_mean
from launch.config.schema import Annotated, Dataset
from launch.plan.class_files import Entry, entries
from synth.captions.config import ClassEntry
from synth.errors import InputError

_RANGE = re.compile(r"(\d+)\.\.(\d+)$")
MAX_NAME = 200  # characters; a caption has to repeat the name, and a prompt has to hold it several times


@cache
def official(path: str) -> tuple[ClassEntry, ...]:
    """The official list of a file or folder (launch.plan.class_files), checked; its order is the official index."""
    return tuple(ClassEntry(i, e.name, e.superclass, e.spoken) for i, e in enumerate(_checked(path)))


def list_path(dataset: Dataset) -> str:
    """The file or folder that holds the class list of a dataset."""
    if isinstance(dataset, Annotated):
        raise InputError(f"dataset={dataset.name}: has annotated images and no list of classes to ask for; it is for recipe=tracking")
    path = dataset.source or dataset.classes_json
    if not path:
        what = "a text, CSV or JSON file of class names, or a folder with a subfolder of pictures for each class"
        raise InputError(f"dataset.source: not set; it must name {what}: dataset.source=/path")
    return str(Path(path).expanduser())


def counts(dataset: Dataset) -> dict[int, int]:
    """official index -> pictures in the real training set, for the classes whose file says so; {} where none does."""
    return {i: e.count for i, e in enumerate(_checked(list_path(dataset), counting=True)) if e.count is not None}


@cache
def _checked(path: str, counting: bool = False) -> tuple[Entry, ...]:
    found = entries(Path(path), counting=counting)
    if not found:
        raise InputError(f"{path}: holds no class; it needs one name at least")
    ids = defaultdict(list)
    for i, entry in enumerate(found):
        if wrong := _wrong(entry.name) or (entry.spoken and _wrong(entry.spoken)):
            raise InputError(f"{path}: class {i} ({_short(entry.name)}) {wrong}")
        ids[entry.name].append(entry.id)
    for name, same in ids.items():  # two classes of one name are two classes where the list tells them apart
        if len(same) > 1 and (None in same or len(set(same)) < len(same)):
            raise InputError(f'{path}: {_short(name)} is there twice; give each class a name of its own, or both an "id" that differs')
    return tuple(found)


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
        found = _indices(classes, item, where)
        if chosen & set(found):
            both = classes[min(chosen & set(found))].name
            raise InputError(f"{where}: {both!r} is chosen twice (again by {item!r}); name each class once")
        chosen |= set(found)
    return tuple(classes[i] for i in sorted(chosen))


def names_in(path: str) -> list[str]:
    """The names of a *_file twin: JSON list or one a line; ranges and indices as text are fine too."""
    return [e.name for e in entries(Path(path), choice=True)]


def _indices(classes: tuple[ClassEntry, ...], item: object, where: str) -> range | list[int]:
    if isinstance(item, (bool, float)) or item is None:
        raise InputError(f"{where}: {item!r} is no name: YAML made it of an unquoted word; quote it: ['no'], or use {where}_file")
    by_name = [c.index for c in classes if c.name == str(item)]
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
    if isinstance(item, int) or str(item).isdecimal():
        if not 0 <= int(item) < len(classes):
            raise InputError(f"{where}: index {item}: the list has classes 0..{len(classes) - 1}")
        return [int(item)]
    names = {c.name: c.index for c in classes}
    raise InputError(f"{where}: no class {str(item)!r} among {len(classes)}{did_you_mean(str(item), names)}")
