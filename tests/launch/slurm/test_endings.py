"""What is concluded from how jobs ended."""

from pathlib import Path

import pytest

from launch.slurm import endings
from launch.slurm.endings import Ended, Told, judge, parse_records, told_by
from launch.slurm.submissions import MEM

BASES = {"11"}


def start(worker: str, slurm: str) -> dict:
    return {"worker": worker, "event": "start", "slurm": slurm}


def stop(worker: str, code: int, why: str) -> dict:
    return {"worker": worker, "event": "stop", "code": code, "why": why}


def conclude(tasks, told=None, tmp_path=Path("/nowhere"), gained=False, tries=0, raised=""):
    return judge(tasks, told or Told(), {t.job: tmp_path / f"{t.job}.log" for t in tasks}, "images", gained, tries, raised)


def begun(*jobs: str, **stops: tuple[int, str]) -> Told:
    ended = {f"11_{n[1:]}": said for n, said in stops.items()}
    return Told(frozenset(jobs), [(job, *said) for job, said in ended.items()], frozenset(jobs) - set(ended))


def test_workers_are_matched_by_the_jobs_that_they_name_and_those_of_other_submissions_left_out():
    events = [start("a", "dev/11_0"), stop("a", 65, "bad"), start("b", "dev/12_0"), stop("b", 65, "other"), start("c", "11_1@2")]
    told = told_by(events, BASES)
    assert told == Told(frozenset({"11_0", "11_1"}), [("11_0", 65, "bad")], frozenset({"11_1"}))
    went_on = [start("a", "11_0"), start("b", "11_0@1"), stop("b", 0, ""), start("c", "11_2"), stop("c", 0, ""), start("d", "11_2")]
    assert told_by(went_on, BASES).cut == {"11_2"}  # of 11_0 an earlier start was preempted; beside a worker of 11_2 another was killed


def test_bad_input_is_final_unless_units_were_made_and_no_node_is_to_blame_for_it():
    tasks = [Ended("11_0", "FAILED", 65, "n1"), Ended("11_1", "COMPLETED", 0, "n2")]
    told = begun("11_0", "11_1", j0=(65, "no such file"))
    reason = conclude(tasks, told)
    assert reason.final and reason.why == "no such file (job 11_0; its log: /nowhere/11_0.log)" and not reason.mem
    after = conclude(tasks, told, gained=True)
    assert not after.final and after.without == () and "no such file" in after.why
    both = begun("11_0", "11_1", j0=(65, "no such file"), j1=(65, "no such file"))
    assert "and so said 1 more" in conclude(tasks, both).why


@pytest.mark.parametrize(
    ("mem", "asked", "key"),
    [
        ("4G", "8192M", "cluster.stages.images.mem=8192M"),
        ("100M/cpu", "200M/cpu", "cluster.stages.images.extra.mem-per-cpu=200M"),
        ("7.81G", "15995M", "cluster.stages.images.mem=15995M"),
    ],
)
def test_want_of_memory_is_met_once_and_then_said_with_its_figure(mem, asked, key):
    tasks = [Ended(f"11_{i}", "OUT_OF_MEMORY", 0, "n1", mem) for i in range(6)]
    first = conclude(tasks)
    assert first.mem == asked and not first.final and key in first.why and MEM.fullmatch(first.mem)
    again = conclude(tasks, raised=mem)
    assert again.final and not again.mem and mem.partition("/")[0] in again.why and "11_0, 11_1, 11_2 and 3 more" in again.why
    assert not conclude(tasks, raised=mem, gained=True).final


def test_want_of_memory_that_a_worker_tells_counts_and_all_of_a_node_cannot_be_doubled():
    killed = begun("11_0", j0=(75, "torchrun was killed by SIGKILL: the memory that this job may use was full (the kernel's oom_kill)"))
    assert conclude([Ended("11_0", "FAILED", 75, "n1", "4G")], killed).mem == "8192M"
    whole = conclude([Ended("11_0", "OUT_OF_MEMORY", 0, "n1", "0")])
    assert not whole.mem and "set cluster.stages.images.mem" in whole.why
    assert "than they may use (Slurm" in conclude([Ended("11_0", "OUT_OF_MEMORY", 0, "n1")]).why


@pytest.mark.parametrize(
    "line",
    [
        "slurmstepd-n1: error: StepId=11.batch exceeded memory limit (436310016 > 104857600), being killed",
        "slurmstepd: error: Exceeded job memory limit",
        "slurmstepd: error: Detected 1 oom_kill event in StepId=11.batch. Some of the step tasks have been OOM Killed.",
        "slurmstepd: error: Detected 1 oom-kill event(s) in StepId=11.batch cgroup.",
        # of a step in a job whose script goes on to its end: FAILED, too, and 1
        "slurmstepd-n1: error: Detected 1 oom-kill event(s) in StepId=11.0. Some of your processes may have been killed by the cgroup ..",
        "slurmstepd: error: Detected 2 oom_kill events in StepId=11.0. Some of the step tasks have been OOM Killed.",
        "srun: error: n1: task 0: Out Of Memory",
        "srun: error: n1: tasks 0-1,3: Out Of Memory",
    ],
)
def test_a_job_that_slurm_killed_for_memory_under_another_state_is_known_by_its_log(tmp_path, line):
    """With OverMemoryKill a job is FAILED by SIGKILL, as one is that anything else kills; with cgroups by srun's exit code, which is 1."""
    task, log = Ended("11_0", "FAILED", 1 if "11.0" in line or "srun" in line else -9, "n1", "100M"), tmp_path / "11_0.log"
    log.write_text(f"a worker begins\n{line}\nslurmstepd-n1: error: *** JOB 11 ON n1 CANCELLED AT 2026-11-27T01:46:17 ***\n")
    for told in (begun("11_0"), Told()):
        reason = conclude([task], told, tmp_path)
        assert reason.mem == "200M" and "the 100M that they may use" in reason.why and not reason.final
    assert conclude([task], tmp_path=tmp_path, raised="200M").final
    log.write_text(f"a caption: {line}\n")  # of a worker, that anything else killed
    assert not conclude([task], begun("11_0"), tmp_path).mem
    log.write_text(f"{line}\n10:00:00 job 11 task 0 restart 1 on n1: /runs\nKilled\n")  # of an earlier start
    assert not conclude([task], begun("11_0"), tmp_path).mem


def test_a_child_of_a_worker_that_was_killed_for_memory_is_no_want_of_memory_where_the_worker_went_on(tmp_path):
    """srun ends with 1 then, whatever the worker ended with; later versions may call the whole job OUT_OF_MEMORY."""
    line = "slurmstepd-n1: error: Detected 1 oom-kill event(s) in StepId=11.0.\nsrun: error: n1: task 0: Out Of Memory\n"
    for state, code in (("FAILED", 1), ("OUT_OF_MEMORY", -125)):
        task = Ended("11_0", state, code, "n1", "100M", starved=True)
        (tmp_path / "11_0.log").write_text(line)
        bad = conclude([task], begun("11_0", j0=(65, "no such file")), tmp_path)
        assert bad.final and "no such file" in bad.why and not bad.mem
        done = conclude([task, Ended("11_1", "NODE_FAIL", 0, "n2")], begun("11_0", "11_1", j0=(0, "nothing left")), tmp_path)
        assert not done.mem and not done.final and "memory" not in done.why
        beside = Told(frozenset({"11_0"}), [("11_0", 0, "nothing left")], frozenset({"11_0"}))  # of two workers in a job one was killed
        assert conclude([task], beside, tmp_path).mem == "200M"


def test_a_job_that_was_killed_for_memory_before_a_worker_began_blames_no_node():
    killed = Ended("11_0", "FAILED", 1, "n1", "10M", starved=True)
    for told in (Told(), begun("11_1")):
        reason = conclude([killed, Ended("11_1", "COMPLETED", 0, "n2", "10M")], told)
        assert reason.mem == "20M" and not reason.without and "before a worker began" not in reason.why


def test_a_job_that_no_worker_began_in_is_told_by_its_last_lines(tmp_path):
    (tmp_path / "11_0.log").write_text("".join(f"line {n}\n" for n in range(9)) + "bash: module: command not found\n\n")
    tasks = [Ended("11_0", "FAILED", 65, "n1"), Ended("11_1", "FAILED", 65, "n2")]
    reason = conclude(tasks, tmp_path=tmp_path)
    assert reason.final and "line 4" not in reason.why and reason.why.endswith("  line 8\n  bash: module: command not found")
    assert "11_0, 11_1 ended before a worker began (FAILED, exit code 65 on n1, FAILED, exit code 65 on n2)" in reason.why
    alone = conclude(tasks[:1], tmp_path=tmp_path)
    assert not alone.final and alone.without == ("n1",)  # a node's own fault is not the site's
    assert conclude(tasks[:1], tmp_path=tmp_path, tries=1).final
    where_others_work = conclude(tasks, begun("11_1"), tmp_path)
    assert not where_others_work.final and where_others_work.without == ("n1",)


@pytest.mark.parametrize("state", ["NODE_FAIL", "TIMEOUT", "PREEMPTED", "CANCELLED"])
def test_what_sites_do_to_jobs_is_tried_again(state):
    reason = conclude([Ended("11_0", state, 0, "n1")])
    assert not reason.final and not reason.without and state in reason.why
    assert ("launch/cancel.py" in reason.why) is (state == "CANCELLED")  # which a user may have taken for the end of the run


def test_a_job_that_was_killed_hints_at_memory():
    assert "cluster.mem" in conclude([Ended("11_0", "FAILED", 137, "n1")], begun("11_0")).why
    assert conclude([Ended("11_0", "COMPLETED", 0, "n1")], begun("11_0")).why == ""


def test_a_job_that_ended_well_without_a_worker_is_told_too(tmp_path):
    """`exit 0` in cluster.setup, say."""
    (tmp_path / "11_0.log").write_text("the module is loaded\n")
    reason = conclude([Ended("11_0", "COMPLETED", 0, "n1"), Ended("11_1", "COMPLETED", 0, "n2")], tmp_path=tmp_path)
    assert reason.final and "before a worker began (COMPLETED, exit code 0 on n1" in reason.why and "the module is loaded" in reason.why


def test_a_worker_whose_job_is_forgotten_blames_no_node():
    told = begun("11_0")
    assert conclude([Ended("11_1", "FAILED", 65, "n1")], told, gained=True).without == ()


def test_accounting_tells_of_what_the_controller_has_forgotten(monkeypatch):
    record = "JobId=12 ArrayJobId=11 ArrayTaskId=2 JobState=FAILED ExitCode=1:0 NodeList=n2 MinMemoryNode=4G"
    said = {"scontrol": record, "sacct": "11_0|OUT_OF_ME+|0:125|0:0|n1|4Gn\n11_2|COMPLETED|0:0|0:0|n2|4Gn"}
    monkeypatch.setattr(endings.slurm, "ask", lambda *words, cluster="": said[words[0]])
    assert [(t.job, t.state) for t in endings.ended("11")] == [("11_0", "OUT_OF_MEMORY"), ("11_2", "FAILED")]


def test_nothing_known_is_nothing_said():
    assert conclude([]).why == "" and not conclude([]).final


def test_records_with_odd_commands_are_read():
    line = "JobId=12 JobName=x JobState=FAILED ExitCode=0:9 NodeList=(null) MinMemoryNode=0 Command=/a JobState=COMPLETED"
    assert parse_records(line) == [Ended("12", "FAILED", -9, "", "0")]
