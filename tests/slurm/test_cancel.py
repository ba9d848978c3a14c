"""launch/cancel.py and launch/status.py on a real Slurm."""

import json
import sys
from dataclasses import replace

from launch.slurm import submissions
from tests.slurm.devcluster import REPO
from tests.slurm.test_stage_sbatch import submit
from tests.stages import alone, digests, events, probe


def command(cluster, name, *words):
    return cluster.run(sys.executable, REPO / "launch" / name, *words)


def status(cluster, folder):
    return json.loads(command(cluster, "status.py", folder.path, "--json").stdout)[0]


def test_status_names_jobs_and_cancel_drains_them(cluster, tmp_path):
    folder = probe(tmp_path, slots=4000, unit_size=400, sleep=0.5)
    one = submissions.intend(folder.path, 1)
    recorded = submit(cluster, folder, "--array=0-1", f"--job-name={one.job_name}")
    by_hand = submit(cluster, folder, "--array=5", f"--job-name={one.job_name}")
    waiting = submit(cluster, folder, "--array=6", "--begin=now+1hour", f"--job-name={one.job_name}")
    cluster.wait_for("three workers at work", lambda: len(events(folder, "open")) == 3 and folder.progress() >= 6)

    # status does not wait for a controller that is slow to answer. The ids were never recorded: found by name and by leases
    states = {"RUNNING": 3, "PENDING": 1}
    seen = cluster.wait_for("all four jobs", lambda: (s := status(cluster, folder))["slurm"]["states"] == states and s)
    assert seen["live"] == 3 and {h["slurm"] for h in seen["held"]} == {
        f"dev/{recorded}_0",
        f"dev/{recorded}_1",
        f"dev/{by_hand}_5",
    }

    done = command(cluster, "cancel.py", tmp_path, "--drain")
    assert "cancelled:" in done.stdout
    assert {e["code"] for e in events(folder, "stop")} == {75} and len(events(folder, "stop")) == 3
    assert set(cluster.wait_done(waiting).values()) == {"CANCELLED"}
    assert cluster.wait_done(recorded) and cluster.wait_done(by_hand)
    cluster.wait_for("nothing to be held", lambda: status(cluster, folder)["held"] == [])
    kept = folder.progress()
    assert kept >= 6

    finish = submit(cluster, folder, "--array=0-9", f"--job-name={one.job_name}")
    cluster.wait_for("the adoption of what was kept", lambda: len(events(folder, "adopted")) == 3, 40)
    command(cluster, "cancel.py", folder.path)
    cluster.wait_done(finish)


def test_cancel_leaves_a_stage_that_another_submission_completes(cluster, tmp_path):
    folder = probe(tmp_path, slots=40, unit_size=10, sleep=0.3)
    one = submissions.intend(folder.path, 1)
    array = submissions.Array(submit(cluster, folder, "--array=0-1", f"--job-name={one.job_name}"), 2)
    first = submissions.record(folder.path, replace(one, state=submissions.SUBMITTED, arrays=(array,)))
    cluster.wait_for("some batches", lambda: folder.progress() >= 4)
    command(cluster, "cancel.py", folder.path)
    cluster.wait_done(first.job_ids[0])
    cluster.wait_done(submit(cluster, folder, "--array=0-3"), 60)
    assert digests(folder) == alone(tmp_path, folder)
