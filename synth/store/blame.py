"""When a unit's failures are its own fault: not by what one device alone says, where the stage has others."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from synth import foreign
from synth.errors import InputError, StoreError

TRIES = 3  # errors of a unit until it is set aside
TRIES_ALONE = 2 * TRIES  # the same where one device met all of them, and another one, or a sick one, might be to blame
HEAD = 4096  # bytes of a worker's events: its start


@dataclass(frozen=True)
class Failure:
    """One report in failed/. device: host and device of the worker, "" in reports that do not say. sticky: the device failed, too."""

    device: str = ""
    sticky: bool = False


def to_blame(failures: Sequence[Failure], others: Callable[[str], bool]) -> bool:
    """Whether a unit is to be set aside.

    Three errors do it on two devices, or on the only one of the stage. others(device): whether the stage has another one.
    Where the other devices never try it, and where a device fails at the same time, six errors do it: nothing is tried for ever.

    >>> a, b = Failure("host/gpu 0"), Failure("host/gpu 1")
    >>> [to_blame(f, lambda device: True) for f in ([a, a, a], [a, a, b], [a, b], [a] * 6)]
    [False, True, False, True]
    """
    if len(failures) < TRIES:
        return False
    devices = {f.device for f in failures}
    if len(devices) > 1 or "" in devices or len(failures) >= TRIES_ALONE:
        return True
    return not any(f.sticky for f in failures) and not others(devices.pop())


def report_in(path: Path) -> dict:
    """What failed/<unit>.try<n>.json says; anything else than a report is an InputError."""
    return foreign.obj(foreign.read_json(path, foreign.RECORD, halves=True), path, **_REPORT)


_REPORT = dict.fromkeys(("error", "traceback", "host", "device"), foreign.Maybe(str, "")) | {"sticky": foreign.Maybe(bool, False)}


def failure_in(path: Path) -> Failure:
    report = report_in(path)
    return Failure(f"{report['host']}/{report['device']}" if report["device"] else "", report["sticky"])


class Reports:
    """Reads what failed/ and events/ of one stage say of devices; what was read once is not read again, as it never changes."""

    def __init__(self, stage: Path):
        self._stage = stage
        self._failures: dict[Path, Failure] = {}
        self._places: dict[str, str] = {}  # file of events -> device of its worker

    def blame(self, reports: Sequence[Path]) -> bool:
        """Whether the unit of these reports is to be set aside."""
        return len(reports) >= TRIES and to_blame([self._failure(path) for path in reports], self._others)

    def _failure(self, path: Path) -> Failure:
        if path not in self._failures:
            try:
                self._failures[path] = failure_in(path)
            except (InputError, StoreError, OSError):  # torn: it counts all the same
                return Failure()
        return self._failures[path]

    def _others(self, device: str) -> bool:
        """Whether a worker of the stage was ever on another device."""
        if any(place != device for place in self._places.values()):
            return True
        for path in sorted((self._stage / "events").glob("*.jsonl")):
            if path.name not in self._places and (place := _place_in(path)):
                self._places[path.name] = place
                if place != device:
                    return True
        return False


def _place_in(path: Path) -> str:
    """Host and device of a worker, from the first of its events; "" if they do not say."""
    try:
        with foreign.open_file(path) as f:
            line = f.read(HEAD).partition(b"\n")[0]
        start = foreign.obj(foreign.parse(line, path), path, host=str, place=foreign.Maybe(str, ""))
    except (InputError, StoreError, OSError):
        return ""
    return f"{start['host']}/{start['place']}" if start["place"] else ""
