"""Content identity of input files: what a fingerprint holds instead of paths. Every byte counts.

A sample of a file would not do: weights that were trained further differ from their ancestor in a few matrices, of the same names and
sizes. Large files are hashed in blocks by several threads, and what was hashed is remembered (`synth.store.remembered`).
"""

import contextlib
import hashlib
import os
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from synth import foreign
from synth.errors import InputError, not_trouble
from synth.store import remembered
from synth.store.spec import digest
from synth.store.trees import plain, walk

SMALL = 8 << 20  # bytes; larger files are hashed in blocks, and remembered
BLOCK = 64 << 20  # bytes that one thread hashes. The identity of a large file hangs on it
READ = 1 << 20  # bytes at once
THREADS = 8  # at most: they hash 8 to 16 GB/s, more than a file system gives
LISTED = "listing:"  # identity of a folder whose names and sizes stand in the stage's listing; its stage judges what it reads of it

Progress = Callable[[int], None]


def file_identity(path: str | os.PathLike, progress: Progress = lambda size: None) -> str:
    """sha256 of a small file; of a large one, of its size and the sha256 of each of its blocks. progress: told of bytes that are read."""
    (identity,) = _identities([Path(path)], progress)
    return identity


def folder_identity(path: str | os.PathLike, suffixes: tuple[str, ...] = (), progress: Progress = lambda size: None) -> str:
    """Digest of the names and identities of a folder's files (only those with `suffixes`, if given); hidden ones are left out.

    Links are followed, those to folders too: what a stage reads through one belongs to its input.
    """
    root = Path(path)
    names = _names(root, suffixes)
    if not names:
        raise InputError(f"{root}: holds no file{' ending in ' + ', '.join(suffixes) if suffixes else ''}")
    found = _identities([root / name for name in names], progress)
    return digest([[plain(name), identity] for name, identity in zip(names, found, strict=True)])


def identity(path: str | os.PathLike, progress: Progress = lambda size: None) -> str:
    """Of a file or folder; InputError for what cannot be read, StoreError where the file system is in trouble."""
    return folder_identity(path, progress=progress) if Path(path).is_dir() else file_identity(path, progress)


def to_read(path: str | os.PathLike) -> int:
    """Bytes of a file's or folder's large files that nobody remembers: what `identity` will take its time for."""
    root = Path(path)
    files = [root / name for name in _names(root, ())] if root.is_dir() else [root]
    seen = ((file, _seen(file)) for file in files)
    return sum(status.st_size for file, status in seen if status.st_size > SMALL and not remembered.identity_of(file, status))


def _names(root: Path, suffixes: tuple[str, ...]) -> list[str]:
    if not root.is_dir():
        raise InputError(f"{root}: no such folder; check the path")
    names = [name for name, entry in walk(root) if not suffixes or entry.name.endswith(suffixes)]
    # the files of a folder before the folders in it: fingerprints hang on this order
    return sorted(names, key=lambda name: [*((1, part) for part in name.split("/")[:-1]), (0, name.rpartition("/")[2])])


def _identities(files: Iterable[Path], progress: Progress) -> list[str]:
    with ThreadPoolExecutor(min(THREADS, len(os.sched_getaffinity(0)))) as pool:
        try:
            return [end() for end in [_begin(file, pool, progress) for file in files]]
        finally:
            pool.shutdown(cancel_futures=True)  # one that cannot be read is told before all others were hashed


def _begin(file: Path, pool: ThreadPoolExecutor, progress: Progress) -> Callable[[], str]:
    """What gives the identity of a file, of which a large one is being hashed meanwhile."""
    status = _seen(file)
    size = status.st_size
    if size <= SMALL:
        identity = _hash(file, 0, SMALL).hexdigest()
        return lambda: identity
    if known := remembered.identity_of(file, status):
        return lambda: known
    blocks = [pool.submit(_hash, file, at, BLOCK) for at in range(0, size, BLOCK)]

    def end() -> str:
        whole = hashlib.sha256(f"{size}:".encode())
        for at, block in zip(range(0, size, BLOCK), blocks, strict=True):
            whole.update(block.result().digest())
            progress(min(BLOCK, size - at))
        remembered.remember(file, status, whole.hexdigest())
        return whole.hexdigest()

    return end


def _seen(file: Path) -> os.stat_result:
    """Its status; what is no regular file is an InputError: a pipe would wait for whoever writes into it, a device has no end."""
    with _reading(file):
        status = file.stat()
    if kind := foreign.kind_of(status.st_mode):
        raise InputError(f"{file}: is {kind}; give a file")
    return status


def _hash(file: Path, start: int, size: int) -> "hashlib._Hash":
    """sha256 of `size` bytes from `start` on, as far as there are any."""
    h, buffer = hashlib.sha256(), memoryview(bytearray(min(READ, size)))
    with _reading(file), foreign.open_file(file) as f:
        f.seek(start)
        while size and (n := f.readinto(buffer[:size])):
            h.update(buffer[:n])
            size -= n
    return h


@contextlib.contextmanager
def _reading(file: Path) -> Iterator[None]:
    try:
        yield
    except OSError as e:
        not_trouble(file, e)
        raise InputError(f"{file}: cannot be read ({e.strerror}); check the path") from e
