"""Where annotated images lie: a folder, or an HDF5 file keyed by file name. Found when planned, read by workers in any thread."""

import contextlib
import hashlib
import os
import re
import stat
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from synth import foreign
from synth.errors import REFUSALS, InputError, StoreError, not_trouble
from synth.images.heads import Head, Read, head_of
from synth.images.sources.base import too_large
from synth.images.sources.read import is_little, not_empty, read_file
from synth.store.files import pread, storing
from synth.store.trees import entries, is_folder, of_one_size, plain, suffix_of, walk
from synth.tracking.objects import base_name

if TYPE_CHECKING:
    from synth.store.hdf5 import Hdf5File

KEY = "dataset.images"
THREADS, CHUNK = 16, 512  # looks at files: on a network file system each waits, none works
H5 = b"\x89HDF\r\n\x1a\n"
_OF_2014 = re.compile(r"COCO_[a-z]+2014_(\d+\.\w+)")
_NO_FORM = "holds no image there: an image is a row of uint8, or one text of fixed length"


@dataclass(frozen=True)
class Found:
    """Where one image lies: its path below the folder, or its dataset; or why it cannot be had. What its first bytes say."""

    path: str = ""
    size: int = 0  # bytes
    reason: str = ""
    head: Head | None = None  # where it could be told
    sha256: str = ""  # of its bytes, where all images together are little to read, or name and size do not tell them apart


class FolderSource:
    def __init__(self, root: Path):
        self.root = root

    def find(self, names: Iterable[str], exact: bool = False) -> dict[str, Found]:
        """Each by its path below the folder, else, unless `exact`, by its name alone, if that is there once below the folder."""
        names, paths, by_folder = list(names), {}, {}
        for name in names:
            by_folder.setdefault(name.rpartition("/")[0], []).append(name)
        for folder, inside in by_folder.items():
            there = {e.name: e for e in entries(self.root / folder, KEY, hidden=True, missing=True)}
            paths |= {n: n for n in inside if base_name(n) in there and not is_folder(there[base_name(n)], KEY)}
        missing = [n for n in names if n not in paths]
        reasons: dict[str, Found] = {}
        if missing:
            below = _by_base_name((path for path, _ in walk(self.root, key=KEY, once=True)), _looked_for(missing))
            for name in missing:
                chosen = _only(name, below, self.root, exact)
                if isinstance(chosen, Found):
                    reasons[name] = chosen
                else:
                    paths[name] = chosen
        return reasons | self._sized(paths)

    def _sized(self, paths: Mapping[str, str]) -> dict[str, Found]:
        with ThreadPoolExecutor(THREADS) as pool:

            def each(look: Callable, items: list) -> Iterator:
                chunks = [items[i : i + CHUNK] for i in range(0, len(items), CHUNK)]
                return (done for part in pool.map(lambda chunk: [look(item) for item in chunk], chunks) for done in part)

            found = list(each(self._stat, list(paths.values())))
            whole = is_little(len(found), sum(image.size for image in found))
            return dict(zip(paths, each(lambda image: self._seen(image, whole), found), strict=True))

    def _stat(self, path: str) -> Found:
        try:
            seen = os.stat(os.path.join(self.root, path))
        except OSError as e:
            not_trouble(os.path.join(self.root, path), e, REFUSALS)
            return Found(reason=f"cannot be read ({e.strerror})")
        if not stat.S_ISREG(seen.st_mode):
            return Found(reason="is not a regular file")
        return Found(path, seen.st_size, _wrong_size(seen.st_size))

    def _seen(self, found: Found, whole: bool) -> Found:
        if found.reason:
            return found
        try:
            with storing(self.root / found.path), foreign.open_file(self.root / found.path) as f:
                return _with_head(found, lambda offset, size: pread(f.fileno(), size, offset), whole)
        except OSError as e:
            return Found(reason=f"cannot be read ({e.strerror})")

    def read(self, path: str, size: int) -> bytes | str:
        """The bytes of an image that was found at `path`, or why there are none. A file system in trouble is a StoreError."""
        return read_file(self.root / path, size, self.root, key=KEY)

    def check(self, path: str) -> None:
        """StoreError if the folder is there, and nothing is in it."""
        not_empty(self.root, KEY)

    def close(self) -> None: ...


class Hdf5Source:
    """HDF5 opens one thing at a time, so a lock does too."""

    def __init__(self, root: Path):
        self.root, self._file, self._lock = root, None, threading.Lock()

    def find(self, names: Iterable[str], exact: bool = False) -> dict[str, Found]:
        """Each by its whole name, else, unless `exact`, by its name without folders, else in a group wherever it is there once."""
        names, images = list(names), {}
        with self._lock, self._opened() as file:
            for name in names:
                there = self._image(file, name) or (None if exact else self._image(file, base_name(name)))
                if there is not None:
                    images[name] = there
            missing = [n for n in names if n not in images]
            everywhere = (n.decode("utf-8", "surrogateescape") for n in file.names(once=True)) if missing else ()
            below = _by_base_name(everywhere, _looked_for(missing))
            for name in missing:
                chosen = _only(name, below, self.root, exact)
                images[name] = chosen if isinstance(chosen, Found) else self._image(file, chosen) or Found(reason=_NO_FORM)
            whole = is_little(len(images), sum(found.size for found in images.values()))
            return {name: self._seen(file, found, whole) for name, found in images.items()}

    def _seen(self, file: "Hdf5File", found: Found, whole: bool) -> Found:
        import h5py
        import numpy as np

        if found.reason:
            return found
        dataset = h5py.Dataset(file.dataset(found.path))

        def read(offset: int, size: int) -> bytes:
            values = np.array(dataset[offset : offset + size]) if dataset.shape else np.array(dataset)
            return values.tobytes() if dataset.shape else values.tobytes()[offset : offset + size]

        try:
            return _with_head(found, read, whole)
        except OSError as e:
            not_trouble(self.root, e)
            return found  # whoever reads it whole says why

    def _image(self, file: "Hdf5File", path: str) -> Found | None:
        """The dataset of a name, with the number of bytes of its image; None if there is none. InputError if nothing here unpacks it."""
        from synth.store.hdf5 import Refused

        try:
            dataset = file.dataset(path)
        except Refused as e:
            return Found(path, 0, e.reason)
        if dataset is None:
            return None
        try:
            shape, dtype = dataset.shape, dataset.dtype
        except TypeError:  # no type of numpy's
            return Found(path, 0, _NO_FORM)
        if shape == () and dtype.kind == "S":
            size = dtype.itemsize
        elif shape is not None and len(shape) == 1 and dtype == "uint8":
            size = shape[0]
        else:
            return Found(path, 0, _NO_FORM)
        return Found(path, size, _wrong_size(size))

    def read(self, path: str, size: int) -> bytes | str:
        """As FolderSource.read. The zeros at the end of a text of fixed length are bytes of the image."""
        import h5py
        import numpy as np

        from synth.store.hdf5 import TORN, first_line

        with self._lock, self._opened() as file:
            try:
                image = self._image(file, path)
                if image is None:
                    return "is not there any more"
                if image.reason:
                    return image.reason
                if image.size != size:
                    return "changed since the stage was planned (its size did)"
                return np.array(h5py.Dataset(file.dataset(path))).tobytes()
            except TORN as e:
                not_trouble(self.root, e, REFUSALS)
                return f"cannot be read ({first_line(e)})"

    def check(self, path: str) -> None:
        """InputError if the images cannot be unpacked on this machine, told by one of them."""
        with self._lock, self._opened() as file:
            self._image(file, path)

    @contextlib.contextmanager
    def _opened(self) -> Iterator["Hdf5File"]:
        """The open file, which stays open. One that is not there, or torn as a whole, is a StoreError or an InputError."""
        if self._file is None:
            from synth.store.hdf5 import Hdf5File

            if not self.root.exists():
                raise StoreError(f"{KEY}: {self.root} is not there any more; mount it and run the command again")
            self._file = Hdf5File(self.root, KEY)
        yield self._file

    def close(self) -> None:
        with self._lock:
            if self._file is not None:
                self._file.close()
                self._file = None


def open_source(path: Path) -> FolderSource | Hdf5Source:
    """The source at a folder or an HDF5 file; anything else is an InputError, one that is not there a StoreError."""
    path = Path(path)
    if path.is_dir():
        return FolderSource(path)
    if not path.exists():
        raise StoreError(f"{KEY}: {path} is not there; mount it, or give its new place, and run the command again")
    with storing(path):
        if path.is_file():
            with foreign.open_file(path) as f:
                if f.read(len(H5)) == H5:
                    return Hdf5Source(path)
    raise InputError(
        f"{KEY}: {path} is neither a folder nor an HDF5 file; give the folder of the images, or one HDF5 file keyed by their names"
    )


def _with_head(found: Found, read: Read, whole: bool) -> Found:
    data = read(0, found.size) if whole or of_one_size(suffix_of(found.path)) else b""
    return replace(found, head=head_of(read, found.size), sha256=hashlib.sha256(data).hexdigest() if data else "")


def _wrong_size(size: int) -> str:
    return f"is {'an ' if not size else ''}{why}" if (why := too_large(size)) else ""


def _by_base_name(paths: Iterable[str], wanted: set[str]) -> dict[str, list[str]]:
    """Name without folders -> paths that end so, of the wanted names."""
    by_name: dict[str, list[str]] = {}
    for path in paths:
        if (name := base_name(path)) in wanted:
            by_name.setdefault(name, []).append(path)
    return by_name


def _looked_for(names: Iterable[str]) -> set[str]:
    """Names without folders, and those that may have been meant."""
    return {n for name in names for n in (base_name(name), _meant(name)[0]) if n}


def _meant(name: str) -> tuple[str, str]:
    """(what an image of this name may be called here, how that comes); ("", "") where nothing is known of such names.

    >>> _meant("images\\\\1.jpg")[0], _meant("train2014/COCO_train2014_000000000009.jpg")[0], _meant("1.jpg")[0]
    ('1.jpg', '000000000009.jpg', '')
    """
    if "\\" in name:
        return base_name(name.replace("\\", "/")), "its file_name has backslashes: write / for them"
    if hit := _OF_2014.fullmatch(base_name(name)):
        return hit[1], "its file_name is of COCO 2014, and the images are of 2017: give both of one year"
    return "", ""


def _only(name: str, below: Mapping[str, list[str]], root: Path, exact: bool) -> str | Found:
    """The only path of a name, or why there is none."""
    paths = [] if exact else below.get(base_name(name), [])
    if len(paths) == 1:
        return paths[0] if plain(paths[0]) == paths[0] else Found(reason="lies in a folder whose name is no UTF-8")
    if not paths:
        meant, how = _meant(name)
        return Found(reason=f"is not in {root}" + (f", but {meant} is; {how}" if meant in below else ""))
    first, second = sorted(paths)[:2]
    return Found(reason=f"is {len(paths)} times in {root} ({first!r}, {second!r}): write the folder into its file_name")
