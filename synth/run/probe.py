"""Stage kind `probe`: numpy only; makes samples of any size and misbehaves on request, slot by slot.

It goes through the very same worker and store as the real stages, so that faults and scale are tested in seconds.
"""

import os
import time
from pathlib import Path

from synth import seeds
from synth.errors import InputError, Killed, OutOfDeviceMemory, StageBroken
from synth.host.allocation import place
from synth.run.config import ProbeConfig
from synth.run.stage import Stage
from synth.store.folder import StageFolder
from synth.store.samples import Sample, Tombstone, Unit
from synth.store.spec import canonical

ERRORS = {
    "input": (InputError, ""),
    "bug": (RuntimeError, ""),
    "broken": (StageBroken, ""),
    "killed": (Killed, ": killed by SIGKILL"),
    "device": (RuntimeError, ": cuDNN error: CUDNN_STATUS_EXECUTION_FAILED"),
    "memory": (OutOfDeviceMemory, ": CUDA out of memory. Tried to allocate 2.00 GiB"),
}


class Probe(Stage):
    """behaviour[slot] keys: sleep (s), allocate (bytes), size (bytes), raise (a key of ERRORS), hang, tombstone (reason), times
    (how many tries raise or hang, counted over all workers in logs/), on (which device, "gpu 1", or Slurm's node raises or hangs)."""

    config: ProbeConfig

    def __init__(self, folder: StageFolder):
        super().__init__(folder)

    def check(self) -> None:
        for slot in self.config.behaviour:
            if not str(slot).isdigit():
                raise InputError(f"behaviour: {slot!r} is not a slot number")

    def begin(self, unit: Unit) -> dict[int, dict]:
        wanted = ((s, self.config.behaviour.get(str(s))) for s in range(unit.start, unit.stop))
        return {s: dict(b) for s, b in wanted if b}

    def compute(self, state: dict[int, dict], slots: range) -> list[tuple[int, dict]]:
        if self.config.sleep:
            time.sleep(self.config.sleep)
        for slot in slots:
            self._misbehave(slot, state.get(slot, {}))
        return [(slot, state.get(slot, {})) for slot in slots]

    def _misbehave(self, slot: int, how: dict) -> None:
        if how.get("sleep"):
            time.sleep(how["sleep"])
        if how.get("allocate"):
            bytearray(how["allocate"])
        if not (how.get("raise") or how.get("hang")) or not _is_here(how.get("on")) or not self._counts(slot, how.get("times")):
            return
        while how.get("hang"):
            time.sleep(1)
        kind, text = ERRORS[how["raise"]]
        raise kind(f"slot {slot} raises as asked{text}")

    def _counts(self, slot: int, times: int | None) -> bool:
        """Whether this try still misbehaves: tries are counted by files, because they may be other processes'."""
        if times is None:
            return True
        for n in range(times):
            try:
                os.close(os.open(Path(self.folder.path, "logs", f"probe-{slot}-{n}"), os.O_CREAT | os.O_EXCL))
            except FileExistsError:
                continue
            return True
        return False

    def encode(self, state: dict[int, dict], item: tuple[int, dict]) -> Sample | Tombstone:
        slot, how = item
        if "tombstone" in how:
            return Tombstone(slot, str(how["tombstone"]))
        seed = seeds.derive(self.config.seed, "probe", slot, 0)
        payload = seeds.generator(seed).bytes(how.get("size", self.config.size))
        record = canonical({"slot": slot, "seed": seed, "payload": payload.hex()})
        if self.config.framing == "jsonl":
            return Sample(slot, f"{slot:09d}", {"json": record})
        return Sample(slot, f"{slot:09d}", {"bin": payload, "json": canonical({"slot": slot, "seed": seed})})


def _is_here(device: str | None) -> bool:
    """Whether this worker is on that device or node; None: any."""
    return device is None or device in (place(), os.environ.get("SLURMD_NODENAME"))
