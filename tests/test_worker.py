"""The worker: exit codes, errors, drains, relatives, and that nothing of it is left behind."""

import ctypes
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from synth import worker
from synth.config import ProbeConfig, dump
from synth.errors import InputError
from synth.loop import Worker
from synth.numerics import EXACT
from synth.probe import Probe
from synth.store import leases
from synth.store.events import read_events
from synth.store.folder import StageFolder
from synth.store.identity import file_identity
from synth.store.parts import finished_batches
from synth.store.spec import InputFile, StageSpec, Upstream
from tests.faults.conftest import tmp_path  # noqa: F401 (a fixture)
from tests.faults.farm import FAST, SLOW, Child, check, digests, finish, left_over, plan, reference, run

ROOT = Path(worker.__file__).parent.parent


def events(folder, name) -> list[dict]:
    return [e for e in read_events(folder.path) if e["event"] == name]


def wait_for(what, seconds=120):
    end = time.monotonic() + seconds
    while not what():
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.005)


def call(*args, **env) -> subprocess.CompletedProcess:
    """The worker's command line, as a scheduler runs it."""
    return subprocess.run(
        [sys.executable, "-m", "synth.worker", *map(str, args)], cwd=ROOT, env=os.environ | env, capture_output=True, text=True, timeout=240
    )


# -- the command line ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("args", "env", "want"),
    [
        ((None, None), {}, (0, 1)),
        ((3, 8), {"JOB_IDX": "1", "N_JOBS": "2"}, (3, 8)),
        ((None, None), {"JOB_IDX": "1", "N_JOBS": "2"}, (1, 2)),
        ((None, None), {"JOB_IDX": "1", "SLURM_ARRAY_TASK_ID": "5", "N_JOBS": "9"}, (1, 9)),
        ((None, None), {"SLURM_ARRAY_TASK_ID": "5", "SLURM_ARRAY_TASK_COUNT": "8"}, (5, 8)),
        ((None, None), {"SLURM_ARRAY_TASK_ID": "5", "JOB_OFFSET": "1000", "N_JOBS": "2000"}, (1005, 2000)),
        ((None, None), {"SLURM_ARRAY_TASK_ID": "7", "SLURM_ARRAY_TASK_COUNT": "2"}, (7, 8)),  # --array=3,7: a wrong total is no error
        ((0, None), {"JOB_IDX": "5"}, (0, 1)),
        ((None, 4), {"JOB_IDX": "2"}, (2, 4)),
    ],
)
def test_which_job_this_is(args, env, want):
    assert worker.job_of(*args, env) == want


@pytest.mark.parametrize(("args", "env"), [((-1, 4), {}), ((0, 0), {}), ((None, None), {"JOB_IDX": ""}), ((None, None), {"N_JOBS": "x"}), ((None, None), {"SLURM_ARRAY_TASK_ID": "1-3"})])
def test_a_job_number_that_is_none_is_named(args, env):
    with pytest.raises(InputError, match="job_idx|JOB_IDX"):
        worker.job_of(*args, env)


def test_the_command_does_a_stage_and_says_0(tmp_path):
    folder = plan(tmp_path / "a")
    done = call(folder.path, "--job-idx", 1, "--n-jobs", 3)
    assert done.returncode == 0, done.stderr
    check(folder, reference(tmp_path, folder))


@pytest.mark.parametrize("case", ["no stage", "torn", "unknown kind", "config of another version", "bad job", "bad times"])
def test_bad_input_is_65_and_one_line_names_it(tmp_path, case):
    folder, args, env = plan(tmp_path), [], {}
    if case == "no stage":
        folder.path = tmp_path
    if case == "torn":
        (folder.path / "stage.json").write_bytes(b"{")
    if case == "unknown kind":
        folder = StageFolder.create(tmp_path, StageSpec("nonesuch", "x", {}, 1, 1, 1, EXACT))
    if case == "config of another version":
        folder = StageFolder.create(tmp_path, StageSpec("probe", "x", {"sise": 1}, 1, 1, 1, EXACT))
    if case == "bad job":
        args = ["--job-idx", -1]
    if case == "bad times":
        env = {"SYNTHSET_BEAT_S": "soon"}
    done = call(folder.path, *args, **env)
    assert done.returncode == 65
    assert "Traceback" not in done.stderr
    assert "stop code=65" in done.stderr or done.stderr.startswith("error: ")


def test_a_bug_before_the_first_unit_is_70_not_pythons_1(tmp_path):
    folder = StageFolder.create(tmp_path, StageSpec("probe", "x", dump(ProbeConfig()), 1, 1, 1, {}))  # numerics without threads
    done = call(folder.path)
    assert done.returncode == 70 and "Traceback" in done.stderr


def test_a_closed_stderr_is_no_reason_to_stop_working(tmp_path):
    folder = plan(tmp_path / "a", sleep=0.01)
    with subprocess.Popen([sys.executable, "-m", "synth.worker", folder.path], cwd=ROOT, stderr=subprocess.PIPE) as process:
        process.stderr.readline()
        process.stderr.close()
        assert process.wait(240) == 0
    check(folder, reference(tmp_path, folder))


def test_a_worker_dies_with_its_parent(tmp_path):
    folder = plan(tmp_path, slots=1000, unit=10, sleep=0.05)
    code = "import subprocess, sys; subprocess.Popen(sys.argv[1:]).wait()"
    parent = subprocess.Popen([sys.executable, "-c", code, sys.executable, "-m", "synth.worker", folder.path, "--die-with-parent"], cwd=ROOT, stderr=subprocess.DEVNULL)
    wait_for(lambda: events(folder, "open"))
    parent.kill()
    parent.wait()
    wait_for(lambda: events(folder, "stop"))
    assert [e["code"] for e in events(folder, "stop")] == [75]
    wait_for(lambda: left_over(folder) == [])


def test_a_worker_whose_parent_is_already_gone_does_not_begin(tmp_path):
    folder = plan(tmp_path)
    done = call(folder.path, "--die-with-parent", SYNTHSET_PARENT_PID="999999999")
    assert done.returncode == 75 and folder.committed() == set()


# -- errors of units -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("how", [{"raise": "bug"}, {"size": "not a number"}, {"raise": "broken"}])  # in compute, in encode, of the device
@pytest.mark.parametrize("slot", [13, 59])  # in the middle, and in the very last batch
def test_a_unit_that_fails_three_times_is_set_aside_and_the_rest_goes_on(tmp_path, how, slot):
    folder = plan(tmp_path / "a", behaviour={str(slot): how})
    child = Child(folder)
    assert child.wait() == 70
    assert folder.set_aside() == [slot // 10] == folder.missing()
    assert f"units [{slot // 10}] failed 3 times" in child.text()
    reports = [json.loads(p.read_text()) for p in folder.failures()[slot // 10]]
    assert len(reports) == 3 and all("Traceback" in r["traceback"] and r["slots"][0] <= slot < r["slots"][1] for r in reports)
    want = reference(tmp_path, plan(tmp_path / "b"))
    assert digests(folder) == {u: d for u, d in want.items() if u != slot // 10}
    assert run(folder) == 70  # again at once, without another try
    assert len(folder.failures()[slot // 10]) == 3


def test_other_workers_see_what_was_set_aside_and_say_70_too(tmp_path):
    folder = plan(tmp_path, sleep=0.002, behaviour={"13": {"raise": "bug"}})
    codes = [c.wait() for c in [Child(folder, i, 3, env=FAST) for i in range(3)]]
    assert 70 in codes and set(codes) <= {0, 70}
    assert len(folder.failures()[1]) == 3 and folder.missing() == [1]


@pytest.mark.parametrize("times", [1, 2])
def test_a_unit_that_fails_once_or_twice_is_tried_again_by_the_same_worker(tmp_path, times):
    folder = plan(tmp_path / "a", behaviour={"13": {"raise": "bug", "times": times}})
    assert run(folder) == 0
    assert len(folder.failures()[1]) == times
    assert digests(folder) == reference(tmp_path, plan(tmp_path / "b"))
    assert [p for p in (folder.path / "parts").rglob("*") if p.is_file()] == []


def test_batches_finished_before_an_error_are_kept_for_the_next_try(tmp_path):
    folder = plan(tmp_path, slots=30, unit=30, batch=3, behaviour={"20": {"raise": "bug", "times": 1}})
    assert run(folder) == 0
    assert [e["batches"] for e in events(folder, "adopted")] == [6]


def test_retrying_what_was_set_aside_completes_the_stage(tmp_path):
    folder = plan(tmp_path / "a", behaviour={"13": {"raise": "bug", "times": 3}})
    assert run(folder) == 70
    assert folder.retry_set_aside() == [1]
    finish(folder, env=SLOW)
    assert digests(folder) == reference(tmp_path, plan(tmp_path / "b"))


def test_kills_and_drains_do_not_count_as_failures(tmp_path):
    folder = plan(tmp_path / "a", slots=30, unit=30)
    for nth in (1, 1, 1, 1):
        assert Child(folder, fault=f"after_batch:kill@{nth}").wait() == -signal.SIGKILL
        assert Child(folder, fault="after_batch:term@1").wait() in (75, 0)
    finish(folder)
    check(folder, reference(tmp_path, folder))


def test_a_broken_stage_is_opened_anew_before_it_computes_again(tmp_path):
    folder = plan(tmp_path / "a", slots=300, behaviour={"13": {"raise": "broken", "times": 2}})

    def strict():  # a device that stays unusable until the stage is opened anew
        real_compute, real_open = Probe.compute, Probe.open

        def compute(self, state, slots):
            assert not getattr(self, "broken", False), "computed on a broken device"
            try:
                return real_compute(self, state, slots)
            except Exception:
                self.broken = True
                raise

        def open_(self):
            self.broken = False
            real_open(self)

        Probe.compute, Probe.open = compute, open_

    assert run(folder, patch=strict) == 0
    assert len(events(folder, "open")) == 3
    assert sum(map(len, folder.failures().values())) == 2


def test_a_stage_that_cannot_be_opened_is_70_at_once_and_blames_no_unit(tmp_path):
    folder = plan(tmp_path, slots=1000)

    def closed():
        def open_(self):
            raise RuntimeError("no such device")

        Probe.open = open_

    child = Child(folder, patch=closed)
    assert child.wait() == 70
    assert "cannot be opened here: RuntimeError: no such device" in child.text()
    assert folder.failures() == {}
    finish(folder, env=SLOW)  # its lease was let go


@pytest.mark.parametrize("where", ["unit_inputs", "begin", "compute", "encode"])
@pytest.mark.parametrize("error", [RuntimeError("bug"), SystemExit(3), OSError(36, "File name too long")])
def test_an_error_anywhere_in_a_unit_is_met_three_times_and_never_hangs_or_passes_for_done(tmp_path, where, error):
    folder = plan(tmp_path, slots=60)

    def patch():
        real = getattr(Probe, where)

        def fails(self, *args):
            slot = args[-1].start if where != "encode" else args[-1][0]
            if slot // 10 == 3:
                raise error
            return real(self, *args)

        setattr(Probe, where, fails)

    assert run(folder, patch=patch) == 70
    assert folder.set_aside() == [3] == folder.missing()


@pytest.mark.parametrize("where", ["check", "open", "unit_inputs", "begin", "compute", "encode", "finish"])
def test_bad_input_found_anywhere_is_65_and_what_was_made_stays(tmp_path, where):
    folder = plan(tmp_path / "a", slots=60)

    def patch():
        real = getattr(Probe, where)

        def fails(self, *args):
            slot = 35 if not args else args[-1].start if where != "encode" else args[-1][0]
            if slot // 10 == 3:
                raise InputError("captions.json: row 3 is torn; make it again")
            return real(self, *args)

        setattr(Probe, where, fails)

    child = Child(folder, patch=patch)
    assert child.wait() == 65
    assert "row 3 is torn" in child.text()
    assert not folder.is_done()
    check(folder, reference(tmp_path, folder), whole=False)
    finish(folder, env=SLOW)  # no lease is in the way
    check(folder, reference(tmp_path, folder))


def test_an_error_of_finishing_is_70_and_another_run_finishes(tmp_path):
    folder = plan(tmp_path)

    def patch():
        def finish_(self):
            raise RuntimeError("cannot")

        Probe.finish = finish_

    assert run(folder, patch=patch) == 70
    assert folder.is_whole() and not folder.is_done()
    finish(folder, env=SLOW)


def test_encode_failing_while_the_device_waits_for_the_queue_does_not_block(tmp_path):
    folder = plan(tmp_path, slots=300, unit=300, batch=3)

    def patch():
        def encode(self, state, item):
            time.sleep(0.05)
            raise ValueError(f"slot {item[0]}")

        Probe.encode = encode

    assert Child(folder, patch=patch).wait(120) == 70
    assert folder.set_aside() == [0]


def test_a_full_disk_met_by_the_writer_while_the_device_waits_is_75(tmp_path):
    folder = plan(tmp_path, slots=300, unit=100, batch=3)

    def patch():
        real = Probe.encode

        def encode(self, state, item):
            time.sleep(0.002)
            return real(self, state, item)

        Probe.encode = encode

    child = Child(folder, fault="before_batch_write:enospc@5", patch=patch)
    assert child.wait(120) == 75
    assert folder.failures() == {}
    wait_for(lambda: all(leases.parse(p.read_bytes())["state"] == "released" for p in (folder.path / "leases").rglob("*.g*")))


@pytest.mark.parametrize("where", ["compute", "encode"])
def test_a_full_disk_met_by_the_stage_itself_is_75_and_blames_no_unit(tmp_path, where):
    folder = plan(tmp_path)

    def patch():
        def full(self, *args):
            raise OSError(28, "No space left on device", "/tmp/scratch")

        setattr(Probe, where, full)

    assert run(folder, patch=patch) == 75
    assert folder.failures() == {}


def test_a_unit_made_twice_with_other_bytes_is_an_error_and_the_first_stays(tmp_path):
    folder = plan(tmp_path, slots=10)
    sleeper = Child(folder, env=FAST, fault="before_link:stop")
    assert sleeper.wait_stopped()

    def patch():
        real = Probe.encode

        def encode(self, state, item):
            return real(self, state, (item[0], {"size": 7}))

        Probe.encode = encode

    (folder.path / "parts" / "000").rename(folder.path / "hidden")  # nothing to adopt
    finish(folder, patch=patch)
    made = digests(folder)
    (folder.path / "hidden").rename(folder.path / "parts" / "000") if not (folder.path / "parts" / "000").exists() else [
        p.rename(folder.path / "parts" / "000" / p.name) for p in (folder.path / "hidden").iterdir()
    ]
    sleeper.signal(signal.SIGCONT)
    assert sleeper.wait() == 70
    assert "different bytes" in sleeper.text()
    assert digests(folder) == made
    assert [e["outcome"] for e in events(folder, "unit")].count("differs") == 1


def test_a_torn_unit_is_found_when_the_stage_is_finished_and_named(tmp_path):
    folder = plan(tmp_path)
    finish(folder)
    (folder.path / "done.json").unlink()
    os.truncate(folder.unit_path(3), 700)
    child = Child(folder)
    assert child.wait() == 65
    assert "000003.tar: not a whole unit" in child.text()


# -- drains --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("sig", [signal.SIGTERM, signal.SIGINT, signal.SIGUSR2])
def test_a_drain_keeps_the_running_batch_and_lets_the_unit_go(tmp_path, sig):
    folder = plan(tmp_path / "a", slots=30, unit=30, batch=3, sleep=0.15)
    child = Child(folder)
    part = lambda: [p for p in (folder.path / "parts").rglob("*.tar")]  # noqa: E731
    wait_for(lambda: part() and len(finished_batches(part()[0])) == 2)
    time.sleep(0.04)  # well inside the third batch
    child.signal(sig)
    assert child.wait() == 75
    assert len(finished_batches(part()[0])) == 3
    assert f"drained on {sig.name}; 1 units to do: run the same command again" in child.text()
    begun = time.monotonic()
    finish(folder, env=SLOW)  # at once: it does not wait until the lease looks dead
    assert time.monotonic() - begun < 50
    assert [e["batches"] for e in events(folder, "adopted")] == [3]
    check(folder, reference(tmp_path, folder))


def test_a_drain_while_the_queue_is_full_keeps_all_computed_batches(tmp_path):
    folder = plan(tmp_path, slots=90, unit=90, batch=3)

    def patch():
        real = Probe.encode

        def encode(self, state, item):
            time.sleep(0.06)
            return real(self, state, item)

        Probe.encode = encode

    child = Child(folder, patch=patch)
    wait_for(lambda: [p for p in (folder.path / "parts").rglob("*.idx")])
    child.signal(signal.SIGTERM)
    assert child.wait(120) == 75
    part = next((folder.path / "parts").rglob("*.tar"))
    assert 4 <= len(finished_batches(part)) <= 6  # the one written, two in the queue, one that waited to be queued


def test_a_drain_between_units_and_while_lingering_is_75_or_done(tmp_path):
    folder = plan(tmp_path, slots=10)
    owner = leases.Owner(**vars(leases.Owner.me()) | {"boot": "another"})
    leases.create(folder.lease_path(0), 0, 0, owner)
    child = Child(folder, env=SLOW)  # waits for the other one
    wait_for(lambda: events(folder, "start"))
    time.sleep(0.2)
    child.signal(signal.SIGTERM)
    assert child.wait(120) == 75


def test_a_worker_that_drains_before_it_finished_the_stage_says_75(tmp_path):
    folder = plan(tmp_path, slots=10)
    assert run(folder, fault="after_commit:term") == 75
    assert folder.is_whole() and not folder.is_done()
    finish(folder, env=SLOW)


# -- relatives and inputs ------------------------------------------------------------------------------------------------


def test_growing_slots_links_the_finished_units_of_the_smaller_run_and_only_those(tmp_path):
    small = plan(tmp_path / "a", slots=35)
    finish(small)
    small.unit_path(1).unlink()  # not made, or lost
    large = plan(tmp_path / "a", slots=62)
    finish(large)
    assert sorted(e["unit"] for e in events(large, "linked")) == [0, 2]  # 3 was a short one
    assert sorted(e["unit"] for e in events(large, "unit")) == [1, 3, 4, 5, 6]
    assert large.unit_path(0).stat().st_ino == small.unit_path(0).stat().st_ino
    check(large, reference(tmp_path / "b", large))


def test_a_whole_relative_is_linked_without_opening_the_stage(tmp_path):
    finish(plan(tmp_path, slots=60))
    smaller = plan(tmp_path, slots=20)
    finish(smaller)
    assert events(smaller, "open") == [] and len(events(smaller, "linked")) == 2


def upstreamed(root, fingerprint: str) -> StageFolder:
    spec = StageSpec("probe", "probe", dump(ProbeConfig()), 30, 10, 3, EXACT, {"rows": (Upstream("../x", fingerprint),)})
    return StageFolder.create(root, spec)


def test_units_are_linked_from_a_stage_of_another_upstream_where_their_rows_agree(tmp_path):
    def rows(changed):
        def patch():
            Probe.unit_inputs = lambda self, unit: "new rows" if unit.number in changed else f"rows of {unit.number}"

        return patch

    a, b = upstreamed(tmp_path, "one"), upstreamed(tmp_path, "two")
    assert a.path != b.path
    assert run(a, patch=rows(())) == 0
    assert run(b, patch=rows((1,))) == 0
    assert sorted(e["unit"] for e in events(b, "linked")) == [0, 2]
    assert [e["unit"] for e in events(b, "unit")] == [1]


def test_an_input_that_changed_after_planning_is_65_and_named(tmp_path):
    weights = tmp_path / "weights.bin"
    weights.write_bytes(b"one")
    spec = StageSpec("probe", "probe", dump(ProbeConfig()), 30, 10, 3, EXACT, inputs={"weights": InputFile(str(weights), file_identity(weights))})
    folder = StageFolder.create(tmp_path / "a", spec)
    weights.write_bytes(b"two")
    child = Child(folder)
    assert child.wait() == 65
    assert "weights.bin: input 'weights' changed" in child.text()
    weights.unlink()
    child = Child(folder)
    assert child.wait() == 65 and "weights.bin" in child.text()
    weights.write_bytes(b"one")
    finish(folder, env=SLOW)


# -- what stays behind ---------------------------------------------------------------------------------------------------


def test_tombstones_fill_their_slots_and_nothing_shifts(tmp_path):
    folder = plan(tmp_path, slots=30, behaviour={"0": {"tombstone": "a"}, "12": {"tombstone": "b"}, "29": {"tombstone": "ü"}})
    finish(folder)
    assert [s.slot for s in folder.samples()] == [s for s in range(30) if s not in (0, 12, 29)]
    assert folder.done()["tombstones"] == 3
    with folder.reader(2) as reader:
        assert reader.index.tombstones == {29: "ü"}


def test_a_worker_leaves_no_open_file_and_no_thread(tmp_path):
    import threading

    def fds():
        return {os.readlink(p) for p in Path("/proc/self/fd").iterdir() if os.path.lexists(p)}

    for behaviour in ({}, {"13": {"raise": "bug"}}, {"13": {"raise": "input"}}, {"13": {"raise": "broken"}}):
        folder = plan(tmp_path, slots=200, behaviour=behaviour)
        before, threads = fds(), threading.active_count()
        Worker(folder, 0, 1).run()
        assert not [f for f in fds() - before if str(tmp_path) in f]
        assert threading.active_count() == threads


def test_a_worker_puts_signal_handlers_back(tmp_path):
    before = signal.getsignal(signal.SIGTERM)
    assert Worker(plan(tmp_path), 0, 1).run() == 0
    assert signal.getsignal(signal.SIGTERM) == before


def test_prctl_numbers_are_those_of_this_kernel():
    assert ctypes.CDLL(None).prctl(worker.PR_SET_PDEATHSIG, 0) == 0
