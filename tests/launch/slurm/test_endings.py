"""What is concluded from how jobs ended."""

from pathlib import Path

import pytest

from launch.slurm.endings import Ended, Told, judge, parse_records, told_by

BASES = {"11"}


def start(worker: str, slurm: str) -> dict:
    return {"worker": worker, "event": "start", "slurm": slurm}


def stop(worker: str, code: int, why: str) -> dict:
    return {"worker": worker, "event": "stop", "code": code, "why": why}


def conclude(tasks, told=None, tmp_path=Path("/nowhere"), gained=False, tries=0, raised=""):
    return judge(tasks, told or Told(), {t.job: tmp_path / f"{t.job}.log" for t in tasks}, gained, tries, raised)


def begun(*jobs: str, **stops: tuple[int, str]) -> Told:
    return Told(frozenset(jobs), [(f"11_{n[1:]}", *said) for n, said in stops.items()])


def test_workers_are_matched_by_the_jobs_that_they_name_and_those_of_other_submissions_left_out():
    events = [start("a", "dev/11_0"), stop("a", 65, "bad"), start("b", "dev/12_0"), stop("b", 65, "other"), start("c", "11_1@2")]
    told = told_by(events, BASES)
    assert told == Told(frozenset({"11_0", "11_1"}), [("11_0", 65, "bad")])


def test_bad_input_is_final_unless_units_were_made_and_then_the_node_that_had_it_alone_is_left_out():
    tasks = [Ended("11_0", "FAILED", 65, "n1"), Ended("11_1", "COMPLETED", 0, "n2")]
    told = begun("11_0", "11_1", j0=(65, "no such file"))
    reason = conclude(tasks, told)
    assert reason.final and reason.why == "no such file (job 11_0; its log: /nowhere/11_0.log)" and not reason.mem
    after = conclude(tasks, told, gained=True)
    assert not after.final and after.without == ("n1",) and "no such file" in after.why
    both = begun("11_0", "11_1", j0=(65, "no such file"), j1=(65, "no such file"))
    assert conclude(tasks, both, gained=True).without == () and "and so said 1 more" in conclude(tasks, both).why


@pytest.mark.parametrize(("mem", "asked"), [("4G", "8G"), ("100M/cpu", "200M/cpu"), ("1.5G", "3G")])
def test_want_of_memory_is_met_once_and_then_said_with_its_figure(mem, asked):
    tasks = [Ended(f"11_{i}", "OUT_OF_MEMORY", 0, "n1", mem) for i in range(6)]
    first = conclude(tasks)
    assert first.mem == asked and not first.final and f"cluster.mem={asked.partition('/')[0]}" in first.why
    again = conclude(tasks, raised=mem)
    assert again.final and not again.mem and mem.partition("/")[0] in again.why and "11_0, 11_1, 11_2 and 3 more" in again.why
    assert not conclude(tasks, raised=mem, gained=True).final


def test_want_of_memory_that_a_worker_tells_counts_and_all_of_a_node_cannot_be_doubled():
    killed = begun("11_0", j0=(75, "torchrun was killed by SIGKILL: the memory that this job may use was full (the kernel's oom_kill)"))
    assert conclude([Ended("11_0", "FAILED", 75, "n1", "4G")], killed).mem == "8G"
    whole = conclude([Ended("11_0", "OUT_OF_MEMORY", 0, "n1", "0")])
    assert not whole.mem and "cluster.mem" in whole.why


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


def test_a_job_that_was_killed_hints_at_memory():
    assert "cluster.mem" in conclude([Ended("11_0", "FAILED", 137, "n1")], begun("11_0")).why
    assert conclude([Ended("11_0", "COMPLETED", 0, "n1")], begun("11_0")).why == ""


def test_nothing_known_is_nothing_said():
    assert conclude([]).why == "" and not conclude([]).final


def test_records_with_odd_commands_are_read():
    line = "JobId=12 JobName=x JobState=FAILED ExitCode=0:9 NodeList=(null) MinMemoryNode=0 Command=/a JobState=COMPLETED"
    assert parse_records(line) == [Ended("12", "FAILED", -9, "", "0")]
