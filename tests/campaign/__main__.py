"""python -m tests.campaign [--seed N] [--minutes M] [--phase NAME ...] [--work DIR]: see tests/campaign/__init__.py."""

import argparse
import os
import random
import shutil
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from tests.campaign.phases import PHASES

NICE = 10  # others use this machine too


def main(argv: Sequence[str] | None = None) -> int:
    """Exit codes: 0; 1 a promise did not hold: then the folder stays."""
    p = argparse.ArgumentParser(prog="python -m tests.campaign", description="Disturb real runs, and compare what they made.")
    p.add_argument("--seed", type=int, default=0, help="of all that is random")
    p.add_argument("--minutes", type=float, default=20.0, help="in all; what is being run then is finished undisturbed")
    p.add_argument("--phase", nargs="+", choices=[phase.name for phase in PHASES], help="only these")
    p.add_argument("--work", type=Path, help="a folder that is not there yet, and stays; without it a temporary one")
    args = p.parse_args(argv)
    os.nice(NICE)
    work = args.work or Path(tempfile.mkdtemp(prefix="campaign-"))
    work.mkdir(parents=True, exist_ok=True)
    phases = [phase for phase in PHASES if not args.phase or phase.name in args.phase]
    whole, clean = sum(phase.share for phase in phases), True
    for phase in phases:
        folder, began = work / phase.name, time.monotonic()
        folder.mkdir()
        deadline = began + 60 * args.minutes * phase.share / whole
        report = phase.run(folder, random.Random(f"{args.seed}/{phase.name}"), deadline)
        clean = clean and not report.faults
        print(f"{phase.name}: seed {args.seed}, {time.monotonic() - began:.0f} s\n{report}", flush=True)
    print("clean" if clean else f"NOT clean: see {work}")
    if clean and not args.work:
        shutil.rmtree(work)
    return 0 if clean else 1


if __name__ == "__main__":
    sys.exit(main())
