"""What a new user does in turn: doctor, which finds a thing wrong, then none; try; the estimate; a sweep; the report; clean."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from synth.store.events import read_events
from tests.slurm.devcluster import REPO, Cluster
from tests.slurm.launching import blind_python, launch, settle, stages, units, wait_whole, whole
from tests.slurm.test_doctor import MADE, doctor


def tool(cluster: Cluster, name: str, *args: object) -> str:
    """What a command says on its standard output; asserts exit code 0."""
    words = [sys.executable, str(REPO / "launch" / f"{name}.py"), *map(str, args)]
    done = subprocess.run(words, env=cluster.env, capture_output=True, text=True, timeout=200)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_a_new_user_walks_from_doctor_to_clean(cluster: Cluster, tmp_path: Path, disk: Path):
    runs = disk / "runs"
    keys = (*MADE, f"cluster.python={blind_python(tmp_path)}", "export=[image_folder]", "cluster.n_jobs=1")
    assert "did you mean main" in doctor(cluster, runs, *keys, "cluster.partition=mian", code=65)["partition (images)"]["fix"]
    rows = doctor(cluster, runs, *keys)
    assert rows["device of images"]["verdict"] == "ok" and all(row["verdict"] != "wrong" for row in rows.values())

    said = launch(cluster, runs, *keys, "try=2")
    assert "by 1 unit of the doctor's calibration" in said and f"report.py {runs}/try/pictures" in said
    wait_whole(cluster, runs / "try")
    tried = units(runs / "try")

    sweep = ("-m", *keys, "images.guidance_scale=1.5,4")
    dry = launch(cluster, runs, *sweep, "dry_run=true")
    assert dry.count("by 1 unit of images-") == 2 and "in all about" in dry and not whole(runs)
    launch(cluster, runs, *sweep)
    wait_whole(cluster, runs)
    settle(cluster)
    tool(cluster, "report", runs / "pictures", "--out", tmp_path / "report.json", "--out", tmp_path / "report.html")
    facts = json.loads((tmp_path / "report.json").read_text())
    totals, made = facts["totals"], stages(runs)
    stops = [event for s in made for event in read_events(s.path) if event["event"] == "stop"]
    assert len(stops) == sum(len(s["jobs"]) for s in facts["stages"]) == 6 and totals["samples"] == 8
    hours = sum(event["seconds"] for event in stops) / 3600
    assert totals["device_hours"] + totals["core_hours"] == pytest.approx(hours, rel=0.1)
    page = (tmp_path / "report.html").read_text()
    assert page.count("images.guidance_scale=") >= 2 and "data:image/" in page

    before = units(runs / "pictures") | units(runs)
    tool(cluster, "clean", runs, "--unused", "--yes")
    assert units(runs / "pictures") | units(runs) == before and units(runs / "try") == tried  # all of it is what exports are made of
    tool(cluster, "verify", runs / "pictures")
