"""A folder for one process alone, which goes with it: sockets, and files by which its children meet.

Whoever makes one, and every worker that begins, removes those whose process is gone, killed before it could. What tells is a lock that
the kernel lets go with the process, not its number: a container that shares the place has other numbers.
"""

import contextlib
import fcntl
import os
import shutil
import socket
import tempfile
from pathlib import Path

PREFIX, LOCK = "synthset-", "lock"
HERE = f"{PREFIX}{socket.gethostname().partition('.')[0][:20]}-"  # some file systems that machines share lock on each by itself
ROOM = 80  # bytes of a path below which a unix socket finds its 107


class Scratch:
    """The folder `path`, mode 0700, below TMPDIR (or /tmp, where that is too long for sockets)."""

    def __init__(self) -> None:
        top = place()
        sweep(top)
        self.path = Path(tempfile.mkdtemp(prefix=HERE, dir=top))
        self._held = os.open(self.path / f"{LOCK}.new", os.O_CREAT | os.O_RDWR, 0o600)
        with contextlib.suppress(OSError):  # a file system without locks: then nobody sweeps it
            fcntl.flock(self._held, fcntl.LOCK_EX)
            os.rename(self.path / f"{LOCK}.new", self.path / LOCK)  # now it is held, and may be looked at

    def remove(self) -> None:
        shutil.rmtree(self.path, ignore_errors=True)
        os.close(self._held)


def place() -> Path:
    """Where such folders lie."""
    top = tempfile.gettempdir()
    return Path(top if len(os.fsencode(top)) + len(HERE) + 8 <= ROOM else "/tmp")


def sweep(top: Path) -> None:
    """Remove folders of ours below `top` that processes of this machine made which are gone."""
    with contextlib.suppress(OSError), os.scandir(top) as entries:
        for entry in entries:
            if entry.name.startswith(HERE) and entry.is_dir(follow_symlinks=False):
                with contextlib.suppress(OSError):
                    if entry.stat(follow_symlinks=False).st_uid == os.getuid():
                        _remove_if_left(Path(entry.path))


def _remove_if_left(folder: Path) -> None:
    lock = os.open(folder / LOCK, os.O_RDWR | os.O_NOFOLLOW)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)  # held by the living: an OSError
        shutil.rmtree(folder, ignore_errors=True)
    finally:
        os.close(lock)
