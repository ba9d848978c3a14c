"""What the judge found: a table of points, best first, and which one to take.

    synthset report runs                                        # the table again, of all judgements below a folder
    synthset report runs/pictures --out report.html             # one page of all points: curves, worst classes, duplicates, leaks
    synthset report runs --out points.json --out points.parquet # the numbers, for programs

Points that were measured with other features, on other test pictures or by other settings of the judge are not compared: they get a table
of their own. It reads folders only, so it may be run anywhere, by anyone, at any time.
"""

if __name__ == "__main__":  # python launch/report.py and python -m launch.report are synthset report
    import runpy

    runpy.run_path(f"{__file__.rpartition('/')[0]}/__main__.py", {"COMMAND": "report"}, "__main__")

import argparse
import json
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console

from launch.config.program import as_typed
from launch.show.judge import REPORT, judged, told
from launch.show.saying import say
from launch.show.stages import find_stages
from synth.errors import EXIT_OK, InputError, StoreError, tool
from synth.store.files import write_atomic
from synth.store.folder import StageFolder
from synth.terminal import message

if TYPE_CHECKING:
    from synth.judge.reading import Point

    Groups = Sequence[Sequence[Point]]


def reports_at(path: Path) -> list[Path]:
    """The stages of kind `judge_report` below a path that are done; others are told."""
    found = []
    for place in find_stages(path):
        try:
            folder = StageFolder.open(place)
        except (InputError, StoreError) as e:
            warn(str(e))
            continue
        if folder.spec.kind == REPORT:
            if folder.is_done():
                found.append(place)
            else:
                warn(f"{place}: is not done; the command that planned it completes it")
    return found


def warn(what: str) -> None:
    print(message(f"warning: {what}"), file=sys.stderr)


def _html(groups: "Groups") -> bytes:
    from synth.judge.page import page

    return page("Judge", groups).encode()


def _json(groups: "Groups") -> bytes:
    points = [{"label": p.label, "folder": str(p.folder)} | dict(p.facts) for group in groups for p in group]
    return json.dumps({"points": points}, indent=1, sort_keys=True, ensure_ascii=False).encode() + b"\n"


def _parquet(groups: "Groups") -> bytes:
    from synth.judge.tables import parquet

    return parquet(groups)


FORMS: "dict[str, Callable[[Groups], bytes]]" = {".html": _html, ".json": _json, ".parquet": _parquet}


def parser() -> argparse.ArgumentParser:
    p = argparse.ArgumentParser(prog=as_typed("report"), description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    p.add_argument("path", nargs="?", type=Path, default=Path("runs"), help="runs folder, dataset folder or stage folder (default: runs)")
    p.add_argument(
        "--out", action="append", type=Path, default=[], metavar="FILE", help=f"write a file: {', '.join(FORMS)}; may be given again"
    )
    return p


def main(argv: Sequence[str] | None = None) -> int:
    args = parser().parse_args(argv)
    return tool(lambda: _report(args.path, args.out))


def _report(path: Path, out: Sequence[Path]) -> int:
    for file in out:
        if file.suffix not in FORMS:
            raise InputError(f"--out {file}: write a file called {', '.join(f'*{suffix}' for suffix in FORMS)}")
        if not file.parent.is_dir():
            raise InputError(f"--out {file}: there is no folder {file.parent}; make it, or name another one")
    stages = reports_at(path)
    if not stages:
        raise InputError(f"{path}: holds no judgement; set judge.real or judge.test of a run, or use recipe=judge judge.source=FOLDER")
    groups = judged(stages, {})
    console = Console(width=None if sys.stdout.isatty() else 200)
    for group in groups:
        for line in told(group, console):
            say(console, line)
    for file in out:
        write_atomic(file, FORMS[file.suffix](groups))
        say(console, str(file))
    return EXIT_OK
