"""Sample config of the probe."""

import typing
from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True)
class ProbeConfig:
    """kind "probe": numpy only; makes samples of any size and misbehaves on request, by slot ("17": {...}).

    behaviour keys: sleep (s), allocate (bytes), size (bytes of the sample), raise ("input"|"bug"|"broken"), times (raise or
    hang only the first N tries, counted in a folder), hang (true), tombstone (reason).
    """

    seed: int = 0
    size: int = 64  # bytes a sample
    sleep: float = 0.0  # seconds a batch
    behaviour: Mapping[str, Mapping[str, typing.Any]] = field(default_factory=dict)
    framing: str = "tar"
