"""launch/cancel.py against a scheduler that is played by a few lines; tests/slurm/test_cancel.py does it on a real one."""

import json
import os
import subprocess
import sys
from dataclasses import replace
from types import SimpleNamespace

import pytest

from launch import cancel
from launch.slurm import submissions
from tests.launch.conftest import REPO, environment
from tests.stages import probe

NAMES: dict[str, str] = {}  # of jobs


class Scheduler:
    """Jobs and their tasks' states; running tasks end `drains` looks after a USR2."""

    def __init__(self, jobs, drains=2, requeues=False):
        self.jobs, self.drains, self.requeues, self.calls, self.asked = jobs, drains, requeues, [], False

    def command(self, *args, timeout=0):
        self.calls.append(args)
        if args[0] == "scancel":
            self._scancel(args)
            return 0, "", ""
        if args[:2] == ("squeue", "-h") and "%j" in args:
            job = args[args.index("-j") + 1]
            return 0, f"{NAMES.get(job, 'training')}\n" * len(self.jobs[job]), ""
        if args[:2] == ("squeue", "-h") and "-j" in args:
            self._tick()
            tasks = self.jobs.get(args[args.index("-j") + 1], {})
            return (0, "".join(f"{t} {s} 0\n" for t, s in tasks.items()), "") if tasks else (1, "", "Invalid job id specified")
        if args[0] == "squeue":
            return 0, "14\n", ""
        return 1, "", "not played"

    def _scancel(self, args):
        states = {a.partition("=")[2] for a in args if a.startswith("--state")} or {"PENDING", "RUNNING"}
        if "--signal=USR2" in args:
            self.asked = True
            return
        for tasks in self.jobs.values():
            for task, state in tasks.items():
                tasks[task] = "CANCELLED" if state in states else state

    def _tick(self):
        if not self.asked:
            return
        self.drains -= 1
        if self.drains < 0:
            for tasks in self.jobs.values():
                for task, state in tasks.items():
                    if state == "RUNNING":
                        tasks[task] = "PENDING" if self.requeues else "FAILED"


@pytest.fixture
def play(monkeypatch):
    def with_(scheduler):
        monkeypatch.setattr("synth.host.slurm.command", scheduler.command)
        monkeypatch.setattr("launch.cancel.POLL", 0)
        NAMES.clear()
        return scheduler

    return with_


def stage(tmp_path, *ids):
    folder = probe(tmp_path)
    for n, job in enumerate(ids, 1):
        one = submissions.intend(folder.path, n)
        NAMES[job] = one.job_name
        submissions.record(folder.path, replace(one, state=submissions.SUBMITTED, arrays=(submissions.Array(job, 4),)))
    return folder.path


def test_all_live_jobs_of_a_run_are_cancelled_and_no_others(tmp_path, play):
    scheduler = play(Scheduler({"12": {"12_0": "RUNNING", "12_1": "PENDING"}, "13": {"13": "COMPLETED"}, "99": {"99": "RUNNING"}}))
    stage(tmp_path, "12", "13", "11")
    said = []
    assert cancel.cancel(tmp_path, False, 1, said.append) == 0
    assert [c for c in scheduler.calls if c[0] == "scancel"] == [("scancel", "12")] and said == ["cancelled: 12"]


def test_a_submission_whose_ids_were_lost_is_found_by_its_name(tmp_path, play):
    scheduler = play(Scheduler({"14": {"14_0": "RUNNING"}}))
    folder = probe(tmp_path)
    NAMES["14"] = submissions.intend(folder.path, 1).job_name
    assert cancel.cancel(folder.path, False, 1, print) == 0
    assert ("scancel", "14") in scheduler.calls


@pytest.mark.parametrize("requeues", [False, True])
def test_a_drain_cancels_what_is_pending_signals_what_runs_and_waits(tmp_path, play, requeues):
    scheduler = play(Scheduler({"12": {"12_0": "RUNNING", "12_1": "PENDING"}}, requeues=requeues))
    stage(tmp_path, "12")
    assert cancel.cancel(tmp_path, True, 5, print) == 0
    done = [c[1:] for c in scheduler.calls if c[0] == "scancel"]
    assert done[:2] == [("--state=PENDING", "12"), ("--state=RUNNING", "--signal=USR2", "12")] and done[-1] == ("12",)
    assert scheduler.jobs["12"] == {"12_0": "CANCELLED" if requeues else "FAILED", "12_1": "CANCELLED"}


def test_what_does_not_drain_in_time_is_cancelled_and_said(tmp_path, play):
    play(Scheduler({"12": {"12_0": "RUNNING"}}, drains=10**6))
    stage(tmp_path, "12")
    said = []
    assert cancel.cancel(tmp_path, True, 0, said.append) == 75 and "had not drained" in said[-1]


def test_nothing_to_cancel_is_no_error(tmp_path, play):
    play(Scheduler({}))
    stage(tmp_path, "12")
    assert cancel.cancel(tmp_path, True, 0, print) == 0


def test_without_slurm_the_command_says_what_is_missing(tmp_path):
    stage(tmp_path, "12")
    command = [sys.executable, str(REPO / "launch" / "cancel.py"), str(tmp_path)]
    done = subprocess.run(command, env=environment() | {"PATH": os.devnull}, capture_output=True, text=True)
    assert done.returncode == 65 and "squeue: not here" in done.stderr


def test_an_id_that_is_an_option_of_scancel_is_not_taken_and_its_record_is_named(tmp_path, play):
    """`scancel --me` would end everything that this user has in the queue."""
    folder = stage(tmp_path, "100")
    path = submissions.path_of(folder, 1)
    path.write_text(path.read_text().replace('"100"', '"--me"'))
    told = []
    scheduler = play(Scheduler({"--me": {"100": "RUNNING"}}))
    assert cancel.cancel(tmp_path, False, 1, told.append) == 0
    assert not [c for c in scheduler.calls if c[0] == "scancel"] and f"{path}: is no record of a submission" in told[0]


def test_a_job_that_a_record_names_and_that_is_not_of_this_stage_is_left_alone(tmp_path, play):
    """Under any number: one of no submission, one of another stage with a name that fits the record, and one that is used again."""
    scheduler = play(Scheduler({job: {job: "RUNNING"} for job in ("12", "13", "14")}))
    folder = stage(tmp_path, "12", "13", "14")
    NAMES["12"] = "training"
    other = f"other-{'0' * 8}"
    path = submissions.path_of(folder, 2)
    path.write_text(json.dumps(json.loads(path.read_text()) | {"token": "0" * 8, "job_name": other}))
    NAMES["13"] = other
    said = []
    assert cancel.cancel(tmp_path, False, 1, said.append) == 0
    assert [c for c in scheduler.calls if c[0] == "scancel"] == [("scancel", "14")]
    assert "names job 12, whose name ('training')" in said[0] and f"names job 13, whose name ('{other}')" in said[1]


def test_a_job_that_a_lease_names_is_cancelled_by_the_name_of_a_submission_alone(tmp_path, play, monkeypatch):
    scheduler = play(Scheduler({job: {job: "RUNNING"} for job in ("12", "50", "51")}))
    stage(tmp_path, "12")
    NAMES["50"] = NAMES["12"]
    held = [SimpleNamespace(slurm=f"{job}_0") for job in ("50", "51")]
    monkeypatch.setattr(cancel, "report_on", lambda stage: SimpleNamespace(held=held, unread=[]))
    said = []
    assert cancel.cancel(tmp_path, False, 1, said.append) == 0
    assert ("scancel", "12", "50") in scheduler.calls and "names job 51, whose name ('training')" in said[0]
