"""Tar units as they were made before units told digests of their samples' files, and such units as they are made now."""

import io
from collections.abc import Callable
from dataclasses import replace

from synth.store.framing import BLOCK, Entry, digests_of, read_index, seal


def earlier(data: bytes) -> bytes:
    """A unit, less its digests of files."""
    return _resealed(data, lambda entry: b"")


def as_now(data: bytes) -> bytes:
    """A unit of either form, with digests of files."""
    return _resealed(data, lambda entry: digests_of({ext: data[at : at + size] for ext, (at, size) in entry.files.items()})[1])


def _resealed(data: bytes, digests: Callable[[Entry], bytes]) -> bytes:
    index, _ = read_index(io.BytesIO(data), "tar", "unit")
    last = max((at + size for entry in index.samples for at, size in entry.files.values()), default=0)
    end = last + -last % BLOCK
    return data[:end] + seal("tar", replace(index, samples=tuple(e._replace(digests=digests(e)) for e in index.samples)), end)[0]
