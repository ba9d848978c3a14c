"""Which GPUs are idle at this moment: a reading, thresholds, and how to read (NVML, else nvidia-smi). Tests plug in a fake reading."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from xml.etree import ElementTree

from launch.plan.devices import BY_BUS, ORDER, nvml_slices, nvml_uuid, parse_list
from synth.errors import InputError
from synth.host.allocation import SLICE
from synth.host.gpu import smi

READINGS = 3  # successive readings in which a GPU must be idle: between two batches of somebody else it looks idle, too
QUERY = ("--query-gpu=index,uuid,utilization.gpu,memory.used", "--format=csv,noheader,nounits")
LIST, DETAILS = ("-L",), ("-q", "-x")  # of nvidia-smi, too: the names of slices, and how much memory each has in use
UNKNOWN = float("inf")  # what is not told counts as busy


@dataclass(frozen=True)
class Reading:
    """One GPU or MIG slice at one moment. `name` is what CUDA_VISIBLE_DEVICES may call it by: its index; its uuid serves as well."""

    name: str  # of a slice its uuid
    uuid: str
    utilisation: float | None  # percent of the last sampling period; None: a slice, of which the driver counts none
    memory: float  # MiB in use, by whomever

    def is_called(self, name: str) -> bool:
        """Whether a name of CUDA_VISIBLE_DEVICES means it: CUDA also takes the beginning of a uuid."""
        return name == self.name or (not name.isdigit() and self.uuid.startswith(name))


@dataclass(frozen=True)
class Thresholds:
    """A GPU at or below both is idle. Not "exactly 0 MiB": drivers, displays and monitors hold a little on every GPU."""

    utilisation: float = 10.0  # percent
    memory: float = 1000.0  # MiB

    def allow(self, reading: Reading) -> bool:
        return (reading.utilisation or 0.0) <= self.utilisation and reading.memory <= self.memory


Read = Callable[[], Sequence[Reading]]


class Idle:
    """Counts for each GPU the successive readings in which it was idle."""

    def __init__(self, read: Read, thresholds: Thresholds):
        self._read, self._thresholds = read, thresholds
        self._streak: dict[str, int] = {}

    def check(self, gpus: Sequence[str], env: Mapping[str, str]) -> list[str]:
        """What people should know before they wait for these GPUs. InputError where one of them could never be found idle."""
        readings = self._read()
        order = env.get(ORDER, BY_BUS)
        if order != BY_BUS and any(gpu.isdigit() for gpu in gpus):
            raise InputError(f"gpus=idle: GPUs are read in the order of the bus, and {ORDER}={order}: unset it, or name them by UUID")
        remarks = []
        for gpu in gpus:
            found = [r for r in readings if r.is_called(gpu)]
            if len(found) != 1:
                there = ", ".join(f"{r.name} {r.uuid}" if r.name != r.uuid else r.uuid for r in readings) or "none"
                raise InputError(f"gpus=idle: {gpu} is {len(found)} of the GPUs that can be read ({there}); use gpus=all")
            if found[0].utilisation is None:
                remarks.append(f"gpus=idle: {gpu} is a MIG slice, which has no utilisation: its memory alone says whether it is idle")
            elif UNKNOWN in (found[0].utilisation, found[0].memory):
                remarks.append(f"gpus=idle: {gpu} does not tell its utilisation or memory now, and counts as busy")
        return remarks

    def look(self, mine: Sequence[str] = ()) -> list[Reading]:
        """Read once; the GPUs that were idle in the last readings. `mine`: names of those that our own workers use now."""
        idle = []
        for reading in self._read():
            ok = self._thresholds.allow(reading) and not any(map(reading.is_called, mine))
            self._streak[reading.uuid] = self._streak.get(reading.uuid, 0) + 1 if ok else 0
            if self._streak[reading.uuid] >= READINGS:
                idle.append(reading)
        return idle

    def take(self, readings: Sequence[Reading]) -> None:
        """A worker of ours goes there: what was read of these GPUs is past."""
        for reading in readings:
            self._streak[reading.uuid] = 0


def parse(text: str) -> list[Reading]:
    """Lines of `QUERY`: "0, GPU-8c5e, 3, 1024" gives Reading("0", "GPU-8c5e", 3.0, 1024.0); a GPU that does not say counts as busy."""
    readings = []
    for line in text.splitlines():
        cells = [c.strip() for c in line.split(",")]
        if len(cells) == 4:
            busy, used = map(_number, cells[2:])
            readings.append(Reading(cells[0], cells[1], busy, used))
    return readings


def _number(text: str) -> float:
    """Of "1024" or "1024 MiB"; UNKNOWN of "[N/A]"."""
    first = text.split()[0] if text.split() else ""
    return float(first) if first.replace(".", "", 1).isdigit() else UNKNOWN


def parse_slices(listed: str, details: str) -> dict[str, list[Reading]]:
    """UUID of a GPU -> its MIG slices, from `nvidia-smi -L`, which names them, and `-q -x`, which has their memory in the same order."""
    names = {card.uuid: card.slices for card in parse_list(listed) if card.slices}
    slices: dict[str, list[Reading]] = {}
    for card in ElementTree.fromstring(details).iter("gpu"):
        uuid = card.findtext("uuid", "")
        used = [_number(part.findtext("fb_memory_usage/used", "")) for part in card.iterfind("mig_devices/mig_device")]
        if uuid in names:
            used += [UNKNOWN] * (len(names[uuid]) - len(used))
            slices[uuid] = [Reading(name, name, None, memory) for name, memory in zip(names[uuid], used, strict=False)]
    return slices


def _with_slices(readings: Sequence[Reading], slices: Mapping[str, list[Reading]]) -> list[Reading]:
    """Readings in which a GPU in MIG mode is its slices."""
    return [r for reading in readings for r in slices.get(reading.uuid) or [reading]]


def read_smi() -> list[Reading]:
    """All GPUs of this machine, by nvidia-smi."""
    readings, listed = parse(smi(*QUERY)), smi(*LIST)
    return _with_slices(readings, parse_slices(listed, smi(*DETAILS))) if SLICE in listed else readings


def read_nvml() -> list[Reading]:
    """All GPUs of this machine, by the driver's library (pip install nvidia-ml-py): milliseconds instead of a process."""
    import pynvml

    pynvml.nvmlInit()
    try:
        readings = []
        for i in range(pynvml.nvmlDeviceGetCount()):
            handle = pynvml.nvmlDeviceGetHandleByIndex(i)
            if slices := nvml_slices(handle):
                readings += [Reading(name, name, None, _nvml_memory(s)) for s in slices for name in [nvml_uuid(s)]]
                continue
            try:
                busy = float(pynvml.nvmlDeviceGetUtilizationRates(handle).gpu)
            except pynvml.NVMLError:  # virtual GPUs do not say
                busy = UNKNOWN
            readings.append(Reading(str(i), nvml_uuid(handle), busy, _nvml_memory(handle)))
        return readings
    finally:
        pynvml.nvmlShutdown()


def _nvml_memory(handle) -> float:
    """MiB in use."""
    import pynvml

    return pynvml.nvmlDeviceGetMemoryInfo(handle).used / 2**20


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
        f"gpus=idle: how busy a GPU is cannot be read here ({'; '.join(reasons)}), which needs a driver of NVIDIA's; use gpus=all, "
        "or N_GPUS=1 on a machine without GPUs"
    )
