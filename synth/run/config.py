"""Keys of the probe."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from synth.keys import key, plan_key


@dataclass(frozen=True, kw_only=True)
class ProbeConfig:
    """kind "probe": numpy only; makes samples of any size and misbehaves on request, by slot ("17": {...}).

    behaviour keys: sleep (s), allocate (bytes), size (bytes of the sample), raise ("input"|"bug"|"broken"|"device"|"memory"), hang
    (true), times (raise or hang only the first N tries, counted in a folder), on (and only on this device or node), tombstone (reason).
    """

    seed: int = key("integer; the bytes of its samples come from it")
    slots: int = plan_key("samples", low=0)
    unit_size: int = plan_key("slots a unit", low=1)
    batch_size: int = plan_key("slots a batch", low=1)
    size: int = key("bytes a sample")
    sleep: float = key("seconds a batch")
    framing: str = key("tar | jsonl", choices=("tar", "jsonl"))
    # given: Any, because Hydra reads a slot as a number and adds no keys to a mapping that is there
    behaviour: Mapping[str, Mapping[str, Any]] = key(
        "slot -> {sleep, allocate, size, raise, times, on, hang, tombstone}: probe.behaviour={3:{raise:bug}}", given=Any, null="none"
    )
