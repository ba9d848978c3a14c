"""What stages are made of: slots hold samples or tombstones, units are slices of slots."""

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True)
class Sample:
    """One finished sample: `files` maps an extension to its bytes, e.g. {"json": b"..", "png": b".."}.

    A .jsonl unit stores exactly one file a sample, {"json": one line of JSON without newline}.
    `key` is unique within the stage and is the file stem in tar units.
    """

    slot: int
    key: str
    files: Mapping[str, bytes]


@dataclass(frozen=True)
class Tombstone:
    """A slot that will never have a sample, and why. Slots never shift."""

    slot: int
    reason: str


@dataclass(frozen=True)
class Unit:
    """A contiguous slice [start, stop) of a stage's slots: the atom of work and of commit."""

    number: int
    start: int
    stop: int

    def __len__(self) -> int:
        return self.stop - self.start
