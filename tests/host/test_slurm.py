"""What is concluded from squeue's words, without any Slurm."""

import pytest

from synth.host.slurm import EVERY, JobRef, SlurmJobs, command, is_over, parse_states

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


class Squeue:
    def __init__(self, states):
        self.states, self.asked, self.now = states, [], 0.0

    def __call__(self, base):
        self.asked.append(base)
        return self.states

    def jobs(self, me=ME):
        return SlurmJobs(me, self, clock=lambda: self.now)


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
