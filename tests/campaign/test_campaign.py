"""A short campaign, and what its parts know. The long one: make campaign."""

import doctest
import random
import signal
import subprocess
import sys
import time

from tests.campaign import processes
from tests.campaign.kills import kills
from tests.campaign.phases import PHASES
from tests.campaign.report import Report
from tests.campaign.trouble import trouble
from tests.campaign.worlds import MARK, World, marked, works


def test_kills_of_whatever_the_workers_started_change_no_byte(tmp_path):
    report = kills(folder(tmp_path, "kills"), random.Random(1), time.monotonic() + 600, most=5, names=("outside",))
    assert not report.faults, str(report)
    assert sum(report.counts["kills"].values()) >= 5 and report.counts["runs that became whole"]["outside"] >= 1
    assert report.counts["compared"]["outside: files equal"] > 20


def folder(tmp_path, name):
    (tmp_path / name).mkdir()
    return tmp_path / name


def test_a_campaign_tells_what_is_not_as_in_an_undisturbed_run(tmp_path):
    world, report = World(tmp_path / "w", works(tmp_path)["main"]), Report()
    (world.runs / "d" / "images-0" / "units" / "000").mkdir(parents=True)
    (world.runs / "d" / "images-0" / "units" / "000" / "000000.tar").write_bytes(b"other")
    (world.temp / "synthset-host-1").mkdir()
    world.judge({"d/images-0/units/000/000000.tar": "0" * 64}, report)
    assert "1 files are missing, or not as in an undisturbed run" in str(report) and "left in TMPDIR: ['synthset-host-1']" in str(report)


def test_processes_are_known_by_what_they_do(tmp_path):
    assert doctest.testmod(processes).failed == 0 < doctest.testmod(processes).attempted
    rank = ["python", "-u", "-m", "synth.captions.llama.ranks", "--place", "/tmp/p"]
    assert processes.kind_of(rank, ["python", "-m", "synth.captions.llama.agent"]) == "rank"
    guardian = ["python", "-I", "/s/synth/host/children.py", "17", "-", "-", "vllm", "serve"]
    assert processes.kind_of(guardian, []) == "guardian" and processes.kind_of(["vllm", "serve"], guardian) == "command"
    child = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE, env={MARK: str(tmp_path)})
    (process,) = processes.processes(child.pid)
    assert process.kind == "launcher" and list(marked(tmp_path)) == [child.pid]
    assert process.send(signal.SIGKILL) and child.wait() == -9 and not process.send(signal.SIGKILL)
    assert not marked(tmp_path)


def test_phases_have_names_of_their_own_and_a_share_of_the_time():
    assert len({phase.name for phase in PHASES}) == len(PHASES) and all(phase.share > 0 for phase in PHASES)
    assert {trouble, kills} <= {phase.run for phase in PHASES}
