"""Identities of large files that this user's processes hashed before, so that weights are not read anew by every command and worker.

A file below `folder()` for each that was hashed. It counts as long as size, inode, mtime and ctime are the same: the kernel sets the
last, so neither `rsync -t` nor `touch` hides a change.
"""

import contextlib
import hashlib
import json
import os
import time
from pathlib import Path

from synth import foreign
from synth.errors import InputError, StoreError
from synth.store.files import write_atomic

FRESH = 10.0  # seconds after its last change during which a file is not remembered: another one may go by unseen, of the same time


def folder() -> Path:
    """In the user's own cache: who can write there can say what a file holds."""
    home = os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")
    return Path(home) / "synthset" / "identities"


def identity_of(file: Path, status: os.stat_result) -> str | None:
    """What was remembered of a file in this state; None if nothing was, or it cannot be read: then the file is hashed."""
    try:
        record = foreign.obj(foreign.read_json(_place(file), foreign.RECORD), "", identity=foreign.WORD, seen=[int])
    except (OSError, InputError, StoreError):
        return None
    return record["identity"] if record["seen"] == _state(status) and len(record["identity"]) == 64 else None


def remember(file: Path, status: os.stat_result, identity: str) -> None:
    """Keep an identity. status: from before the file was hashed; one that changed meanwhile, or just before, is not kept."""
    with contextlib.suppress(OSError, StoreError):  # a cache that cannot be written costs time, and nothing else
        now = file.stat()
        # by ctime, which the kernel sets at each change: an mtime may be any, and lie in the future. A clock that is far off says nothing
        if _state(now) != _state(status) or abs(time.time() - now.st_ctime) < FRESH:
            return
        place = _place(file)
        place.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        name = os.fsencode(os.path.realpath(file)).decode("utf-8", "backslashreplace")  # for people
        record = {"file": name, "seen": _state(status), "identity": identity}
        write_atomic(place, json.dumps(record).encode() + b"\n", sync=False)


def _place(file: Path) -> Path:
    return folder() / f"{hashlib.sha256(os.fsencode(os.path.realpath(file))).hexdigest()[:32]}.json"


def _state(status: os.stat_result) -> list[int]:
    return [status.st_size, status.st_ino, status.st_mtime_ns, status.st_ctime_ns]
