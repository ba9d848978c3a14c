"""Files that hold many pictures, Parquet and HDF5: which files of a source are such, and what their readers share."""

from collections.abc import Iterable
from pathlib import Path

from synth.images.sources.base import MANIFEST, Reader
from synth.images.sources.class_folders import is_split
from synth.images.sources.image_folder import OURS
from synth.store.trees import is_picture_file, walk

SUFFIXES = {"parquet": (".parquet",), "hdf5": (".h5", ".hdf5")}  # layout -> of its files


def packed_layout(root: Path, key: str) -> str:
    """The layout of a folder that holds pictures in Parquet or HDF5 files alone; "" of another one. The first picture ends the search."""
    found = ""
    for path, entry in walk(root, key=key):
        if is_picture_file(entry):
            return ""
        found = found or next((layout for layout, suffixes in SUFFIXES.items() if _is_one(path, suffixes)), "")
    return found


def _is_one(path: str, suffixes: tuple[str, ...]) -> bool:
    return path.lower().endswith(suffixes) and path.rpartition("/")[2] != MANIFEST


def apart(name: str, row: int, taken: set[str]) -> str:
    """The name of a row in its file, and its number where an earlier row is called so: of exports that somebody joined. Adds to `taken`."""
    if name in taken:
        name = f"{row:06d}/{name}"
    taken.add(name)
    return name


class PackedReader(Reader):
    """Lists files of one layout, one behind the other."""

    suffixes: tuple[str, ...]

    def files(self) -> list[tuple[str, Path]]:
        """(path below the root, file) of each file, by name; other files are counted."""
        if self.root.is_file():
            return [(self.root.name, self.root)]
        files = []
        for path, _ in walk(self.root, key=self.key, unread=self.unread):
            if _is_one(path, self.suffixes):
                files.append((path, self.root / path))
            elif path not in OURS:
                self.unread.other(path)
        self._note_splits(path for path, _ in files)
        return sorted(files)

    def _note_splits(self, paths: Iterable[str]) -> None:
        splits: dict[str, str] = {}
        for path in paths:
            parts = [*path.split("/")[:-1], path.rpartition("/")[2].partition(".")[0].partition("-")[0]]
            if split := next(filter(is_split, reversed(parts)), ""):
                splits.setdefault(split, path)
        if len(splits) > 1:
            name, first = min(splits.items())
            names = ", ".join(map(repr, sorted(splits)))
            more = f"{self.key}={self.root / first} reads one file, of {name}"
            self.notes.append(f"{names} are splits of {self.root}, whose pictures are read together; {more}")
