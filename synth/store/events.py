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

from synth import foreign
from synth.errors import InputError, StoreError
from synth.foreign import COUNT, Maybe
from synth.host.children import adding
from synth.redaction import redacted_data

SEAT = "SYNTHSET_SEAT"  # a launcher's name for a worker whose process number it does not know: one in a container
# the fields of events that somebody reads
_FIELDS: dict[str, object] = {
    **dict.fromkeys(("time", "seconds", "busy_s", "idle_s", "energy_j", "price"), Maybe(float)),
    **dict.fromkeys(("samples", "tombstones", "units", "requests", "retries", "alone", "tokens_in", "tokens_out"), Maybe(COUNT)),
    **dict.fromkeys(("why", "node", "host", "place", "device", "outcome", "error", "seat"), Maybe((str, None))),
    "sources": Maybe((str, None)),
    "job_idx": Maybe((COUNT, None)),
    "code": Maybe(int),
    "versions": Maybe(({str: str}, None)),
    **dict.fromkeys(("refused", "cut"), Maybe(({str: COUNT}, None))),
    "said": Maybe(({str: str}, None)),
}


class EventLog:
    """Appends lines to this worker's own file. Losing events never loses work: a full disk is ignored here."""

    def __init__(self, folder: Path, worker: str, echo: Callable[[dict], object] | None = None):
        self.path, self.worker, self._echo = Path(folder) / "events" / f"{worker}.jsonl", worker, echo
        self._f: io.FileIO | None = None
        self._torn = b""
        self._lock = threading.Lock()  # the main thread and the writer's write here

    def write(self, event: str, **facts: object) -> None:
        line = {"event": event, "time": round(time.time(), 3)} | redacted_data(facts)
        if self._echo:
            self._echo(line)
        try:
            with self._lock:
                if self._f is None:
                    self._f = open(self.path, "ab", buffering=0, opener=adding)  # noqa: SIM115 (closed by close)
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


def event_in(line: bytes, where: object) -> dict:
    """The event of a line, each field that anyone reads of its type; anything else is an InputError."""
    raw = foreign.parse(line, where, halves=True)  # EventLog keeps names of files that are no UTF-8
    there = {name: shape for name, shape in _FIELDS.items() if name in raw} if type(raw) is dict else {}
    return raw | foreign.obj(raw, where, event=str, **there)


def events_in(path: Path, tell: Callable[[str], object] = lambda what: None) -> Iterator[dict]:
    """The events of one worker's file. A torn last line is left out: its worker was killed. Any other one is told, once a file."""
    bad, why = 0, ""
    last = 0  # number of the last line that was bad
    number = 0
    try:
        for number, line in enumerate(foreign.lines(path), 1):
            try:
                yield event_in(line, f"{path}: line {number}")
            except InputError as e:
                bad, why, last = bad + 1, why or str(e), number
    except FileNotFoundError:
        return
    except (InputError, StoreError, OSError) as e:
        tell(str(e))
    if bad > (last == number):
        tell(f"{why}; {bad} lines of this file are left out")


def read_events(folder: Path, tell: Callable[[str], object] = lambda what: None) -> Iterator[dict]:
    """All events of a stage, worker by worker, without what cannot be read (see `events_in`). Each gets its "worker"."""
    for path in sorted((Path(folder) / "events").glob("*.jsonl")):
        for event in events_in(path, tell):
            yield {"worker": path.stem} | event


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
    logs = sorted(events.glob("*.jsonl" if seat else f"{host}-{pid}-*.jsonl"), key=lambda p: p.lstat().st_mtime)
    logs = [log for log in logs if _seat_of(log) == seat] if seat else logs
    units = 0
    for event in reversed(list(events_in(logs[-1]) if logs else ())):
        if event["event"] == "stop":  # behind the other
            units = event.get("units", 0)
        elif event["event"] == "device":
            return LeftDevice(str(event.get("why")), units)
    return None


def _seat_of(log: Path) -> str:
    return str(next(iter(events_in(log)), {}).get("seat") or "")
