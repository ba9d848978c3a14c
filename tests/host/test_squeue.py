"""What is concluded from squeue's words, without any Slurm."""

import pytest

from synth.host.squeue import JobRef, Listed, is_live, parse_listing, parse_sacct, parse_states


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


def test_lines_of_squeue_are_read_and_foreign_ones_left_out():
    assert parse_states("11_3   RUNNING   1  \n\nslurm_load_jobs error: x\n11   PENDING  0\n") == {
        "11_3": ("RUNNING", 1),
        "11": ("PENDING", 0),
    }


@pytest.mark.parametrize("comment", ["", "tok", "(null)", "a|b", "project|2026|web", "two\nlines", "a|\nb||", '{"a": 1}'])
@pytest.mark.parametrize("at", ["1795236000", "N/A", "2026-11-27T01:46:15"])
def test_a_job_is_known_by_its_name_whatever_its_users_comment_holds(comment, at):
    other = "67108865|REVOKED|None|(null)||1795236001|far|1"
    text = f"{other}\n11_3|RUNNING|None|(null)|{comment}|{at}|images-0a1b.0\nslurm_load_jobs error: x\n{other}\n"
    jobs = parse_listing(text)
    assert [j.job for j in jobs] == ["67108865", "11_3", "67108865"] and jobs[2].name == "far|1"
    assert (jobs[1].name, jobs[1].state) == ("images-0a1b.0", "RUNNING")


def test_sacct_lines_are_read():
    assert parse_sacct("11_3|CANCELLED by 1000\n11_[4-7]|PENDING\n\nnonsense\n") == {"11_3": "CANCELLED", "11_[4-7]": "PENDING"}


def test_what_is_live_is_all_that_has_not_ended():
    assert is_live("PENDING") and is_live("COMPLETING") and is_live("SPECIAL_EXIT") and is_live("A_STATE_OF_2030")
    assert not is_live("COMPLETED") and not is_live("REVOKED")


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
