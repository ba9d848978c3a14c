"""Paths that are written, proved to lie inside their folder: by their names, and by the links on the way.

What is not promised: somebody who may write into the folder can put a link there between the proof and the write.
"""

import os
import re
import stat
from collections.abc import Sequence
from pathlib import Path

from synth.errors import InputError
from synth.store.files import storing

_NAME = re.compile(r"[^/\x00-\x1f\x7f-\x9f]+(?:/[^/\x00-\x1f\x7f-\x9f]+)*")
_FOREIGN = re.compile(r"[^/\0]+(?:/[^/\0]+)*")
LONGEST_PART, LONGEST_NAME = 255, 2000  # bytes
LEADS_OUT = "is a link that leads out of the folder, to"


def misplaced(name: object, foreign: bool = False) -> str:
    """Why a name is none of a file inside a folder; "" if it is one. foreign: of a file that others called, with line breaks at will.

    >>> misplaced("red_panda/000000012.png"), misplaced("../x"), misplaced("/etc/passwd")
    ('', 'leads out of the folder', 'is no relative name')
    """
    if not (isinstance(name, str) and (_FOREIGN if foreign else _NAME).fullmatch(name)):
        return "is no relative name"
    parts = name.split("/")
    if ".." in parts or "." in parts:
        return "leads out of the folder"
    try:
        sizes = [len(name)] if name.isascii() and len(name) <= LONGEST_PART else [len(os.fsencode(part)) for part in parts]
    except UnicodeEncodeError:
        return "holds a character that no file name can"
    return "is too long" if max(sizes) > LONGEST_PART or sum(sizes) + len(parts) - 1 > LONGEST_NAME else ""


class Inside:
    """Names below a folder, which may itself be reached by links: its user chose it. Folders are looked at once, so a million files cost
    a look at each of their folders."""

    def __init__(self, root: str | os.PathLike, fix: str = "remove it, then run the same command again"):
        self.root, self._fix = os.fspath(root), fix
        self._proved = {""}

    def path(self, name: str) -> str:
        """The path of a name. InputError if it is no name of a file inside, or if a folder on its way is a link that leads out."""
        if why := misplaced(name):
            raise InputError(f"{self.root}: {ascii(name)[:200]} {why}; nothing is written there, see what names it")
        folder = name.rpartition("/")[0]
        if folder not in self._proved:
            self._prove(folder)
        return os.path.join(self.root, name)

    def folder(self, name: str) -> str:
        """The folder of a name, made with those above it; as `path`."""
        path = self.path(name)
        if name not in self._proved and not self._prove(name):
            with storing(path):
                os.makedirs(path, exist_ok=True)
            self._prove(name)
        return path

    def file(self, name: str) -> str:
        """The path of a file, whose folder is made."""
        if folder := name.rpartition("/")[0]:
            self.folder(folder)
        return self.path(name)

    def status(self, name: str) -> os.stat_result | None:
        """What is there, a link being one; None if nothing is."""
        try:
            return os.lstat(self.path(name))
        except (FileNotFoundError, NotADirectoryError):
            return None

    def forget(self) -> None:
        """Look at all folders anew."""
        self._proved = {""}

    def _prove(self, folder: str) -> bool:
        """Whether a folder is there, and is inside; InputError if it is not inside, or no folder."""
        parts = folder.split("/")
        for n in range(1, len(parts) + 1):
            below = "/".join(parts[:n])
            if below in self._proved:
                continue
            path = os.path.join(self.root, below)
            with storing(path):
                try:
                    seen = os.lstat(path)
                except FileNotFoundError:
                    return False
            if stat.S_ISLNK(seen.st_mode):
                _refuse_link(path, self.root, self._fix)
            elif not stat.S_ISDIR(seen.st_mode):
                raise InputError(f"{path}: is in the place of a folder and is none; {self._fix}")
            self._proved.add(below)
        return True


def refuse_links(root: Path, names: Sequence[str], below: Sequence[str]) -> None:
    """InputError if one of `names` in a folder, or anything in one of its folders `below`, is a link that leads out of it.

    A listing a folder, and no look at what is no link.
    """
    for folder, wanted in ((root, set(names)), *((root / name, None) for name in below)):
        with storing(folder):
            try:
                with os.scandir(folder) as there:
                    links = [e.path for e in there if (wanted is None or e.name in wanted) and e.is_symlink()]
            except (FileNotFoundError, NotADirectoryError):
                continue
        for path in sorted(links):
            _refuse_link(path, os.fspath(root), "put the folder itself into its place")


def _refuse_link(path: str, root: str, fix: str) -> None:
    target, inside = os.path.realpath(path), os.path.realpath(root)
    if os.path.commonpath([target, inside]) != inside:
        raise InputError(f"{path}: {LEADS_OUT} {target}; {fix}")
