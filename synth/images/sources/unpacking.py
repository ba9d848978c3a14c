"""How a worker reads one picture out of a Parquet or HDF5 file.

What a listing says of such a file (rows, places, labels, captions) is true of these very bytes alone, so the file is hashed as a whole when
it is listed, and compared before the first picture is taken out of it; large files are hashed once (`synth.store.remembered`).
"""

import os
import stat
import threading
import zlib
from pathlib import Path

from synth import foreign
from synth.errors import InputError, PictureGone
from synth.images.sources.base import BYTES, DEFLATED, FORM, GONE, ROW, TORN, Packed
from synth.store.files import pread, storing
from synth.store.identity import file_identity

_State = tuple[int, int, int, int, int]


def read_packed(path: Path, offset: int, size: int, packed: Packed, key: str) -> bytes | str:
    """The bytes of a picture's file, or why there are none: what the file says of it. Threads may share files.

    Values without a file (HDF5, content=pixels) come as a PPM. PictureGone if the file is not there, InputError if it is not the one that
    was listed: all that is known of its pictures would be of others. key: that names the source.
    """
    fd = _opened(path, key)
    try:
        with storing(path):
            _KNOWN.check(path, os.fstat(fd), packed.file, key)
            if packed.form == ROW:
                from synth.images.sources.row_groups import read_row

                return read_row(path, fd, offset)
            data = pread(fd, size, offset)
    finally:
        os.close(fd)
    if len(data) != size:
        return TORN
    return data if packed.form == BYTES else _ppm(data, packed.form)


def _opened(path: Path, key: str) -> int:
    try:
        return os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError as e:
        if e.errno not in GONE:
            with storing(path):
                raise
        why = "was there when the stage was planned; put it back, or run the command again to plan without it"
        raise PictureGone(f"{key}: {path}: {GONE[e.errno]}: it {why}") from e


class _Known:
    """Identities of files, as long as they are in the state in which they were hashed by this process."""

    def __init__(self) -> None:
        self._by_path: dict[Path, tuple[_State, str]] = {}
        self._lock = threading.Lock()  # two threads would hash one file twice

    def check(self, path: Path, status: os.stat_result, identity: str, key: str) -> None:
        state = (status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns)
        with self._lock:
            known = self._by_path.get(path)
            if known is None or known[0] != state:
                if not stat.S_ISREG(status.st_mode):
                    raise InputError(f"{key}: {path}: is {foreign.kind_of(status.st_mode)}, and was a file when the stage was planned")
                known = self._by_path[path] = state, file_identity(path)
        if known[1] != identity:
            raise InputError(
                f"{key}: {path}: changed since the stage was planned; put it back, or run the command again to plan it as it is"
            )


_KNOWN = _Known()


def _ppm(data: bytes, form: str) -> bytes | str:
    """RGB values of 8 bits as the file of a picture."""
    found = FORM.fullmatch(form)
    assert found is not None, form  # the listing was judged when it was read
    width, height = int(found[1]), int(found[2])
    wanted = width * height * 3
    if form.startswith(DEFLATED):
        unpacker = zlib.decompressobj()
        try:
            data = unpacker.decompress(data, wanted + 1)
        except zlib.error:
            return TORN
    return b"P6\n%d %d\n255\n" % (width, height) + data if len(data) == wanted else TORN
