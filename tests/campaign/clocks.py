"""Machines whose clocks are hours apart: the same command at once on one folder, six hours ahead and six behind."""

import itertools
import random
import subprocess
import time
from pathlib import Path

from tests.campaign.report import Report
from tests.campaign.worlds import World, given, reference, works

CLOCK = Path(__file__).parents[1] / "faults" / "clock.c"
HOURS = 3600


def clocks(folder: Path, rng: random.Random, deadline: float) -> Report:
    report, library = Report(), folder / "clock.so"
    subprocess.run(["cc", "-O1", "-shared", "-fPIC", "-o", library, CLOCK, "-ldl"], check=True)
    chosen = list(works(given(folder.parent)).values())
    for n in itertools.count():
        if time.monotonic() >= deadline or report.faults:
            break
        work = chosen[n % len(chosen)]
        want = reference(folder.parent, work)
        world = World(folder / f"{n}-{work.name}", work)
        hours = rng.choice([6, 25])
        commands = [world.start({"LD_PRELOAD": str(library), "CLOCK_OFF": str(off * HOURS)}) for off in (hours, -hours)]
        for process in commands:
            code = process.wait()
            report.count("exit codes of the command", code)
            if code:
                report.faults.append(
                    f"{world.folder}: {hours} hours ahead or behind: the command ended with {code}: {world.said()[-1500:]}"
                )
        world.judge(want, report)
        report.count("runs that became whole", work.name)
        if not report.faults:
            world.remove()
    return report
