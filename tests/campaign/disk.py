"""A small disk: one that fills up, has no inodes left, or becomes read-only in the middle, under whole runs. It needs leave to mount."""

import contextlib
import itertools
import random
import re
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

from tests.campaign.report import Report
from tests.campaign.worlds import World, given, reference, works

CODES = (0, 75)
TRIES = 8  # commands until there is room
SIGNS = re.compile(r"No space left|Read-only file system|Disk quota", re.I)
ROOMY = "size=1g,nr_inodes=1000000"


def disk(folder: Path, rng: random.Random, deadline: float) -> Report:
    """Run all works in turn on such a disk, each until it is whole."""
    report = Report()
    for n in itertools.count():
        chosen = list(works(given(folder.parent)).values())
        if time.monotonic() >= deadline or report.faults:
            break
        work = chosen[n % len(chosen)]
        want = reference(folder.parent, work)
        world = World(folder / f"{n}-{work.name}", work)
        world.runs.mkdir()
        with small(world.runs) as mounted:
            if not mounted:
                report.count("runs", "left out: this user may not mount")
                break
            if _until_whole(world, rng, report, deadline):
                world.judge(want, report)
                report.count("runs that became whole", work.name)
        if not report.faults:
            world.remove()
    return report


@contextlib.contextmanager
def small(place: Path) -> Iterator[bool]:
    """A file system of its own at an empty folder; False where that may not be."""
    done = subprocess.run(["mount", "-t", "tmpfs", "-o", ROOMY, "synthset-campaign", place], capture_output=True)
    try:
        yield done.returncode == 0
    finally:
        if done.returncode == 0:
            subprocess.run(["umount", "-l", place], check=True)


def remount(place: Path, how: str) -> bool:
    """Whether it could be done: nothing becomes read-only while a file is open for writing, or smaller than what it holds."""
    return subprocess.run(["mount", "-o", f"remount,{how}", place], capture_output=True).returncode == 0


def _until_whole(world: World, rng: random.Random, report: Report, deadline: float) -> bool:
    for tried in range(TRIES + 3):
        roomy = tried >= TRIES or time.monotonic() >= deadline
        how = "roomy" if roomy else rng.choice(["full", "full", "inodes", "read-only"])
        assert remount(world.runs, f"rw,{ROOMY}")
        if how in ("full", "inodes"):
            _shrink(world.runs, how, rng)
        process = world.start()
        while how == "read-only" and process.poll() is None:
            time.sleep(rng.uniform(0.2, 4.0))
            end = time.monotonic() + 5.0
            while not (done := remount(world.runs, "ro")) and time.monotonic() < end and process.poll() is None:
                time.sleep(0.001)
            if done:
                break
        code, said = process.wait(), world.said()
        report.count("exit codes of the command", f"{how}: {code}")
        remount(world.runs, f"rw,{ROOMY}")
        if code == 0 and not (how == "read-only" and SIGNS.search(said)):
            return True
        if code not in CODES or "Traceback" in said:
            report.faults.append(f"{world.folder}: {how}: the command ended with {code}: {said[-1500:]}")
            return False
        if code and not SIGNS.search(said):
            report.faults.append(f"{world.folder}: {how}: 75, and it does not say why: {said[-1500:]}")
            return False
    report.faults.append(f"{world.folder}: never whole: {world.said()[-1500:]}")
    return False


def _shrink(place: Path, how: str, rng: random.Random) -> None:
    """Leave room for some more: kilobytes, or files."""
    used = sum(p.stat().st_size // 4096 * 4 + 8 for p in place.rglob("*"))  # KiB, roughly
    files = sum(1 for _ in place.rglob("*")) + 1
    remount(place, f"size={used + rng.randrange(8, 600)}k" if how == "full" else f"nr_inodes={files + rng.randrange(1, 150)}")
