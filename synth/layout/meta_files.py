"""Meta files: JSON lists of {"image": path, "caption": text}, as `synth.layout.meta` and the makers of rich-context data write them.

One file (.json, or .jsonl with an entry a line), or a folder of them, which are read in the order of the numbers in their names:
process_2.json before process_10.json. Slots are entries, in order.
"""

import os
import re
from collections.abc import Iterator
from dataclasses import replace
from functools import cached_property
from pathlib import Path, PurePosixPath
from typing import Any

from synth import foreign
from synth.errors import REFUSALS, InputError, not_trouble
from synth.images.sources.base import Input, Reader, encodable, too_large
from synth.layout.readers import beside_each
from synth.store.trees import entries, of_one_size, plain, suffix_of

FIX = 'write [{"image": "/path/of/a.jpg", "caption": "text"}, ..]'
NOT_THERE, LAST_PARTS = "is not there", 2
_ENTRY = {"image": foreign.Shape("the path of a picture", lambda v: type(v) is str and v != "" and "\0" not in v), "caption": (str, None)}


class MetaReader(Reader):
    """The entries of meta files. `root` is a file of them or a folder; pictures lie below `base`, to which paths of inputs are relative."""

    def __init__(self, root: Path, captions: bool, key: str):
        super().__init__(root, captions, key)
        self.image_folder: Path | None = None  # where pictures lie, by the last two parts of their paths
        self.missing = 0  # entries whose picture is not there
        self.first_missing = ""

    @cached_property
    def base(self) -> Path:
        """The folder below which all pictures lie: image_folder, or what the paths of the meta files have in common."""
        if self.image_folder is not None:
            return self.image_folder
        folders = {os.path.dirname(path) for path, _ in self._entries()}
        return Path(os.path.commonpath(folders)) if folders else self.root

    def __iter__(self) -> Iterator[Input]:
        base, twice, met, empty = self.base, 0, set[int](), 0
        listed = ((self._below(path, base), caption) for path, caption in self._entries())
        for (path, caption), found in beside_each(listed, lambda entry: _input(base, entry[0])):
            twice += hash(path) in met
            met.add(hash(path))
            empty += not caption
            if found.reason == NOT_THERE:
                self.missing += 1
                self.first_missing = self.first_missing or str(base / path)
            yield replace(found, caption=caption)
        if self.missing:
            self.notes.append(f"{self.missing:,} pictures of meta files are not there, and get no records; the first: {self.first_missing}")
        if twice:
            self.notes.append(f"{twice:,} entries of meta files name a picture that an earlier one names")
        if empty:
            self.notes.append(f"{empty:,} entries of meta files have no caption")

    def _below(self, path: str, base: Path) -> str:
        """The path of a picture relative to the base."""
        if self.image_folder is None:
            return os.path.relpath(path, base)
        return "/".join(PurePosixPath(path).parts[-LAST_PARTS:])

    def _entries(self) -> Iterator[tuple[str, str]]:
        """(absolute path of a picture, its alt text) of each entry, in order."""
        for file in self._files():
            for n, raw in _raw_entries(file):
                entry = foreign.obj(raw, f"{self.key}: {file}: entry {n}", FIX, **_ENTRY)
                parts = PurePosixPath(entry["image"]).parts
                if ".." in parts and self.image_folder is not None:
                    raise InputError(f"{self.key}: {file}: entry {n}: image {entry['image']!r} leads upwards; write its path without ..")
                path = os.path.normpath(os.path.join(file.parent.absolute(), entry["image"]))
                yield path, encodable((entry["caption"] or "").strip())

    def _files(self) -> list[Path]:
        """The meta files, in order. InputError if there is none."""
        if self.root.is_file():
            return [self.root]
        names = [e.name for e in entries(self.root, self.key, unread=self.unread)]
        files = [self.root / name for name in sorted(names, key=natural) if name.lower().endswith((".json", ".jsonl"))]
        if not files:
            raise InputError(f"{self.key}: {self.root}: holds no meta file (*.json); {FIX}")
        return files


def natural(name: str) -> list[tuple[int, int, str]]:
    """The order of names by the numbers in them.

    >>> sorted(["p_10.json", "p_2.json", "q_1.json"], key=natural)
    ['p_2.json', 'p_10.json', 'q_1.json']
    """
    return [(0, int(part), "") if part.isdecimal() else (1, 0, part) for part in re.split(r"([0-9]+)", name) if part]


def _raw_entries(file: Path) -> Iterator[tuple[int, Any]]:
    """(number, entry) of a meta file; InputError, naming it, for what is none."""
    if file.suffix.lower() == ".jsonl":
        for n, line in enumerate(foreign.lines(file, foreign.TABLE)):
            if line.strip():
                yield n, foreign.parse(line, f"{file}: line {n + 1}", FIX, halves=True)
        return
    try:
        data = foreign.read_json(file, foreign.TABLE, FIX, halves=True)
    except OSError as e:
        not_trouble(file, e)
        raise InputError(f"{file}: cannot be read ({e.strerror}); {FIX}") from e
    if type(data) is not list:
        raise InputError(f"{file}: is {foreign.seen(data)}, no list of entries; {FIX}")
    yield from enumerate(data)


def _input(base: Path, path: str) -> Input:
    """A picture of an entry as an input. Raises StoreError where the file system does not say whether it is there."""
    key = plain(path)
    try:
        status = os.stat(os.path.join(base, path))
    except OSError as e:
        not_trouble(os.path.join(base, path), e, REFUSALS)
        return Input(key, path, reason=NOT_THERE)
    if reason := foreign.kind_of(status.st_mode):
        return Input(key, path, reason=f"is {reason}")
    return Input(key, path, status.st_size, reason=too_large(status.st_size), to_read=of_one_size(suffix_of(path)))
