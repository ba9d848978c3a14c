"""Energy of the GPU that this process computes on, by the driver's own counter (NVML, pip install nvidia-ml-py). Optional: without it, or
on a card that counts none (before Volta) or that is shared in slices, nothing is told."""

from collections.abc import Callable


class Meter:
    """Counts from when it is begun. Never a reason to stop working."""

    def __init__(self) -> None:
        self._millijoules: Callable[[], int] | None = None
        self._first = 0

    def begin(self, uuid: str) -> None:
        """uuid: of the whole GPU, as torch tells it; "": there is none. Another begin changes nothing."""
        if uuid and self._millijoules is None:
            self._millijoules = counter(uuid)
            self._first = self._read() or 0

    def facts(self) -> dict[str, float]:
        """Joules since it was begun; {} where that is not known."""
        now = self._read()
        return {} if now is None else {"energy_j": round((now - self._first) / 1000, 1)}

    def _read(self) -> int | None:
        if self._millijoules is None:
            return None
        try:
            return self._millijoules()
        except Exception:  # noqa: BLE001 (the library's own errors: a driver that was reloaded, a card that fell off the bus)
            self._millijoules = None
            return None


def counter(uuid: str) -> Callable[[], int] | None:
    """Millijoules of a GPU since its driver was loaded; None where they are not counted, or are those of several slices."""
    try:
        import pynvml

        pynvml.nvmlInit()
        handle = pynvml.nvmlDeviceGetHandleByUUID(uuid if uuid.startswith("GPU-") else f"GPU-{uuid}")
        pynvml.nvmlDeviceGetTotalEnergyConsumption(handle)
        sliced = _is_sliced(handle)
    except Exception:  # noqa: BLE001 (not installed, no driver, no such card or counter: its own errors)
        return None
    return None if sliced else lambda: int(pynvml.nvmlDeviceGetTotalEnergyConsumption(handle))


def _is_sliced(handle: object) -> bool:
    import pynvml

    try:
        return pynvml.nvmlDeviceGetMigMode(handle)[0] == pynvml.NVML_DEVICE_MIG_ENABLE
    except pynvml.NVMLError:  # a card or a driver without MIG
        return False
