"""Class lists: read from JSON or text, checked, and cut down to the chosen ones.

Class lists live in JSON or text files, not in YAML: YAML turns `no`, `on`, `1:20` and `0123` into other things.
A class keeps its official index whatever is chosen: labels and seeds are made of it.
"""

import json
import re
from collections import Counter
from functools import cache
from pathlib import Path

from launch.keys import did_you_mean
from synth.config import ClassEntry
from synth.errors import InputError

_RANGE = re.compile(r"(\d+)\.\.(\d+)$")


@cache
def official(path: str) -> tuple[ClassEntry, ...]:
    """The official list: a JSON list (or {"classes": [...]}) of names or of {"name", "superclass"}; or text, a name a line.

    {"classes": [names], "superclass": {name: superclass}} says the same.
    """
    entries, supers = _items(Path(path))
    classes = []
    for i, entry in enumerate(entries):
        item = {"name": entry} if isinstance(entry, str) else entry
        if not isinstance(item, dict) or not isinstance(item.get("name"), str) or not item["name"].strip():
            msg = f'{path}: class {i} is {entry!r}; write a name in quotes, or an object with "name" and "superclass"'
            raise InputError(msg)
        if item.get("index", i) != i:
            said = f"class {i} ({item['name']!r}) says index {item['index']}"
            msg = f"{path}: {said}; the order of the file is the official index"
            raise InputError(msg)
        classes.append(ClassEntry(i, item["name"], item.get("superclass") or supers.get(item["name"], "")))
    twice = [name for name, n in Counter(c.name for c in classes).items() if n > 1]
    if twice:
        msg = f"{path}: {twice[0]!r} is there twice; give each class a name of its own"
        raise InputError(msg)
    if not classes:
        msg = f"{path}: holds no class; it needs one name at least"
        raise InputError(msg)
    return tuple(classes)


def choose(classes: tuple[ClassEntry, ...], wanted: object, where: str = "dataset.classes") -> tuple[ClassEntry, ...]:
    """The classes that `wanted` names, in official order.

    `wanted`: "all", a range "0..4" (both ends included), an index, a name, or a list of those.
    """
    if wanted == "all":
        return classes
    items = wanted if isinstance(wanted, (list, tuple)) else [wanted]
    if not items:
        msg = f"{where}: an empty list; choose one class at least, or all"
        raise InputError(msg)
    chosen: set[int] = set()
    for item in items:
        found = _indices(classes, item, where)
        if chosen & set(found):
            both = classes[min(chosen & set(found))].name
            msg = f"{where}: {both!r} is chosen twice (again by {item!r}); name each class once"
            raise InputError(msg)
        chosen |= set(found)
    return tuple(classes[i] for i in sorted(chosen))


def names_in(path: str) -> list[str]:
    """The names of a *_file twin: JSON list or one a line; ranges and indices as text are fine too."""
    return [str(item) for item in _items(Path(path))[0]]


def _indices(classes: tuple[ClassEntry, ...], item: object, where: str) -> range | list[int]:
    if isinstance(item, (bool, float)) or item is None:
        msg = f"{where}: {item!r} is no name: YAML made it of an unquoted word; quote it: ['no'], or use {where}_file"
        raise InputError(msg)
    by_name = {c.name: c.index for c in classes}
    if str(item) in by_name:  # a class may be called "3" or "0..4"
        return [by_name[str(item)]]
    match = _RANGE.match(str(item))
    if match:
        first, last = int(match[1]), int(match[2])
        if first > last or last >= len(classes):
            there = f"the list has classes 0..{len(classes) - 1}"
            msg = f"{where}: {item}: {there}; a range counts from its lower end, both ends included"
            raise InputError(msg)
        return range(first, last + 1)
    if isinstance(item, int) or str(item).isdigit():
        if not 0 <= int(item) < len(classes):
            msg = f"{where}: index {item}: the list has classes 0..{len(classes) - 1}"
            raise InputError(msg)
        return [int(item)]
    msg = f"{where}: no class {str(item)!r} among {len(classes)}{did_you_mean(str(item), by_name)}"
    raise InputError(msg)


def _items(path: Path) -> tuple[list, dict[str, str]]:
    """(the entries of a list file, superclasses by name)"""
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as e:
        msg = f"{path}: cannot be read ({getattr(e, 'strerror', None) or e}); check the path of the class list"
        raise InputError(msg) from e
    if path.suffix != ".json":
        return [line.strip() for line in text.splitlines() if line.strip()], {}
    try:
        data = json.loads(text)
    except ValueError as e:
        msg = f"{path}: not JSON ({e}); write a list of names"
        raise InputError(msg) from e
    items = data.get("classes") if isinstance(data, dict) else data
    if not isinstance(items, list):
        msg = f'{path}: needs a list of names, or {{"classes": [...]}}'
        raise InputError(msg)
    supers = data.get("superclass", {}) if isinstance(data, dict) else {}
    return items, supers if isinstance(supers, dict) else {}
