"""HDF5 files with one writer: whole or not there, the same bytes for the same content, no locks, no times.

Network file systems often refuse HDF5's locks; a file that gets its name by rename when it is whole needs none.
"""

import contextlib
import errno
import os
from collections.abc import Iterator
from pathlib import Path

import h5py
from h5py import h5d, h5p, h5t

from synth.errors import InputError
from synth.store import faults
from synth.store.files import beside, fsync_folder, make_folder, replace, storing

LIBVER = ("v110", "v110")  # fixed, or a newer library would write other bytes; read by everything since 2016


class Sink:
    """The file that HDF5 writes to. HDF5 crashes the process when it closes a file that took no more (even at exit), so a write that
    the file system refuses is kept in memory instead, and told by `check`: whoever writes calls it often and then stops.
    """

    def __init__(self, fd: int):
        self._fd, self._at, self._size = fd, 0, 0
        self._kept: list[tuple[int, bytes]] = []
        self.error: OSError | None = None

    def check(self) -> None:
        """Raise what the file system said, if it refused anything so far."""
        if self.error is not None:
            raise self.error

    def write(self, data) -> int:
        size = len(data)
        try:
            if self.error is None:
                pwrite(self._fd, data, self._at)
            else:
                self._kept.append((self._at, bytes(data)))
        except OSError as e:
            self.error = e
            self._kept.append((self._at, bytes(data)))
        self._at += size
        self._size = max(self._size, self._at)
        return size

    def readinto(self, into) -> int:
        start, stop = self._at, self._at + len(into)
        n = os.preadv(self._fd, [into], start)
        into[n:] = bytes(len(into) - n)
        for at, data in self._kept:
            low, high = max(start, at), min(stop, at + len(data))
            if low < high:
                into[low - start : high - start] = data[low - at : high - at]
        self._at = stop
        return len(into)

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        self._at = offset + {os.SEEK_SET: 0, os.SEEK_CUR: self._at, os.SEEK_END: self._size}[whence]
        return self._at

    def read(self, size: int = -1) -> bytes:  # h5py takes an object with read and seek for a file
        data = bytearray(self._size - self._at if size < 0 else size)
        self.readinto(data)
        return bytes(data)

    def tell(self) -> int:
        return self._at

    def truncate(self, size: int) -> int:
        try:
            os.ftruncate(self._fd, size)
        except OSError as e:
            self.error = self.error or e
        self._size = size
        return size

    def flush(self) -> None: ...


class NewFile:
    """An HDF5 file on its way. `h5`: to be written with h5py until `close_h5`; `fd`: the bytes below, for what lies in one piece."""

    def __init__(self, fd: int):
        self.fd, self._sink = fd, Sink(fd)
        self.check = self._sink.check
        self.h5 = h5py.File(self._sink, "w", libver=LIBVER, track_order=False)

    def close_h5(self) -> None:
        self.h5.close()
        self.check()


@contextlib.contextmanager
def new_file(final: Path, folder: Path | None = None) -> Iterator[NewFile]:
    """A file that gets the name `final` when it is whole, and is gone after an error. A refusal of the disk is a StoreError.

    folder: on the same file system where it lies until then.
    """
    temp = beside(final, folder)
    with storing(final):
        make_folder(temp.parent)
        make_folder(final.parent)
        fd = os.open(temp, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o666)
        try:
            new = NewFile(fd)
            try:
                yield new
            finally:
                new.h5.close()
            new.check()
            os.fsync(fd)
            faults.point("before_h5")
            replace(temp, final)  # it may have been done by somebody who was first, and tidied up
            fsync_folder(final.parent)
        finally:
            os.close(fd)
            with contextlib.suppress(OSError):
                temp.unlink(missing_ok=True)


def pwrite(fd: int, data, at: int) -> None:
    view = memoryview(data).cast("B")
    while view:
        n = os.pwrite(fd, view, at)
        view, at = view[n:], at + n


def plain() -> h5p.PropDCID:
    """Properties of a dataset that lies in one piece: its place in the file is known as soon as it is created."""
    properties = h5p.create(h5p.DATASET_CREATE)
    properties.set_obj_track_times(False)
    properties.set_layout(h5d.CONTIGUOUS)
    properties.set_alloc_time(h5d.ALLOC_TIME_EARLY)
    properties.set_fill_time(h5d.FILL_TIME_NEVER)
    return properties


UINT8 = h5t.STD_U8LE


def copy_bytes(source: int, at: int, target: int, to: int, size: int) -> None:
    """Copy `size` bytes from descriptor to descriptor, in the kernel where it can."""
    while size:
        try:
            n = os.copy_file_range(source, target, size, at, to)
        except OSError as e:
            if e.errno not in (errno.EXDEV, errno.ENOSYS, errno.EINVAL, errno.EOPNOTSUPP, errno.EPERM):
                raise
            data = os.pread(source, min(size, 1 << 20), at)
            pwrite(target, data, to)
            n = len(data)
        if not n:
            raise InputError(f"a file ended {size} bytes early")
        at, to, size = at + n, to + n, size - n
