"""The forms in which a class list may come: text, CSV, JSON, or the folders of an ImageFolder.

text   a name a line
CSV    a column `name` (or `class`), and at will `superclass`, `spoken`, `count`, `id`; or names alone, without a heading
JSON   a list, or {"classes": [...]}, of names or of objects with those keys;
       {"classes": [names], "superclass": {name: superclass}} says the same
folder a subfolder a class, in the order of their names, or as its classes.json says; count = its pictures
"""

import csv
import io
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

from synth.errors import InputError

PICTURES = frozenset((".png", ".jpg", ".jpeg", ".webp", ".bmp", ".gif", ".tif", ".tiff", ".ppm"))
SPLITS = frozenset(("train", "training", "val", "valid", "validation", "test", "testing"))
KEYS = ("superclass", "spoken", "count", "id")


@dataclass(frozen=True)
class Entry:
    """One class as its list states it. `id` tells apart classes of one name (WordNet ids of ImageNet)."""

    name: str
    superclass: str = ""
    spoken: str = ""
    count: int | None = None
    id: str | None = None


def entries(path: Path, choice: bool = False, counting: bool = False) -> list[Entry]:
    """The entries of a class list in official order. `choice`: a list of chosen classes, where numbers are indices.
    `counting`: count the pictures of a folder's classes too, which takes a minute for a million of them."""
    if path.is_dir():
        return _folder(path, counting)
    try:
        text = path.read_text(encoding="utf-8-sig")  # spreadsheets put a byte order mark before CSV
    except (OSError, UnicodeDecodeError) as e:
        why = f"is not UTF-8 text: {e}" if isinstance(e, UnicodeDecodeError) else f"cannot be read ({e.strerror or e})"
        raise InputError(f"{path}: {why}; check the path of the class list") from e
    form = {".json": _json, ".csv": _csv}.get(path.suffix.lower(), _text)
    return form(path, text, choice)


def _text(path: Path, text: str, choice: bool) -> list[Entry]:
    return [Entry(line.strip()) for line in text.split("\n") if line.strip()]


def _csv(path: Path, text: str, choice: bool) -> list[Entry]:
    try:
        rows = [row for row in csv.reader(io.StringIO(text), strict=True) if any(cell.strip() for cell in row)]
    except csv.Error as e:
        raise InputError(f"{path}: not CSV ({e})") from e
    head = [cell.strip().casefold() for cell in rows[0]] if rows else []
    name = next((head.index(key) for key in ("name", "class") if key in head), None)
    if name is None:
        if any(len(row) > 1 for row in rows):
            wide = next(row for row in rows if len(row) > 1)
            raise InputError(f"{path}: {wide!r} has {len(wide)} columns; begin the file with their names, one of them `name`")
        return [Entry(row[0].strip()) for row in rows]
    found = []
    for i, row in enumerate(rows[1:]):
        if len(row) != len(head):
            raise InputError(f"{path}: class {i} ({row!r}) has {len(row)} columns, the heading has {len(head)}")
        item = {key: cell.strip() for key, cell in zip(head, row, strict=True) if key in KEYS and cell.strip()}
        if item.get("count", "").isdecimal():
            item["count"] = int(item["count"])
        found.append(_entry(path, i, item | {"name": row[name].strip()}))
    return found


def _json(path: Path, text: str, choice: bool) -> list[Entry]:
    try:
        data = json.loads(text)
    except (ValueError, RecursionError) as e:
        raise InputError(f"{path}: not JSON ({e}); write a list of names") from e
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
        raise InputError(f'{path}: class {i} is {_seen(item)}; write a name in quotes, or an object with "name" and "superclass"')
    name, said = item["name"], {}
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
            raise InputError(f"{path}: class {i} ({name!r}): {key} is {_seen(value)}; it must be {wanted}")
        said[key] = value
    return Entry(name, **said)


def _seen(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 100 else text[:97] + "..."


def _folder(path: Path, counting: bool) -> list[Entry]:
    try:
        folders = sorted(p for p in path.iterdir() if p.is_dir() and not p.name.startswith("."))
        if folders and all(p.name.casefold() in SPLITS for p in folders):
            splits = ", ".join(p.name for p in folders)
            raise InputError(f"{path}: its folders are splits ({splits}); name one: dataset.source={folders[0]}")
        if (path / "classes.json").is_file():  # an ImageFolder that synthset made: names in full, official order
            return _exported(path, counting)
        return [Entry(p.name, count=_pictures(p) if counting else None) for p in folders]
    except OSError as e:
        raise InputError(f"{e.filename or path}: cannot be read ({e.strerror}); dataset.source needs a folder that can be listed") from e


def _exported(path: Path, counting: bool) -> list[Entry]:
    file = path / "classes.json"
    try:
        data = json.loads(file.read_text(encoding="utf-8"))
        listed = [(c["index"], c["name"], c["folder"]) for c in data["classes"]]
    except (ValueError, KeyError, TypeError) as e:
        raise InputError(f"{file}: not the classes.json of an ImageFolder ({type(e).__name__}: {e}); remove it, or mend it") from e
    found = []
    for i, (index, name, folder) in enumerate(listed):
        there = counting and isinstance(folder, str) and Path(folder).name == folder and (path / folder).is_dir()
        item = {"name": name, "id": str(index)} | ({"count": _pictures(path / folder)} if there else {})
        found.append(_entry(file, i, item))
    return found


def _pictures(folder: Path) -> int:
    return sum(p.suffix.lower() in PICTURES for p in folder.rglob("*"))
