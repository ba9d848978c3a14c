"""Keeps the workers of one stage on one machine running: starts them, starts the dead again with a back-off, drains all."""

import signal
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from launch.local.idle import Idle
from launch.local.pool import Crew, Job, judged
from launch.local.stops import Stop
from launch.show.progress import Bars
from synth.errors import EXIT_AGAIN, EXIT_BAD_INPUT, EXIT_BUG, EXIT_OK
from synth.store.folder import StageFolder

RESTARTS = 5  # times in a row that one worker may die
BACK_OFF = 2.0  # seconds before the first restart; doubles
LONGEST = 120.0  # seconds between two restarts at most
LIVED = 600.0  # seconds of life after which earlier deaths are forgotten
POLL = 0.1  # seconds between looks at the workers
LOOK = 2.0  # seconds between looks at the stage folder
READ = 5.0  # seconds between two readings of the GPUs
FINAL = (EXIT_OK, EXIT_BAD_INPUT, EXIT_BUG)  # starting a worker again would change nothing


@dataclass
class Post:
    """What is known of one worker's place."""

    job_idx: int
    options: tuple[str, ...] = ()
    due: float = 0.0  # monotonic time from which it may be started
    started: float = 0.0
    deaths: int = 0


def back_off(deaths: int) -> float:
    """Seconds until the next start after so many deaths in a row.

    >>> [back_off(n) for n in (1, 2, 3, 9)]
    [2.0, 4.0, 8.0, 120.0]
    """
    return min(LONGEST, BACK_OFF * 2 ** (deaths - 1))


class Keeper:
    """Runs the posts of a crew until every worker has left for good; `run` returns their exit codes."""

    def __init__(
        self,
        crew: Crew,
        posts: Sequence[Post],
        stop: Stop,
        tell: Callable[[str], None],
        idle: Idle | None = None,
        clock=time.monotonic,
    ):
        self.crew, self.stop, self._tell, self._idle, self._clock = crew, stop, tell, idle, clock
        self._posts = {post.job_idx: post for post in posts}
        self._pending = list(posts)
        self._codes: list[int] = []
        self._drained = self._killed = False
        self._read = float("-inf")
        self._found: list[str] = []  # idle GPUs of the last reading

    def run(self, bars: Bars) -> list[int]:
        looked = self._clock()
        try:
            while self.crew.running or self._pending:
                self._obey()
                for job, code in self.crew.reap():
                    self._ended(job, code)
                self._start_due()
                if self._clock() - looked >= LOOK:
                    looked = self._clock()
                    bars.at(self.crew.folder.progress())
                    if self._pending and self.crew.folder.is_done():
                        self._pending = []
                time.sleep(POLL)
            return [EXIT_AGAIN] if self.stop.drain else self._codes
        finally:
            self.crew.close()

    def _obey(self) -> None:
        """The first signal drains the workers, the second kills them."""
        if self.stop.drain:
            self._pending = []
        if self.stop.drain and not self._drained:
            self._drained = True
            self.crew.signal(signal.SIGTERM)
        if self.stop.kill and not self._killed:
            self._killed = True
            self.crew.signal(signal.SIGKILL)

    def _start_due(self) -> None:
        for post in list(self._pending):
            if self._clock() >= post.due and self._has_place(post):
                self._pending.remove(post)
                post.started = self._clock()
                self._found = [gpu for gpu in self._found if gpu not in (self._place(post.job_idx) or ())]
                if self._idle is not None:
                    self._idle.take(self._place(post.job_idx) or ())
                self.crew.start(post.job_idx, *post.options)

    def _has_place(self, post: Post) -> bool:
        """Whether its GPUs are idle, where that is asked for."""
        place = self._place(post.job_idx)
        if self._idle is None or place is None:
            return True
        if self._clock() - self._read >= READ:
            self._read = self._clock()
            mine = [gpu for job in self.crew.running for gpu in self._place(job.job_idx) or ()]
            self._found = self._idle.look(mine)
        return set(place) <= set(self._found)

    def _place(self, job_idx: int) -> tuple[str, ...] | None:
        return self.crew.places[job_idx % len(self.crew.places)]

    def _ended(self, job: Job, code: int) -> None:
        post, name = self._posts[job.job_idx], self.crew.folder.spec.name
        if self.stop.drain or code in FINAL:
            self._codes.append(judged(code))
            if code == EXIT_OK:  # nothing is left to begin: whoever still waits for a GPU need not
                self._pending = []
            elif not self.stop.drain:
                self._tell(f"{name}: worker {job.job_idx} ended with exit code {code}; the last lines of {job.log}:\n{job.tail()}")
            return
        now = self._clock()
        post.deaths = 1 if now - post.started >= LIVED else post.deaths + 1
        how = f"was killed by signal {-code}" if code < 0 else f"ended with exit code {code}"
        if post.deaths > RESTARTS:
            self._codes.append(judged(code))
            self._tell(
                f"{name}: worker {job.job_idx} {how}, {post.deaths} times in a row: given up. The last lines of {job.log}:\n{job.tail()}"
            )
            return
        post.due = now + back_off(post.deaths)
        self._pending.append(post)
        self._tell(f"{name}: worker {job.job_idx} {how}; starting it again in {back_off(post.deaths):.0f} s. Log: {job.log}")


def wait_for_upstream(folder: StageFolder, stop: Stop, tell: Callable[[str], None], pause: float = 5.0, every: float = 60.0) -> int:
    """Wait until all that a stage reads is whole, however long that takes; 0, or the exit code if it cannot become whole."""
    for role in folder.spec.upstream:
        for up in folder.upstream(role):
            told = float("-inf")
            while not stop.drain and not (up.is_done() or up.is_whole()):
                aside = set(up.set_aside())
                if aside and aside >= set(up.missing()):
                    tell(f"{folder.spec.name}: reads {up.path}, whose units {sorted(aside)[:5]} are set aside; see {up.path / 'failed'}")
                    return EXIT_BUG
                if time.monotonic() - told >= every:
                    told = time.monotonic()
                    tell(
                        f"{folder.spec.name}: waits for {up.spec.name}, {len(up.committed())} of {up.spec.n_units} units are there: "
                        f"{up.path}"
                    )
                time.sleep(pause)
    return EXIT_AGAIN if stop.drain else EXIT_OK
