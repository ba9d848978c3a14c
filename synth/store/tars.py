"""What lies in a tar, whoever wrote it: members by their headers, one after the other. Nothing is unpacked or held."""

import os
import tarfile
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, BinaryIO

BLOCK = 512


class TornTar(ValueError):
    """The members that were given are whole; what follows is not. Says why in a word."""


class NoTar(ValueError):
    """Not a tar, or a compressed one."""


@dataclass(frozen=True)
class Member:
    name: str
    offset: int  # of its bytes in the tar
    size: int
    regular: bool  # a file, and no folder, link or device
    folder: bool = False

    @property
    def stop(self) -> int:
        """Where the next header begins. Behind the end of the tar: it is torn inside this member."""
        return self.offset + -(-self.size // BLOCK) * BLOCK


def members(raw: BinaryIO) -> Iterator[Member]:
    """The members of a plain tar. TornTar where it ends too early, NoTar where it is none; an empty file is none."""
    total, seen = os.fstat(raw.fileno()).st_size, 0
    tar: Any
    try:
        tar = tarfile.open(fileobj=raw, mode="r:")  # noqa: SIM115 (shares the caller's file)
    except tarfile.TarError as e:
        raise NoTar(str(e)) from e
    try:
        while (info := tar.next()) is not None:
            tar.members = []  # tarfile keeps them all
            if info.size < 0:  # such a tar leads in a circle
                raise ValueError("negative size")
            member = Member(info.name, info.offset_data, info.size, info.isreg(), info.isdir())
            seen = member.stop
            yield member
            if tar.offset > total:  # what tarfile says of it; of sizes that no file has it would say something else
                raise tarfile.ReadError
    except (MemoryError, OverflowError) as e:  # a name whose size is such a one
        raise TornTar("ReadError") from e
    except (tarfile.TarError, EOFError, ValueError, RecursionError) as e:
        raise TornTar(type(e).__name__) from e
    if total < seen + BLOCK or os.pread(raw.fileno(), BLOCK, seen).strip(b"\0"):
        raise TornTar("no end mark")
