"""What this user's programs keep for themselves between runs, below the home folder: by it they know their own work from what was received.

Nothing in a run folder can do that: a tar unpacks with the owner and the modes that it asks for. Where there is no home, or it cannot be
written, there is nothing private, and whoever asks does without.
"""

import contextlib
import os
import secrets
import stat
from pathlib import Path

LARGEST = 1 << 20  # bytes of a file that are read: its last ones, so that what is added counts
KEY = "key"
LENGTH = 32  # bytes of it


def folder() -> Path:
    """Where it lies. RuntimeError where there is no home."""
    given = os.environ.get("XDG_STATE_HOME", "")
    return Path(given if os.path.isabs(given) else Path.home() / ".local" / "state") / "synthset"


def read(name: str) -> bytes:
    """A private file, its end if it is long; b"" if it is not there, or if somebody else may have written it."""
    flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK
    with contextlib.suppress(OSError, RuntimeError), open(os.open(folder() / name, flags), "rb") as f:
        info = os.fstat(f.fileno())
        if stat.S_ISREG(info.st_mode) and info.st_uid == os.getuid() and not info.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
            f.seek(max(0, info.st_size - LARGEST))
            return f.read(LARGEST)
    return b""


def add(name: str, data: bytes) -> bool:
    """Append to a private file; whether that was possible."""
    try:
        folder().mkdir(mode=0o700, parents=True, exist_ok=True)
        with open(os.open(folder() / name, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_NOFOLLOW, 0o600), "ab") as f:
            f.write(data)
    except (OSError, RuntimeError):  # full, read-only, no home
        return False
    return True


def key() -> bytes | None:
    """Bytes that only this user's programs know, made at the first call; None where nothing can be kept."""
    if not read(KEY):
        with contextlib.suppress(FileExistsError):
            temp = f".{KEY}.{os.getpid()}-{secrets.token_hex(4)}"
            if not add(temp, secrets.token_bytes(LENGTH)):
                return None
            try:
                os.link(folder() / temp, folder() / KEY)  # the first one's is everybody's
            except PermissionError:  # no links there: two that are first at one moment do without what the other one keeps
                with contextlib.suppress(FileNotFoundError):  # done, and the answer of a network file system got lost: it is read below
                    os.replace(folder() / temp, folder() / KEY)
            finally:
                (folder() / temp).unlink(missing_ok=True)
    found = read(KEY)
    return found if len(found) == LENGTH else None
