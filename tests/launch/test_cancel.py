"""launch/cancel.py against a scheduler that is played by a few lines; tests/slurm/test_cancel.py does it on a real one."""

import json
import os
import subprocess
import sys
import time
from dataclasses import replace
from types import SimpleNamespace

import pytest

from launch import cancel
from launch.slurm import submissions
from synth.errors import InputError
from tests.launch.conftest import REPO, environment
from tests.stages import probe

NAMES: dict[str, str] = {}  # of jobs
AGES: dict[str, float] = {}  # of jobs: when they were submitted; by themselves, now
RESTARTED: set[str] = set()


class Scheduler:
    """Jobs and their tasks' states, on cluster dev and, where it is named before them ("far/12"), on others; running tasks end `drains`
    looks after a USR2."""

    def __init__(self, jobs, drains=2, requeues=False, silent=()):
        self.jobs, self.drains, self.requeues, self.calls, self.asked, self.silent = jobs, drains, requeues, [], False, silent

    def command(self, *args, timeout=0, cluster=""):
        self.calls.append((args[0], *(("-M", cluster) if cluster not in ("", "dev") else ()), *args[1:]))
        if cluster in self.silent:
            return 1, "", "Unable to contact slurm controller"
        there = "" if cluster in ("", "dev") else f"{cluster}/"
        if args[0] == "scancel":
            self._scancel(args)
            return 0, "", ""
        if args[0] == "squeue" and "-n" in args:
            names = args[args.index("-n") + 1].split(",")
            return 0, "".join(self._lines(job, there) for job in self.jobs if NAMES.get(job) in names), ""
        if args[0] == "squeue":
            self._tick()
            lines = "".join(self._lines(there + job, there) for job in args[args.index("-j") + 1].split(","))
            return (0, lines, "") if lines else (1, "", "slurm_load_jobs error: Invalid job id specified")
        return 1, "", "not played"

    def _lines(self, job, there):
        if not job.startswith(there) or "/" in job.removeprefix(there):
            return ""
        about = f"{int(job in RESTARTED)} {AGES.get(job, time.time()):.0f} {NAMES.get(job, 'training')}"
        return "".join(f"{task} {state} {about}\n" for task, state in self.jobs.get(job, {}).items())

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
        monkeypatch.setattr("synth.host.slurm._name", "dev")
        for facts in (NAMES, AGES, RESTARTED):
            facts.clear()
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


def test_several_stages_are_cancelled_by_one_command_and_the_others_beside_them_are_not(tmp_path, play, capsys):
    scheduler = play(Scheduler({job: {job: "RUNNING"} for job in ("12", "13", "14")}))
    a, _, c = (stage(tmp_path / name, job) for name, job in (("a", "12"), ("b", "13"), ("c", "14")))
    assert cancel.main([str(a), str(c), str(tmp_path / "a")]) == 0
    assert [c for c in scheduler.calls if c[0] == "scancel"] == [("scancel", "12", "14")]


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
    assert cancel.cancel(tmp_path, False, 1, said.append) == 75  # without their times nobody knows: a site may give jobs names of its own
    assert [c for c in scheduler.calls if c[0] == "scancel"] == [("scancel", "14")] and said[-1].endswith("of this run: 12, 13")
    assert "names job 12, whose name ('training')" in said[0] and f"names job 13, whose name ('{other}')" in said[1]
    assert said[0].endswith("left alone (scancel 12 ends it)")


def test_a_job_that_a_lease_names_is_cancelled_by_the_name_of_a_submission_alone(tmp_path, play, monkeypatch):
    scheduler = play(Scheduler({job: {job: "RUNNING"} for job in ("12", "50", "51")}))
    stage(tmp_path, "12")
    NAMES["50"] = NAMES["12"]
    held = [SimpleNamespace(slurm=f"{job}_0") for job in ("50", "51")]
    monkeypatch.setattr(cancel, "report_on", lambda stage: SimpleNamespace(held=held, unread=[]))
    said = []
    assert cancel.cancel(tmp_path, False, 1, said.append) == 75
    assert ("scancel", "12", "50") in scheduler.calls and "names job 51, whose name ('training')" in said[0]


def known(tmp_path, number, job, **facts):
    """One more submission, with the time at which its job was submitted."""
    folder = probe(tmp_path)
    one = submissions.intend(folder.path, number)
    facts = {"state": submissions.SUBMITTED, "arrays": (submissions.Array(job, 4),), **facts}
    return submissions.record(folder.path, replace(one, **facts))


@pytest.mark.parametrize(
    ("recorded", "submitted", "restarted", "cancelled"),
    [
        (1000.0, 1000.0, False, True),
        (1000.0, 5000.0, False, False),  # numbers began anew
        (1000.0, 500.0, False, False),
        (1000.0, 5000.0, True, True),  # requeued, which Slurm counts as a submission
        (0.0, -3600.0, False, False),  # an older record: by the clock of who submitted, seconds from its intent
        (0.0, 3600.0, False, True),
    ],
)
def test_a_job_of_another_time_is_left_alone_though_number_and_name_agree(tmp_path, play, recorded, submitted, restarted, cancelled):
    scheduler = play(Scheduler({"12": {"12_0": "RUNNING"}}))
    one = known(tmp_path, 1, "12", submitted={"12": recorded} if recorded else {})
    NAMES["12"], AGES["12"] = one.named("0"), submitted if recorded else one.created + submitted
    RESTARTED.update({"12"} if restarted else ())
    said = []
    assert cancel.cancel(tmp_path, False, 1, said.append) == 0
    assert (("scancel", "12") in scheduler.calls) == cancelled
    assert cancelled or "names job 12, which was submitted" in said[0]


def test_jobs_of_several_clusters_are_cancelled_where_they_are(tmp_path, play):
    scheduler = play(Scheduler({"12": {"12_0": "RUNNING"}, "far/12": {"12_0": "RUNNING"}, "13": {"13_0": "RUNNING"}}))
    one, two = known(tmp_path, 1, "12", cluster="far"), known(tmp_path, 2, "13", cluster="dev")
    NAMES.update({"far/12": one.named("0"), "13": two.named("0")})  # 12 of dev is somebody's training
    said = []
    assert cancel.cancel(tmp_path, True, 5, said.append) == 0
    done = [c for c in scheduler.calls if c[0] == "scancel"]
    assert ("scancel", "-M", "far", "12") in done and ("scancel", "13") in done and said[-1] == "cancelled: 12 of cluster far 13"
    assert not any("12" in c for c in done if "-M" not in c)


def test_what_a_cluster_of_a_federation_has_dropped_is_taken_out_of_its_queue(tmp_path, play, monkeypatch):
    monkeypatch.setattr(cancel.slurm, "federation", lambda timeout=0.0: ("dev", "far"))
    scheduler = play(Scheduler({"12": {"12": "REVOKED"}, "13": {"13": "REVOKED"}, "far/13": {"13": "COMPLETED"}}))
    one, two = known(tmp_path, 1, "12", cluster="dev"), known(tmp_path, 2, "13", cluster="dev")
    NAMES.update({"12": one.named("0"), "13": two.named("0"), "far/13": two.named("0")})
    assert cancel.cancel(tmp_path, False, 1, print) == 0
    assert [c for c in scheduler.calls if c[0] == "scancel"] == [("scancel", "12")]


def test_a_cluster_that_does_not_answer_is_told_and_the_others_cancelled(tmp_path, play):
    scheduler = play(Scheduler({"13": {"13_0": "RUNNING"}}, silent=("far",)))
    known(tmp_path, 1, "12", cluster="far")
    NAMES["13"] = known(tmp_path, 2, "13").named("0")
    said = []
    assert cancel.cancel(tmp_path, False, 1, said.append) == 75
    assert ("scancel", "13") in scheduler.calls and "not cancelled: 12 of cluster far" in said[-1]


def test_live_jobs_that_have_another_name_and_the_time_of_their_record_are_not_said_to_be_none(tmp_path, play):
    """A site that gives jobs names of its own."""
    scheduler = play(Scheduler({"12": {"12_0": "RUNNING"}}))
    known(tmp_path, 1, "12", submitted={"12": 1000.0})
    NAMES["12"], AGES["12"] = "grp_lab_x", 1000.0
    said = []
    assert cancel.cancel(tmp_path, False, 1, said.append) == 75 and not [c for c in scheduler.calls if c[0] == "scancel"]
    assert "scancel 12 ends it" in said[0] and said[1:] == ["left alone, though they may be of this run: 12"]
    AGES["12"] = 5000.0
    assert cancel.cancel(tmp_path, False, 1, said.append) == 0 and said[-1] == "no job of this run is pending or running"


def test_where_the_own_cluster_is_silent_jobs_of_others_are_cancelled(tmp_path, play):
    scheduler = play(Scheduler({"far/12": {"12_0": "RUNNING"}}, silent=("dev",)))
    NAMES["far/12"] = known(tmp_path, 1, "12", cluster="far").named("0")
    known(tmp_path, 2, "13", cluster="dev")
    said = []
    assert cancel.cancel(tmp_path, False, 1, said.append) == 75
    assert ("scancel", "-M", "far", "12") in scheduler.calls and "not cancelled: 13" in said[-1]


@pytest.mark.parametrize("name", ["dev", ""])  # "": nor does scontrol answer
def test_where_no_cluster_answers_nothing_is_said_of_jobs(tmp_path, play, name, monkeypatch):
    play(Scheduler({}, silent=("dev", "")))
    monkeypatch.setattr("synth.host.slurm._name", name)
    monkeypatch.setattr("synth.host.slurm._config", {"PrivateData": "none"})
    known(tmp_path, 1, "13", cluster="dev")
    said = []
    with pytest.raises(InputError, match="no answer"):
        cancel.cancel(tmp_path, False, 1, said.append)
    assert said == []


@pytest.mark.parametrize("cluster", ["all", "far,all", "-x", "far;rm"])
def test_a_record_whose_cluster_is_no_name_is_none(tmp_path, cluster):
    """`scancel -M all 12` would end job 12 of every cluster."""
    folder = stage(tmp_path, "12")
    path = submissions.path_of(folder, 1)
    path.write_text(json.dumps(json.loads(path.read_text()) | {"cluster": cluster}))
    assert submissions.read(folder) == []


def test_a_record_of_an_older_version_is_read_and_its_jobs_cancelled(tmp_path, play):
    """It has ids alone, and one name for all of its jobs."""
    scheduler = play(Scheduler({"12": {"12_0": "RUNNING"}, "13": {"13": "PENDING"}}))
    one = known(tmp_path, 1, "12", gate="13")
    path = submissions.path_of(probe(tmp_path).path, 1)
    raw = json.loads(path.read_text())
    path.write_text(json.dumps({k: v for k, v in raw.items() if k not in ("cluster", "submitted")}))
    NAMES.update({"12": one.job_name, "13": one.job_name})
    assert cancel.cancel(tmp_path, False, 1, print) == 0
    assert ("scancel", "12", "13") in scheduler.calls


def test_jobs_of_somebody_else_are_told_as_that_and_ones_own_cancelled(tmp_path, play, monkeypatch):
    scheduler = play(Scheduler({"12": {"12_0": "PENDING"}, "13": {"13_0": "PENDING"}}))
    path = stage(tmp_path, "12", "13")
    submissions.record(path, replace(submissions.read(path)[1], user="alice"))
    plain = scheduler.command

    def command(*args, **options):
        done = plain(*args, **options)
        if args[0] == "scancel" and "13" in args:
            return 1, "", "scancel: error: Kill job error on job id 13_[0]: Access/permission denied\n"
        return done

    monkeypatch.setattr("synth.host.slurm.command", command)
    said = []
    assert cancel.cancel(tmp_path, True, 0, said.append) == 75
    assert "cancelled: 12" in said and "alice's, who can cancel them: 13" in said


def test_jobs_that_a_site_hides_are_not_said_to_be_none(tmp_path, play, monkeypatch):
    """PrivateData=jobs."""
    play(Scheduler({}))
    path = stage(tmp_path, "12")
    submissions.record(path, replace(submissions.read(path)[0], user="alice"))
    monkeypatch.setattr("os.geteuid", lambda: 1000)
    monkeypatch.setattr("synth.host.slurm._config", {"PrivateData": "jobs"})
    said = []
    assert cancel.cancel(tmp_path, False, 1, said.append) == 75
    assert len(said) == 1 and "alice submitted it (jobs 12), and this site shows nobody the jobs of others" in said[0]
