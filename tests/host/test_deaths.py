"""What the end of a child tells: its own doing, somebody else's, or a disk that took nothing."""

import doctest
import os
import resource
import signal
import subprocess
import sys

import pytest

from synth.errors import Killed, StoreError
from synth.host import deaths
from synth.host.children import guarded
from synth.host.deaths import Watch, no_room, oom_kills


def ended(code: str, log) -> int:
    """The exit code of a program under a guardian."""
    return guarded([sys.executable, "-c", f"import os, signal; {code}"], log).wait(240)


def test_signals_of_others_are_told_from_a_program_s_own_end(tmp_path):
    assert doctest.testmod(deaths).failed == 0 < doctest.testmod(deaths).attempted
    watch, log = Watch(tmp_path), tmp_path / "log"
    by = {
        s: watch.nobodys_fault(ended(f"os.kill(os.getpid(), signal.{s})", log), "it", "the log")
        for s in ("SIGKILL", "SIGXCPU", "SIGSEGV", "SIGABRT")
    }
    assert (
        isinstance(by["SIGKILL"], Killed)
        and str(by["SIGKILL"]).startswith("it was killed by SIGKILL\n")
        and "the log" in str(by["SIGKILL"])
    )
    assert isinstance(by["SIGXCPU"], Killed) and by["SIGSEGV"] is by["SIGABRT"] is None
    shell = guarded(["sh", "-c", f"{sys.executable} -c 'import os; os.kill(os.getpid(), 9)'; exit $?"], log).wait(240)
    assert isinstance(watch.nobodys_fault(shell, "it", ""), Killed)  # a wrapper hands on what befell its command
    assert [watch.nobodys_fault(code, "it", "") for code in (0, 1, 7, None)] == [None] * 4


def test_a_program_that_runs_into_a_limit_of_memory_by_itself_ended_by_itself(tmp_path):
    """It sees a MemoryError; only the OOM killer sends a signal."""
    limits = resource.getrlimit(resource.RLIMIT_AS)
    child = subprocess.Popen(
        [sys.executable, "-c", "bytearray(1 << 33)"], stderr=subprocess.DEVNULL,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_AS, (1 << 30, limits[1])),
    )  # fmt: skip
    assert child.wait(240) == 1 and Watch(tmp_path).nobodys_fault(1, "it", "") is None


@pytest.mark.parametrize(
    ("cgroup", "machine", "said"),
    [(1, 1, "the memory that this job may use was full"), (0, 1, "this machine's memory was full"), (0, 0, "")],
)
def test_the_message_says_whose_memory_was_full(cgroup, machine, said, tmp_path, monkeypatch):
    counts = {"cgroup": 3, "machine": 5}
    monkeypatch.setattr(deaths, "oom_kills", lambda: dict(counts))
    watch = Watch(tmp_path)
    counts = {"cgroup": 3 + cgroup, "machine": 5 + machine}
    error = watch.nobodys_fault(-signal.SIGKILL, "it", "")
    assert said in str(error) and ("memory" in str(error)) == bool(said)


def test_the_kernel_s_counts_are_read_where_it_writes_them(tmp_path, monkeypatch):
    (tmp_path / "memory.events").write_text("low 0\nhigh 0\nmax 812\noom 4\noom_kill 2\noom_group_kill 0\n")
    monkeypatch.setattr(deaths, "_memory_events", lambda: [tmp_path / "not there", tmp_path / "memory.events"])
    assert oom_kills()["cgroup"] == 2 and oom_kills()["machine"] >= 0


def test_a_process_below_the_cgroups_that_count_memory_reads_the_nearest_of_those_above(tmp_path, monkeypatch):
    step = tmp_path / "system.slice/slurmstepd.scope/job_11/step_0"
    (step / "user/task_0").mkdir(parents=True)
    monkeypatch.setattr(deaths, "CGROUPS", tmp_path)
    assert deaths._nearest(step / "user/task_0") == []
    for counting in (step, step.parents[1]):  # that of all jobs says nothing of this one
        (counting / "memory.events").write_text("oom_kill 2\n")
    assert deaths._nearest(step / "user/task_0") == [step / "memory.events"]


def test_a_disk_that_takes_nothing_is_what_a_child_died_of(tmp_path):
    disk = tmp_path / "disk"
    disk.mkdir()
    done = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64k", "synthset-test", disk], capture_output=True, text=True)
    if done.returncode:
        pytest.skip(f"cannot mount a small tmpfs here: {done.stderr.strip()}")
    try:
        assert no_room(tmp_path, disk).startswith(f"{disk}: No space left") and os.listdir(disk) == [] and no_room(tmp_path) == ""
        error = Watch(disk).nobodys_fault(1, "it", "last lines")
        assert isinstance(error, StoreError) and "make room" in str(error) and "last lines" in str(error)
    finally:
        subprocess.run(["umount", "-l", disk], check=True)
