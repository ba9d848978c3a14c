"""Content identity of input files: what a fingerprint holds instead of paths."""

import hashlib
import os
from pathlib import Path

from synth.errors import InputError
from synth.store.spec import digest

SMALL = 8 << 20  # bytes; larger files are named by size and the digests of their ends
LISTED = "listing:"  # identity of a folder whose names and sizes stand in the stage's listing; its stage judges what it reads of it
_HEAD, _TAIL = 1 << 20, 1 << 16


def file_identity(path: str | os.PathLike) -> str:
    """sha256 of a small file; of a large one (weights) its size, first MiB (safetensors header) and last 64 KiB (zip end)."""
    path = Path(path)
    try:
        size = path.stat().st_size
        with open(path, "rb") as f:
            if size <= SMALL:
                return hashlib.sha256(f.read()).hexdigest()
            h = hashlib.sha256(f"{size}:".encode() + f.read(_HEAD))
            f.seek(size - _TAIL)
            h.update(f.read())
            return h.hexdigest()
    except OSError as e:
        raise InputError(f"{path}: cannot be read ({e.strerror}); check the path") from e


def folder_identity(path: str | os.PathLike, suffixes: tuple[str, ...] = ()) -> str:
    """Digest of the names and identities of a folder's files (only those with `suffixes`, if given); hidden ones are left out."""
    root = Path(path)
    if not root.is_dir():
        raise InputError(f"{root}: no such folder; check the path")
    entries = []
    for folder, dirs, files in os.walk(root):
        dirs[:] = sorted(d for d in dirs if not d.startswith("."))
        for name in sorted(files):
            if not name.startswith(".") and (not suffixes or name.endswith(suffixes)):
                file = Path(folder, name)
                entries.append([file.relative_to(root).as_posix(), file_identity(file)])
    if not entries:
        raise InputError(f"{root}: holds no file{' ending in ' + ', '.join(suffixes) if suffixes else ''}")
    return digest(entries)


def identity(path: str | os.PathLike) -> str:
    return folder_identity(path) if Path(path).is_dir() else file_identity(path)
