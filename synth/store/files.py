"""Small files, atomically: whole or not there. Nothing here compares a clock or an mtime between machines."""

import contextlib
import ctypes
import errno
import os
import secrets
from collections.abc import Iterator
from pathlib import Path

from synth import foreign
from synth.errors import REFUSALS, InputError, StoreError, owned

NO_LINKS = {errno.EPERM, errno.EXDEV, errno.EMLINK, errno.ENOTSUP, errno.ENOSYS}  # link() will never work here
TEMP = ".tmp"  # suffix of files on their way to a name
_RENAME_NOREPLACE, _AT_FDCWD = 1, -100


@contextlib.contextmanager
def storing(what: str | os.PathLike) -> Iterator[None]:
    """Turn "the file system refuses" (full, quota, read-only, permission, I/O) into StoreError, which drains instead of failing,
    and what stands in the place of a folder into InputError."""
    try:
        yield
    except OSError as e:
        if e.errno in REFUSALS:
            why = f"{e.strerror}{owned(e.filename or what, e.errno)}"
            raise StoreError(f"{what}: {why}; nothing made so far is lost: mend that, then run the same command again") from e
        if e.errno in (errno.ENOTDIR, errno.ELOOP):
            raise _no_folder(e.filename or what) from e
        if e.errno == errno.EISDIR:
            raise InputError(f"{e.filename or what}: is a folder, where a file belongs; remove it, then run the same command again") from e
        raise


def names_in(folder: Path) -> list[str]:
    """The names in a folder, [] if it is not there; an InputError if it is something else."""
    with storing(folder):
        try:
            return os.listdir(folder)
        except FileNotFoundError:
            return []


def make_folder(folder: Path) -> None:
    """Make a folder and those above it, where they are not there; an InputError if something else has its name."""
    with storing(folder):
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except FileExistsError as e:
            raise _no_folder(folder) from e


def _no_folder(what: str | os.PathLike) -> InputError:
    return InputError(f"{what}: a file or a link stands where a folder belongs; remove it, then run the same command again")


def beside(path: Path, folder: Path | None = None) -> Path:
    """A name of its own for a file on its way to `path`: hidden, in the same folder, or in another one of its file system."""
    return (folder or path.parent) / f".{path.name[:100]}.{os.getpid()}-{secrets.token_hex(4)}{TEMP}"


@contextlib.contextmanager
def _written(path: Path, data: bytes, sync: bool = True) -> Iterator[Path]:
    """Inside, a file beside `path` that holds `data`; whatever has this name at the end is removed."""
    temp = beside(path)
    with storing(path):
        try:
            with open(temp, "xb") as f:
                f.write(data)
                if sync:
                    f.flush()
                    os.fsync(f.fileno())
            yield temp
        finally:
            with contextlib.suppress(OSError):
                temp.unlink(missing_ok=True)


def write_atomic(path: Path, data: bytes, sync: bool = True) -> None:
    """Replace `path` by `data`: readers see the old bytes or the new ones, never half of them."""
    with _written(Path(path), data, sync) as temp:
        replace(temp, path)


def write_once(path: Path, data: bytes) -> bool:
    """Create `path` with `data` unless it exists; True if it was created by this call. Whole or absent, on any file system."""
    path = Path(path)
    with _written(path, data) as temp:
        try:
            os.link(temp, path)
        except OSError as e:
            if isinstance(e, FileExistsError) or (isinstance(e, FileNotFoundError) and path.exists()):
                return _same(temp, path)
            if e.errno not in NO_LINKS:
                raise
            try:
                renamed = rename_once(temp, path)
            except FileNotFoundError:  # as in `replace`: nobody else renames `temp`
                if temp.exists() or not path.exists():
                    raise
                renamed = True
            if renamed is None:  # the kernel cannot: two writers at one moment may both think that they were first
                renamed = not path.exists()
                if renamed:
                    replace(temp, path)
            return renamed
        return True


def replace(source: str | os.PathLike, target: str | os.PathLike) -> None:
    """os.replace. A network file system may repeat a call whose answer got lost, and then finds no source: it was renamed."""
    try:
        os.replace(source, target)
    except IsADirectoryError as e:
        raise InputError(f"{target}: is a folder, where a file belongs; remove it, then run the same command again") from e
    except FileNotFoundError:
        if os.path.lexists(source) or not os.path.lexists(target):
            raise


def _same(a: Path, b: Path) -> bool:
    """Whether two names are of one file; False where one is gone."""
    with contextlib.suppress(FileNotFoundError):
        return os.path.samefile(a, b)
    return False


def rename_once(source: Path, target: Path) -> bool | None:
    """Rename unless `target` exists: True renamed, False it exists, None if this kernel or file system cannot do that."""
    libc = ctypes.CDLL(None, use_errno=True)
    if not hasattr(libc, "renameat2"):
        return None
    if libc.renameat2(_AT_FDCWD, os.fsencode(source), _AT_FDCWD, os.fsencode(target), _RENAME_NOREPLACE) == 0:
        return True
    code = ctypes.get_errno()
    if code == errno.EEXIST:
        return False
    if code in (errno.EINVAL, errno.ENOSYS, errno.ENOTSUP):
        return None
    raise OSError(code, os.strerror(code), str(source))


def read_small(path: Path, most: int = foreign.RECORD) -> bytes | None:
    """The bytes of a small file, or None if it is not there; raises as foreign.read."""
    try:
        return foreign.read(path, most)
    except FileNotFoundError:
        return None


def pread(fd: int, size: int, offset: int) -> bytes:
    """`size` bytes of an open file from `offset` on, fewer at its end. Its position stays, so threads and forked processes may share it."""
    parts = []
    while size and (part := os.pread(fd, size, offset)):
        parts.append(part)
        size, offset = size - len(part), offset + len(part)
    return parts[0] if len(parts) == 1 else b"".join(parts)


def fsync_folder(path: Path) -> None:
    """Make the names in a folder durable."""
    fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(fd)
    except OSError as e:  # some network file systems refuse to sync folders; their servers do it themselves
        if e.errno not in (errno.EINVAL, errno.ENOTSUP):
            raise
    finally:
        os.close(fd)


def hard_links_work(folder: Path, other: Path) -> bool:
    """Whether link() works from one folder to another and is first-wins (BeeGFS and AFS link inside one folder only)."""
    temp = Path(folder, f".link-probe-{os.getpid()}-{secrets.token_hex(4)}")
    twin = Path(other, temp.name + ".twin")
    try:
        temp.touch()
        os.link(temp, twin)
        try:
            os.link(temp, twin)
        except FileExistsError:
            return True
        return False
    except OSError:
        return False
    finally:
        for p in (temp, twin):
            with contextlib.suppress(OSError):
                p.unlink()


def is_number(text: str) -> bool:
    """Whether the stem of a file's name is a number of a unit: digits that int() takes, and not too many of them."""
    return foreign.number_in(text) is not None
