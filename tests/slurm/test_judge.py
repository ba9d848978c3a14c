"""A sweep that is judged, on a real Slurm: the command submits, and report.py tells which point to take when all is done."""

import subprocess
import sys

from tests.fixtures_clip import build_tiny_clip
from tests.launch.plan.test_judge import pictures
from tests.slurm.devcluster import REPO
from tests.slurm.launching import blind_python, launch, settle, wait_whole


def test_a_sweep_ends_in_a_table(cluster, tmp_path):
    sets = [pictures(tmp_path / name, "cat", "dog", *more) for name, more in (("one", ()), ("other", ("owl",)), ("test", ()))]
    runs, clip = tmp_path / "runs", build_tiny_clip(tmp_path / "clip")
    words = ["-m", "recipe=judge", f"judge.source={sets[0]},{sets[1]}", f"judge.test={sets[2]}", "dataset.name=judged"]
    words += [f"features.model={clip}", f"cluster.python={blind_python(tmp_path)}", "cluster.n_jobs=1"]
    said = launch(cluster, runs, *words)
    assert said.count("gate") == 9  # the features of the test set are shared
    wait_whole(cluster, runs, 400)
    settle(cluster)
    told = subprocess.run([sys.executable, str(REPO / "launch" / "report.py"), str(runs)], capture_output=True, text=True, timeout=100)
    assert told.returncode == 0, told.stderr
    for text in (told.stdout, launch(cluster, runs, *words)):  # the same command again finds all done
        assert f"judge.source={sets[0]}" in text and "no point is better than the others by more than the noise" in text
