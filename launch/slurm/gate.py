"""The gate behind the arrays of a stage: python -m launch.slurm.gate STAGE_DIR NUMBER (of the submission) DIGEST DIGEST DIGEST (see below).

    the stage is                          the gate
    whole                                 finishes it if no worker did; exit 0, and the next stage's jobs start
    not whole, jobs of it are live        puts a new gate behind them, moves the waiting jobs behind it; exit 0
    not whole, and gates may go on        submits what is missing and a new gate, moves the waiting jobs behind it; exit 0
      .. but the queue is full            puts its own job back into the queue, to look again in some minutes (launch.slurm.room)
    not whole otherwise                   writes missing.json, cancels or holds the waiting jobs; exit 65

Why jobs ended decides whether, and with what, they are submitted again (launch.slurm.endings), and stands in missing.json. Nodes that
workers left twice, because their device was bad, are left out. Nothing is submitted again if a batch of the planned size fits on no device.

What it runs is not read from the stage's folder, in which others may write: the worker is that of its own installation, and the scripts
that it submits again, how many jobs and how often, are those whose digests its launcher gave it.

Where sbatch or scontrol is not allowed on compute nodes it says so in missing.json; the waiting jobs then start, find that the
stage they read is not whole, and end at once with exit code 65.
"""

import argparse
import json
import os
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from launch.slurm import order, stored
from launch.slurm.endings import Reason, reason_of
from launch.slurm.last import tell_end, verdict_of
from launch.slurm.policy import short, time_mends
from launch.slurm.room import back_into_the_queue
from launch.slurm.stored import Scripts
from launch.slurm.submissions import ABANDONED, Order, Submission, read, record, take_turn
from synth.errors import EXIT_AGAIN, EXIT_BAD_INPUT, EXIT_BUG, EXIT_OK, InputError, refused, tool
from synth.host import slurm
from synth.host.deaths import from_outside
from synth.host.environment import without_secrets
from synth.host.slurm import SlurmError
from synth.host.source import SAFE, python_path
from synth.host.squeue import Listed
from synth.run.trust import secrets_of
from synth.store.events import read_events
from synth.store.files import write_atomic
from synth.store.folder import StageFolder
from synth.terminal import message, printable

PATIENCE = 5.0  # seconds that a network file system may take to show units that other machines made
AWAY, PAUSE = 900.0, 15.0  # seconds that Slurm may not answer, beyond those of each call; between two looks. Its time is half an hour
LEFT = 2  # workers that left a node as bad, after which it is left out
AT_MOST = 32  # nodes that are left out; if more are bad, they are not what is wrong
BY_TIME = ("the end of the job's time", "SIGUSR2")  # reasons of a drain for which nobody is to blame


def main(argv: list[str] | None = None) -> int:
    p = argparse.ArgumentParser(prog="python -m launch.slurm.gate", description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    p.add_argument("stage_dir", type=Path)
    p.add_argument("number", type=int, help="of the submission whose gate this is")
    p.add_argument(
        "digests",
        nargs="*",
        metavar="DIGEST",
        help="sha256 of both scripts and of the order, as its launcher wrote them",
    )
    p.add_argument("--planned", help="for the worker, see there")
    args = p.parse_args(argv)
    trusted = ("--planned", args.planned) if args.planned else ()
    return tool(lambda: judge_and_tell(StageFolder.open(args.stage_dir), args.number, args.digests, trusted))


def judge_and_tell(folder: StageFolder, number: int, digests: Sequence[str], trusted: Sequence[str]) -> int:
    """The exit code of the judgement. The last gate of a run tells its user; so does one that ends by an error of its own."""
    mine = next((s for s in read(folder.path) if s.number == number), None)
    try:
        code = judge(folder, number, digests, trusted)
    except Exception as e:
        code = EXIT_BAD_INPUT if isinstance(e, InputError) else EXIT_AGAIN if refused(e) else EXIT_BUG
        tell_end(folder, mine, digests, code, say, why=f"its gate ended by an error: {type(e).__name__}: {e}")
        raise
    mine = next((s for s in read(folder.path) if s.number == number), mine)
    tell_end(folder, mine, digests, code, say)
    return code


def judge(folder: StageFolder, number: int, digests: Sequence[str] = (), trusted: Sequence[str] = ()) -> int:
    """Decide; the exit code. While Slurm does not answer, look again: a gate that gives up ends the whole run.

    digests: of the scripts that may be submitted again, and of the order. trusted: words for a worker.
    """
    end = time.monotonic() + AWAY
    while True:
        code = decide(folder, number, digests, trusted, patient=time.monotonic() < end)
        if code is not None:
            return code
        time.sleep(PAUSE)


def decide(folder: StageFolder, number: int, digests: Sequence[str], trusted: Sequence[str], patient: bool) -> int | None:
    """The exit code. Looks again after every wait for somebody else's submission. None, if patient: Slurm does not answer now."""
    mine = next((s for s in read(folder.path, say) if s.number == number), None)
    if mine is None:
        raise InputError(f"{folder.path}: has no submission {number}; run the command that made it again")
    missing = folder.missing(PATIENCE)
    if not missing and not folder.reopening.settled():  # no worker got as far as to look
        missing = list(range(folder.spec.n_units))
    if not missing:
        return finish(folder, trusted)
    say(f"{len(missing)} of {folder.spec.n_units} units are missing")
    why = Reason(too_large(folder, mine), final=True)
    try:
        scripts = stored.read(folder.path, mine, digests)
        if hand_over(folder, mine, scripts):
            return EXIT_OK
        if not why.why and unread(folder):
            why = Reason()  # its jobs ended at once, having nothing to read
        elif not why.why:
            why = reason_of(folder.path, folder.spec.kind, mine, gained(folder, mine), mine.tries)
            if why.why:
                say(f"why: {why.why}")
        if not why.final:
            not_again = go_on(folder, mine, scripts, missing, why)
            if not not_again:
                return EXIT_OK
            why = replace(why, why="; ".join(filter(None, (why.why, not_again))))
    except InputError as e:
        why = Reason(str(e))
    except SlurmError as e:
        words = short(str(e))
        if time_mends(str(e)):
            cannot = back_into_the_queue(words, Order.of(mine).max_requeues, mine.cluster, say)
            if not cannot:
                return EXIT_AGAIN
            what = f"No room in the queue ({words}), and {cannot}"
        elif e.passing and patient:
            say(f"{e}; this gate looks again in {PAUSE:.0f} s")
            return None
        else:
            what = f"{'Slurm did not answer its gate' if e.passing else 'Gates cannot submit here'} ({e})"
        why = Reason(f"{f'{why.why}. ' if why.why else ''}{what}")
    return give_up(folder, mine, missing, why)


def finish(folder: StageFolder, trusted: Sequence[str] = ()) -> int:
    """The stage is whole: the last worker wrote done.json, or a worker of this installation is run now that does."""
    if folder.is_done():
        say("whole")
        return EXIT_OK
    say("whole, but not finished: a worker does it now")
    words = [sys.executable, "-u", *SAFE, "-m", "synth.worker", str(folder.path), "--job-idx", "0", "--n-jobs", "1", *trusted]
    code = subprocess.run(words, env=without_secrets(keep=secrets_of(folder.spec)) | python_path()).returncode
    return EXIT_AGAIN if from_outside(code) else code


def hand_over(folder: StageFolder, mine: Submission, scripts: Scripts) -> bool:
    """If jobs of the stage are live, or somebody submitted it anew: let the waiting jobs wait for them. Whether it was so."""
    queue, records = listing(folder), read(folder.path)
    arrays = order.live(records, queue).arrays  # ours too: a task may have been requeued after all
    gate = order.live([s for s in records if s.number > mine.number], queue).gate  # never an older one: it may hand over to us
    if not (arrays or gate):
        return False
    if not gate:
        gate = order.add_gate(folder, copy_of(mine, take_turn(folder.path, order.settle)), scripts, arrays).gate
    moved = order.move(queue, [me(mine)], [gate])
    say(f"jobs of this stage are live: left to gate {gate}; moved behind it: {' '.join(moved) or 'nothing'}")
    return True


def go_on(folder: StageFolder, mine: Submission, scripts: Scripts, missing: list[int], why: Reason) -> str:
    """Submit what is missing, if gates may; "", or why it was not done."""
    wanted = Order.of(mine)
    tries = 0 if gained(folder, mine) or drained_by_time(folder, mine) else mine.tries + 1
    aside = set(folder.set_aside())
    if aside >= set(missing):
        return "all that is missing is set aside"
    if tries > wanted.heal or not wanted.heal:
        return f"no tries left (cluster.heal={wanted.heal})"
    if mine.goes_on >= wanted.max_requeues:
        return f"gates went on {mine.goes_on} times (cluster.max_requeues={wanted.max_requeues})"
    depends: list[str] = []
    for up in unread(folder):
        live = order.live(read(up.path), listing(up))
        ahead = [live.gate] if live.gate else live.arrays  # a gate that somebody cancelled, or that died, leaves its arrays at work
        if not ahead:
            said = told_why(up.path)
            return f"{up.path}, which it reads, is not whole, and no job of it is in the queue{f': {said}' if said else ''}"
        depends += ahead
    turn = replace(take_turn(folder.path, order.settle), container=mine.container)
    if order.live([s for s in read(folder.path) if s.number > mine.number], listing(folder)).gate:
        record(folder.path, replace(turn, state=ABANDONED, why="somebody ran the command again meanwhile"))
        return "" if hand_over(folder, mine, scripts) else "somebody ran the command again meanwhile"
    excluded = tuple(sorted({*mine.excluded, *bad_nodes(read_events(folder.path)), *why.without}))
    facts = {"tries": tries, "goes_on": mine.goes_on + 1, "excluded": excluded, "mem": why.mem or mine.mem}
    turn = order.place(folder, turn, wanted, scripts, wanted.tasks(len(missing)), depends, **facts)
    moved = order.move(listing(folder), [me(mine)], [turn.gate])
    say(f"submitted again: {' '.join(turn.job_ids)}; moved behind the new gate: {' '.join(moved) or 'nothing'}")
    return ""


def give_up(folder: StageFolder, mine: Submission, missing: list[int], reason: Reason) -> int:
    """The verdict on disk, and the end of what waits for it."""
    wanted = Order.of(mine)
    aside = folder.set_aside()
    why = reason.why
    if aside:
        why = f"units {aside[:10]} failed three times (see failed/); mend that and add retry_failed=true. {reason.why}".strip()
    verdict = {"missing": missing, "set_aside": aside, "why": why, "command": wanted.command}
    write_atomic(folder.path / "missing.json", json.dumps(verdict, indent=1).encode() + b"\n")
    try:
        waiting = order.behind(listing(folder), me(mine))
        if waiting:
            slurm.call(*(("scancel",) if wanted.on_missing == "cancel" else ("scontrol", "hold")), *waiting)
            say(f"{'cancelled' if wanted.on_missing == 'cancel' else 'held'}: {' '.join(waiting)}")
    except SlurmError as e:
        say(f"{e}; the jobs that wait for this stage end by themselves")
    mend = "Mend that, then run" if reason.final else "To go on, run"
    to_run = f"{mend} (as submission {mine.number} has it):\n  {printable(wanted.command)}"
    print(message(f"error: {folder.path}: {len(missing)} units are missing: {why}"), to_run, sep="\n", file=sys.stderr)
    return EXIT_BAD_INPUT


def gained(folder: StageFolder, mine: Submission) -> bool:
    """Whether units were made since that submission."""
    return not folder.reopening.in_doubt() and len(folder.committed()) > mine.units


def too_large(folder: StageFolder, mine: Submission) -> str:
    """Why every worker since that submission would fail again: a batch of the planned size fits on none of its devices; "" otherwise."""
    if gained(folder, mine):
        return ""
    said = (e for e in read_events(folder.path) if e["event"] == "too_large" and e.get("time", 0) >= mine.created)
    return next((str(e.get("why")) for e in said), "")


def drained_by_time(folder: StageFolder, mine: Submission) -> bool:
    """Whether a worker since that submission stopped because its time was up."""
    stops = (e for e in read_events(folder.path) if e["event"] == "stop" and e.get("time", 0) >= mine.created)
    return any(reason in str(e.get("why")) for e in stops for reason in BY_TIME)


def bad_nodes(events: Iterable[Mapping]) -> tuple[str, ...]:
    """Nodes to leave out: those that LEFT workers left as bad. None if they are all that ever worked here, or too many."""
    seen: set[str] = set()
    left: Counter[str] = Counter()
    why: dict[str, str] = {}
    for event in events:
        node = str(event.get("node", ""))
        if node and event.get("event") == "start":
            seen.add(node)
        elif node and event.get("event") == "device":
            left[node] += 1
            why[node] = f"{event.get('place', '')}: {event.get('why', '')}"
    bad = tuple(sorted(node for node, n in left.items() if n >= LEFT))
    for node in bad:
        say(f"bad device on {node}, left by {left[node]} workers ({why[node]})")
    if bad and (seen <= set(bad) or len(bad) > AT_MOST):
        say(f"{len(bad)} nodes have bad devices, of {len(seen)} that ever worked here: none is left out")
        return ()
    if bad:
        say(f"left out from now on: {' '.join(bad)}")
    return bad


def upstream(folder: StageFolder) -> list[StageFolder]:
    return [up for role in folder.spec.upstream for up in folder.upstream(role)]


def unread(folder: StageFolder) -> list[StageFolder]:
    """Upstreams that are not whole."""
    return [up for up in upstream(folder) if not up.is_done()]


def told_why(stage: Path) -> str:
    """Why a stage was given up, by the verdict of its gate, or where its gate's log is; "" if it has none."""
    logs = sorted((stage / "logs").glob("gate-*.log"))
    return verdict_of(stage) or (f"see the log of its gate, {logs[-1]}" if logs else "")


def listing(folder: StageFolder) -> list[Listed]:
    return slurm.listing(order.users_of([folder.path]))


def copy_of(mine: Submission, turn: Submission) -> Submission:
    """A record that goes on counting where ours was."""
    turn = replace(turn, order=mine.order, n_jobs=mine.n_jobs, tries=mine.tries, goes_on=mine.goes_on, units=mine.units)
    return replace(turn, container=mine.container)


def me(mine: Submission) -> str:
    """Our own job id: the record may not have it yet."""
    return os.environ.get("SLURM_JOB_ID", "") or mine.gate


def say(text: str) -> None:
    print(f"{time.strftime('%H:%M:%S')} {printable(text)}", flush=True)


if __name__ == "__main__":
    sys.exit(main())
