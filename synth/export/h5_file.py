"""HDF5 files with one writer: whole or not there, the same bytes for the same content, no locks, no times.

Network file systems often refuse HDF5's locks; a file that gets its name by rename when it is whole needs none.
"""

import contextlib
import errno
import os
import re
import secrets
from collections.abc import Iterator
from pathlib import Path

import h5py
from h5py import h5d, h5p, h5t

from synth.errors import InputError, StoreError
from synth.store.files import REFUSALS, fsync_folder, storing

LIBVER = ("v110", "v110")  # fixed, or a newer library would write other bytes; read by everything since 2016
SUFFIX = ".h5"


@contextlib.contextmanager
def new_file(final: Path) -> Iterator[Path]:
    """A temporary path to write to, that becomes `final` on success and is gone after an error. A refusal of the disk is a StoreError."""
    temp = final.with_name(f".{final.name[:100]}.{os.getpid()}-{secrets.token_hex(4)}.tmp")
    with storing(final.parent):
        final.parent.mkdir(parents=True, exist_ok=True)
    try:
        with refusals(final):
            yield temp
            with open(temp, "rb+") as f:
                os.fsync(f.fileno())
            os.replace(temp, final)
            fsync_folder(final.parent)
    finally:
        with contextlib.suppress(OSError):
            temp.unlink(missing_ok=True)


@contextlib.contextmanager
def refusals(what: Path) -> Iterator[None]:
    """Turn what HDF5 says when the file system refuses into the StoreError of all stores: it hides the number in a text."""
    try:
        with storing(what):
            yield
    except (OSError, RuntimeError) as e:
        number = re.search(r"errno = (\d+)", str(e))
        if number and int(number[1]) in REFUSALS:
            msg = f"{what}: {os.strerror(int(number[1]))}; nothing made so far is lost: mend that, then run the same command again"
            raise StoreError(msg) from e
        raise


def create(path: Path) -> h5py.File:
    return h5py.File(path, "w", libver=LIBVER, locking=False, track_order=False)


def open_read(path: Path) -> h5py.File:
    """An HDF5 file to read; a missing, torn or foreign one is an InputError that names it."""
    try:
        return h5py.File(path, "r", locking=False)
    except FileNotFoundError as e:
        msg = f"{path}: is not there"
        raise InputError(msg) from e
    except OSError as e:
        if e.errno in (errno.EACCES, errno.EIO, errno.ESTALE, errno.EMFILE):
            raise
        msg = f"{path}: torn, still being written, or not HDF5 ({str(e).strip()[:160]})"
        raise InputError(msg) from e


def plain() -> h5p.PropDCID:
    """Properties of a dataset that lies in one piece: its place in the file is known as soon as it is created."""
    found = h5p.create(h5p.DATASET_CREATE)
    found.set_obj_track_times(False)
    found.set_layout(h5d.CONTIGUOUS)
    found.set_alloc_time(h5d.ALLOC_TIME_EARLY)
    found.set_fill_time(h5d.FILL_TIME_NEVER)
    return found


UINT8 = h5t.STD_U8LE


def place(dataset) -> int | None:
    """Offset in the file of a dataset that lies in one piece and needs no conversion; None of another one."""
    made = dataset.get_create_plist()
    if made.get_layout() != h5d.CONTIGUOUS or made.get_external_count() or isinstance(dataset.get_type(), h5t.TypeVlenID):
        return None
    return dataset.get_offset()


def copy_bytes(source: int, at: int, target: int, to: int, size: int) -> None:
    """Copy `size` bytes from descriptor to descriptor, in the kernel where it can."""
    while size:
        try:
            n = os.copy_file_range(source, target, size, at, to)
        except OSError as e:
            if e.errno not in (errno.EXDEV, errno.ENOSYS, errno.EINVAL, errno.EOPNOTSUPP, errno.EPERM):
                raise
            n = os.pwrite(target, os.pread(source, min(size, 1 << 20), at), to)
        if not n:
            msg = f"a file ended {size} bytes early"
            raise InputError(msg)
        at, to, size = at + n, to + n, size - n
