"""Which folders of a folder of pictures are its classes: those at its top, in its splits, or in the one folder that wraps them.

Names and what lies directly in a folder decide. What can be understood in two ways is an InputError that shows the classes it would
make: a label that nobody asked for is in every sample, and nobody sees it. An export of ours says in classes.json what its folders are.
"""

import os
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from enum import Enum
from pathlib import Path

from synth import foreign
from synth.errors import InputError, not_trouble
from synth.images.sources.base import KEY, SourceClass
from synth.store.trees import entries, is_folder, is_hidden, is_picture_file, plain, walk

CLASSES, METADATA = "classes.json", "metadata.jsonl"
_IS_SPLIT = re.compile(  # train, val2017, test_set, Training-Images; of COCO and STL-10 also what nobody labelled
    r"(?:(train|training|trainval)|val|valid|validation|dev|test|testing|eval|evaluation|unlabell?ed)"
    r"(?:[ _-]?(?:sets?|splits?|images?|imgs?|data))?[ _-]?\d*",
    re.IGNORECASE | re.ASCII,
)
# folders that data sets have beside or around their classes, and that no class is called
PARTS = frozenset(
    [
        *("image", "images", "img", "imgs", "jpegimages", "jpg", "jpeg", "png", "picture", "pictures", "photos", "data", "dataset", "raw"),
        *("label", "labels", "annotation", "annotations", "mask", "masks", "segmentation", "segmentations", "depth", "metadata", "meta"),
    ]
)
SHOWN = 5  # names in a message
DEEPEST = 8  # folders that may wrap each other
_CLASS = {"index": foreign.COUNT, "name": str, "folder": foreign.Maybe(str, "")}  # exports without class folders have none


class Holds(Enum):
    """What a folder holds, as far as it decides whether it is a class."""

    PICTURES = 1  # directly in it
    FOLDERS = 2  # pictures in folders in it alone
    NOTHING = 3
    OTHERS = 4  # files, none of them a picture


@dataclass(frozen=True)
class ClassFolders:
    """folders: paths below the root of the folders that are classes, in order. bases: of the folders that these lie in, "" the root.

    around: the bases, and the folders above them: pictures in one of them are beside the classes. beside: folders that are no classes.
    """

    folders: tuple[str, ...] = ()
    bases: tuple[str, ...] = ("",)
    around: tuple[str, ...] = ("",)
    beside: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    known: dict[str, SourceClass] | None = None  # by the name of a folder, of an export of ours
    by_rows: bool = False  # the folders are numbers, and the rows of metadata.jsonl name the classes


def is_split(name: str) -> bool:
    """Whether a folder is called like a split of a data set.

    >>> [n for n in ("train2017", "Val_set", "test-images", "train_station", "tests") if is_split(n)]
    ['train2017', 'Val_set', 'test-images']
    """
    return _IS_SPLIT.fullmatch(name) is not None


def is_training(name: str) -> bool:
    """Whether a folder is called like the split that models are trained on."""
    return bool((found := _IS_SPLIT.fullmatch(name)) and found[1])


def class_folders(root: Path, key: str, fix: str, plainly: bool = False) -> ClassFolders:
    """The class folders of a folder. key: of the config, for errors; fix: how the folders at the top are taken as they are.

    plainly: they are, whatever they are called.
    """
    notes: tuple[str, ...] = ()
    if file := classes_file(root):
        if known := known_classes(file):
            return _exported(root, key, known, file)
        notes = (not_ours(file),)
    found = ClassFolders(tuple(_folders(root, "", key))) if plainly else _found(root, "", key, fix, ())
    return replace(found, notes=notes + found.notes)


def classes_file(root: Path) -> Path | None:
    """classes.json of an export in a folder; of one of its halves, that beside the half. None if there is none."""
    if (root / CLASSES).is_file():
        return root / CLASSES
    half = root.name in ("train", "val") and (root / METADATA).is_file() and (root.parent / CLASSES).is_file()
    return root.parent / CLASSES if half else None


def known_classes(file: Path) -> dict[str, SourceClass]:
    """folder -> class of our own export's classes.json, ~index where it has no folders; {} if it is not there, or of somebody else."""
    return {folder or f"~{index}": SourceClass(index, name) for index, name, folder in listed_classes(file)}


def listed_classes(file: Path) -> list[tuple[int, str, str]]:
    """(index, name, folder or "") of each class of our own export's classes.json; [] if it is not there, or of somebody else.

    InputError for what is no JSON, and for one of ours with an entry that is none.
    """
    where, fix = f"{file}: not the classes.json of an export", "remove it, and the folders name the classes"
    try:
        raw = foreign.parse(foreign.read(file, foreign.STAGE), where, fix, halves=True)
    except FileNotFoundError:
        return []
    except OSError as e:
        not_trouble(file, e)
        raise InputError(f"{where} ({e.strerror}); {fix}") from e
    classes = raw.get("classes") if isinstance(raw, dict) else None
    if not isinstance(classes, list) or not any(isinstance(c, dict) and "index" in c for c in classes):
        return []
    listed = [foreign.obj(c, where, fix, **_CLASS) for c in classes]
    return [(c["index"], c["name"], c["folder"]) for c in listed]


def not_ours(file: Path) -> str:
    """What to say of a classes.json that lists no class as our exports do."""
    return f"{file} is no list of an export, and is not read: it has no {{'classes': [{{'index': 0, 'name': ..}}]}}"


# -- an export of ours -------------------------------------------------------------------------------------------------


def _exported(root: Path, key: str, known: dict[str, SourceClass], file: Path) -> ClassFolders:
    """The folders of an export: classes, train/ and val/ with classes in them, or numbers (export.image_folder.names=nested)."""
    bases = ("",)
    top = _folders(root, "", key)
    if top and set(top) <= {"train", "val"} and not set(top) <= known.keys():
        bases = tuple(top)
    below = [(base, name) for base in bases for name in _folders(root, base, key)]
    if not known.keys() & {name for _, name in below} and all(name.isdigit() for _, name in below):
        rows = any((root / base / METADATA).is_file() for base in bases)
        if below and rows:
            return ClassFolders(tuple(_joined(*b) for b in below), bases, ("", *bases), known=known, by_rows=True)
    for base, name in below:
        if name not in known:
            raise InputError(f"{key}: {file}: does not name folder {plain(_joined(base, name))!r}; remove the folder, or that file")
    return ClassFolders(tuple(_joined(*b) for b in below), bases, tuple(dict.fromkeys(("", *bases))), known=known)


# -- folders of others -------------------------------------------------------------------------------------------------


def _found(root: Path, base: str, key: str, fix: str, above: tuple[str, ...]) -> ClassFolders:
    """The classes among the folders of `base`. above: the folders that wrap it."""
    there = {name: _holds(root / base / name, key) for name in _folders(root, base, key)}
    full = [name for name, holds in there.items() if holds in (Holds.PICTURES, Holds.FOLDERS)]
    if not full and there and all(map(is_split, there)):  # class folders without a picture
        there, full = dict.fromkeys(there, Holds.FOLDERS), list(there)
    deep = [name for name in full if there[name] is Holds.FOLDERS]
    splits = [name for name in full if is_split(name)]
    parts = [name for name in full if name.casefold() in PARTS]
    beside = tuple(_joined(base, name) for name, holds in there.items() if holds is Holds.OTHERS)
    around = (*above, base)

    def unclear(why: str, instead: str) -> InputError:
        return _unclear(root, [_joined(base, n) for n in full], key, why, instead, fix)

    def plainly_one(name: str) -> str:
        """The way out that takes one folder without classes, where classes are not all that is asked for."""
        return f"{key}={root / base / name} reads the pictures of one without classes, or " if key == KEY else ""

    if full and splits == deep == full and len(above) < DEEPEST:
        return _splits(root, full, base, key, fix, around, beside)
    halves = [name for name in splits if name in deep]
    if splits and (splits == full or halves):
        why = "are named like splits of a data set" if splits == full else f"are folders of pictures beside splits ({_shown(halves)})"
        raise unclear(why, f"{key}={root / base / halves[0]} reads one of them, or " if halves else plainly_one(splits[0]))
    if len(full) == 1 and deep and Holds.NOTHING not in there.values() and len(above) < DEEPEST:
        return _wrapped(root, _joined(base, full[0]), key, fix, around, beside)
    if full and deep == full:
        why = "hold pictures in further folders alone: those may be the classes"
        raise unclear(why, f"{key}={root / base / full[0]} reads one of them, or ")
    if full and parts == full:
        why = "are called like parts of a data set"
        raise unclear(why, plainly_one(full[0]))
    if not full:  # names are all that there is
        return ClassFolders(tuple(_joined(base, name) for name in there), (base,), around)
    classes = tuple(_joined(base, name) for name, holds in there.items() if holds is not Holds.OTHERS)
    notes = (f"{_shown(beside)} of {root} hold no picture, and are no classes",) if beside else ()
    return ClassFolders(classes, (base,), around, beside, notes)


def _splits(root: Path, splits: list[str], base: str, key: str, fix: str, around: tuple[str, ...], beside: tuple[str, ...]) -> ClassFolders:
    """The classes of all splits together."""
    each = [_found(root, _joined(base, name), key, fix, around) for name in splits]
    folders = tuple(folder for found in each for folder in found.folders)
    one = root / each[0].bases[0]
    notes = [f"{_shown(splits)} are splits of {root / base}, whose classes are read together; {key}={one} reads one of them"]
    more = tuple(b for found in each for b in found.beside)
    return ClassFolders(
        folders,
        tuple(b for found in each for b in found.bases),
        tuple(dict.fromkeys(a for found in each for a in found.around)),
        beside + more,
        tuple(notes + [n for found in each for n in found.notes]),
    )


def _wrapped(root: Path, only: str, key: str, fix: str, around: tuple[str, ...], beside: tuple[str, ...]) -> ClassFolders:
    """The classes in the one folder that holds all pictures. One class in it, or the folder itself: nobody knows."""
    inner = _found(root, only, key, fix, around)
    if inner.bases == (only,) and len(inner.folders) < 2:
        raise _unclear(
            root, [only], key, f"may be a class, or hold one ({_shown(inner.folders)})", f"{key}={root / only} takes the latter, or ", fix
        )
    names = _shown(f.rpartition("/")[2] for f in inner.folders)
    note = f"all pictures of {root} lie in {plain(only)!r}, whose folders are the classes: {names}; {fix}"
    notes = (note, *inner.notes) if inner.bases == (only,) else inner.notes
    return ClassFolders(inner.folders, inner.bases, inner.around, beside + inner.beside, notes)


def _unclear(root: Path, folders: Sequence[str], key: str, why: str, instead: str, fix: str) -> InputError:
    """instead: another way out and "or ", or "" if there is none."""
    return InputError(f"{key}: {root}: its folders would become the classes {_shown(folders)}, but they {why}; {instead}{fix}")


def _holds(folder: Path, key: str) -> Holds:
    folders = files = False
    try:
        with os.scandir(folder) as there:
            for entry in there:
                if is_hidden(entry.name):
                    continue
                if is_folder(entry, key):
                    folders = True
                elif is_picture_file(entry):  # most often the first one: a folder of a million is not listed to its end
                    return Holds.PICTURES
                else:
                    files = True
    except OSError:
        return Holds.PICTURES  # whoever lists it tells why it cannot be listed
    for _, entry in walk(folder, key=key) if folders else ():
        if is_picture_file(entry):
            return Holds.FOLDERS
        files = True
    return Holds.OTHERS if files else Holds.NOTHING


def _folders(root: Path, base: str, key: str) -> list[str]:
    return [e.name for e in entries(root / base, key) if is_folder(e, key)]


def _joined(base: str, name: str) -> str:
    return f"{base}/{name}" if base else name


def _shown(names) -> str:
    listed = [repr(plain(n)) for n in names]
    return ", ".join(listed[:SHOWN]) + (f" and {len(listed) - SHOWN} more" if listed[SHOWN:] else "")
