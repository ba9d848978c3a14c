"""Kills: at random moments a random process of the run gets SIGKILL or SIGTERM."""

import itertools
import random
import signal
import subprocess
import time
from pathlib import Path

from tests.campaign.processes import Process, name, processes
from tests.campaign.report import Report
from tests.campaign.worlds import Work, World, given, reference, works

KILLS = 160  # in a campaign
LONGEST = 7.0  # seconds between two of them at most
CODES = (0, 75)
STUCK = 900.0  # seconds that a run may take in all, disturbed as it is


def kills(folder: Path, rng: random.Random, deadline: float, most: int = KILLS, names: tuple[str, ...] = ()) -> Report:
    """Run all works (or those named) in turn, each until it is whole, until `most` processes were killed or the deadline has come."""
    report = Report()
    chosen = [work for work in works(given(folder.parent)).values() if not names or work.name in names]
    want = {work.name: reference(folder.parent, work) for work in chosen}
    for n in itertools.count():
        work = chosen[n % len(chosen)]
        if (done := sum(report.counts.get("kills", {}).values())) >= most or time.monotonic() >= deadline:
            break
        run = Run(World(folder / f"{n}-{work.name}", work), rng, report, deadline, most - done)
        if not run.until_whole():
            break
        run.world.judge(want[work.name], report)
        report.count("runs that became whole", work.name)
        if not report.faults:
            run.world.remove()
    return report


class Run:
    """One command, typed until it says 0."""

    def __init__(self, world: World, rng: random.Random, report: Report, deadline: float, most: int):
        self.world, self.rng, self.report, self.deadline, self.left = world, rng, report, deadline, most

    def until_whole(self) -> bool:
        """False where it never was, or ended as it must not: that is in the report."""
        began = time.monotonic()
        while time.monotonic() - began < STUCK:
            code, sent = self._once()
            self.report.count("exit codes of the command", code)
            self.report.count("commands", self.world.work.name)
            if code == 0:
                return True
            # what it was killed by, before it had its handlers or for good
            if code not in CODES and not (code < 0 and -code in sent):
                self.report.faults.append(f"{self.world.folder}: the command ended with {code}: {self.world.said()[-1500:]}")
                return False
            if still := self.world.left_behind():
                self.report.faults.append(f"{self.world.folder}: the command ended, and there are still {still[:5]}")
                return False
        self.report.faults.append(f"{self.world.folder}: not whole after {STUCK:g} s")
        return False

    def _once(self) -> tuple[int, set[int]]:
        """The exit code of one command, and the signals that its launcher got."""
        process, sent = self.world.start(), set()
        due = time.monotonic() + self.rng.uniform(0, LONGEST)
        while process.poll() is None:
            time.sleep(0.02)
            if self.left > 0 and due <= time.monotonic() < self.deadline:
                due = time.monotonic() + self.rng.uniform(0, LONGEST)
                if (hit := self._kill(process)) and hit[0].kind == "launcher":
                    sent.add(hit[1])
        return process.returncode, sent

    def _kill(self, launcher: subprocess.Popen) -> tuple[Process, int] | None:
        """Kill one of the processes that are there now: a kind first, so that the few of a kind are not spared."""
        alive = processes(launcher.pid)
        kinds = sorted({p.kind for p in alive})
        if not kinds:
            return None
        kind = self.rng.choices(kinds, [1 if kind == "launcher" else 3 for kind in kinds])[0]
        victim = self.rng.choice([p for p in alive if p.kind == kind])
        number = self.rng.choice([signal.SIGKILL, signal.SIGKILL, signal.SIGTERM])
        if not victim.send(number):
            return None
        self.left -= 1
        self.report.count("kills", f"{victim.kind} by {name(number)}")
        return victim, number
