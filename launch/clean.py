"""Remove what a runs folder does not need any more. Without --yes it only shows what, and how much that would free.

Always: parts and leases of whole stages, and what an interrupted clean left. On request, too:

    --older-than DAYS       reports of failures (failed/) and logs of that age and more; reports of units that are still to be made stay
    --unused                stages that no export is made of, and that nobody works on, in datasets that have an export
    --keep-exports-only     the end of a project: all stages of datasets whose exports are whole. verify can then hold these exports against
                            nothing, and the same launch command computes everything again

    --tombstones=retry      removes nothing: slots that are empty because of something outside of them (a server in trouble, a picture that
                            could not be read) are made again by the command that made them, as if they had never failed. Samples that are
                            there keep their bytes. What is made of such a stage is looked at by its next worker: units of rows that
                            changed are made again. What was written for others is moved aside and written again. What a sample is
                            itself to blame for stays: a safety checker, a filter, a prompt without room

No stage is touched that somebody works on or may do so: a lease that is alive, or was within a day, a job that is pending or running, a
Slurm that does not answer, a file that was written a moment ago. A stage that another one is made of stays, wherever in the runs folder
that one lies.
A folder gets another name before it is removed, so a clean that is interrupted leaves no half stage; the next one goes on.

Exit codes: 0; 65 bad input; 75 something could not be removed: run it again.
"""

if __name__ == "__main__":  # python launch/clean.py and python -m launch.clean are synthset clean
    import runpy

    runpy.run_path(f"{__file__.rpartition('/')[0]}/__main__.py", {"COMMAND": "clean"}, "__main__")

import argparse
import contextlib
import json
import math
import shutil
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from rich.filesize import decimal

from launch.config.program import as_typed
from launch.show import reopenable
from launch.show.removable import DAY, Asked, Found, Removal, Size, find
from launch.show.stages import report_on
from launch.slurm import jobs, order, submissions
from synth.errors import EXIT_AGAIN, EXIT_OK, InputError, StoreError, tool
from synth.host import squeue
from synth.store.files import replace, storing
from synth.store.folder import StageFolder
from synth.store.leases import Times
from synth.terminal import printable

FORGOTTEN = DAY  # seconds without a word, after which whoever holds a lease on another machine is gone


def in_use(folder: StageFolder) -> str:
    """Why a stage must be left alone: somebody works on it, or may; "" if nobody does."""
    try:
        report = report_on(folder.path)
    except (InputError, StoreError) as e:
        return f"who works on it is not known: {e}"
    if report.done:
        return ""
    unread = list(report.unread)
    held = [h for h in report.held if h.state != "dead"]
    silent = _silent_for(folder)
    if any(h.state == "live" for h in held) or (held and silent < FORGOTTEN):
        return f"in use: {held[0].worker} holds unit {held[0].unit} ({held[0].state})"
    if silent < (patience := Times.from_env().dead_after):
        return f"in use: somebody wrote there {max(0.0, silent):.0f} s ago; try again in {math.ceil(patience - silent)} s"
    named = jobs.of(folder.path, (), unread.append)
    if unread:
        return f"who works on it is not known: {unread[0]}"
    states = jobs.states(named)
    for job in named:
        tasks = states[job.key]
        if tasks is None:
            return f"job {job} may be pending or running, and Slurm does not answer here; try it where squeue works"
        if any(squeue.is_live(task.state) for task in tasks if not job.other(task) or job.renamed(task)):
            return f"in use: job {job} is pending or running; {as_typed('cancel')} ends it"
    return order.unseen(folder.path, submissions.read(folder.path))


def _silent_for(folder: StageFolder) -> float:
    """Seconds since a worker or a launcher wrote into a stage."""
    newest = 0.0
    for pattern in ("*", "events/*", "submissions/*", "logs/*", "leases/*/*"):
        with storing(folder.path):
            for path in folder.path.glob(pattern):
                with contextlib.suppress(FileNotFoundError):
                    newest = max(newest, path.lstat().st_mtime)
    return time.time() - newest


def set_out(removal: Removal) -> str:
    """Ask once more whether anybody works on a stage, and name it as one on its way out; why that could not be, "" if it was."""
    try:
        if why := in_use(StageFolder.open(removal.stage)):
            return f"{removal.stage.name}: {why}"
        replace(removal.stage, removal.out)
    except (InputError, StoreError, OSError) as e:
        return str(e)
    return ""


def remove(removal: Removal) -> str:
    """Take one thing away; why it could not be, "" if it was."""
    for path in (removal.out,) if removal.whole else removal.paths:
        try:
            with contextlib.suppress(FileNotFoundError):
                shutil.rmtree(path) if path.is_dir() and not path.is_symlink() else path.unlink()
        except OSError as e:
            return str(e)
    return ""


def carry_out(removals: Sequence[Removal]) -> list[str]:
    """Take all away; why something could not be. All stages leave their places before the first is removed, exports last: whatever
    interrupts that leaves a folder that the same command goes on with."""
    failures: list[str] = []
    ready = []
    for removal in removals:
        if why := set_out(removal) if removal.whole else "":
            failures.append(why)
        else:
            ready.append(removal)
    return failures + [why for removal in ready if (why := remove(removal))]


def clean(path: Path, asked: Asked, yes: bool, tell: Callable[[str], object]) -> int:
    """Show or remove; the exit code."""
    found = find(path, asked, in_use)
    for line in lines(found):
        tell(line)
    if not found.removals:
        tell("nothing to remove")
        return EXIT_OK
    if not yes:
        tell(f"would free {amount(total(found))}; nothing was removed: add --yes")
        return EXIT_OK
    failures = carry_out(found.removals)
    for why in failures:
        tell(f"not removed: {why}")
    tell(f"removed {len(found.removals) - len(failures)} of {len(found.removals)}" + ("" if failures else f", {amount(total(found))}"))
    return EXIT_AGAIN if failures else EXIT_OK


def retry_tombstones(path: Path, yes: bool, tell: Callable[[str], object]) -> int:
    """Show which empty slots may be filled, or open them; the exit code."""
    found = reopenable.find(path, in_use)
    for line in reopenable.lines(found):
        tell(line)
    if not found.stages:
        tell("no slot to be filled")
        return EXIT_OK
    if not yes:
        tell("nothing was changed: add --yes, then run the command that made these stages again")
        return EXIT_OK
    failures = reopenable.reopen(found.stages, in_use, tell)
    for why in failures:
        tell(f"not opened: {why}")
    tell(f"opened slots of {len(found.stages) - len(failures)} of {len(found.stages)} stages: run the command that made them again")
    return EXIT_AGAIN if failures else EXIT_OK


def lines(found: Found) -> list[str]:
    """What may go, the largest first, and what stays."""
    removals = sorted(found.removals, key=lambda r: (-r.size.bytes, str(r.stage)))
    return [f"{amount(r.size):>24}  {r.stage.parent.name}/{r.stage.name}: {r.what}" for r in removals] + [
        f"kept  {why}" for why in found.kept
    ]


def total(found: Found) -> Size:
    return sum((removal.size for removal in found.removals), Size())


def amount(size: Size) -> str:
    """For people: amount(Size(1500, 2)) == "1.5 kB in 2 files"."""
    return f"{decimal(size.bytes)} in {size.files:,} file{'s' if size.files != 1 else ''}"


def as_json(found: Found) -> str:
    """The same for programs."""
    going = [
        {"stage": str(r.stage), "what": r.what, "whole": r.whole, "bytes": r.size.bytes, "files": r.size.files} for r in found.removals
    ]
    return json.dumps({"removals": going, "kept": list(found.kept)}, indent=1)


def days(text: str) -> float:
    try:
        number = float(text)
    except ValueError:
        number = math.nan
    if not 0 <= number < 1e6:
        raise argparse.ArgumentTypeError(f"{text!r} is no number of days")
    return number


def parser() -> argparse.ArgumentParser:
    p = argparse.ArgumentParser(prog=as_typed("clean"), description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    p.add_argument("path", type=Path, help="runs folder, dataset folder or stage folder")
    p.add_argument("--yes", action="store_true", help="remove what is shown")
    p.add_argument("--older-than", type=days, metavar="DAYS", help="also reports of failures and logs of that age and more")
    which = p.add_mutually_exclusive_group()
    which.add_argument("--unused", action="store_true", help="also stages that no export is made of")
    which.add_argument("--keep-exports-only", action="store_true", help="also all stages of datasets whose exports are whole")
    which.add_argument("--tombstones", choices=("retry",), help="slots that something outside left empty are to be made again")
    p.add_argument("--json", action="store_true", help="show it for programs; removes nothing")
    return p


def main(argv: Sequence[str] | None = None) -> int:
    p = parser()
    args = p.parse_args(argv)
    if args.json and args.yes:
        p.error("--json only shows; leave out --yes")
    if args.tombstones and (args.json or args.older_than is not None):
        p.error("--tombstones removes nothing and goes alone: leave out --json and --older-than")
    if args.tombstones:
        return tool(lambda: retry_tombstones(args.path, args.yes, lambda text: print(printable(text), flush=True)))
    asked = Asked(None if args.older_than is None else args.older_than * DAY, args.unused, args.keep_exports_only)
    if args.json:
        return tool(lambda: as_json(find(args.path, asked, in_use)))
    return tool(lambda: clean(args.path, asked, args.yes, lambda text: print(printable(text), flush=True)))
