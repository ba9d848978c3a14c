"""What reaches workers where a site exports nothing, and which code they run where the sources are edited while jobs wait."""

import json
import shutil
import sys
from pathlib import Path

import pytest

from synth.host.code import digest
from synth.store.events import read_events
from tests.slurm.devcluster import REPO, Cluster
from tests.slurm.launching import QUICK, SMALL, settle, stage, wait_whole

PROBE = ("recipe=probe", "probe.slots=4", "probe.unit_size=4", "cluster.n_jobs=1", "cluster.heal=0")


@pytest.fixture
def clone(tmp_path) -> Path:
    """Sources that may be edited."""
    leave = shutil.ignore_patterns("__pycache__", "*.safetensors", "*.pth", "*.png", "*.sbatch")
    for name in ("conf", "launch", "synth"):
        shutil.copytree(REPO / name, tmp_path / "clone" / name, symlinks=True, ignore=leave)
    return tmp_path / "clone"


def test_frozen_jobs_of_a_site_that_exports_nothing_run_as_if_nothing_were_missing_or_edited(cluster: Cluster, clone, tmp_path):
    """--export=NONE keeps neither cluster.env nor home nor path from workers, and sources that break while they wait do not matter."""
    runs, before = tmp_path / "runs", digest(clone)
    note, python = tmp_path / "env.json", tmp_path / "python"
    dump = f"import json, os; json.dump(dict(os.environ), open({str(note)!r}, 'w'))"
    python.write_text(f'#!/bin/bash\n{sys.executable} -c "{dump}"\nexec {sys.executable} "$@"\n')
    python.chmod(0o755)
    keys = ("cluster.freeze=true", "+cluster.extra.export=NONE", "+cluster.extra.begin=now+2", "+cluster.env.OF_THE_USER=1")
    words = ("cluster=slurm", f"runs_dir={runs}", *SMALL, *PROBE, *keys, f"cluster.stages.probe.python={python}")
    cluster.run(
        sys.executable, clone / "launch" / "run.py", *words, cwd=tmp_path, timeout=180, **QUICK, PYTHONPATH=str(clone), HOME="/nowhere"
    )
    for name in ("synth/run/loop.py", "launch/slurm/gate.py"):
        (clone / name).write_text("raise SystemExit('half written')\n")
    wait_whole(cluster, runs)
    settle(cluster)
    events = list(read_events(stage(runs, "probe").path))
    assert [e["sources"] for e in events if e["event"] == "start"] == [before] and not [e for e in events if e["event"] == "sources"]
    seen = json.loads(note.read_text())
    assert seen["OF_THE_USER"] == "1" and seen["HOME"] not in ("", "/nowhere") and "/usr/bin" in seen["PATH"] and seen["USER"]
