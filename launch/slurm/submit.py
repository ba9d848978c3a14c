"""cluster=slurm: submits all stages, upstreams first, in about a second each, and returns. Nothing stays on the login node.

Every stage that is not whole gets its jobs once, whoever asks: what is pending or running is left alone and depended upon.
"""

import contextlib
import shlex
import traceback
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from rich.console import Console

from launch.config.clusters import SlurmConfig
from launch.config.program import as_typed
from launch.plan.planned import Outcome, PlannedStage
from launch.plan.state import forget_done, state_of
from launch.show.saying import say
from launch.slurm import frozen, last, order, stored, submissions
from launch.slurm.limits import shares
from launch.slurm.order import Live
from launch.slurm.policy import fewer_fit, later, short, stuck, time_mends
from launch.slurm.precheck import refusal
from launch.slurm.scripts import order_of, scripts_of
from launch.slurm.site import Site, precheck, site_of, tell_payer, with_containers
from launch.slurm.stopping import stopping
from launch.slurm.stored import Scripts
from launch.slurm.submissions import ABANDONED, INTENDED, Order, Submission, record, take_turn
from launch.slurm.submissions import read as read_submissions
from synth.errors import EXIT_AGAIN, EXIT_BAD_INPUT, EXIT_BUG, EXIT_OK, InputError, StoreError, explained, refused
from synth.host import slurm, squeue
from synth.host.slurm import SlurmError
from synth.store.folder import StageFolder

UNKNOWN = "the same command looks for its jobs by their name before it submits any"


@dataclass(frozen=True)
class Placed:
    """Where a stage stands after its turn: the jobs that the next stages wait for, and what to say."""

    outcome: Outcome
    gate: str = ""
    cluster: str = ""  # that the gate is on


def run(
    stages: Sequence[PlannedStage], cluster: SlurmConfig, console: Console, retry_failed: bool, notice: Mapping | None = None
) -> list[Outcome]:
    """Submit what is missing of all stages. Outcomes of those that could not be, or of all if all were done before."""
    site = replace(site_of(cluster), notice=notice or {})
    try:
        queue = order.queue_of([s.folder for s in stages], site.limits.clusters)
        todo = to_submit(stages, queue)
        site = with_containers(todo, site, console)
        precheck(todo, site, console)
        tasks = allotted(stages, site, queue)
    except SlurmError as e:
        if e.passing:
            raise StoreError(f"cluster=slurm: Slurm does not answer now, and nothing was submitted: {e}; run the same command later") from e
        raise InputError(f"cluster=slurm: {e}; run this where sbatch and squeue work, or take cluster=local") from e
    if any(tasks[s.folder] for s in todo):
        tell_payer(stages, site, console)
    last.forget(site.notice)
    placed = submit_all(stages, site, tasks, retry_failed, console)
    outcomes = [p.outcome for p in placed.values()]
    if all(o.before for o in outcomes):
        return outcomes
    return [o for o in outcomes if o.code != EXIT_OK]


def to_submit(stages: Sequence[PlannedStage], queue: Sequence[squeue.Listed]) -> list[PlannedStage]:
    """The stages that are not done and have no job that is pending or running: of others nothing is submitted, so nothing is judged."""
    return [s for s in stages if not state_of(s).done and not order.live(read_submissions(s.folder), queue).arrays]


def submit_all(
    stages: Sequence[PlannedStage], site: Site, tasks: Mapping[Path, int], retry_failed: bool, console: Console
) -> dict[Path, Placed]:
    """Every stage in its turn. Signals are answered in here: outside, one more would be told as one before anything was begun."""
    placed: dict[Path, Placed] = {}
    folders = [s.folder for s in stages]
    with stopping(lambda text: say(console, text)) as stop:
        try:
            for stage in stages:
                if stop.asked and not state_of(stage).done:
                    placed[stage.folder] = Placed(Outcome(stage, EXIT_AGAIN, message="not submitted: stopped before its turn"))
                else:
                    placed[stage.folder] = tried(stage, site, tasks[stage.folder], placed, retry_failed, console)
            if stop.asked:
                say(console, stopped(folders))
        except KeyboardInterrupt:
            stop.deaf = True
            say(console, stopped(folders, ask=False))
    for stage in stages:
        placed.setdefault(stage.folder, Placed(Outcome(stage, EXIT_AGAIN, message=f"stopped in the middle; {UNKNOWN}")))
    return placed


def tried(stage: PlannedStage, site: Site, tasks: int, placed: Mapping[Path, Placed], retry_failed: bool, console: Console) -> Placed:
    """One stage; what stands in the way of it becomes its outcome, and the next ones have their turn."""
    submissions.read(stage.folder, lambda what: say(console, what))
    try:
        result = one(stage, site, tasks, placed, retry_failed)
    except InputError as e:
        return Placed(Outcome(stage, EXIT_BAD_INPUT, message=str(e)))
    except SlurmError as e:
        result = not_taken(stage, site, e)
    except KeyboardInterrupt:  # the second one, in the middle
        return Placed(Outcome(stage, EXIT_AGAIN, message=f"stopped in the middle; {UNKNOWN}"))
    except (StoreError, OSError) as e:
        again = refused(e)  # else a bug, which is shown whole
        return Placed(Outcome(stage, EXIT_AGAIN if again else EXIT_BUG, message=explained(e) if again else traceback.format_exc()))
    if result.outcome.code == EXIT_OK and not result.outcome.before:
        say(console, f"{stage.folder.name}: {result.outcome.message}")
    return result


def not_taken(stage: PlannedStage, site: Site, error: SlurmError) -> Placed:
    """What a failure of Slurm says of a stage: whether the same command can help, or which key has to change before."""
    words = str(error)
    if error.unsure:
        return Placed(Outcome(stage, EXIT_AGAIN, message=f"{words}; {UNKNOWN}"))
    if time_mends(words):
        return no_room(stage, site, f"no room in the queue ({short(words)})" if fewer_fit(words) else short(words))
    if error.passing:
        return Placed(Outcome(stage, EXIT_AGAIN, message=f"Slurm does not take it now: {words}"))
    return Placed(Outcome(stage, EXIT_BAD_INPUT, message=refusal(words, site.resources(stage), site.limits, stage.name)))


def no_room(stage: PlannedStage, site: Site, why: str) -> Placed:
    """The queue is full: a gate of the stage that is in it goes on by itself, else the same command does later."""
    live = Live()
    with contextlib.suppress(SlurmError):
        live = order.live(read_submissions(stage.folder), order.queue_of([stage.folder], site.limits.clusters))
    if live.gate:
        text = f"left alone: {why}; its gate {live.gate} is in the queue, and goes on when there is room"
        return Placed(Outcome(stage, EXIT_OK, message=text), live.gate, live.cluster)
    return Placed(Outcome(stage, EXIT_AGAIN, message=f"not submitted: {why}; {later(why)}"))


def stopped(stages: Sequence[Path], ask: bool = True) -> str:
    """What is in the queue although somebody stopped the command, and how to take that out and nothing else. `ask`: squeue, which may be
    slow; without it by what is written."""
    lines, listed = [], []
    for stage in stages:
        records = read_submissions(stage)
        try:
            live = order.live(records, order.queue_of([stage])) if ask else None
        except (SlurmError, InputError):
            live = None
        if live:
            jobs, cluster = [*live.arrays, *filter(None, [live.gate])], live.cluster
        else:  # some may have ended
            jobs, cluster = [job for r in records for job in r.job_ids], records[-1].cluster if records else ""
        lost = [f"perhaps more, whose names begin with {r.job_name}" for r in records if r.state == INTENDED]
        if jobs or lost:
            where = f" on cluster {cluster}" if ask and slurm.elsewhere(cluster) else ""
            lines.append(f"  {stage.name}: {', '.join(filter(None, [' '.join(jobs), *lost]))}{where}")
            listed.append(str(stage))
    if not lines:
        return "Stopped before anything was submitted."
    cancel = f"{as_typed('cancel')} {shlex.join(listed)}"
    return "\n".join(["Stopped. These jobs are in the queue and stay there:", *lines, "To cancel them:", f"  {cancel}"])


def allotted(stages: Sequence[PlannedStage], site: Site, queue: Sequence[squeue.Listed]) -> dict[Path, int]:
    """Array tasks of each stage, as many as there is room for in the queue; 0: none needed, or no room within cluster.max_submit.

    A limit of the site counts our own jobs, perhaps some of them alone (of an account, a QOS): where there seems to be no room one task
    is tried, and sbatch has the last word.
    """
    wished = set(map(slurm.home, site.limits.clusters.split(",")))
    useful, wanted = [], []
    for stage in stages:
        state = state_of(stage)
        busy = bool(order.live(read_submissions(stage.folder), queue).arrays)
        useful.append(0 if state.done else _useful(site, stage, state.n_units - state.units))
        wanted.append(0 if busy else useful[-1])
    given = wanted
    if site.room is not None:
        ours = [j for j in slurm.listing(clusters=wished) if j.state not in squeue.ENDING]
        given = shares(wanted, max(0, site.room - len(ours)))
        if site.cluster.max_submit is None:
            given = [g or min(w, 1) for g, w in zip(given, wanted, strict=True)]
    # what is busy now keeps its number: its jobs may have ended when its turn comes
    return {s.folder: g if w else u for s, g, w, u in zip(stages, given, wanted, useful, strict=True)}


def one(stage: PlannedStage, site: Site, tasks: int, placed: Mapping[Path, Placed], retry_failed: bool) -> Placed:
    """Submit one stage, or find that it needs nothing."""
    state = state_of(stage)
    if state.done:
        return Placed(Outcome(stage, EXIT_OK, done=True, before=True, facts=StageFolder.open(stage.folder).done()))
    broken = next((p for up in stage.upstream if (p := placed.get(up)) and p.outcome.code != EXIT_OK), None)
    if broken:
        return Placed(Outcome(stage, broken.outcome.code, message=f"not submitted: {broken.outcome.stage.name}, which it reads, was not"))
    folder = StageFolder.create(stage.dataset_root, stage.spec)
    if state.gone:
        forget_done(folder)
    if retry_failed:
        folder.retry_set_aside()
    missing, aside = folder.missing(), folder.set_aside()
    if missing and set(missing) <= set(aside):
        msg = f"units {aside[:10]} failed three times; see {folder.path / 'failed'}; retry_failed=true tries again"
        return Placed(Outcome(stage, EXIT_BUG, message=msg))
    gates = [(p.cluster, p.gate) for up in stage.upstream if (p := placed.get(up)) and p.gate]
    gates += _gates_elsewhere(stage, placed)
    live = order.live(read_submissions(folder.path), order.queue_of([folder.path], site.limits.clusters))
    if live.arrays:
        return left_alone(stage, folder, site, live, gates)
    if hidden := order.unseen(folder.path, read_submissions(folder.path)):
        return Placed(Outcome(stage, EXIT_AGAIN, message=hidden))
    clusters = _one_cluster(stage, gates) or site.limits.clusters
    depends = [gate for _, gate in gates]
    if not tasks:
        return no_room(stage, site, f"no room in the queue: you may have {site.room} jobs in it (cluster.max_submit)")
    turn = replace(take_turn(folder.path, order.settle), cluster=clusters)
    live = order.live(read_submissions(folder.path), order.queue_of([folder.path], clusters))
    if live.arrays or folder.is_done():  # somebody else was first
        record(folder.path, replace(turn, state=ABANDONED, why="somebody else was first"))
        return left_alone(stage, folder, site, live, gates)
    return submitted(stage, folder, site, turn, live, min(tasks, _useful(site, stage, folder.to_do())), depends)


def submitted(stage: PlannedStage, folder: StageFolder, site: Site, turn: Submission, live: Live, tasks: int, depends: list[str]) -> Placed:
    """Write the scripts, submit, and let what waited for an old gate wait for the new one."""
    resources = site.resources(stage)
    wanted, scripts = written(stage, folder, site, turn, tasks)
    told = resources.container.told if resources.container else {}
    turn = order.place(folder, turn, wanted, scripts, tasks, depends, container=told)
    if live.gate and live.cluster == slurm.home(turn.cluster):
        with contextlib.suppress(SlurmError):  # that gate does it itself when it runs
            queue = order.queue_of([folder.path])
            order.move(queue, [live.gate], [turn.gate], live.cluster)
            awaited = {job for listed in queue if listed.base == live.gate for job in squeue.depends_on(listed)}
            if awaited and awaited == order.revoked(awaited, live.cluster):
                order.drop([*awaited, live.gate], live.cluster)
    n = sum(a.tasks for a in turn.arrays)
    useful = _useful(site, stage, folder.to_do())
    less = f" (of {tasks}: the site takes no more)" if n < tasks else ""
    less = less or (f" (of {useful}: you may have {site.room} in the queue)" if n < useful else "")
    arrays = ", ".join(f"{a.job} ({a.tasks} jobs)" for a in turn.arrays)
    workers = f", {n * resources.workers} workers" if resources.workers > 1 else ""
    after = f", after {' '.join(depends)}" if depends else ""
    there = f" on cluster {turn.cluster}" if slurm.elsewhere(turn.cluster) else ""
    text = f"array {arrays}{less}, gate {turn.gate}{after}{there}; n_jobs {n}{workers}; logs {folder.path / 'logs'}"
    return Placed(Outcome(stage, EXIT_OK, message=text), turn.gate, slurm.home(turn.cluster))


def written(stage: PlannedStage, folder: StageFolder, site: Site, turn: Submission, tasks: int) -> tuple[Order, Scripts]:
    """The order of a turn and its scripts, which are put beside its record: those of others are never submitted in our name."""
    resources = site.resources(stage)
    wanted = order_of(resources, site.limits, turn.number, site.command, site.notice)
    scripts = scripts_of(stage, resources, site.gate, tasks, site.limits, site.command)
    stored.write(folder.path, wanted, scripts)
    if resources.freeze:
        frozen.write(folder.path / submissions.FOLDER, frozen.archive())
    return wanted, scripts


def left_alone(stage: PlannedStage, folder: StageFolder, site: Site, live: Live, gates: list[tuple[str, str]]) -> Placed:
    """Jobs of the stage are pending or running: see that they wait for the right gates and that a gate is behind them."""
    if folder.is_done():
        return Placed(Outcome(stage, EXIT_OK, done=True, before=True, facts=folder.done()))
    _one_cluster(stage, [*gates, (live.cluster, live.arrays[0])])
    depends = [gate for _, gate in gates]
    lost = order.revoked(live.waits_for, live.cluster)
    if depends:
        order.move(order.queue_of([folder.path]), live.waits_for, depends, live.cluster)
        order.bind(order.queue_of([folder.path]), live.arrays, depends, live.cluster)
    elif lost:
        order.move(order.queue_of([folder.path]), lost, [], live.cluster)
    order.drop(lost, live.cluster)
    gate = live.gate
    if not gate:
        n_jobs = next((s.n_jobs for s in reversed(read_submissions(folder.path)) if s.order), 1)
        turn = take_turn(folder.path, order.settle)
        wanted, scripts = written(stage, folder, site, turn, _useful(site, stage, folder.to_do()))
        told = next((s.container for s in reversed(read_submissions(folder.path)) if s.order), {})
        turn = replace(turn, order=asdict(wanted), n_jobs=n_jobs, units=folder.kept(), container=told, cluster=live.cluster)
        gate = order.add_gate(folder, turn, scripts, live.arrays).gate
    there = f" on cluster {live.cluster}" if slurm.elsewhere(live.cluster) else ""
    text = f"left alone: {' '.join(live.arrays)} pending or running, gate {gate}{there}; logs {folder.path / 'logs'}"
    text += (
        order.release(live.held, live.cluster)
        + stuck(live.reasons)
        + last.told_otherwise(folder, site.notice, read_submissions(folder.path))
    )
    return Placed(Outcome(stage, EXIT_OK, message=text), gate, live.cluster)


def _gates_elsewhere(stage: PlannedStage, placed: Mapping[Path, Placed]) -> list[tuple[str, str]]:
    """(cluster, gate) of upstreams that are not part of this command (only=[..]) but are on their way."""
    elsewhere = [up for up in stage.upstream if up not in placed and (up / "stage.json").exists()]
    found = (order.live(read_submissions(up), order.queue_of([up])) for up in elsewhere if not StageFolder.open(up).is_done())
    return [(live.cluster, live.gate) for live in found if live.gate]


def _one_cluster(stage: PlannedStage, gates: Sequence[tuple[str, str]]) -> str:
    """The cluster of what a stage waits for; "" if it waits for nothing. An InputError if there are two: no job can wait for both."""
    clusters = dict(gates)
    if len(clusters) > 1:
        jobs = ", ".join(f"{job} of cluster {cluster}" for cluster, job in clusters.items())
        raise InputError(
            f"{stage.name}: its jobs would wait for {jobs}, and all jobs of a run have to be on one cluster; cancel those on one, "
            "or run the same command when they have ended"
        )
    return next(iter(clusters), "")


def _useful(site: Site, stage: PlannedStage, missing: int) -> int:
    return order_of(site.resources(stage), site.limits, 1, "").tasks(max(1, missing))
