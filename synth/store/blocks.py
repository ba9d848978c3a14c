"""Lines in gzip members, one behind the other, so that any of them is read alone. `zcat` shows them all.

They lie in a stage's folder and are written when it is planned. Digests are of the lines and not of the compressed bytes, which another
zlib packs in another way.
"""

import gzip
import zlib
from collections.abc import Iterator
from pathlib import Path

from synth import foreign
from synth.errors import InputError, not_trouble

PIECE = 1 << 18  # bytes that are read at once


def pack(lines: bytes, level: int = 6) -> bytes:
    """One member."""
    return gzip.compress(lines, compresslevel=level, mtime=0)


def members(path: Path) -> Iterator[tuple[int, int, bytes]]:
    """(offset, bytes, lines) of each member in order. A file that is missing or torn is an InputError."""
    at, rest = 0, b""
    try:
        with foreign.open_file(path) as f:
            while rest := rest or f.read(PIECE):
                unpacker, lines, size = zlib.decompressobj(wbits=31), [], 0
                while not unpacker.eof:
                    if not (rest := rest or f.read(PIECE)):
                        raise EOFError("torn")
                    lines.append(unpacker.decompress(rest))
                    size += len(rest) - len(unpacker.unused_data)
                    rest = unpacker.unused_data
                yield at, size, b"".join(lines)
                at += size
    except (OSError, EOFError, zlib.error) as e:
        not_trouble(path, e)
        raise torn(path, e) from e


def member(path: Path, offset: int, size: int) -> bytes:
    """The lines of the member there."""
    try:
        with foreign.open_file(path) as f:
            f.seek(offset)
            return gzip.decompress(f.read(size))
    except (OSError, EOFError, ValueError, zlib.error) as e:
        not_trouble(path, e)
        raise torn(path, e) from e


def torn(path: Path, why: object) -> InputError:
    return InputError(f"{path}: cannot be read ({why}); remove the stage's folder and run the command again")
