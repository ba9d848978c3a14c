"""Stages one after the other on this machine, upstreams first, each until it is done. Truth is on disk.

How workers run is the caller's: a `Round` starts them on a stage and returns their exit codes when all have left.
"""

import contextlib
import signal
import time
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console

from launch.config.clusters import ClusterConfig
from launch.plan.planned import Outcome, PlannedStage
from launch.plan.state import forget_done, state_of
from launch.show.left import begun, store
from launch.show.progress import Bars
from synth.errors import EXIT_AGAIN, EXIT_BAD_INPUT, EXIT_BUG, EXIT_OK, InputError, StoreError, explained, refused, worst
from synth.run.trust import check
from synth.store.blame import report_in
from synth.store.events import read_events
from synth.store.folder import StageFolder

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGUSR2)  # the last one: Slurm's, in an allocation
WATCH = 2.0  # seconds between two looks at a stage that only others work on


@dataclass
class Stop:
    """What was asked of the launcher so far: the first signal asks for a drain, the second for an end."""

    name: str = ""  # of the first signal
    count: int = 0

    @property
    def drain(self) -> bool:
        return self.count > 0

    @property
    def kill(self) -> bool:
        return self.count > 1


Round = Callable[[StageFolder, int, Bars, Stop], list[int]]  # (stage, which round on it from 0, bars, stop) -> exit codes


@contextlib.contextmanager
def catching(tell: Callable[[str], None]) -> Iterator[Stop]:
    """Inside, signals are only noted; `tell` says so once. Handlers are put back at the end.

    A signal that whoever started us ignores, as nohup does SIGHUP, stays ignored.
    """
    stop = Stop()

    def note(number: int, frame) -> None:
        stop.name = stop.name or signal.Signals(number).name
        stop.count += 1
        if stop.count == 1:
            with contextlib.suppress(OSError):  # a terminal that hung up cannot be told
                tell("stopping: workers finish their running batch and keep it (once more: kill them)")

    before = {s: signal.signal(s, note) for s in SIGNALS if signal.getsignal(s) is not signal.SIG_IGN}
    try:
        yield stop
    finally:
        for s, handler in before.items():
            signal.signal(s, handler)


def at_hangup(env: Mapping[str, str]) -> str:
    """What a lost connection would do, for who sits behind one and has not provided for it; "" for others."""
    if not env.get("SSH_TTY") or env.get("TMUX") or env.get("STY") or signal.getsignal(signal.SIGHUP) is signal.SIG_IGN:
        return ""
    return (
        "if this connection is lost, workers end their running batch and stop: the same command goes on; tmux or nohup keeps them at work"
    )


def in_order(folders: Sequence[StageFolder], trust: bool = False) -> list[PlannedStage]:
    """Stage folders as planned stages, each after those that it reads, else as given.

    trust: somebody read what they would run. InputError for one that runs what its user did not plan (see synth.run.trust).
    """
    for folder in folders if not trust else ():
        check(folder.path, folder.spec)
    stages = {f.path: PlannedStage(f.spec, f.path.parent, planned=True) for f in folders}
    for path, stage in stages.items():
        if stage.folder != path:
            raise InputError(f"{path}: was renamed after it was planned; its name is {stage.folder.name}")
    order: list[PlannedStage] = []

    def visit(path: Path) -> None:
        if path in stages and stages[path] not in order:
            for up in stages[path].upstream:
                visit(up)
            order.append(stages[path])

    for path in stages:
        visit(path)
    return order


def run_in_order(stages: Sequence[PlannedStage], work: Round, stop: Stop, console: Console, retry_failed: bool = False) -> list[Outcome]:
    """The outcome of each stage. A stage whose upstream failed is not begun; a drain ends all."""
    outcomes: list[Outcome] = []
    failed: dict = {}
    store()
    with Bars(console, begun(stages)) as bars:
        for stage in stages:
            broken = next((failed[up] for up in stage.upstream if up in failed), None)
            if broken is not None:
                outcome = Outcome(stage, broken, message="not begun: a stage that it reads failed")
            else:
                outcome = _run_one(stage, work, stop, bars, retry_failed)
            outcomes.append(outcome)
            if outcome.code != EXIT_OK:
                failed[stage.folder] = outcome.code
            if stop.drain or outcome.code == EXIT_AGAIN:
                break
    return outcomes


def run_here(stages: Sequence[PlannedStage], cluster: ClusterConfig, console: Console, retry_failed: bool) -> list[Outcome]:
    """cluster=debug: one worker in the calling process, so that breakpoints work. The worker itself catches ctrl-C and drains."""
    if cluster.container:
        raise InputError(
            f"cluster.container={cluster.container}: cluster=debug runs in the calling process, on the host; use cluster=local"
        )
    trusted = {stage.folder: stage.trusted for stage in stages}

    def work(folder: StageFolder, number: int, bars: Bars, stop: Stop) -> list[int]:
        from synth import worker  # the worker side: numpy and torch come with it, here on purpose

        code = worker.main([str(folder.path), "--job-idx", "0", "--n-jobs", "1", *trusted[folder.path]])
        if code == EXIT_AGAIN:
            stop.name, stop.count = stop.name or "a signal, a full disk or a bad device", stop.count + 1
        return [code]

    return run_in_order(stages, work, Stop(), console, retry_failed)


def wait_for_upstream(folder: StageFolder, stop: Stop, tell: Callable[[str], None], pause: float = 5.0, every: float = 60.0) -> int:
    """Wait until all that a stage reads is whole, however long that takes; 0, or the exit code if it cannot become whole."""
    name = folder.spec.name
    for up in (up for role in folder.spec.upstream for up in folder.upstream(role)):
        last = float("-inf")
        while not stop.drain and not (up.is_done() or up.is_whole()):
            aside = set(up.set_aside())
            if aside and aside >= set(up.missing()):
                tell(f"{name}: reads {up.path}, whose units {sorted(aside)[:5]} are set aside; see {up.path / 'failed'}")
                return EXIT_BUG
            if time.monotonic() - last >= every:
                last = time.monotonic()
                tell(f"{name}: waits for {up.spec.name}, {len(up.committed())} of {up.spec.n_units} units are there: {up.path}")
            time.sleep(pause)
    return EXIT_AGAIN if stop.drain else EXIT_OK


def _run_one(stage: PlannedStage, work: Round, stop: Stop, bars: Bars, retry_failed: bool) -> Outcome:
    try:
        state = state_of(stage)
        if state.done:
            return Outcome(stage, EXIT_OK, done=True, before=True, facts=StageFolder.open(stage.folder).done())
        folder = StageFolder.create(stage.dataset_root, stage.spec)
        if state.gone:
            forget_done(folder)
        if retry_failed:
            folder.retry_set_aside()
        return _complete(stage, folder, work, stop, bars)
    except InputError as e:
        return Outcome(stage, EXIT_BAD_INPUT, message=str(e))
    except (StoreError, OSError) as e:
        if not refused(e):
            return Outcome(stage, EXIT_BUG, message=traceback.format_exc())
        return Outcome(stage, EXIT_AGAIN, message=explained(e))


def _complete(stage: PlannedStage, folder: StageFolder, work: Round, stop: Stop, bars: Bars) -> Outcome:
    """Round after round, until the stage is done, failed or drained. Others may work on it too, and may be the last."""
    begun, first = time.monotonic(), folder.progress()
    bars.begin(stage.name, folder.spec.slots, first, f"{len(folder.missing())} units in {folder.path}", folder.path.name)
    code, rounds = EXIT_OK, 0
    while not stop.drain:
        code, rounds = worst(work(folder, rounds, bars, stop)), rounds + 1
        if folder.is_done() or code != EXIT_OK:
            break
        _watch(folder, bars, stop)  # all of ours left content, so the rest is in the hands of others
    done = folder.is_done()
    if stop.drain and not done:
        code = EXIT_AGAIN
    reached = folder.spec.slots if done else folder.progress()
    bars.end(reached)
    return Outcome(
        stage,
        EXIT_OK if done else code or EXIT_BUG,
        done=done,
        seconds=time.monotonic() - begun,
        made=max(0, reached - first),
        message="" if done else _why(folder, code, stop),
        facts=folder.done(),
    )


def _watch(folder: StageFolder, bars: Bars, stop: Stop) -> None:
    """Look on for a moment: somebody else's worker may finish, or die and leave a unit to be taken in the next round."""
    end = time.monotonic() + WATCH
    while time.monotonic() < end and not stop.drain and not folder.is_done():
        bars.at(folder.progress())
        time.sleep(0.2)


def _why(folder: StageFolder, code: int, stop: Stop) -> str:
    if stop.drain:
        return f"drained on {stop.name}"
    aside = folder.set_aside()
    if aside:
        error = ""
        reports = folder.failures().get(aside[0], [])
        if reports:
            with contextlib.suppress(InputError, StoreError, OSError):
                error = f": {report_in(reports[-1])['error']}"
        more = f" and {len(aside) - 1} more" if aside[1:] else ""
        where = folder.path / "failed"
        return f"unit {aside[0]}{more} failed three times{error}; see {where}; retry_failed=true tries again"
    stops = [e for e in read_events(folder.path) if e["event"] == "stop" and e.get("code") == code and e.get("why")]
    if stops:
        return max(stops, key=lambda e: e.get("time", 0))["why"]
    return {EXIT_AGAIN: "stopped before it was whole", EXIT_BAD_INPUT: "bad input"}.get(code, "a worker ended by an error")
