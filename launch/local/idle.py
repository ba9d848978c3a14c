"""Which GPUs are idle at this moment: a reading, thresholds, and how to read (NVML, else nvidia-smi). Tests plug in a fake reading."""

import subprocess
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from synth.errors import InputError

READINGS = 3  # successive readings in which a GPU must be idle: between two batches of somebody else it looks idle, too
QUERY = ("nvidia-smi", "--query-gpu=index,uuid,utilization.gpu,memory.used", "--format=csv,noheader,nounits")


@dataclass(frozen=True)
class Reading:
    """One GPU at one moment. `name` is what CUDA_VISIBLE_DEVICES may call it by: its index; its uuid serves as well."""

    name: str
    uuid: str
    utilisation: float  # percent of the last sampling period
    memory: float  # MiB in use, by whomever


@dataclass(frozen=True)
class Thresholds:
    """A GPU at or below both is idle. Not "exactly 0 MiB": drivers, displays and monitors hold a little on every GPU."""

    utilisation: float = 10.0  # percent
    memory: float = 1000.0  # MiB

    def allow(self, reading: Reading) -> bool:
        return reading.utilisation <= self.utilisation and reading.memory <= self.memory


Read = Callable[[], Sequence[Reading]]


class Idle:
    """Counts for each GPU the successive readings in which it was idle."""

    def __init__(self, read: Read, thresholds: Thresholds):
        self._read, self._thresholds = read, thresholds
        self._streak: dict[str, int] = {}

    def look(self, mine: Sequence[str] = ()) -> list[str]:
        """Read once; the names of GPUs that were idle in the last readings. `mine`: those our own workers use now."""
        idle = []
        for reading in self._read():
            ok = self._thresholds.allow(reading) and not {reading.name, reading.uuid} & set(mine)
            for name in (reading.name, reading.uuid):
                self._streak[name] = self._streak.get(name, 0) + 1 if ok else 0
                if self._streak[name] >= READINGS:
                    idle.append(name)
        return idle

    def take(self, names: Sequence[str]) -> None:
        """A worker of ours goes there: what was read of these GPUs is past."""
        for name in names:
            self._streak[name] = 0


def parse(text: str) -> list[Reading]:
    """Lines of `QUERY`: "0, GPU-8c5e, 3, 1024" gives Reading("0", "GPU-8c5e", 3.0, 1024.0); a GPU that does not say counts as busy."""
    readings = []
    for line in text.splitlines():
        cells = [c.strip() for c in line.split(",")]
        if len(cells) == 4:
            busy, used = (float(c) if c.replace(".", "", 1).isdigit() else float("inf") for c in cells[2:])
            readings.append(Reading(cells[0], cells[1], busy, used))
    return readings


def read_smi() -> list[Reading]:
    """All GPUs of this machine, by nvidia-smi."""
    return parse(subprocess.run(QUERY, capture_output=True, text=True, timeout=30, check=True).stdout)


def read_nvml() -> list[Reading]:
    """All GPUs of this machine, by the driver's library (pip install nvidia-ml-py): milliseconds instead of a process."""
    import pynvml

    pynvml.nvmlInit()
    try:
        readings = []
        for i in range(pynvml.nvmlDeviceGetCount()):
            handle = pynvml.nvmlDeviceGetHandleByIndex(i)
            uuid = pynvml.nvmlDeviceGetUUID(handle)
            try:
                busy = float(pynvml.nvmlDeviceGetUtilizationRates(handle).gpu)
            except pynvml.NVMLError:  # a GPU split into MIG instances does not say
                busy = float("inf")
            used = pynvml.nvmlDeviceGetMemoryInfo(handle).used / 2**20
            readings.append(Reading(str(i), uuid.decode() if isinstance(uuid, bytes) else uuid, busy, used))
        return readings
    finally:
        pynvml.nvmlShutdown()


def reader() -> Read:
    """The better of the two that works here; an InputError if none does."""
    reasons = []
    for read in (read_nvml, read_smi):
        try:
            read()
        except Exception as e:  # noqa: BLE001 (each library has its own errors; the reason is told)
            reasons.append(f"{read.__name__.partition('_')[2]}: {type(e).__name__}: {e}")
        else:
            return read
    raise InputError(
        f"gpus=idle: no GPU of this machine can be read ({'; '.join(reasons)}); use gpus=all, or N_GPUS=1 on a machine without GPUs"
    )
