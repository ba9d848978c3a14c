"""What torch.compile made, for those who come later: a folder on this node, and one file beside the stages that other nodes begin with.

The folder is node-local because a shared file system would be asked for thousands of small files. The file is torch's own portable form of
all of them (torch.compiler.save_cache_artifacts): there are no names in it to be unpacked by us, and torch takes from it only what was
made by this version for this device. Both hold code that is run, so neither is used unless it is ours alone to write; and the file, which
may have come with a folder that was received, only with the code of authentication that this user's own key gives it.
"""

import atexit
import hashlib
import hmac
import os
import stat
import sys
import tempfile
from collections.abc import Mapping
from functools import cache
from importlib import metadata
from pathlib import Path

from synth.errors import StoreError
from synth.host import private
from synth.host.scratch import Scratch
from synth.store.files import write_once

SAFE = stat.S_IRWXU  # nobody else may put compiled code where we load it from
OTHERS = stat.S_IRWXG | stat.S_IRWXO  # may do nothing in our folder, so the modes of files in it, which a umask makes, matter less
LARGEST = 512 * 2**20  # bytes of a file. A model's blocks are some MB a size of pictures
FILES = 16  # kept beside the stages: before another is written the one that was written first goes


def key_of(model_digest: str, device_name: str, versions: Mapping[str, str]) -> str:
    """Names what is alike for all workers that compile the same: a model, with how it is called, on a device, with these versions."""
    versions = {**versions, "triton": _version("triton")}
    what = "\n".join([model_digest, device_name, *(f"{k}={v}" for k, v in sorted(versions.items()))])
    return hashlib.sha256(what.encode()).hexdigest()[:16]


def _version(package: str) -> str:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return ""


def use_folder(key: str) -> Path:
    """Point inductor's and Triton's caches at this node's own folder for `key`; the folder.

    A worker that starts later on the same node finds what the first one compiled.
    """
    top = Path(tempfile.gettempdir(), f"synthset-compiled-{os.getuid()}")
    top.mkdir(mode=SAFE, exist_ok=True)
    if not _is_ours(top.lstat(), stat.S_ISDIR, OTHERS):
        top = _own_place().path
    folder = top / key
    folder.mkdir(mode=SAFE, exist_ok=True)
    os.environ["TORCHINDUCTOR_CACHE_DIR"] = str(folder)
    os.environ["TRITON_CACHE_DIR"] = str(folder / "triton")
    return folder


@cache
def _own_place() -> Scratch:
    """A folder of this process alone, where somebody else has made the usual one."""
    made = Scratch()
    atexit.register(made.remove)
    return made


class Archive:
    """The file of one key in a folder that all nodes see. Whatever is wrong with it costs a compilation and nothing else."""

    def __init__(self, folder: Path, key: str):
        self.path = folder / f".compiled-{os.getuid()}" / key
        self._there = False

    def load(self) -> bool:
        """Put what is in the file into this node's folder; whether there was one to be trusted. Call it before anything is compiled."""
        import torch

        data = _read(self.path, private.key()) if hasattr(torch.compiler, "load_cache_artifacts") else None  # torch 2.6 and later
        try:
            self._there = data is not None and torch.compiler.load_cache_artifacts(data) is not None
        except Exception as e:  # noqa: BLE001 (a full disk, another Triton, whatever the artifacts provoke: then all is compiled here)
            print(f"{self.path}: compiled code cannot be taken from here ({type(e).__name__}: {e})", file=sys.stderr)
        return self._there

    def save(self) -> bool:
        """Write what this process compiled, unless somebody else's file is there; whether it was written."""
        import torch

        if self._there or not hasattr(torch.compiler, "save_cache_artifacts"):
            return False
        artifacts = torch.compiler.save_cache_artifacts()
        if artifacts is None or len(artifacts[0]) > LARGEST:
            return False
        key = private.key()
        if key is None:
            return False
        data = hmac.digest(key, artifacts[0], "sha256") + artifacts[0]
        try:
            self.path.parent.mkdir(mode=SAFE, exist_ok=True)
            if not _is_ours(self.path.parent.lstat(), stat.S_ISDIR, OTHERS):
                return False
            _make_room(self.path.parent)
            self._there = True  # whoever was first
            return write_once(self.path, data)
        except (OSError, StoreError):  # a full disk stops units, not what only saves time
            return False


def _is_ours(info: os.stat_result, kind, others: int) -> bool:
    """Whether a file or folder is of this `kind`, belongs to this user, and others have none of the permissions `others` on it."""
    return kind(info.st_mode) and info.st_uid == os.getuid() and not info.st_mode & others


def _read(path: Path, key: bytes | None) -> bytes | None:
    """What `save` wrote there with this key; None if there is nothing, or it is not ours alone to write, or not whole."""
    if key is None:
        return None
    try:
        if not _is_ours(path.parent.lstat(), stat.S_ISDIR, OTHERS):
            return None
        with open(os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK), "rb") as f:
            info = os.fstat(f.fileno())
            if not _is_ours(info, stat.S_ISREG, stat.S_IWOTH) or info.st_size > LARGEST + 32:
                return None
            digest, data = f.read(32), f.read()
    except OSError:
        return None
    return data if hmac.compare_digest(hmac.digest(key, data, "sha256"), digest) else None


def _make_room(folder: Path) -> None:
    files = sorted((p for p in folder.iterdir() if not p.name.startswith(".")), key=lambda p: p.stat().st_mtime)
    for path in files[: max(0, len(files) - FILES + 1)]:
        path.unlink(missing_ok=True)
