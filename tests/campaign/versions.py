"""Two versions of the code on one folder: the present one and an older commit, at once, as when somebody updates a clone during a run."""

import hashlib
import itertools
import random
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.campaign.report import Report
from tests.campaign.worlds import REPO, World, given, reference, works
from tests.earlier_units import as_now

BACK = (1, 5, 20)  # commits
REFUSED = ("another version", "this version reads", "not known to this version", "unknown key", "unknown stage kind")


def versions(folder: Path, rng: random.Random, deadline: float) -> Report:
    """Type the same command in both trees at once. Each says 0 or 75, or 65 and names the version; what is made is the same."""
    report = Report()
    for n in itertools.count():
        work = list(works(given(folder.parent)).values())[n % len(works(given(folder.parent)))]
        if time.monotonic() >= deadline or report.faults:
            break
        back = rng.choice(BACK)
        with older(folder / f"tree-{n}", back) as tree:
            if tree is None:
                report.count("runs", f"left out: no commit {back} back in this clone")
                break
            want = reference(folder.parent, work)
            world = World(folder / f"{n}-{work.name}", work)
            _together(world, tree, report)
            if not report.faults:
                code = world.start().wait()
                if code:
                    report.faults.append(f"{world.folder}: alone behind it: {code}: {world.said()[-1500:]}")
                _judge(world, want, report)
                report.count("runs with two versions", f"{work.name}, {back} back")
                world.remove()
    return report


@contextmanager
def older(place: Path, back: int) -> Iterator[Path | None]:
    """A tree of a commit that many back; None where this is no clone, or a shallow one."""
    git = ["git", "-C", str(REPO), "worktree"]
    done = subprocess.run([*git, "add", "--detach", "--force", place, f"HEAD~{back}"], capture_output=True)
    try:
        yield None if done.returncode else place
    finally:
        if not done.returncode:
            subprocess.run([*git, "remove", "--force", place], check=True, capture_output=True)


def _together(world: World, tree: Path, report: Report) -> None:
    words = [sys.executable, str(tree / "launch" / "run.py"), *world.command[2:]]
    log = world.folder / "log-of-the-older"
    with log.open("ab") as out:
        old = subprocess.Popen(
            words, cwd=tree, env=world.env | {"PYTHONPATH": str(tree)}, stdin=subprocess.DEVNULL, stdout=out, stderr=subprocess.STDOUT
        )
    new = world.start()
    for name, code, said in (("new", new.wait(), world.said()), ("older", old.wait(), log.read_text(errors="replace"))):
        report.count("exit codes", f"{name}: {code}")
        if code not in (0, 75) and not (code == 65 and any(sign in said for sign in REFUSED)):
            report.faults.append(f"{world.folder}: the {name} one ended with {code}: {said[-1500:]}")


def _judge(world: World, want: dict[str, str], report: Report) -> None:
    """As of one version, where they plan alike; what the older one planned otherwise lies in folders of its own."""
    found = world.digests()
    ours = {path: digest for path, digest in found.items() if path in want}
    for path in [p for p in ours if p.endswith(".tar") and "/units/" in p and ours[p] != want[p]]:  # the older may tell no digests of files
        ours[path] = hashlib.sha256(as_now((world.runs / path).read_bytes())).hexdigest()
    if ours != want:
        report.faults.append(f"{world.folder}: not as one version makes it: {sorted(want.items() - ours.items())[:5]}")
    report.count("compared", "files equal", len(ours))
    report.count("compared", "files in folders of the older one alone", len(found) - len(ours))
    for code, n in world.worker_codes().items():
        if code not in (0, 75):
            report.faults.append(f"{world.folder}: {n} workers ended with {code}")
