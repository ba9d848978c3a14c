"""Turns, what is live, and what waits for what, with a queue that is played."""

import dataclasses
import threading

import pytest

from launch.slurm import order, stored
from launch.slurm.order import behind, live, move, place, settle
from launch.slurm.submissions import ABANDONED, INTENDED, SUBMITTED, Array, Order, intend, read, record, take_turn
from synth.errors import InputError
from synth.host import slurm
from synth.host.slurm import SlurmError
from synth.host.squeue import Listed
from tests.launch.slurm.played import ORDER, SCRIPTS, raising, submitted


def test_a_job_that_an_administrator_holds_is_told_and_the_others_are_released(monkeypatch):
    released = []

    def call(*args, **options):
        if args[-1] == "12":
            raise SlurmError("scontrol: Access/permission denied for job 12")
        released.append(args)

    monkeypatch.setattr(slurm, "call", call)
    said = order.release(["11", "12", "13"])
    assert released == [("scontrol", "release", "11"), ("scontrol", "release", "13")]
    assert "; released, as they were held: 11 13; held by an administrator, who alone can release them: 12 (" in said
    assert order.release([]) == ""


def test_jobs_of_another_user_that_a_site_hides_are_not_submitted_again(folder, queue, monkeypatch):
    """PrivateData=jobs. What its gate gave up is anybody's."""
    mine = submitted(folder, queue)
    monkeypatch.setattr(slurm, "hides_jobs", lambda: True)
    monkeypatch.setattr("os.geteuid", lambda: 1000)
    assert order.unseen(folder.path, read(folder.path)) == ""
    record(folder.path, dataclasses.replace(mine, user="alice"))
    said = order.unseen(folder.path, read(folder.path))
    assert "alice submitted it (jobs 100 101 102)" in said and f"remove {folder.path}/submissions/0001.json" in said
    (folder.path / "missing.json").write_text("{}")
    assert order.unseen(folder.path, read(folder.path)) == ""
    (folder.path / "missing.json").unlink()
    monkeypatch.setattr(slurm, "hides_jobs", lambda: False)
    assert order.unseen(folder.path, read(folder.path)) == ""


# -- turns -----------------------------------------------------------------------------------------------------------


def test_many_at_once_take_turns_and_each_number_once(folder):
    numbers = []

    def one():
        turn = take_turn(folder.path, settle)
        numbers.append(turn.number)
        record(folder.path, dataclasses.replace(turn, state=ABANDONED))

    threads = [threading.Thread(target=one) for _ in range(4)]
    [t.start() for t in threads]
    [t.join() for t in threads]
    assert sorted(numbers) == [1, 2, 3, 4]


def test_the_turn_of_a_dead_process_is_given_up_or_completed_by_what_the_queue_has(folder, queue):
    torn = intend(folder.path, 1)
    record(folder.path, dataclasses.replace(torn, owner={**torn.owner, "start": "1"}))
    assert take_turn(folder.path, settle).number == 2 and read(folder.path)[0].state == ABANDONED

    torn = intend(folder.path, 3)
    record(folder.path, dataclasses.replace(read(folder.path)[1], state=ABANDONED))
    record(folder.path, dataclasses.replace(torn, owner={**torn.owner, "start": "1"}))
    queue.jobs.append(Listed("77_0", "RUNNING", "None", "", f"{torn.token}/0", torn.job_name, cluster="dev"))  # of an older version
    take_turn(folder.path, settle)
    assert read(folder.path)[2].state == SUBMITTED and read(folder.path)[2].arrays == (Array("77", 0, 0),)


def test_the_turn_of_another_machine_is_waited_for_and_then_given_up(folder, queue):
    foreign = intend(folder.path, 1)
    record(folder.path, dataclasses.replace(foreign, owner={**foreign.owner, "boot": "elsewhere"}))
    now = iter(range(0, 1000, 50))
    slept = []
    assert take_turn(folder.path, settle, patience=120, clock=lambda: next(now), sleep=slept.append).number == 2
    assert slept


# -- placing -----------------------------------------------------------------------------------------------------------


def test_arrays_are_placed_with_a_gate_behind_all_of_them(folder, queue):
    (folder.path / "missing.json").write_text("{}")
    turn = submitted(folder, queue, depends=("9",))
    first, second, behind_both = queue.did("sbatch")
    assert "--array=0-2" in first and "--array=0-0" in second and first[-2:] == ("0", "4") and second[-2:] == ("3", "4")
    assert "--dependency=afterany:9" in first and "--dependency=afterany:100:101" in behind_both
    (stored,) = read(folder.path)
    assert stored.job_ids == turn.job_ids == ("100", "101", "102") and stored.state == SUBMITTED and Order.of(stored) == ORDER
    assert not (folder.path / "missing.json").exists()


def test_a_refused_order_leaves_nothing_in_the_queue(folder, queue):
    queue.refuse["sbatch"] = "Invalid account"
    with pytest.raises(SlurmError, match="Invalid account"):
        submitted(folder, queue)
    assert read(folder.path)[0].state == ABANDONED and not queue.jobs


def test_what_is_live_is_known_by_its_name(folder, queue):
    turn = submitted(folder, queue)
    assert live([turn], queue.jobs).arrays == ("100", "101") and live([turn], queue.jobs).gate == "102"
    elsewhere = [dataclasses.replace(j, cluster="far") for j in queue.jobs]
    assert live([turn], elsewhere).arrays == ("100", "101") and live([turn], elsewhere).cluster == "far"
    again = [dataclasses.replace(j, name="somebody-else", submitted=5.0) for j in queue.jobs]
    assert live([turn], again) == order.Live()
    ending = [dataclasses.replace(j, state="COMPLETING") for j in queue.jobs]
    assert live([turn], ending) == order.Live()


def test_a_job_that_the_site_gave_another_name_is_known_by_cluster_number_and_time_and_not_released(folder, queue):
    turn = submitted(folder, queue)
    renamed = [dataclasses.replace(j, name="renamed", reason="JobHeldUser") for j in queue.jobs]
    assert live([turn], renamed).arrays == ("100", "101") and live([turn], renamed).gate == "102" and live([turn], renamed).held == ()
    assert live([turn], [dataclasses.replace(j, cluster="far") for j in renamed]) == order.Live()


def test_an_array_of_which_nobody_knows_whether_it_is_queued_is_not_forgotten(folder, queue, monkeypatch):
    """Its record stays open, and whoever comes next finds the array by its name and puts no other beside it."""
    monkeypatch.setattr(order.sbatch, "PATIENCE", 0.0)
    monkeypatch.setattr(order.sbatch, "_look", raising(SlurmError("no answer", passing=True, unsure=True)))
    with pytest.raises(SlurmError):
        submitted(folder, queue)
    (torn,) = read(folder.path)
    assert torn.state == INTENDED and queue.jobs and not queue.did("scancel")
    assert live(read(folder.path), queue.jobs).arrays == ("100",)
    assert settle(torn).arrays == (Array("100", 0, 0),) and settle(torn).submitted == {"100": 1000.0} and settle(torn).cluster == "dev"


def test_jobs_that_go_to_another_cluster_have_their_gate_there(folder, queue):
    stored.write(folder.path, ORDER, SCRIPTS)
    turn = place(folder, take_turn(folder.path, settle), ORDER, SCRIPTS, 4, (), cluster="far")
    assert {j.cluster for j in queue.jobs} == {"far"} and read(folder.path) == [turn] and turn.cluster == "far"
    assert turn.submitted == {"100": 1000.0, "101": 1001.0, "102": 1002.0}
    assert order.queue_of([folder.path]) == queue.jobs and live([turn], queue.jobs).gate == "102"


def test_waiting_jobs_are_moved_and_keep_their_other_dependencies(queue):
    queue.jobs = [Listed("5", "PENDING", "Dependency", "afterany:3(unfulfilled),afterany:4(unfulfilled)", "", "", cluster="dev")]
    assert move(queue.jobs, ["3"], ["8"]) == ["5"]
    assert queue.did("scontrol") == [("update", "JobId=5", "Dependency=afterany:4,afterany:8")]


def test_what_waits_for_a_dropped_job_of_a_drained_cluster_of_a_federation_waits_no_more(queue):
    queue.jobs = [
        Listed("3", "REVOKED", "None", "(null)", "", "", cluster="dev"),
        Listed("4", "RUNNING", "None", "(null)", "", "", cluster="dev"),
        Listed("5", "PENDING", "Dependency", "afterany:3(unfulfilled)", "", "", cluster="dev"),
    ]
    lost = order.revoked({"3", "4", "9"})
    assert lost == {"3"} and order.revoked(()) == set() and move(queue.jobs, lost, []) == ["5"]
    order.drop(lost)
    order.drop(())
    assert queue.calls == [("scontrol", "update", "JobId=5", "Dependency="), ("scancel", "3")]


def test_arrays_that_forgot_what_they_waited_for_wait_again_unless_a_task_runs(queue):
    queue.jobs = [
        Listed("5_0", "PENDING", "JobHeldUser", "(null)", "", "", cluster="dev"),
        Listed("6_0", "PENDING", "Dependency", "afterany:8(unfulfilled)", "", "", cluster="dev"),
        Listed("7_0", "RUNNING", "None", "(null)", "", "", cluster="dev"),
        Listed("7_1", "PENDING", "Resources", "(null)", "", "", cluster="dev"),
    ]
    assert order.bind(queue.jobs, ["5", "6", "7"], ["8"]) == ["5"]
    assert queue.did("scontrol") == [("update", "JobId=5", "Dependency=afterany:8")]


def test_all_that_waits_is_found_through_the_chain():
    jobs = [
        Listed("6", "PENDING", "", "afterany:5_*(unfulfilled)", "", ""),
        Listed("5_[0-3]", "PENDING", "", "afterany:3(unfulfilled)", "", ""),
        Listed("9", "PENDING", "", "", "", ""),
    ]
    assert behind(jobs, "3") == ["5", "6"]


# -- gates -------------------------------------------------------------------------------------------------------------


def test_a_cluster_that_is_not_known_here_is_named_with_the_record_that_names_it(folder, queue, monkeypatch):
    stored.write(folder.path, ORDER, SCRIPTS)
    place(folder, take_turn(folder.path, settle), ORDER, SCRIPTS, 4, (), cluster="far")
    monkeypatch.setattr(slurm, "listing", raising(SlurmError("squeue: error: No cluster 'far' known by database.")))
    with pytest.raises(InputError, match=r"0001\.json: jobs of this submission are on cluster far, which Slurm does not know here"):
        order.queue_of([folder.path])
    with pytest.raises(SlurmError):
        order.queue_of([])


def test_an_intent_that_is_open_is_no_submission(folder):
    intend(folder.path, 1)
    assert read(folder.path)[0].state == INTENDED and live(read(folder.path), []) == order.Live()
