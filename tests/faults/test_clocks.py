"""Machines whose clocks are hours apart: no living worker loses a unit, no dead one keeps it, and the bytes are the same."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from synth.captions.remote.verdict import retry_after
from synth.store.events import read_events
from synth.store.leases import Observer, Times
from tests.faults.farm import FAST, SLOW, check, plan, reference
from tests.stages import wait_for

HOURS = 3600
SKEWED = (6 * HOURS, -6 * HOURS, 0)


@pytest.fixture(scope="module")
def clock(tmp_path_factory):
    path = tmp_path_factory.mktemp("clock") / "clock.so"
    subprocess.run(["cc", "-O1", "-shared", "-fPIC", "-o", path, Path(__file__).with_name("clock.c"), "-ldl"], check=True)
    return path


def worker(clock: Path, folder, job: int, off: int, times: dict, words: tuple[str, ...] = ()) -> subprocess.Popen:
    env = os.environ | times | {"LD_PRELOAD": str(clock), "CLOCK_OFF": str(off)}
    command = [*words, sys.executable, "-m", "synth.worker", str(folder.path), "--n-jobs", "3", "--job-idx", str(job)]
    return subprocess.Popen(command, env=env, stderr=subprocess.DEVNULL)


def test_living_workers_hours_apart_share_a_stage(clock, tmp_path):
    folder = plan(tmp_path, slots=120, unit=4, batch=2, sleep=0.01)
    workers = [worker(clock, folder, job, off, SLOW) for job, off in enumerate(SKEWED)]
    assert [w.wait(240) for w in workers] == [0, 0, 0]
    check(folder, reference(tmp_path / "r", folder))
    events = list(read_events(folder.path))
    starts = sorted(e["time"] - time.time() for e in events if e["event"] == "start")
    assert [round(s / HOURS) for s in starts] == [-6, 0, 6]  # the clocks were wrong indeed
    assert sum(e["event"] == "unit" for e in events) == 30  # none was made twice
    assert not [e for e in events if e["event"] == "adopted"]


@pytest.mark.parametrize(("dead", "living"), [(6 * HOURS, -6 * HOURS), (-6 * HOURS, 6 * HOURS)])
def test_what_a_dead_worker_holds_is_taken_over_when_its_beat_stands_still(clock, tmp_path, dead, living):
    """In a pid namespace of its own a worker is judged by its beat alone, as on another machine."""
    apart = ("unshare", "--fork", "--pid", "--kill-child=KILL")
    elsewhere = apart if os.getuid() == 0 and subprocess.run([*apart, "true"], capture_output=True).returncode == 0 else ()
    folder = plan(tmp_path, slots=40, unit=10, batch=2, sleep=0.2)
    first = worker(clock, folder, 0, dead, FAST, elsewhere)
    wait_for(lambda: list(folder.path.glob("parts/*/*.idx")))
    first.send_signal(signal.SIGKILL)
    first.wait()
    assert worker(clock, folder, 1, living, FAST).wait(240) == 0
    check(folder, reference(tmp_path / "r", folder))


def test_a_server_whose_clock_is_hours_ahead_asks_for_no_longer_pause():
    headers = {"Date": "Fri, 27 Nov 2026 12:00:00 GMT", "Retry-After": "Fri, 27 Nov 2026 12:00:07 GMT"}
    assert retry_after(headers, 0.0) == 7.0
    assert retry_after({"Retry-After": headers["Retry-After"]}, 1795780800.0) == 7.0


def test_a_preview_from_the_future_is_replaced(tmp_path):
    import numpy as np

    from synth.images.preview import COLUMNS, ROWS, Preview

    path = tmp_path / "preview.png"
    path.write_bytes(b"of a machine whose clock is ahead")
    os.utime(path, (time.time() + 6 * HOURS,) * 2)
    preview = Preview(path, every=1000.0)
    for _ in range(COLUMNS * ROWS):
        preview.add(np.zeros((4, 4, 3), np.uint8))
    preview.write()
    assert path.read_bytes().startswith(b"\x89PNG")


def test_an_observer_forgets_units_that_exist(tmp_path):
    observer = Observer(Times.from_env())
    for unit in range(5):
        (tmp_path / f"{unit:06d}.g0").write_bytes(b"someone")
        observer.is_free(unit, tmp_path / f"{unit:06d}.g0", 0)
    observer.forget({0, 1, 2, 99})
    assert observer.watched() == 2
