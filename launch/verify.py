"""Prove that what was made is whole.

Looks at every unit (there, readable, of the right number of samples, keys unique, in step with what it was made of) and at the exports
(every picture of the units is there, and nothing else). It reads the ends of the units only: a million samples take less than a minute.
--deep reads every byte: digests as recorded, JSON parses, labels within the classes, pictures decode, exports equal to their units.
--repair moves what is wrong aside (nothing is deleted), so that the same launch command makes it again.

Exit code 0: all is whole. 65: it is not; each problem is a line that names the file and the way to mend it.
"""

if __name__ == "__main__":  # python launch/verify.py and python -m launch.verify are synthset verify
    import runpy

    runpy.run_path(f"{__file__.rpartition('/')[0]}/__main__.py", {"COMMAND": "verify"}, "__main__")

import argparse
import dataclasses
import json
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from launch.config.program import as_typed
from launch.show.stages import find_stages
from synth.errors import EXIT_BAD_INPUT, EXIT_OK, InputError, StoreError, tool
from synth.run.findings import Findings
from synth.store.folder import StageFolder
from synth.store.out_folder import MARKER
from synth.terminal import printable
from synth.verify.files import is_export, stage_of, verify_files
from synth.verify.repair import repair
from synth.verify.stage import verify_stage

SHOWN = 50  # problems a stage that are printed without --all


def stages_at(path: Path) -> list[tuple[Path, StageFolder | InputError | StoreError]]:
    """The stages to look at: those below a path, or the one that wrote an export. A torn stage.json is told, not fatal."""
    if (Path(path) / MARKER).exists():
        folder = stage_of(path)
        return [(folder.path, folder)]
    closed: list[str] = []
    stages: list[tuple[Path, StageFolder | InputError | StoreError]] = []
    for place in find_stages(path, closed.append):
        try:
            stages.append((place, StageFolder.open(place)))
        except (InputError, StoreError) as e:
            stages.append((place, e))
    return stages + [(Path(path), StoreError(what)) for what in closed]


def verify(path: Path, deep: bool, mend: bool, progress: Callable[[str, int, int], None]) -> list[tuple[Findings, list[str]]]:
    """(findings, what was repaired) of every stage at a path; progress(stage, its slots, slots done since the last call)."""
    results = []
    for place, folder in stages_at(path):
        if isinstance(folder, InputError | StoreError):
            findings = Findings(str(place), "?", deep)
            findings.add(place, str(folder).removeprefix(f"{place}/"))
            results.append((findings, []))
            continue
        done = partial(progress, place.name, folder.spec.slots * (2 if is_export(folder) else 1))
        try:
            findings = verify_stage(folder, deep, done)
            if not findings.problems:
                verify_files(folder, deep, findings, done)
        except (InputError, StoreError) as e:  # of something that all checks need; the other stages are looked at all the same
            findings = Findings(str(place), folder.spec.kind, deep)
            findings.add(place, str(e).removeprefix(f"{place}/"))
        results.append((findings, repair(folder, findings) if mend else []))
    return results


def lines(findings: Findings, repaired: Sequence[str], everything: bool) -> list[str]:
    """What is said of one stage.

    >>> lines(Findings("runs/birds/images-1", "images", False, units=2, samples=8, devices={"cpu": 2}), [], False)
    ['whole    images-1: 2 units, 8 samples; made on cpu (2)']
    """
    tombstones = f", {findings.n_tombstones} tombstones" if findings.tombstones else ""
    devices = "; made on " + ", ".join(f"{d} ({n})" for d, n in sorted(findings.devices.items())) if findings.devices else ""
    state = "whole   " if not findings.problems else "PROBLEMS"
    text = [f"{state} {Path(findings.path).name}: {findings.units} units, {findings.samples} samples{tombstones}{devices}"]
    text += [f"    {n} x {reason}" for reason, n in sorted(findings.tombstones.items(), key=lambda kv: -kv[1])[:5]]
    text += [f"    note: {note}" for note in findings.notes]
    shown = findings.problems if everything else findings.problems[:SHOWN]
    text += [f"    {p}" for p in shown]
    if len(shown) < len(findings.problems):
        text.append(f"    and {len(findings.problems) - len(shown)} more; --all shows them")
    return text + [f"    {line}" for line in repaired]


def as_json(results: Sequence[tuple[Findings, list[str]]]) -> str:
    return json.dumps([dataclasses.asdict(f) | {"repaired": done} for f, done in results], indent=1)


def parser() -> argparse.ArgumentParser:
    p = argparse.ArgumentParser(prog=as_typed("verify"), description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    p.add_argument("path", type=Path, help="runs folder, dataset folder, stage folder or the folder of an export")
    p.add_argument("--deep", action="store_true", help="read every byte: digests, JSON, labels, pictures")
    p.add_argument("--repair", action="store_true", help="move what is wrong aside; then run the same launch command again")
    p.add_argument("--all", action="store_true", help=f"show all problems, not {SHOWN} a stage")
    p.add_argument("--json", action="store_true", help="the findings for programs")
    return p


def main(argv: Sequence[str] | None = None) -> int:
    args = parser().parse_args(argv)
    console = Console(stderr=True)
    bars = Progress(
        TextColumn("{task.description}"), BarColumn(bar_width=32), MofNCompleteColumn(), TimeRemainingColumn(),
        console=console, disable=not console.is_terminal, transient=True,
    )  # fmt: skip
    tasks: dict[str, int] = {}

    def progress(name: str, slots: int, more: int) -> None:
        if name not in tasks:
            tasks[name] = bars.add_task(name, total=slots)
        bars.advance(tasks[name], more)

    def work() -> int:
        with bars:
            results = verify(args.path, args.deep, args.repair, progress)
        if args.json:
            print(as_json(results))
        else:
            for findings, repaired in results:
                print("\n".join(printable(line) for line in lines(findings, repaired, args.all)))
            print(verdict(results, args.deep, args.repair))
        return EXIT_BAD_INPUT if any(f.problems for f, _ in results) else EXIT_OK

    return tool(work)


def verdict(results: Sequence[tuple[Findings, list[str]]], deep: bool, repaired: bool) -> str:
    bad = [f for f, _ in results if f.problems]
    if not bad:
        how = "every byte was read" if deep else "indices, numbers and names agree; --deep reads every byte"
        return f"{len(results)} stages are whole: {how}."
    end = (
        "run the same launch command again to make it anew"
        if repaired
        else "--repair sets it aside, then the same launch command makes it again"
    )
    return f"{sum(len(f.problems) for f in bad)} problems in {len(bad)} of {len(results)} stages: {end}."
