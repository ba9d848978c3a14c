"""Content identity of input files: what a fingerprint holds instead of paths."""

import hashlib
import os
from pathlib import Path

from synth import foreign
from synth.errors import InputError, not_trouble
from synth.store.spec import digest
from synth.store.trees import plain, walk

SMALL = 8 << 20  # bytes; larger files are named by size and the digests of their ends
LISTED = "listing:"  # identity of a folder whose names and sizes stand in the stage's listing; its stage judges what it reads of it
_HEAD, _TAIL = 1 << 20, 1 << 16


def file_identity(path: str | os.PathLike) -> str:
    """sha256 of a small file; of a large one (weights) its size, first MiB (safetensors header) and last 64 KiB (zip end)."""
    path = Path(path)
    try:
        with foreign.open_file(path) as f:
            size = os.fstat(f.fileno()).st_size
            if size <= SMALL:
                return hashlib.sha256(f.read()).hexdigest()
            h = hashlib.sha256(f"{size}:".encode() + f.read(_HEAD))
            f.seek(size - _TAIL)
            h.update(f.read())
            return h.hexdigest()
    except OSError as e:
        not_trouble(path, e)
        raise InputError(f"{path}: cannot be read ({e.strerror}); check the path") from e


def folder_identity(path: str | os.PathLike, suffixes: tuple[str, ...] = ()) -> str:
    """Digest of the names and identities of a folder's files (only those with `suffixes`, if given); hidden ones are left out.

    Links are followed, those to folders too: what a stage reads through one belongs to its input.
    """
    root = Path(path)
    if not root.is_dir():
        raise InputError(f"{root}: no such folder; check the path")
    paths = [path for path, entry in walk(root) if not suffixes or entry.name.endswith(suffixes)]
    # the files of a folder before the folders in it: fingerprints hang on this order
    paths.sort(key=lambda path: [*((1, part) for part in path.split("/")[:-1]), (0, path.rpartition("/")[2])])
    entries = [[plain(path), file_identity(root / path)] for path in paths]
    if not entries:
        raise InputError(f"{root}: holds no file{' ending in ' + ', '.join(suffixes) if suffixes else ''}")
    return digest(entries)


def identity(path: str | os.PathLike) -> str:
    return folder_identity(path) if Path(path).is_dir() else file_identity(path)
