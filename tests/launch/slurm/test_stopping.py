"""Signals while jobs are handed to Slurm, and what is said of it afterwards."""

import signal
from dataclasses import replace

import pytest

from launch.plan.planned import PlannedStage
from launch.slurm import order, submit
from launch.slurm.limits import Limits
from launch.slurm.stopping import stopping
from launch.slurm.submissions import intend
from launch.slurm.submit import Site
from synth.errors import EXIT_AGAIN, EXIT_BAD_INPUT, InputError, StoreError
from synth.host import slurm
from synth.host.slurm import SlurmError
from tests.launch.slurm.test_order import folder, queue, submitted  # noqa: F401 (fixtures)
from tests.launch.slurm.test_resources import cluster

PLAIN = cluster()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_the_first_signal_is_noted_and_the_second_ends(number):
    said, before = [], signal.getsignal(number)
    with stopping(said.append) as stop:
        signal.raise_signal(number)
        assert stop.asked and len(said) == 1
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(number)
    assert signal.getsignal(number) is before


def test_a_signal_that_was_ignored_stays_ignored():
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with stopping(print) as stop:
            signal.raise_signal(signal.SIGHUP)
            assert not stop.asked
    finally:
        signal.signal(signal.SIGHUP, before)


def test_what_is_queued_is_told_with_the_line_that_cancels_it(folder, queue, monkeypatch):  # noqa: F811
    turn = submitted(folder, queue)
    text = submit.stopped([folder.path])
    assert f"{folder.path.name}: 100 101 102" in text and text.splitlines()[-1].endswith(f"cancel {folder.path}")
    monkeypatch.setattr(slurm, "listing", lambda *_: (_ for _ in ()).throw(SlurmError("away", passing=True)))
    assert "100 101 102" in submit.stopped([folder.path]) and turn.gate == "102"


def test_an_array_that_may_be_queued_is_told_by_its_name(folder, queue):  # noqa: F811
    torn = intend(folder.path, 1)
    assert f"perhaps more, whose names begin with {torn.job_name}" in submit.stopped([folder.path])


def test_before_anything_is_submitted_nothing_is_said_to_be_queued(folder, queue):  # noqa: F811
    assert submit.stopped([folder.path]) == "Stopped before anything was submitted."


@pytest.mark.parametrize(
    ("error", "code", "says"),
    [
        (SlurmError("Invalid account"), EXIT_BAD_INPUT, "cluster.account (probe): Slurm refuses it: Invalid account"),
        (SlurmError("standby mode", passing=True), EXIT_AGAIN, "Slurm does not take it now: standby mode"),
        (SlurmError("whether the job x is queued is not known", True, True), EXIT_AGAIN, "looks for its jobs by their name"),
        (KeyboardInterrupt(), EXIT_AGAIN, "stopped in the middle; the same command looks for its jobs by their name"),
    ],
)
def test_what_ends_a_submission_says_whether_the_same_command_helps(folder, monkeypatch, error, code, says):  # noqa: F811
    def fail(*args):
        raise error

    monkeypatch.setattr(submit, "one", fail)
    stage = PlannedStage(folder.spec, folder.path.parent, planned=True)
    outcome = submit.tried(stage, Site(PLAIN, Limits(), None, ""), 1, {}, False, None).outcome
    assert outcome.code == code and says in outcome.message


@pytest.mark.parametrize(("passing", "kind"), [(True, StoreError), (False, InputError)])
def test_a_queue_that_cannot_be_asked_ends_before_anything_is_submitted(monkeypatch, passing, kind):
    def fail(*args):
        raise SlurmError("squeue: words", passing=passing)

    monkeypatch.setattr(submit, "site_of", lambda c: Site(PLAIN, Limits(), None, ""))
    monkeypatch.setattr(submit.order, "queue_of", fail)
    with pytest.raises(kind, match="squeue: words"):
        submit.run([], PLAIN, None, False)


def test_a_stage_that_would_wait_for_jobs_of_two_clusters_is_refused_by_name(folder, queue):  # noqa: F811
    stage = PlannedStage(folder.spec, folder.path.parent, planned=True)
    with pytest.raises(InputError, match="12 of cluster far, 13 of cluster dev, and Slurm has no dependencies between clusters"):
        submit._one_cluster(stage, [("far", "12"), ("dev", "13")])
    assert submit._one_cluster(stage, [("far", "12"), ("far", "13")]) == "far" and submit._one_cluster(stage, []) == ""


def test_what_waits_is_moved_on_its_own_cluster_alone(folder, queue):  # noqa: F811
    submitted(folder, queue, depends=("9",))
    queue.jobs = [replace(j, cluster="far") for j in queue.jobs] + queue.jobs
    assert order.move(queue.jobs, ["9"], ["8"], "far") == ["100", "101"]
