"""Signals while jobs are handed to Slurm, and what is said of it afterwards."""

import shlex
import signal
from dataclasses import replace

import pytest

from launch.plan.planned import Outcome, PlannedStage
from launch.slurm import order, submit
from launch.slurm.limits import Limits
from launch.slurm.site import Site
from launch.slurm.stopping import stopping
from launch.slurm.submissions import intend
from launch.slurm.submit import Placed
from synth.errors import EXIT_AGAIN, EXIT_BAD_INPUT, InputError, StoreError
from synth.host import slurm
from synth.host.slurm import SlurmError
from tests.launch.slurm.played import submitted
from tests.launch.slurm.test_resources import cluster
from tests.stages import probe

PLAIN = cluster()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_the_first_signal_is_noted_and_the_second_ends(number):
    said, before = [], signal.signal(number, signal.default_int_handler)  # also where the tests were begun by nohup
    try:
        with stopping(said.append) as stop:
            signal.raise_signal(number)
            assert stop.asked and len(said) == 1
            with pytest.raises(KeyboardInterrupt):
                signal.raise_signal(number)
        assert signal.getsignal(number) is signal.default_int_handler
    finally:
        signal.signal(number, before)


def test_a_signal_that_was_ignored_stays_ignored():
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with stopping(print) as stop:
            signal.raise_signal(signal.SIGHUP)
            assert not stop.asked
    finally:
        signal.signal(signal.SIGHUP, before)


def test_what_is_queued_is_told_with_the_line_that_cancels_it(folder, queue, monkeypatch):
    turn = submitted(folder, queue)
    text = submit.stopped([folder.path])
    assert f"{folder.path.name}: 100 101 102" in text and text.splitlines()[-1].endswith(f"cancel {folder.path}")
    monkeypatch.setattr(slurm, "listing", lambda *_: (_ for _ in ()).throw(SlurmError("away", passing=True)))
    assert "100 101 102" in submit.stopped([folder.path]) and turn.gate == "102"


def test_the_line_that_cancels_names_the_stages_that_are_listed_and_no_folder_above_them(tmp_path, queue):
    """Other runs lie beside them in the folder that they have in common."""
    stages = [probe(tmp_path / name, slots=40, unit_size=4) for name in ("a run", "other", "none")]
    for stage in stages[:2]:
        submitted(stage, queue)
    cancel = submit.stopped([s.path for s in stages]).splitlines()[-1]
    assert shlex.split(cancel)[-2:] == [str(s.path) for s in stages[:2]] and shlex.split(cancel)[-3].startswith("cancel")


@pytest.mark.parametrize("at", ["squeue", "between"])
def test_one_more_ctrl_c_at_any_time_still_tells_what_is_queued(folder, queue, monkeypatch, at):
    stage = PlannedStage(folder.spec, folder.path.parent, planned=True)
    said, listing = [], slurm.listing

    def one(*args):
        turn = submitted(folder, queue)
        signal.raise_signal(signal.SIGINT)
        return Placed(Outcome(stage, EXIT_BAD_INPUT, message="refused"), turn.gate)

    def impatient(*args):
        if at == "squeue" and queue.jobs:
            signal.raise_signal(signal.SIGINT)
        return listing(*args)

    def tell(console, text):
        said.append(text)
        if text.startswith("Stopped"):
            signal.raise_signal(signal.SIGINT)

    def state(stage):
        signal.raise_signal(signal.SIGINT)

    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        monkeypatch.setattr(submit, "one", one)
        monkeypatch.setattr(submit, "say", tell)
        monkeypatch.setattr(slurm, "listing", impatient)
        monkeypatch.setattr(submit, "state_of", state)
        other = replace(stage, dataset_root=stage.dataset_root / "x") if at == "between" else stage
        placed = submit.submit_all([stage, other][: 1 + (at == "between")], Site(PLAIN, Limits(), None, ""), {folder.path: 4}, False, None)
    finally:
        signal.signal(signal.SIGINT, before)
    assert "100 101 102" in said[-1] and [p.outcome.code for p in placed.values()][1:] in ([], [EXIT_AGAIN])


def test_an_array_that_may_be_queued_is_told_by_its_name(folder, queue):
    torn = intend(folder.path, 1)
    assert f"perhaps more, whose names begin with {torn.job_name}" in submit.stopped([folder.path])


def test_before_anything_is_submitted_nothing_is_said_to_be_queued(folder, queue):
    assert submit.stopped([folder.path]) == "Stopped before anything was submitted."


@pytest.mark.parametrize(
    ("error", "code", "says"),
    [
        (SlurmError("Invalid account"), EXIT_BAD_INPUT, "cluster.account (probe): Slurm refuses it: Invalid account"),
        (
            SlurmError("sbatch: error: AssocMaxSubmitJobLimit"),
            EXIT_AGAIN,
            "not submitted: no room in the queue (AssocMaxSubmitJobLimit); run",
        ),
        (SlurmError("partition not available (inactive or drain)"), EXIT_AGAIN, "not submitted: partition not available"),
        (SlurmError("standby mode", passing=True), EXIT_AGAIN, "Slurm does not take it now: standby mode"),
        (SlurmError("whether the job x is queued is not known", True, True), EXIT_AGAIN, "looks for its jobs by their name"),
        (KeyboardInterrupt(), EXIT_AGAIN, "stopped in the middle; the same command looks for its jobs by their name"),
    ],
)
def test_what_ends_a_submission_says_whether_the_same_command_helps(folder, queue, monkeypatch, error, code, says):
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


def test_a_stage_that_would_wait_for_jobs_of_two_clusters_is_refused_by_name(folder, queue):
    stage = PlannedStage(folder.spec, folder.path.parent, planned=True)
    with pytest.raises(InputError, match="12 of cluster far, 13 of cluster dev, and all jobs of a run have to be on one cluster"):
        submit._one_cluster(stage, [("far", "12"), ("dev", "13")])
    assert submit._one_cluster(stage, [("far", "12"), ("far", "13")]) == "far" and submit._one_cluster(stage, []) == ""


def test_what_waits_is_moved_on_its_own_cluster_alone(folder, queue):
    submitted(folder, queue, depends=("9",))
    queue.jobs = [replace(j, cluster="far") for j in queue.jobs] + queue.jobs
    assert order.move(queue.jobs, ["9"], ["8"], "far") == ["100", "101"]
