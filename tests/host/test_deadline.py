"""The end of a job's time: parsing, margin, and when a worker stops."""

import time

import pytest

from synth.host.deadline import ENV_LIMIT, FLOOR, Deadline, end_from_env, margin, parse_end


@pytest.mark.parametrize("text", ["", "N/A", "Unknown", "NONE", "0", "UNLIMITED", "2026-11-21"])
def test_an_end_that_says_nothing_is_none(text):
    assert parse_end(text) is None


def test_an_end_is_read_as_seconds_or_as_local_time():
    assert parse_end(" 1795236000\n") == 1795236000
    assert parse_end(time.strftime("%Y-%m-%dT%H:%M:%S", time.localtime(1795236000))) == 1795236000


def test_the_environment_is_asked_before_squeue_and_our_own_limit_last():
    env = {"SLURM_JOB_ID": "5", "SLURM_JOB_END_TIME": "2000", ENV_LIMIT: "60"}
    assert end_from_env(env, started=1000) == 2000
    assert end_from_env({ENV_LIMIT: "60"}, started=1000) == 1060
    assert end_from_env({ENV_LIMIT: "a day"}, started=1000) is None
    assert Deadline(env, ask=pytest.fail, clock=lambda: 1000).left() == 1000


def test_an_array_task_asks_by_its_task_and_an_answer_that_fails_keeps_the_last():
    asked, answers = [], [5000.0, None]
    env = {"SLURM_JOB_ID": "11", "SLURM_ARRAY_JOB_ID": "11", "SLURM_ARRAY_TASK_ID": "3"}
    deadline = Deadline(env, ask=lambda job: asked.append(job) or answers.pop(0), clock=lambda: 4000)
    assert deadline.left() is None and not deadline.is_near(1e9)
    deadline.ask()
    deadline.ask()
    assert asked == ["11_3", "11_3"] and deadline.left() == 1000


def test_outside_a_job_there_is_no_end_and_nobody_is_asked():
    deadline = Deadline({}, ask=pytest.fail)
    assert deadline.left() is None and not deadline.is_near(1e9)


def test_the_margin_grows_with_the_longest_batch():
    assert margin(0) == FLOOR and margin(100) > 100 + FLOOR
    near = Deadline({"SLURM_JOB_END_TIME": "1100"}, clock=lambda: 1000)
    assert not near.is_near(10) and near.is_near(100)
