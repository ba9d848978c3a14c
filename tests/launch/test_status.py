"""launch/status.py: what a stage folder says, for people and for programs."""

import json
import os
import subprocess
import sys
import time
from dataclasses import replace

import pytest

from launch.show.stages import ends, find_stages, rate, report_on
from launch.slurm import jobs, submissions
from launch.slurm.jobs import StageJobs
from launch.status import duration, look, main, render
from synth.errors import InputError
from synth.host.slurm import Seen
from synth.run.loop import Worker
from synth.store import leases
from synth.store.leases import Owner
from tests.launch.conftest import REPO, environment
from tests.stages import probe


def text(found) -> str:
    from rich.console import Console

    console = Console(width=200, record=True, file=open(os.devnull, "w"))  # noqa: SIM115
    console.print(render(found))
    return console.export_text()


def test_a_done_stage_says_so_with_its_samples_and_idle_time(tmp_path):
    folder = probe(tmp_path)
    assert Worker(folder, 0, 1).run() == 0
    report = report_on(folder.path)
    assert report.done and report.samples == 40 and report.committed == report.units == 10 and report.missing == 0
    assert report.work.workers == 1 and report.work.restarts == 0 and 0 <= report.work.idle <= 1 and report.work.devices == {"cpu": 1}
    assert "done" in text([(report, StageJobs())])


def test_leases_are_told_as_live_silent_or_dead_and_the_rest_is_missing(tmp_path):
    folder = probe(tmp_path)
    here, away = Owner.me(), Owner("away-1-abc", "away", "another boot", 1, "1", "dev/11_3@1")
    gone = Owner("gone-2-abc", here.host, here.boot, 2**22 - 3, "1")
    for unit, owner in ((0, here), (1, away), (2, away), (3, gone)):
        leases.create(folder.lease_path(unit), unit, 0, owner).beat()
    released = leases.create(folder.lease_path(4), 4, 0, here)
    released.release()
    old = time.time() - 1000
    os.utime(folder.lease_path(2), (old, old))
    report = report_on(folder.path)
    assert {h.unit: h.state for h in report.held} == {0: "live", 1: "live", 2: "silent", 3: "dead"}
    assert report.held[1].slurm == "dev/11_3@1" and report.held[1].seconds == 20
    assert report.missing == 6 and report.first_missing == (4, 5, 6, 7, 8, 9) and report.live == 2
    shown = text([(report, StageJobs())])
    assert "2 +2 dead" in shown and "away-1-abc (job dev/11_3@1)" in shown and "silent: the next worker takes it over" in shown


def test_a_unit_that_was_set_aside_is_told_with_the_end_of_its_traceback(tmp_path):
    folder = probe(tmp_path, behaviour={"5": {"raise": "bug"}})
    assert Worker(folder, 0, 1).run() == 70
    report = report_on(folder.path)
    assert report.n_aside == 1 and report.missing == 0 and report.aside[0].unit == 1
    shown = text([(report, StageJobs())])
    assert (
        "RuntimeError: slot 5 raises as asked" in shown
        and "retry_failed=true" in shown
        and "Traceback" not in report.aside[0].traceback[-1]
    )


def test_pace_and_time_left_count_only_those_who_hold_a_live_lease(tmp_path):
    folder = probe(tmp_path, slots=400, unit_size=10)
    owner = Owner.me()
    lease = leases.create(folder.lease_path(5), 5, 0, owner)
    unit = {"event": "unit", "samples": 9, "tombstones": 1, "seconds": 5.0}
    for worker in (owner.worker, "dead-1-abc"):
        lines = [{"event": "start", "job_idx": 0}, *(unit | {"time": 100.0 + 10 * i} for i in range(500))]
        (folder.path / "events" / f"{worker}.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    report = report_on(folder.path)
    assert report.work.samples_per_s == pytest.approx(0.9) and report.eta_s == pytest.approx(400.0)
    assert report.work.workers == 2 and report.work.restarts == 1
    lease.close()


def test_rate_of_one_unit_is_by_its_own_seconds_and_of_none_is_zero():
    assert rate([{"event": "unit", "samples": 10, "time": 5.0, "seconds": 2.0}]) == (5.0, 5.0)
    assert rate([{"event": "start"}]) == (0.0, 0.0)


def test_the_ends_of_a_long_file_are_whole_lines(tmp_path):
    path = tmp_path / "w.jsonl"
    path.write_text("".join(json.dumps({"event": "e", "n": i}) + "\n" for i in range(20000)) + '{"torn": ')
    head, tail = ends(path)
    assert head[0]["n"] == 0 and tail[-1]["n"] == 19999 and len(tail) < 30


@pytest.mark.parametrize(
    ("seconds", "words"),
    [(0, "0 s"), (89, "89 s"), (95, "2 min"), (3600, "1 h 00 min"), (7300, "2 h 02 min"), (200000, "2 d 07 h")],
)
def test_durations_are_told_in_two_units_at_most(seconds, words):
    assert duration(seconds) == words


def test_stages_are_found_from_the_runs_folder_a_dataset_or_a_stage(tmp_path):
    folders = [probe(tmp_path / name).path for name in ("birds", "cars")]
    assert find_stages(tmp_path) == folders and find_stages(tmp_path / "cars") == folders[1:] and find_stages(folders[0]) == folders[:1]
    with pytest.raises(InputError, match="no stage here"):
        find_stages(tmp_path / "nowhere")


def test_a_torn_stage_does_not_hide_the_others(tmp_path, capsys):
    probe(tmp_path / "a")
    torn = probe(tmp_path / "b").path / "stage.json"
    torn.write_bytes(torn.read_bytes()[:50])
    assert len(look(tmp_path)) == 1 and "stage.json" in capsys.readouterr().err


def test_the_command_prints_a_table_or_json_and_names_a_wrong_path(tmp_path):
    folder = probe(tmp_path)
    status = [sys.executable, str(REPO / "launch" / "status.py")]
    run = lambda *words: subprocess.run([*status, *words], env=environment(), capture_output=True, text=True, timeout=30)  # noqa: E731
    assert folder.path.name in run(str(tmp_path)).stdout
    (stage,) = json.loads(run(str(folder.path), "--json").stdout)
    assert stage["missing"] == 10 and stage["slurm"]["answered"] is False
    wrong = run(str(tmp_path / "x"))
    assert wrong.returncode == 65 and "no stage here" in wrong.stderr
    assert "--watch" in run("--help").stdout


def test_watching_ends_with_ctrl_c(tmp_path, monkeypatch):
    probe(tmp_path)
    looks = []

    def sleep(seconds):
        looks.append(seconds)
        if len(looks) == 3:
            raise KeyboardInterrupt

    monkeypatch.setattr("launch.status.time.sleep", sleep)
    assert main([str(tmp_path), "--watch", "2"]) == 0 and looks == [2.0] * 3


# -- submissions ------------------------------------------------------------------------------------------------------------


def test_a_submission_is_written_as_an_intent_and_completed_with_its_job_ids(tmp_path):
    folder = probe(tmp_path)
    one = submissions.intend(folder.path, 1)
    assert submissions.read(folder.path) == [one] and one.state == submissions.INTENDED and one.job_ids == ()
    assert submissions.intend(folder.path, 1) is None
    done = submissions.record(folder.path, replace(one, state=submissions.SUBMITTED, arrays=(submissions.Array("1234", 16),), gate="1235"))
    two = submissions.intend(folder.path, 2)
    (folder.path / "submissions" / "0003.json").write_text("{")
    assert submissions.read(folder.path) == [done, two] and one.job_name != two.job_name and done.job_ids == ("1234", "1235")


def test_jobs_are_found_by_ids_by_name_and_by_their_leases(tmp_path, monkeypatch):
    monkeypatch.setattr("synth.host.slurm._name", "dev")
    folder = probe(tmp_path)
    submissions.record(
        folder.path,
        replace(submissions.intend(folder.path, 1), state=submissions.SUBMITTED, arrays=(submissions.Array("12", 4),)),
    )
    lost = submissions.intend(folder.path, 2)

    def seen(ids=(), names=(), cluster="", timeout=0):
        return [Seen("13_0", "RUNNING", 0, 1.0, lost.named("gate"))] if lost.named("gate") in names else []

    monkeypatch.setattr("synth.host.slurm.seen", seen)
    found = jobs.of(folder.path, ["dev/15_2@1", "other/16_0", "12_3"])
    assert {job.key for job in found} == {("dev", "12"), ("dev", "13"), ("dev", "15"), ("other", "16")}


def test_a_stage_is_not_said_to_have_the_jobs_that_have_its_numbers_by_chance(tmp_path, monkeypatch):
    monkeypatch.setattr("synth.host.slurm._name", "dev")
    folder = probe(tmp_path)
    one = submissions.intend(folder.path, 1)
    facts = {"state": submissions.SUBMITTED, "arrays": (submissions.Array("12", 4),), "gate": "13", "submitted": {"12": 5.0, "13": 6.0}}
    submissions.record(folder.path, replace(one, cluster="far", **facts))
    queue = [Seen("12_0", "RUNNING", 0, 5.0, one.named("0")), Seen("13", "RUNNING", 0, 6.0, "training")]
    monkeypatch.setattr("synth.host.slurm.seen", lambda ids, cluster, timeout: queue if cluster == "far" else None)
    assert jobs.ask(jobs.of(folder.path)) == StageJobs(True, {"RUNNING": 1}, {"far/12_0": "RUNNING"})
