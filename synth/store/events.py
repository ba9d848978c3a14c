"""events/<worker>.jsonl: what one worker did and how long it took. One file a worker, so nothing is appended by two."""

import contextlib
import io
import json
import os
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

SEAT = "SYNTHSET_SEAT"  # a launcher's name for a worker whose process number it does not know: one in a container


class EventLog:
    """Appends lines to this worker's own file. Losing events never loses work: a full disk is ignored here."""

    def __init__(self, folder: Path, worker: str, echo: Callable[[dict], object] | None = None):
        self.path, self.worker, self._echo = Path(folder) / "events" / f"{worker}.jsonl", worker, echo
        self._f: io.FileIO | None = None
        self._torn = b""
        self._lock = threading.Lock()  # the main thread and the writer's write here

    def write(self, event: str, **facts: object) -> None:
        line = {"event": event, "time": round(time.time(), 3)} | facts
        if self._echo:
            self._echo(line)
        try:
            with self._lock:
                if self._f is None:
                    self._f = open(self.path, "ab", buffering=0)  # noqa: SIM115 (closed by close)
                data = self._torn + json.dumps(line, ensure_ascii=False, default=str).encode(errors="backslashreplace") + b"\n"
                self._torn = b"" if self._f.write(data) == len(data) else b"\n"  # a full disk may take half a line
        except OSError as e:
            if self._echo:
                self._echo({"event": "event not stored", "why": str(e)})

    def close(self) -> None:
        with self._lock, contextlib.suppress(OSError):
            if self._f is not None:
                f, self._f = self._f, None
                f.close()


def read_events(folder: Path) -> Iterator[dict]:
    """All events of a stage, worker by worker; torn last lines are left out. Each gets its "worker"."""
    for path in sorted((Path(folder) / "events").glob("*.jsonl")):
        for line in path.read_text(encoding="utf-8", errors="replace").splitlines():
            try:
                yield {"worker": path.stem} | json.loads(line)
            except ValueError:
                continue


@dataclass(frozen=True)
class LeftDevice:
    """A worker left its device as bad."""

    why: str
    units: int  # that it made before


def seat(env: Mapping[str, str] = os.environ) -> dict[str, str]:
    """For the first event of a worker: its seat, where it has one."""
    return {"seat": env[SEAT]} if env.get(SEAT) else {}


def bad_device(folder: Path, host: str, pid: int, seat: str = "") -> LeftDevice | None:
    """How the newest worker of a process left its device as bad; None if it did not. host: as in synth.store.leases.Owner.

    seat: of a worker that is not that process itself, but was started by it.
    """
    events = Path(folder) / "events"
    logs = sorted(events.glob("*.jsonl" if seat else f"{host}-{pid}-*.jsonl"), key=lambda p: p.stat().st_mtime)
    logs = [log for log in logs if _seat_of(log) == seat] if seat else logs
    lines = logs[-1].read_text(encoding="utf-8", errors="replace").splitlines() if logs else []
    units = 0
    for line in reversed(lines):
        try:
            event = json.loads(line)
        except ValueError:
            continue
        if event.get("event") == "stop":  # behind the other
            units = int(event.get("units", 0))
        elif event.get("event") == "device":
            return LeftDevice(str(event.get("why")), units)
    return None


def _seat_of(log: Path) -> str:
    with log.open(encoding="utf-8", errors="replace") as f:
        try:
            return str(json.loads(f.readline()).get("seat", ""))
        except (ValueError, AttributeError):
            return ""
