"""Workers killed and drained at random moments and at every named fault point.

SYNTHSET_KILLS says how many (1,000 take half a minute of a free core, and thrice that of a busy one); SYNTHSET_KILLS_SEED picks others.
"""

import os
import random
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

import synth
from tests.faults.farm import FAST, SLOW, Child, check, claims_only, finish, left_over, plan, reference

KILLS = int(os.environ.get("SYNTHSET_KILLS", "400"))
SEED = int(os.environ.get("SYNTHSET_KILLS_SEED", "0"))
# of the store and the worker; what exports have of their own is tested with them
SOURCES = [p.read_text() for folder in ("", "store") for p in Path(synth.__file__).parent.joinpath(folder).glob("*.py")]
POINTS = sorted(set(re.findall(r'faults\.point\("(\w+)"\)', "\n".join(SOURCES))))


def campaign(root: Path, kills: int, seed: int, sig: int, workers: int = 3) -> dict:
    """Signal workers at random moments of their work until `kills` of them were hit; then every stage must be as undisturbed."""
    rng, hit, in_work, stages, ended = random.Random(seed), 0, 0, 0, 0
    while hit < kills:
        links, patch = rng.choice([(True, None), (True, None), (False, None), (False, claims_only)])
        probe = {
            "seed": stages,
            "sleep": rng.choice([0.0, 0.001, 0.004]),
            "size": rng.choice([10, 3000, 100_000]),
            "framing": rng.choice(["tar", "jsonl"]),
        }
        folder = plan(root / f"s{stages}", rng.choice([60, 300]), rng.choice([1, 6, 10]), rng.choice([1, 3, 10]), links, **probe)
        n_jobs = rng.choice([1, workers, 16])
        enough = hit + 100  # a slow stage shall not take all the kills
        living: list[Child] = []
        deadline: dict[int, float] = {}
        while hit < min(kills, enough) and not folder.is_done():
            while len(living) < workers:
                living.append(Child(folder, rng.randrange(n_jobs), n_jobs, env=FAST, patch=patch))
                if rng.random() < 0.1:  # most are hit in the middle of units, some anywhere from their first instant on
                    deadline[living[-1].pid] = time.monotonic() + rng.uniform(0, 0.05)
            for child in living:
                if child.began():
                    deadline[child.pid] = time.monotonic() + rng.uniform(0, rng.choice([0.002, 0.01, 0.03]))
                    in_work += 1
                if child.poll() is None and time.monotonic() >= deadline.get(child.pid, 1e99):
                    child.signal(sig)
                    code = child.wait()
                    hit += code in (-sig, 75)
                    assert code in (-sig, 75, 0), child.text()
                elif child.code is not None:
                    ended += 1
                    assert child.code == 0, child.text()
            living = [c for c in living if c.code is None]
            time.sleep(0.0005)
        for child in living:
            child.signal(sig)
            assert child.wait() in (-sig, 75, 0), child.text()
        want = reference(root / f"s{stages}", folder)
        check(folder, want, whole=False)
        finish(folder, patch=patch)
        check(folder, want)
        assert left_over(folder) == []
        stages += 1
    return {"hit": hit, "began a unit": in_work, "ended by themselves": ended, "stages": stages}


def elsewhere(root: Path, kills: int, seed: int, sig: int) -> str:
    """The campaign in a process of its own: thousands of forks of one that has torch in it would take minutes. What it printed."""
    code = (
        "from pathlib import Path; from tests.faults.test_kills import campaign; "
        f"print(campaign(Path({str(root)!r}), {kills}, {seed}, {int(sig)}))"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=Path(__file__).parents[2], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-8000:]
    return done.stdout


def test_workers_killed_at_random_moments_leave_what_an_undisturbed_run_leaves(tmp_path, capsys):
    begun = time.monotonic()
    facts = elsewhere(tmp_path, KILLS, SEED, signal.SIGKILL)
    with capsys.disabled():
        print(f"\nkills: {facts.strip()}, {time.monotonic() - begun:.1f} s")


def test_workers_drained_at_random_moments_leave_what_an_undisturbed_run_leaves(tmp_path):
    assert "hit" in elsewhere(tmp_path, max(30, KILLS // 6), SEED + 1, signal.SIGTERM)


@pytest.mark.parametrize("point", POINTS)
def test_a_worker_killed_at_a_fault_point_is_resumed(tmp_path, point):
    patch = claims_only if "claim" in point else None
    met = 0
    for nth in (1, 2, 3, 7):
        folder = plan(tmp_path / f"n{nth}", slots=25, unit=10, batch=3, links=patch is None)
        child = Child(folder, fault=f"{point}:kill@{nth}", patch=patch)
        met += (code := child.wait()) == -signal.SIGKILL
        assert code in (-signal.SIGKILL, 0), child.text()
        want = reference(tmp_path, folder)
        check(folder, want, whole=False)
        finish(folder, patch=patch)
        check(folder, want)
    assert met >= (1 if point == "before_finish" else 3)


@pytest.mark.parametrize("point", [p for p in POINTS if p != "before_finish"])
def test_a_worker_drained_at_a_fault_point_is_resumed(tmp_path, point):
    patch = claims_only if "claim" in point else None
    folder = plan(tmp_path / "a", slots=25, unit=10, batch=3, links=patch is None)
    child = Child(folder, fault=f"{point}:term@2", env=SLOW, patch=patch)
    assert child.wait() in (0, 75), child.text()
    assert (child.code == 0) == folder.is_done()
    want = reference(tmp_path, folder)
    check(folder, want, whole=False)
    finish(folder, env=SLOW, patch=patch)  # nobody has to wait for a drained worker's lease: it was let go
    check(folder, want)
