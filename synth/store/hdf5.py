"""HDF5 files that others wrote, open to be read. Whoever made one must not choose what else is read here.

A file may lead elsewhere by links to other files, by datasets whose bytes lie in others, and by views of them (virtual datasets); HDF5
follows each as soon as it is named, into a pipe too. So names are followed here, link by link, and what leads out is refused unopened.
"""

import contextlib
import fcntl
import importlib
import io
import os
import stat
from collections import Counter
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from typing import Any

import h5py
from h5py import h5d, h5g, h5l, h5o, h5t, h5z

from synth import foreign
from synth.errors import REFUSALS, InputError, StoreError, not_trouble
from synth.store.files import storing

ELSEWHERE = "lies in another file, to which this one links: copy it into this one"
NOWHERE = "is a link that leads nowhere, or to itself: remove it"
ITEM, GROUP, CIRCLE = "item", "group", "circle"  # what a name leads to; a circle: a group that it is in
SOFT_LINKS = 16  # that one name may lead through, as HDF5 has it
GROUPS = 1024  # that stay open
MOST_LINKS = 1000  # times that links may lead to one group: groups of links multiply
TORN = (KeyError, ValueError, OSError, TypeError, RuntimeError)  # h5py raises any of these where a file is damaged


class Refused(InputError):
    """An item of a file that is not read. `reason`: why, without the file and the name."""

    def __init__(self, path: Path, name: bytes, reason: str):
        super().__init__(f"{path}: {name.decode(errors='replace')!r} {reason}")
        self.reason = reason


class NoFilter(InputError):
    """An item is packed in a way that nothing on this machine unpacks: a fact about the machine, and none about the item."""

    def __init__(self, path: Path, name: bytes, packed: str):
        super().__init__(
            f"{path}: {name.decode(errors='replace')!r} is packed by {packed}, which is not here: "
            "pip install hdf5plugin, set HDF5_PLUGIN_PATH, or pack the file by gzip (h5repack -f GZIP=4)"
        )


@cache
def _unpacks(code: int) -> bool:
    """Whether a filter is here, of HDF5's own, its plugins, or those that hdf5plugin brings."""
    if h5z.filter_avail(code):
        return True
    with contextlib.suppress(ImportError):
        importlib.import_module("hdf5plugin")
    return h5z.filter_avail(code)


class Hdf5File:
    """An open file. InputError if it is none, is torn or is not there; StoreError if the file system is in trouble, or if a program has it
    open to write: what it holds until then is only a part. key: that named it. skip: whether a name is passed over where names are listed.
    """

    def __init__(self, path: Path, key: str = "", skip: Callable[[bytes], bool] = lambda name: False):
        self._skip = skip
        self.path, named = Path(path), f"{key}: {path}" if key else f"{path}"
        with storing(named), contextlib.ExitStack() as opened:
            try:
                if not stat.S_ISREG(os.stat(path).st_mode):
                    raise InputError(f"{named} is not a regular file; give an HDF5 file")
                opened.enter_context(_shared_lock(path, named))
                self._file = h5py.File(path, "r", locking=False)  # network file systems refuse locks, and then HDF5 refuses the file
                self.root: h5g.GroupID = h5g.open(self._file.id, b"/")
            except FileNotFoundError as e:
                raise InputError(f"{named} is not there") from e
            except TORN as e:
                not_trouble(named, e, REFUSALS)
                why = "is a torn HDF5 file, one that is still being written, or none at all"
                raise InputError(f"{named} {why} ({first_line(e)}); copy or make it again") from e
            self._opened = opened.pop_all()
        self._groups: dict[bytes, Any] = {}

    def __enter__(self) -> "Hdf5File":
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def close(self) -> None:
        self._groups.clear()
        self._file.close()
        self._opened.close()

    def attributes(self) -> dict[str, object]:
        """Of the file; those that cannot be read are left out."""
        values = {}
        with reading(self.path):
            names = list(self._file.attrs)
        for name in names:
            try:
                values[name] = self._file.attrs[name]
            except TORN as e:
                not_trouble(self.path, e, REFUSALS)
        return values

    def dataset(self, name: str | bytes) -> h5d.DatasetID | None:
        """The dataset of a name; None if there is none. Refused unless its bytes are in this file and can be unpacked here."""
        try:
            name = name.encode() if isinstance(name, str) else name
            folder, _, last = name.rpartition(b"/")
            if folder not in self._groups:
                if len(self._groups) >= GROUPS:
                    self._groups.clear()
                self._groups[folder] = self._follow(self.root, folder, name)
            at = self._follow(self._groups[folder], last, name)
        except (KeyError, UnicodeEncodeError):  # of ours: h5py's own came through `_reading`
            return None
        return self._judged(at, name) if isinstance(at, h5d.DatasetID) else None

    def columns(self) -> dict[str, h5py.Dataset]:
        """The arrays at the top of the file, by name; Refused as `dataset`."""
        with reading(self.path):
            names = sorted(name for name in self.root if not self._skip(name))
        datasets = ((name, self.dataset(name)) for name in names)
        return {name.decode("utf-8", "surrogateescape"): h5py.Dataset(d) for name, d in datasets if d is not None and d.rank}

    def names(self, once: bool = False) -> Iterator[bytes]:
        """The names of all that is no group, those in groups too, in order. A link back to a group above is not followed.

        once: each thing under the first of its names, and no soft links.
        """
        return (name for name, _, _ in self._listed(once))

    def items(self) -> Iterator[tuple[bytes, Any]]:
        """(name, open object) of what `names` lists; Refused as `dataset`."""
        for name, group, last in self._listed():
            at = self._target(group, last, name)
            yield name, self._judged(at, name) if isinstance(at, h5d.DatasetID) else at

    def groups(self) -> Iterator[tuple[bytes, h5g.GroupID]]:
        """(name, open group) of the file itself, called "", and of every group that `names` goes through; Refused for a link back to a
        group above."""
        for name, group, last, kind in self._walked():
            if kind == CIRCLE:
                raise Refused(self.path, name, "is a link back to a group that it is in: remove it")
            if kind == GROUP:
                yield name, self._target(group, last, name) if last else group

    def _listed(self, once: bool = False) -> Iterator[tuple[bytes, Any, bytes]]:
        """(name, group that it is in, name there) of what is no group."""
        return ((name, group, last) for name, group, last, kind in self._walked(once) if kind == ITEM)

    def _walked(self, once: bool = False) -> Iterator[tuple[bytes, Any, bytes, str]]:
        """(name, group that it is in, name there, what it is). Datasets are not opened: that takes five times as long."""
        met: set[tuple[int, int]] = set()
        by_links: Counter[tuple[int, int]] = Counter()
        todo: list[tuple[bytes, Any, bytes, tuple]] = [(b"", self.root, b"", ())]
        while todo:
            name, group, last, above = todo.pop()
            if last and self._skip(name):
                continue
            try:
                kind = self._kind(group, last, name) if last else h5l.TYPE_HARD
            except KeyError as e:
                raise Refused(self.path, name, "is in the list of its group, and not there: copy or make the file again") from e
            if once and kind != h5l.TYPE_HARD:
                continue
            at = group if kind == h5l.TYPE_HARD else self._target(group, last, name)
            with self._reading(name):
                seen = h5o.get_info(group, last) if last and kind == h5l.TYPE_HARD else h5o.get_info(at)
            mark, is_group = (seen.fileno, seen.addr), seen.type == h5o.TYPE_GROUP
            if (once or is_group) and mark in (met if once else above):
                if not once:
                    yield name, group, last, CIRCLE
                continue
            if not is_group:
                met |= {mark} if once else set()
                yield name, group, last, ITEM
                continue
            met.add(mark)
            by_links[mark] += 1
            if by_links[mark] > MOST_LINKS:
                raise Refused(self.path, name, f"is a group to which links lead {MOST_LINKS:,} times before: remove them")
            yield name, group, last, GROUP
            at = self._target(group, last, name)
            with self._reading(name):
                todo += [(name + b"/" + n if name else n, at, n, (*above, mark)) for n in sorted(at, reverse=True)]

    def _target(self, group: Any, last: bytes, name: bytes) -> Any:
        try:
            return self._follow(group, last, name)
        except KeyError as e:
            raise Refused(self.path, name, NOWHERE) from e

    def _follow(self, at: Any, path: bytes, name: bytes) -> Any:
        """What a path from a group leads to inside the file, open; KeyError if nowhere. name: to be said of it."""
        todo, hops = path.split(b"/")[::-1], 0
        while todo:
            part = todo.pop()
            if part in (b"", b"."):
                continue
            if not isinstance(at, h5g.GroupID) or hops > SOFT_LINKS:
                raise KeyError(path)
            kind = self._kind(at, part, name)
            with self._reading(name):
                if kind == h5l.TYPE_HARD:
                    at = h5o.open(at, part)
                elif kind == h5l.TYPE_SOFT:
                    target, hops = at.links.get_val(part), hops + 1
                    at = self.root if target.startswith(b"/") else at
                    todo += target.split(b"/")[::-1]
                else:
                    raise Refused(self.path, name, ELSEWHERE)
        return at

    def _kind(self, group: Any, part: bytes, name: bytes) -> int:
        """What kind of link this is; KeyError if there is none."""
        with self._reading(name):
            try:
                return group.links.get_info(part).type
            except TORN as e:
                not_trouble(self.path, e, REFUSALS)
                if group.links.exists(part):
                    raise
        raise KeyError(part)

    @contextlib.contextmanager
    def _reading(self, name: bytes) -> Iterator[None]:
        try:
            yield
        except TORN as e:
            not_trouble(self.path, e, REFUSALS)
            raise Refused(self.path, name, f"cannot be read ({first_line(e)})") from e

    def _judged(self, dataset: h5d.DatasetID, name: bytes) -> h5d.DatasetID:
        with self._reading(name):
            created = dataset.get_create_plist()
            if created.get_layout() == h5d.VIRTUAL or created.get_external_count():
                raise Refused(self.path, name, ELSEWHERE)
            for code, _, _, title in map(created.get_filter, range(created.get_nfilters())):
                if not _unpacks(code):
                    raise NoFilter(self.path, name, f"filter {code} ({title.decode(errors='replace')})" if title else f"filter {code}")
        return dataset


def place(dataset: h5d.DatasetID) -> int | None:
    """Offset in the file of a dataset that lies in one piece and needs no conversion; None of another one."""
    properties = dataset.get_create_plist()
    if properties.get_layout() != h5d.CONTIGUOUS or properties.get_external_count() or isinstance(dataset.get_type(), h5t.TypeVlenID):
        return None
    return dataset.get_offset()


def _shared_lock(path: Path, named: str) -> io.BufferedReader:
    """The file, locked against writers while it is open, as HDF5's own readers do it; StoreError if a writer has it."""
    file = foreign.open_file(path)
    try:
        fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError as e:
        file.close()
        raise StoreError(f"{named} is open in a program that writes it; run the same command again when that is done") from e
    except OSError:  # file systems without locks say so in many ways; one in trouble will when the file is read
        return file
    return file


@contextlib.contextmanager
def reading(path: Path) -> Iterator[None]:
    """Turn what h5py raises where a file is damaged into an InputError that names it; what a file system says goes on as it is."""
    try:
        yield
    except TORN as e:
        not_trouble(path, e, REFUSALS)
        raise InputError(f"{path}: cannot be read ({type(e).__name__}: {first_line(e)}); copy or make it again") from e


def first_line(error: BaseException) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]
