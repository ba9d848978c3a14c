"""Trouble: a network file system whose calls fail now and then, whose answers get lost, whose writes take half (tests/faults/shim.c)."""

import itertools
import random
import subprocess
import time
from pathlib import Path

from tests.campaign.report import Report
from tests.campaign.worlds import World, given, reference, works

SHIM = Path(__file__).parents[1] / "faults" / "shim.c"
FAULTS = {"E": "EIO", "S": "ESTALE", "I": "EINTR", "L": "done, and says ENOENT", "H": "half written"}
RATES = (300, 1000, 3000)  # failing calls in a million
CODES = (0, 75)
TRIES = 12  # commands until the trouble is over


def trouble(folder: Path, rng: random.Random, deadline: float, names: tuple[str, ...] = ()) -> Report:
    """Run all works (or those named) in turn on such a file system, each until it is whole."""
    report = Report()
    shim = build(folder)
    chosen = [work for work in works(given(folder.parent)).values() if not names or work.name in names]
    for n in itertools.count():
        if time.monotonic() >= deadline:
            break
        work = chosen[n % len(chosen)]
        want = reference(folder.parent, work)
        world = World(folder / f"{n}-{work.name}", work)
        if not _until_whole(world, shim, rng, report, deadline):
            break
        world.judge(want, report)
        report.count("runs that became whole", work.name)
        if report.faults:
            break
        world.remove()
    return report


def build(folder: Path) -> Path:
    """The library to be preloaded."""
    shim = folder / "shim.so"
    subprocess.run(["cc", "-O1", "-shared", "-fPIC", "-o", shim, SHIM, "-ldl"], check=True)
    return shim


def _until_whole(world: World, shim: Path, rng: random.Random, report: Report, deadline: float) -> bool:
    log = world.folder / "shim.log"
    for tried in itertools.count():
        over = tried >= TRIES or time.monotonic() >= deadline
        words = {"ROOT": world.runs, "FAULTS": "eio,estale,eintr,late,short", "RATE": 0 if over else rng.choice(RATES)}
        words |= {"SEED": rng.randrange(1 << 32), "LOG": log}
        process = world.start({"LD_PRELOAD": str(shim)} | {f"SHIM_{k}": str(v) for k, v in words.items()})
        code = process.wait()
        report.count("exit codes of the command", code)
        if code == 0:
            break
        if code not in CODES or (over and tried > TRIES + 2):
            report.faults.append(f"{world.folder}: the command ended with {code}: {world.said()[-1500:]}")
            return False
    for letter in log.read_text() if log.exists() else "":
        report.count("calls that failed", FAULTS[letter])
    return True
