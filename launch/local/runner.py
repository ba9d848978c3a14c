"""cluster=local: workers of this machine, one a GPU or core, through the very same worker command as everywhere."""

import signal
import time
from collections.abc import Sequence

from rich.console import Console

from launch.config.clusters import ClusterConfig
from launch.local.pool import KILLS, Crew, Job, judged, was_killed
from launch.local.sequence import run_in_order
from launch.local.stops import Stop, catching
from launch.local.window import shown
from launch.plan.devices import cores, n_workers, places_of, visible_gpus
from launch.plan.planned import Outcome, PlannedStage
from launch.show.progress import Bars
from synth.errors import EXIT_AGAIN, EXIT_OK
from synth.store.folder import StageFolder

POLL = 0.05  # seconds between looks at the workers
LOOK = 0.5  # seconds between looks at the stage folder, for the bar


def run(stages: Sequence[PlannedStage], cluster: ClusterConfig, console: Console, retry_failed: bool) -> list[Outcome]:
    """All stages, in order; waits."""
    gpus = visible_gpus()

    def shift(folder: StageFolder, missing: int, bars: Bars, stop: Stop) -> list[int]:
        kind = folder.spec.kind
        found = places_of(gpus, cores(), kind, folder.spec.config)
        crew = Crew(folder, found, n_workers(cluster.n_jobs, len(found), missing))
        with shown(folder, lambda text: console.print(text, markup=False, highlight=False, soft_wrap=True)):
            return work(crew, bars, stop, console)

    with catching(lambda text: console.print(f"\n{text}")) as stop:
        return run_in_order(stages, shift, stop, console, retry_failed)


def work(crew: Crew, bars: Bars, stop: Stop, console: Console) -> list[int]:
    """Start the crew and wait for all of it; the exit codes. A killed worker is started again while the stage moves on."""
    try:
        for job_idx in range(crew.n_jobs):
            crew.start(job_idx)
        return _wait(crew, bars, stop, console)
    finally:
        crew.close()


def _wait(crew: Crew, bars: Bars, stop: Stop, console: Console) -> list[int]:
    folder, codes, kills = crew.folder, [], 0
    reached, looked, drained, killed = folder.progress(), 0.0, False, False
    while crew.running:
        if stop.drain and not drained:
            drained = True
            crew.signal(signal.SIGTERM)
        if stop.kill and not killed:
            killed = True
            crew.signal(signal.SIGKILL)
        for job, code in crew.reap():
            if was_killed(code) and not stop.drain and kills < KILLS:
                kills += 1
                by = signal.Signals(-code).name
                text = f"{folder.spec.name}: worker {job.job_idx} was killed by {by}; starting it again. Log: {job.log}"
                console.print(text, markup=False, highlight=False, soft_wrap=True)
                crew.start(job.job_idx)
                continue
            codes.append(judged(code))
            if code != EXIT_OK and not stop.drain:
                _tell(folder, job, code, console)
        now = time.monotonic()
        if now - looked >= LOOK:
            looked, before, reached = now, reached, folder.progress()
            kills = 0 if reached > before else kills
            bars.at(reached)
        time.sleep(POLL)
    return codes if not stop.drain else [EXIT_AGAIN]


def _tell(folder: StageFolder, job: Job, code: int, console: Console) -> None:
    """Why a worker ended, in its own last words."""
    how = f"ended with exit code {code}"
    if was_killed(code):
        by = signal.Signals(-code).name
        how = f"was killed by {by} again and again (out of memory? lower cluster.n_jobs or the batch size)"
    text = f"{folder.spec.name}: worker {job.job_idx} {how}; the last lines of {job.log}:\n{job.tail()}"
    console.print(text, markup=False, highlight=False, soft_wrap=True)
