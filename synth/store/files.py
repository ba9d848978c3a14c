"""Small files, atomically: whole or not there. Nothing here compares a clock or an mtime between machines."""

import contextlib
import errno
import os
import secrets
from collections.abc import Iterator
from pathlib import Path

from synth.errors import StoreError

_FULL = {errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EPERM, errno.EIO, errno.EMFILE, errno.ENFILE}


@contextlib.contextmanager
def storing(what: str | os.PathLike) -> Iterator[None]:
    """Turn "the file system refuses" (full, quota, read-only, permission, I/O) into StoreError, which drains instead of failing."""
    try:
        yield
    except OSError as e:
        if e.errno in _FULL:
            msg = f"{what}: {e.strerror}; nothing made so far is lost: mend that, then run the same command again"
            raise StoreError(msg) from e
        raise


def write_atomic(path: Path, data: bytes, sync: bool = True) -> None:
    """Replace `path` by `data`: readers see the old bytes or the new ones, never half of them."""
    path = Path(path)
    temp = path.with_name(f".{path.name[:100]}.{os.getpid()}-{secrets.token_hex(4)}.tmp")
    with storing(path):
        try:
            with open(temp, "wb") as f:
                f.write(data)
                if sync:
                    f.flush()
                    os.fsync(f.fileno())
            os.replace(temp, path)
        finally:
            with contextlib.suppress(OSError):
                temp.unlink(missing_ok=True)


def write_once(path: Path, data: bytes) -> bool:
    """Create `path` with `data` unless it exists; True if it was created by this call. Whole or absent where links work."""
    path = Path(path)
    temp = path.with_name(f".{path.name[:100]}.{os.getpid()}-{secrets.token_hex(4)}.tmp")
    with storing(path):
        try:
            with open(temp, "wb") as f:
                f.write(data)
                f.flush()
                os.fsync(f.fileno())
            try:
                os.link(temp, path)
            except FileExistsError:
                return False
            except OSError:  # no hard links here: exclusive creation is first-wins too, only not all-or-nothing
                try:
                    with open(path, "xb") as f:
                        f.write(data)
                except FileExistsError:
                    return False
            return True
        finally:
            with contextlib.suppress(OSError):
                temp.unlink(missing_ok=True)


def read_small(path: Path) -> bytes | None:
    """The bytes of a small file, or None if it is not there."""
    try:
        with open(path, "rb") as f:
            return f.read()
    except FileNotFoundError:
        return None


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


def hard_links_work(folder: Path) -> bool:
    """Whether link() works here and is first-wins, tried with two files of our own."""
    temp = Path(folder, f".link-probe-{os.getpid()}-{secrets.token_hex(4)}")
    twin = temp.with_name(temp.name + ".twin")
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
