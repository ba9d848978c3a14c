"""Kills: at random moments a random process of the run gets SIGKILL or SIGTERM."""

import itertools
import random
import signal
import time
from pathlib import Path

from tests.campaign.processes import Process, name, processes
from tests.campaign.report import Report
from tests.campaign.worlds import World, given, reference, works

KILLS = 160  # in a campaign
OF_A_RUN = 8, 20  # kills at least and at most, then it may end: it could not where all take longer than it is left alone
BURST, CALM = 2.0, 15.0  # seconds between two kills at most, one as likely as the other
NEW = 0.5  # how likely a stage is disturbed in the first second of its workers: some live no longer
CODES = (0, 75)
STUCK = 900.0  # seconds that a run may take in all, disturbed as it is
ALONE = 0.1  # how likely a launcher is killed for each time that its turn comes while nothing runs below it yet: it takes long to begin
LOOK = 0.05  # seconds between looks at the processes


def kills(folder: Path, rng: random.Random, deadline: float, most: int = KILLS, names: tuple[str, ...] = ()) -> Report:
    """Run all works (or those named) in turn, each until it is whole, until `most` processes were killed or the deadline has come."""
    report = Report()
    chosen = [work for work in works(given(folder.parent)).values() if not names or work.name in names]
    for n in itertools.count():
        work = chosen[n % len(chosen)]
        want = reference(folder.parent, work)
        done = sum(report.counts.get("kills", {}).values())
        if done >= most or time.monotonic() >= deadline:
            break
        run = Run(World(folder / f"{n}-{work.name}", work), rng, report, deadline, min(most - done, rng.randint(*OF_A_RUN)))
        if not run.until_whole():
            break
        run.world.judge(want, report)
        report.count("runs that became whole", work.name)
        if report.faults:
            break
        run.world.remove()
    return report


class Run:
    """One command, typed until it says 0. most: kills."""

    def __init__(self, world: World, rng: random.Random, report: Report, deadline: float, most: int):
        self.world, self.rng, self.report, self.deadline, self.left = world, rng, report, deadline, most
        self._due = 0.0  # monotonic time of the next kill
        self._seen: set[str] = set()  # kinds of processes

    def until_whole(self) -> bool:
        """False where it never was, or ended as it must not: that is in the report."""
        began = time.monotonic()
        while time.monotonic() - began < STUCK:
            code, sent = self._once()
            self.report.count("exit codes of the command", code)
            if code == 0:
                return True
            # a signal of ours ended it: for good, or before it had handlers
            if code not in CODES and not (code < 0 and -code in sent):
                self.report.faults.append(f"{self.world.folder}: the command ended with {code}: {self.world.said()[-1500:]}")
                return False
            if still := self.world.left_behind():
                self.report.faults.append(f"{self.world.folder}: the command ended, and there are still {still[:5]}")
                return False
        self.report.faults.append(f"{self.world.folder}: not whole after {STUCK:g} s: {self.world.said()[-1500:]}")
        return False

    def _once(self) -> tuple[int, set[int]]:
        """The exit code of one command, and the signals that its launcher got."""
        process, sent = self.world.start(), set()
        self._due = time.monotonic() + self._gap()
        while process.poll() is None:
            time.sleep(LOOK)
            if self.left <= 0 or time.monotonic() >= self.deadline:
                process.wait()
                break
            alive = processes(process.pid)
            self._hurry({p.kind for p in alive})
            if alive and self._due <= time.monotonic():
                self._due = time.monotonic() + self._gap()
                if len(alive) == 1 and self.rng.random() >= ALONE:
                    continue
                victim, number = self._choose(alive)
                if self._kill(victim, number) and victim.pid == process.pid:
                    sent.add(number)
        return process.returncode, sent

    def _gap(self) -> float:
        return self.rng.uniform(0, self.rng.choice([BURST, CALM]))

    def _hurry(self, kinds: set[str]) -> None:
        """Bring the next kill forward where something new is at work."""
        if kinds - self._seen and self.rng.random() < NEW:
            self._due = min(self._due, time.monotonic() + self.rng.random())
        self._seen |= kinds

    def _choose(self, alive: list[Process]) -> tuple[Process, int]:
        """A kind first, so that the few of a kind are not spared; the launcher less often: nothing outlives it."""
        kinds = sorted({p.kind for p in alive})
        kind = self.rng.choices(kinds, [1 if kind == "launcher" else 3 for kind in kinds])[0]
        victim = self.rng.choice([p for p in alive if p.kind == kind])
        return victim, self.rng.choice([signal.SIGKILL, signal.SIGKILL, signal.SIGTERM])

    def _kill(self, victim: Process, number: int) -> bool:
        if not victim.send(number):
            return False
        self.left -= 1
        self.report.count("kills", f"{victim.kind} by {name(number)}")
        return True
