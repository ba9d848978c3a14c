"""What is concluded from squeue's words, without any Slurm."""

import time

import pytest

from synth.host.slurm import (
    EVERY,
    JobRef,
    Listed,
    SlurmError,
    SlurmJobs,
    ask,
    call,
    command,
    hides_jobs,
    home,
    is_live,
    is_over,
    job_states,
    parse_sacct,
    parse_states,
)

ME = JobRef("7_0", 1, "dev")


@pytest.mark.parametrize("ref", [JobRef("11"), JobRef("11_3"), JobRef("11_3", 2), JobRef("11_3", 2, "dev"), JobRef("11", 0, "a-b.c")])
def test_a_job_reference_reads_back_what_it_wrote(ref):
    assert JobRef.parse(str(ref)) == ref


def test_a_job_reference_comes_from_the_environment():
    env = {
        "SLURM_JOB_ID": "12",
        "SLURM_ARRAY_JOB_ID": "11",
        "SLURM_ARRAY_TASK_ID": "3",
        "SLURM_RESTART_COUNT": "1",
        "SLURM_CLUSTER_NAME": "dev",
    }
    assert str(JobRef.from_env(env)) == "dev/11_3@1"
    assert str(JobRef.from_env({"SLURM_JOB_ID": "12"})) == "12"
    assert JobRef.from_env({}) is None and JobRef.parse("") is None and JobRef.parse("x y") is None


def test_an_incarnation_is_over_when_its_job_ended_was_requeued_or_is_unknown():
    assert is_over(None, 0) and is_over(("COMPLETED", 0), 0) and is_over(("PENDING", 1), 0) and is_over(("RUNNING", 1), 0)
    assert not is_over(("RUNNING", 1), 1) and not is_over(("COMPLETING", 0), 0) and not is_over(("A_STATE_OF_2030", 0), 0)


def test_lines_of_squeue_are_read_and_foreign_ones_left_out():
    assert parse_states("11_3   RUNNING   1  \n\nslurm_load_jobs error: x\n11   PENDING  0\n") == {
        "11_3": ("RUNNING", 1),
        "11": ("PENDING", 0),
    }


def test_sacct_lines_are_read():
    assert parse_sacct("11_3|CANCELLED by 1000\n11_[4-7]|PENDING\n\nnonsense\n") == {"11_3": "CANCELLED", "11_[4-7]": "PENDING"}


def test_what_is_live_is_all_that_has_not_ended():
    assert is_live("PENDING") and is_live("COMPLETING") and is_live("SPECIAL_EXIT") and is_live("A_STATE_OF_2030")
    assert not is_live("COMPLETED") and not is_live("REVOKED")


class Squeue:
    def __init__(self, states):
        self.states, self.asked, self.now = states, [], 0.0
        self.hidden = False  # whether the site shows users their own jobs alone

    def __call__(self, base):
        self.asked.append(base)
        return self.states

    def jobs(self, me=ME):
        return SlurmJobs(me, self, clock=lambda: self.now, hidden=lambda: self.hidden)


def test_an_earlier_incarnation_of_the_own_job_is_gone_without_asking():
    squeue = Squeue(None)
    assert squeue.jobs().gone("dev/7_0") and not squeue.jobs().gone("dev/7_0@1") and not squeue.jobs().gone("dev/7_0@2")
    assert squeue.asked == []


def test_jobs_of_other_clusters_and_without_a_job_of_ones_own_are_not_judged():
    squeue = Squeue({})
    assert not squeue.jobs().gone("other/9") and not squeue.jobs(None).gone("dev/9") and not squeue.jobs().gone("")
    assert squeue.asked == []


def test_one_array_is_asked_about_once_in_a_while():
    squeue = Squeue({"9_1": ("RUNNING", 0)})
    jobs = squeue.jobs()
    assert not jobs.gone("dev/9_1")
    squeue.now += 0.5
    assert not jobs.gone("dev/9_2")  # first seen now: a listing from before may be older than its lease
    squeue.now += 1
    assert not jobs.gone("dev/9_2") and squeue.asked == ["9"]
    squeue.now += EVERY
    assert jobs.gone("dev/9_2") and not jobs.gone("dev/9_1") and squeue.asked == ["9", "9"]


def test_where_a_site_hides_jobs_of_others_one_that_it_does_not_show_may_live():
    """PrivateData=jobs: squeue knows nothing of another user's job, as of one that is long over."""
    squeue = Squeue({"9_1": ("COMPLETED", 0)})
    squeue.hidden = True
    jobs = squeue.jobs()
    assert not jobs.gone("dev/9_2")  # its beat tells
    assert jobs.gone("dev/9_1")  # one's own are shown for a while after their end


@pytest.mark.parametrize(
    ("said", "hides"), [("none", False), ("jobs", True), ("accounts,jobs,usage", True), ("Events, Jobs", True), ("usage", False)]
)
def test_whether_a_site_hides_jobs_is_read_off_its_config(monkeypatch, said, hides):
    monkeypatch.setattr("synth.host.slurm._config", {"PrivateData": said})
    assert hides_jobs() is hides


@pytest.mark.parametrize(
    ("state", "reason", "held"),
    [
        ("PENDING", "JobHeldUser", True),
        ("PENDING", "JobHeldAdmin", True),
        ("PENDING", "launch failed requeued held", True),
        ("PENDING", "JobHoldMaxRequeue", True),
        ("PENDING", "Priority", False),
        ("RUNNING", "None", False),
    ],
)
def test_what_holds_a_job_is_known_by_the_reason(state, reason, held):
    assert Listed("11", state, reason, "", "", "n").held is held


def test_a_task_that_started_after_a_listing_is_not_judged_by_it():
    squeue = Squeue({"9_1": ("RUNNING", 0), "9_2": ("PENDING", 0)})
    jobs = squeue.jobs()
    jobs.gone("dev/9_1")
    squeue.now += 2
    assert not jobs.gone("dev/9_2")


def test_a_silent_controller_frees_nothing_and_is_left_alone_for_a_while():
    squeue = Squeue(None)
    jobs = squeue.jobs()
    assert not jobs.gone("dev/9") and not jobs.gone("dev/8") and squeue.asked == ["9"]


def test_a_missing_command_is_no_error(monkeypatch):
    monkeypatch.setenv("PATH", "/nonexistent")
    assert command("squeue", "-h") is None
    assert ask("squeue", "-h") == "" and job_states("11") is None
    with pytest.raises(SlurmError, match="squeue: not found on this machine"):
        call("squeue", "-h")


def script(folder, monkeypatch, text):
    """A squeue of our own."""
    (folder / "squeue").write_text(f"#!/bin/sh\n{text}\n")
    (folder / "squeue").chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}:/usr/bin:/bin")


def test_commands_run_without_input_and_without_the_variables_of_an_enclosing_job(tmp_path, monkeypatch):
    script(tmp_path, monkeypatch, 'cat; echo "$SLURM_CONF $SQUEUE_FORMAT $SLURM_JOB_ID $SLURM_TIME_FORMAT"')
    for name in ("SLURM_CONF", "SQUEUE_FORMAT", "SLURM_JOB_ID"):
        monkeypatch.setenv(name, name)
    assert ask("squeue") == "SLURM_CONF   %s\n"


def test_a_command_that_does_not_answer_in_time_is_like_a_controller_that_is_away(tmp_path, monkeypatch):
    script(tmp_path, monkeypatch, "sleep 60")
    assert command("squeue", timeout=0.1) == (124, "", "Socket timed out: no answer in 0.1 s") and job_states("11", timeout=0.1) is None
    monkeypatch.setattr("synth.host.slurm.CALL", 0.1)
    with pytest.raises(SlurmError, match="Socket timed out"):
        call("squeue", patience=0.0)


def test_a_controller_that_is_away_is_waited_for_and_a_refusal_is_not(tmp_path, monkeypatch):
    away = "echo slurm_load_jobs error: Unable to contact slurm controller >&2; exit 1"
    script(tmp_path, monkeypatch, f"[ -e {tmp_path}/back ] && echo here && exit; touch {tmp_path}/back; {away}")
    assert call("squeue") == "here\n"
    script(tmp_path, monkeypatch, f"echo x >> {tmp_path}/asked; echo Invalid user id >&2; exit 1")
    with pytest.raises(SlurmError, match="squeue: Invalid user id"):
        call("squeue")
    assert (tmp_path / "asked").read_text() == "x\n"


def test_a_controller_that_is_silent_is_not_asked_for_its_config_again_and_never_longer_than_a_caller_waits(tmp_path, monkeypatch):
    """A look at a screen asks it for every job of every stage."""
    for name, unknown in (("_config", {}), ("_name", ""), ("_again", 0.0)):
        monkeypatch.setattr(f"synth.host.slurm.{name}", unknown)
    script(tmp_path, monkeypatch, "exit 1")
    told = f"[ -e {tmp_path}/back ] && echo ClusterName=dev || sleep 60"
    (tmp_path / "scontrol").write_text(f"#!/bin/sh\necho x >> {tmp_path}/asked; {told}\n")
    (tmp_path / "scontrol").chmod(0o755)
    began = time.monotonic()
    assert home("", 0.2) == "" and command("squeue", timeout=0.2, cluster="far") == (1, "", "") and not hides_jobs()
    assert (tmp_path / "asked").read_text() == "x\n" and time.monotonic() - began < 5
    (tmp_path / "back").touch()
    script(tmp_path, monkeypatch, "exit 0")
    assert call("squeue") == "" and home("") == "dev"  # once it has answered it is asked
