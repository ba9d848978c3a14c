"""python -m tests.golden [--write] [--jobs N] [--work DIR]: see tests/golden/__init__.py."""

import argparse
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from tests.golden import golden as file
from tests.golden.record import CaseFailed, record, versions


def main(argv: Sequence[str] | None = None) -> int:
    """Exit codes: 0; 1 something differs, or a command of a case failed."""
    p = argparse.ArgumentParser(prog="python -m tests.golden", description="Run all cases and compare with golden.json.")
    p.add_argument("--write", action="store_true", help="write golden.json anew instead of comparing")
    p.add_argument("--jobs", type=int, default=0, help="run all cases with so many workers of cluster=local, which must change nothing")
    p.add_argument("--work", type=Path, help="a folder that is not there yet, to be looked at afterwards; without it a temporary one")
    args = p.parse_args(argv)
    with tempfile.TemporaryDirectory(prefix="golden-") as temp:
        work = (args.work or Path(temp, "work")).absolute()
        work.mkdir(parents=True)
        try:
            found = record(work, args.jobs)
        except CaseFailed as e:
            print(e, file=sys.stderr)
            return 1
        golden, made_with = file.read(), versions(work)
    if args.write:
        new = file.written(golden, found, made_with, file.machine())
        file.write(new)
        gone = [key for key in golden["machines"] if key not in new["machines"]]
        print(f"{file.FILE} is written" + "".join(f"\nthe entry of {key} is dropped: fingerprints have changed" for key in gone))
        return 0
    return _report(golden, found, made_with)


def _report(golden: dict, found: dict, made_with: dict[str, str]) -> int:
    """Print what differs; the exit code."""
    cases, bound = file.split(found)
    differ, key = list(file.differences(golden["cases"], cases)), file.known_machine(golden)
    if key is None:
        n, known = sum(map(len, bound.values())), ", ".join(golden["machines"]) or "none"
        print(f"not compared: bytes of the {n} stages of float models; golden.json has {known}, and this is {file.machine()}")
    else:
        differ += file.differences(golden["machines"][key], bound)
    for difference in differ:
        print(difference)
    then = golden["versions"]
    others = [f"{n} {then.get(n)} -> {made_with.get(n)}" for n in sorted({*then, *made_with}) if then.get(n) != made_with.get(n)]
    if differ and others:
        print(f"other versions made golden.json, which may be the reason: {', '.join(others)}")
    total, touched = sum(map(len, found.values())), len({(d.case, d.stage) for d in differ})
    print(f"{len(differ)} differences in {touched} of {total} stages" if differ else f"{total} stages are as in golden.json")
    return 1 if differ else 0


if __name__ == "__main__":
    sys.exit(main())
