"""What is done, who works on it, what failed.

It reads folders only, so it may be run anywhere, by anyone, at any time; Slurm is asked for the states of jobs where there is one.
"""

if __name__ == "__main__":  # python launch/status.py and python -m launch.status are synthset status
    import runpy

    runpy.run_path(f"{__file__.rpartition('/')[0]}/__main__.py", {"COMMAND": "status"}, "__main__")

import argparse
import dataclasses
import json
import sys
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console, Group
from rich.live import Live
from rich.table import Table
from rich.text import Text

from launch.config.program import as_typed
from launch.show.asked import asked
from launch.show.left import Left, kept, left
from launch.show.points import told_apart
from launch.show.stages import StageReport, Work, find_stages, report_on
from launch.show.took_out import took_out
from launch.slurm import jobs
from launch.slurm.jobs import StageJobs
from synth.errors import EXIT_OK, InputError, StoreError, tool
from synth.terminal import message, printable

ALWAYS = ("stage", "units", "%")  # columns that are always shown
# of columns, where a terminal is too narrow; what they hold is told below
FIRST_TO_GO = ("differs by", "idle", "device", "workers", "restarts", "Slurm", "samples/s")
UNREAD = 5  # files of a stage that are named where they cannot be read
HOLDERS = 12  # lines of who holds what, a stage; the longest-held first


def duration(seconds: float) -> str:
    """A length of time for people: duration(45) == "45 s", duration(7300) == "2 h 02 min", duration(200000) == "2 d 07 h"."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    if minutes < 60:
        return f"{minutes} min"
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes:02d} min" if hours < 24 else f"{hours // 24} d {hours % 24:02d} h"


def look(path: Path, slurm: bool = True) -> list[tuple[StageReport, StageJobs]]:
    """All stages below a path. A folder that cannot be read is left out, unless it is the only one."""
    reports, folders = [], find_stages(path, warn)
    for folder in folders:
        try:
            report = report_on(folder)
        except (InputError, StoreError) as e:
            if len(folders) == 1:
                raise
            warn(str(e))
            continue
        for what in report.unread[:UNREAD]:
            warn(what)
        if len(report.unread) > UNREAD:
            warn(f"{folder}: and {len(report.unread) - UNREAD} more files that cannot be read")
        named = jobs.of(folder, [h.slurm for h in report.held if h.slurm], warn) if slurm and not report.done else []
        reports.append((report, jobs.ask(named) if named else StageJobs()))
    return reports


def warn(what: str) -> None:
    print(message(f"warning: {what}"), file=sys.stderr)


def as_json(reports: Sequence[tuple[StageReport, StageJobs]]) -> str:
    """The same facts for programs: a list of stages."""
    whole = {
        root: {"left": dataclasses.asdict(now), "at_first": dataclasses.asdict(first)} for root, (now, first) in wholes(reports).items()
    }
    return json.dumps(
        [
            dataclasses.asdict(r) | {"live": r.live, "slurm": dataclasses.asdict(j), "all_stages": whole.get(Path(r.path).parent)}
            for r, j in reports
        ],
        indent=1,
    )


def wholes(reports: Sequence[tuple[StageReport, StageJobs]]) -> dict[Path, tuple[Left, Left]]:
    """Folder of a dataset -> (what is left of all stages of its newest run, what that began with), of runs that are not through."""
    found = {}
    known = {Path(r.path): r for r, _ in reports}
    for root in dict.fromkeys(path.parent for path in known):
        parts = kept(root)
        done = [p.folder for p in parts if (known[f].done if (f := root / p.folder) in known else (f / "done.json").exists())]
        if len(done) < len(parts):
            now = {p.folder: known[f].eta_s for p in parts if (f := root / p.folder) in known}
            found[root] = left(parts, done, now), left(parts)
    return found


def render(reports: Sequence[tuple[StageReport, StageJobs]], width: int = 200) -> Group:
    """The table, at most so many columns wide if its first ones are, then what it had no room for, why stages were given up, whose
    code is another, who holds what, why units failed."""
    apart = told_apart(Path(r.path) for r, _ in reports)
    rows = [_cells(r, j) | {"differs by": apart.get(Path(r.path), "")} for r, j in reports]
    shown = _columns(rows, width)
    lines = _told_below(rows, shown)
    lines += [f"  {root.name}: what is left of all stages: {now.compared(first)}" for root, (now, first) in wholes(reports).items()]
    for report, _ in reports:
        told = [*filter(None, [report.unsettled]), *(took_out(Path(report.path), report.kind) if report.done else []), *asked(report.work)]
        lines += _given_up(report) + [f"  {report.name}: {line}" for line in told]
        lines += _sources(report.work, report.name, report.done) + _holders(report) + _failures(report)
        lines += [f"  {report.name}: newest pictures in {report.preview}"] if report.preview else []
    return Group(*([_table(rows, shown)] if reports else []), *(Text(printable(line)) for line in lines))


def _columns(rows: Sequence[dict[str, str]], width: int) -> list[str]:
    """The names of the columns that are shown: those in which a stage has something to say, as far as there is room."""
    shown = [name for name in (rows[0] if rows else ()) if name in ALWAYS or any(row[name] for row in rows)]
    for name in FIRST_TO_GO:
        if 1 + sum(3 + max(len(n), *(len(row[n]) for row in rows)) for n in shown) <= width:
            break
        shown = [n for n in shown if n != name]
    return shown


def _told_below(rows: Sequence[dict[str, str]], shown: Sequence[str]) -> list[str]:
    """A line a stage of what the table has no column for."""
    told = [(row["stage"], [f"{name} {row[name]}" for name in row if row[name] and name not in shown]) for row in rows]
    return [f"  {stage}: {', '.join(parts)}" for stage, parts in told if parts]


def _table(rows: Sequence[dict[str, str]], shown: Sequence[str]) -> Table:
    """One row a stage. No name is wrapped: a terminal that is narrower still cuts the last columns."""
    table = Table()
    for name in shown:
        left = name in ("stage", "device", "Slurm", "differs by")
        table.add_column(name, justify="left" if left else "right", no_wrap=name == "stage", overflow="fold")
    for row in rows:
        table.add_row(*(Text(printable(row[name])) for name in shown))
    return table


def _cells(r: StageReport, j: StageJobs) -> dict[str, str]:
    stale = len(r.held) - r.live
    return {
        "stage": Path(r.path).name,
        "units": f"{r.committed:,}/{r.units:,}",
        "%": "done" if r.done else f"{100 * r.committed / max(1, r.units):.0f}",
        "leased": f"{r.live}" + (f" +{stale} dead" if stale else "") if r.held else "",
        "missing": f"{r.missing:,}" if r.missing else "",
        "set aside": f"{r.n_aside}" if r.n_aside else "",
        "samples/s": f"{r.work.samples_per_s:.1f}" if r.work.samples_per_s else "",
        "time left": duration(r.eta_s) if r.eta_s is not None else "",
        "idle": f"{100 * r.work.idle:.0f} %" if r.work.idle is not None else "",
        "workers": str(r.work.workers or ""),
        "restarts": str(r.work.restarts or ""),
        "device": ", ".join(f"{n} x {name}" for name, n in sorted(r.work.devices.items())),
        "Slurm": ", ".join(f"{n} {state.lower()}" for state, n in sorted(j.states.items())),
    }


def _sources(work: Work, name: str, done: bool) -> list[str]:
    """Workers that computed with other code than was planned, or than each other."""
    lines = [f"  {name}: {n} of {work.workers} workers: {why}" for why, n in work.edited.items()]
    if len(work.sources) > 1:
        each = ", ".join(f"{code} ({n})" for code, n in sorted(work.sources.items(), key=lambda item: -item[1]))
        lines.append(f"  {name}: its workers began with {len(work.sources)} versions of the code: {each}")
    if done:
        return lines
    fix = f"  {name}: to go on with one code: cancel, then the same command; with cluster.freeze=true jobs run from a copy of it"
    return [*lines, fix] if lines else []


def _holders(report: StageReport) -> list[str]:
    """One line a worker (and state) that holds units, the longest-held first."""
    by_worker: dict[tuple[str, str], list] = {}
    for held in sorted(report.held, key=lambda h: -h.seconds):
        by_worker.setdefault((held.worker, held.state), []).append(held)
    lines = []
    for (worker, state), held in list(by_worker.items())[:HOLDERS]:
        units = ", ".join(str(h.unit) for h in held[:5]) + (" ..." if held[5:] else "")
        job = f" (job {held[0].slurm})" if held[0].slurm else ""
        note = "" if state == "live" else f", {state}: the next worker takes it over"
        lines.append(f"  {report.name}: unit {units} by {worker}{job} for {duration(held[0].seconds)}{note}")
    if len(by_worker) > HOLDERS:
        states = Counter(h.state for h in report.held)
        lines.append(
            f"  {report.name}: and {len(by_worker) - HOLDERS} more workers ({', '.join(f'{n} {s}' for s, n in states.items())} in all)"
        )
    return lines


def _given_up(report: StageReport) -> list[str]:
    """The verdict of a gate; the lines of a log that it quotes are lines here."""
    if report.verdict is None:
        return []
    first, *others = report.verdict.why.splitlines() or [""]
    return [f"{report.name}: given up: {first}", *(f"    {line}" for line in others), f"    mend that, then run: {report.verdict.command}"]


def _failures(report: StageReport) -> list[str]:
    lines = []
    for aside in report.aside[:3]:
        lines += [f"{report.name}: unit {aside.unit} failed three times and is set aside: {aside.error}"]
        lines += [f"    {line}" for line in aside.traceback] + [
            f"    {aside.report}; run the same command with retry_failed=true to try again"
        ]
    if report.n_aside > 3:
        lines.append(f"{report.name}: and {report.n_aside - 3} more units are set aside; see {report.path}/failed")
    return lines


def parser() -> argparse.ArgumentParser:
    p = argparse.ArgumentParser(prog=as_typed("status"), description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    p.add_argument("path", nargs="?", type=Path, default=Path("runs"), help="runs folder, dataset folder or stage folder (default: runs)")
    p.add_argument(
        "--watch",
        nargs="?",
        type=float,
        const=5.0,
        metavar="SECONDS",
        help="look again every 5 (or so many) seconds, until ctrl-C",
    )
    p.add_argument("--failed", action="store_true", help="only stages with units that were set aside, or that were given up")
    p.add_argument("--json", action="store_true", help="the same facts for programs")
    p.add_argument("--no-slurm", action="store_true", help="do not ask Slurm about jobs")
    return p


def main(argv: Sequence[str] | None = None) -> int:
    args = parser().parse_args(argv)
    try:
        return tool(lambda: _show(args))
    except KeyboardInterrupt:
        return EXIT_OK


def _show(args: argparse.Namespace) -> int:
    def seen() -> list[tuple[StageReport, StageJobs]]:
        reports = look(args.path, not args.no_slurm)
        return [(r, j) for r, j in reports if r.n_aside or r.verdict is not None] if args.failed else reports

    if args.json:
        print(as_json(seen()))
        return EXIT_OK
    console = Console(width=None if sys.stdout.isatty() else 200)
    if args.watch is None:
        reports = seen()
        if args.failed and not reports:
            console.print("no stage that can be read has units that were set aside, none was given up")
        console.print(render(reports, console.width))
        return EXIT_OK
    with Live(render(seen(), console.width), console=console, auto_refresh=False) as live:
        while True:
            time.sleep(args.watch)
            live.update(render(seen(), console.width), refresh=True)
