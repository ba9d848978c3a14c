"""The report of a run: what was asked, made, rejected and spent, with pictures, points of a sweep side by side, and what the judge found.

    synthset report runs                                        # in a few lines, and which point to take
    synthset report runs/pictures --out report.html             # one page with all, to be opened anywhere
    synthset report runs/pictures --out report.html --watch     # written anew until the run is done
    synthset report runs --out report.json                      # the same facts, for programs
    synthset report runs --out points.parquet                   # the judge's numbers as a table

The page is one file without scripts, which loads nothing. Figures of work are those of the workers' events; pictures are read only to be
shown. Points that were measured with other features, on other test pictures or by other settings of the judge are not compared: they get a
table of their own. It reads folders only, so it may be run anywhere, by anyone, at any time, also while the run goes on.
"""

if __name__ == "__main__":  # python launch/report.py and python -m launch.report are synthset report
    import runpy

    runpy.run_path(f"{__file__.rpartition('/')[0]}/__main__.py", {"COMMAND": "report"}, "__main__")

import argparse
import json
import shlex
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console

from launch.config.program import as_typed
from launch.show.saying import say
from synth.errors import EXIT_OK, InputError, tool
from synth.store.files import write_atomic
from synth.terminal import message

if TYPE_CHECKING:
    from launch.reporting.facts import Report

PAGE, TABLE = ".html", ".parquet"
DAY = 86400  # seconds


def _html(report: "Report", file: Path, refresh: int) -> bytes:
    from launch.reporting.page import page

    return page(report, file, refresh).encode()


def _json(report: "Report", file: Path, refresh: int) -> bytes:
    from launch.reporting.facts import as_json

    data = json.dumps(as_json(report), indent=1, sort_keys=True, ensure_ascii=False)
    return data.encode(errors="backslashreplace") + b"\n"


def _parquet(report: "Report", file: Path, refresh: int) -> bytes:
    from synth.judge.tables import parquet

    if not report.judged:
        raise InputError(
            f"{report.path}: holds no judgement; set judge.real or judge.test of a run, or use recipe=judge judge.source=FOLDER"
        )
    return parquet(report.judged)


FORMS: "dict[str, Callable[[Report, Path, int], bytes]]" = {PAGE: _html, ".json": _json, TABLE: _parquet}


def parser() -> argparse.ArgumentParser:
    p = argparse.ArgumentParser(prog=as_typed("report"), description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    p.add_argument("path", nargs="?", type=Path, default=Path("runs"), help="runs folder, dataset folder or stage folder (default: runs)")
    p.add_argument(
        "--out", action="append", type=Path, default=[], metavar="FILE", help=f"write a file: {', '.join(FORMS)}; may be given again"
    )
    p.add_argument(
        "--watch",
        nargs="?",
        type=float,
        const=30.0,
        metavar="SECONDS",
        help="write the files anew every 30 (or so many) seconds until the run is done, or ctrl-C",
    )
    p.add_argument("--co2", type=float, metavar="GRAMS", help="CO2 of a kWh where the devices are: energy is told as CO2, too")
    return p


def main(argv: Sequence[str] | None = None) -> int:
    args = parser().parse_args(argv)
    try:
        return tool(lambda: _report(args))
    except KeyboardInterrupt:
        return EXIT_OK


def _report(args: argparse.Namespace) -> int:
    from launch.reporting.facts import gather

    _check(args)
    said: set[str] = set()

    def tell(what: str) -> None:
        if what not in said:
            said.add(what)
            print(message(f"warning: {what}"), file=sys.stderr)

    while True:
        report = gather(args.path, tell, args.co2)
        again = args.watch is not None and not report.done
        for file in args.out:
            write_atomic(file, FORMS[file.suffix](report, file, max(1, round(args.watch)) if again else 0))
        if not again:
            break
        time.sleep(args.watch)
    _show(report, args)
    return EXIT_OK


def _check(args: argparse.Namespace) -> None:
    for file in args.out:
        if file.suffix not in FORMS:
            raise InputError(f"--out {file}: write a file called {', '.join(f'*{suffix}' for suffix in FORMS)}")
        if not file.parent.is_dir():
            raise InputError(f"--out {file}: there is no folder {file.parent}; make it, or name another one")
    if args.watch is not None:
        if not args.out or any(file.suffix == TABLE for file in args.out):
            raise InputError(f"--watch: give --out FILE{PAGE} or FILE.json, which can be told of a run that goes on")
        if not 0 < args.watch <= DAY:
            raise InputError(f"--watch {args.watch:g}: give a number of seconds above 0, at most {DAY:,}")
    if args.co2 is not None and not 0 <= args.co2 < 1e6:
        raise InputError(f"--co2 {args.co2:g}: give grams of CO2 a kWh, such as 380")


def _show(report: "Report", args: argparse.Namespace) -> None:
    """The summary, the judge's tables, and the files that were written or the line that writes the page."""
    from launch.reporting.page import summary
    from launch.show.judge import told

    console = Console(width=None if sys.stdout.isatty() else 200)
    for line in summary(report):
        say(console, line)
    for group in report.judged:
        for line in told(group, console):
            say(console, line)
    for file in args.out:
        say(console, str(file))
    if not args.out:
        say(console, f"with pictures: {as_typed('report')} {shlex.quote(str(args.path))} --out report.html")
