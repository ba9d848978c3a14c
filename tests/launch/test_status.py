"""launch/status.py: what a stage folder says, for people and for programs."""

import json
import os
import subprocess
import sys
import time
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest

from launch import report, status, verify
from launch.show import removable
from launch.show.stages import ends, find_stages, rate, report_on
from launch.slurm import jobs, submissions
from launch.slurm.jobs import StageJobs
from launch.status import _sources, duration, look, main, render
from synth.errors import EXIT_BAD_INPUT, EXIT_OK, InputError, StoreError
from synth.host.squeue import Seen
from synth.run.loop import Worker
from synth.store import leases
from synth.store.leases import Owner
from tests.launch.conftest import REPO, environment
from tests.stages import probe


def text(found, width=200) -> str:
    from rich.console import Console

    console = Console(width=width, record=True, file=open(os.devnull, "w"))  # noqa: SIM115
    console.print(render(found, width))
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
    found = partial(find_stages, tell=pytest.fail)
    assert found(tmp_path) == folders and found(tmp_path / "cars") == folders[1:] and found(folders[0]) == folders[:1]
    with pytest.raises(InputError, match="no stage here"):
        found(tmp_path / "nowhere")


def test_a_folder_that_may_not_be_read_is_not_said_to_hold_no_stage(tmp_path, monkeypatch):
    (tmp_path / "birds").mkdir()
    monkeypatch.setattr("os.access", lambda path, mode: path != tmp_path / "birds")  # root may read all
    with pytest.raises(StoreError, match=r"birds: cannot be read.* is not known"):
        find_stages(tmp_path, pytest.fail)


@pytest.mark.parametrize("closed", ["birds", "cars/images-0123456789ab"])
def test_a_folder_that_may_not_be_read_among_others_is_told_by_every_command(tmp_path, monkeypatch, capsys, closed):
    stage = probe(tmp_path / "cars")
    assert Worker(stage, 0, 1).run() == EXIT_OK
    (tmp_path / closed).mkdir()
    (tmp_path / "lost+found").mkdir()
    monkeypatch.setattr("os.access", lambda path, mode: path not in (tmp_path / closed, tmp_path / "lost+found", stage.path / "units"))
    for command in (status, report, verify):
        code = command.main([str(tmp_path)])
        said = capsys.readouterr()
        told = [line for line in (said.out + said.err).splitlines() if "cannot be read" in line]
        assert code == (EXIT_BAD_INPUT if command is verify else EXIT_OK)
        assert (
            len(told) == 1
            and str(tmp_path) in told[0]
            and f"{closed}: cannot be read" in told[0]
            and "whether a stage is there is not known" in told[0]
        )
    assert [p.path for p in removable.read_stages(stage.path).below] == [stage.path]
    assert len(removable.read_stages(stage.path).unread) == 1  # nothing goes that a stage there may be made of


def test_a_stage_that_is_named_by_a_dot_has_its_jobs(tmp_path, monkeypatch):
    """Its jobs are known by the name of its folder."""
    folder = probe(tmp_path).path
    submissions.intend(folder, 1)
    monkeypatch.chdir(folder)
    assert [find_stages(p, pytest.fail) for p in (Path(), Path("../../") / folder.parent.name / folder.name)] == [[folder]] * 2


def test_a_torn_stage_does_not_hide_the_others(tmp_path, capsys):
    probe(tmp_path / "a")
    torn = probe(tmp_path / "b").path / "stage.json"
    torn.write_bytes(torn.read_bytes()[:50])
    assert len(look(tmp_path)) == 1 and "stage.json" in capsys.readouterr().err


def test_the_command_prints_a_table_or_json_and_names_a_wrong_path(tmp_path):
    folder = probe(tmp_path)
    status = [sys.executable, str(REPO / "launch" / "status.py")]
    run = lambda *words: subprocess.run([*status, *words], env=environment(), capture_output=True, text=True, timeout=240)  # noqa: E731
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
    queue = [Seen("12_0", "RUNNING", 0, 5.0, one.named("0")), Seen("13", "RUNNING", 0, 7.0, "training")]
    monkeypatch.setattr("synth.host.slurm.seen", lambda ids, cluster, timeout: queue if cluster == "far" else None)
    assert jobs.ask(jobs.of(folder.path)) == StageJobs(True, {"RUNNING": 1}, {"far/12_0": "RUNNING"})
    queue[1] = replace(queue[1], submitted=6.0)  # the time fits: this site gives jobs names of its own, as `order.part_of` has it
    assert jobs.ask(jobs.of(folder.path)).tasks == {"far/12_0": "RUNNING", "far/13": "RUNNING"}


def test_workers_with_other_code_than_was_planned_or_than_each_other_are_told(tmp_path, monkeypatch):
    folder = probe(tmp_path)
    assert Worker(folder, 0, 2).run() == 0
    report = report_on(folder.path)
    (code,) = report.work.sources
    assert report.work.sources == {code: 1} and not report.work.edited and "code" not in text([(report, StageJobs())])
    monkeypatch.setenv("SYNTHSET_CODE", "0123456789ab")
    assert Worker(folder, 1, 2).run() == 0
    (folder.path / "events" / "old-1-abc.jsonl").write_text('{"event": "start", "job_idx": 2, "sources": "ba9876543210"}\n')
    shown = text([(report_on(folder.path), StageJobs())])
    assert f"1 of 3 workers: the code is {code}, and was 0123456789ab when this was submitted" in shown
    assert f"began with 2 versions of the code: {code} (2), ba9876543210 (1)" in shown and "cluster.freeze" not in shown  # it is done
    assert "cluster.freeze=true" in _sources(report_on(folder.path).work, "probe", False)[-1]


def test_a_narrow_terminal_shows_whole_names_and_tells_below_what_has_no_room(tmp_path):
    folder = probe(tmp_path)
    assert Worker(folder, 0, 1).run() == 0
    found = [(report_on(folder.path), StageJobs())]
    assert "idle" in text(found).splitlines()[1]
    narrow = text(found, width=50).splitlines()
    assert "idle" not in narrow[1] and folder.path.name in narrow[3]
    assert f"{folder.path.name}: idle" in narrow[5] and "device 1 x cpu" in narrow[5]


def test_stages_of_one_name_are_told_apart_by_what_differs_here_or_upstream(tmp_path):
    from launch.show.points import _short, told_apart
    from synth.filters.config import PerceptualHashConfig
    from tests.fixtures_images import child

    swept = [probe(tmp_path, seed=n) for n in (1, 2)]
    behind = [child(tmp_path, "perceptual_hash", PerceptualHashConfig(method="phash"), {"images": [f]}) for f in swept]
    lone = probe(tmp_path / "other")
    assert _short("x" * 90 + "cat", ["x" * 90 + "cat", "x" * 90 + "dog"]).endswith("xcat")
    told = told_apart([f.path for f in (*swept, *behind, lone)] + [tmp_path / "torn-0123"])
    assert told == {f.path: f"probe.seed={n}" for n in (1, 2) for f in (swept[n - 1], behind[n - 1])} | {lone.path: ""}


def test_only_what_failed_is_shown_where_that_is_asked_for(tmp_path, capsys):
    for n, behaviour in enumerate(({}, {"5": {"raise": "bug"}})):
        folder = probe(tmp_path / str(n), behaviour=behaviour)
        Worker(folder, 0, 1).run()
    assert main([str(tmp_path / "1"), "--failed", "--no-slurm"]) == 0 and folder.path.name in capsys.readouterr().out
    assert main([str(tmp_path / "0"), "--failed", "--no-slurm"]) == 0 and "none was given up" in capsys.readouterr().out
