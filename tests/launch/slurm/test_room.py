"""Full queues: fewer jobs where a limit counts them, and gates that wait in the queue itself."""

import dataclasses
import json
import signal

import pytest

from launch.plan.planned import PlannedStage
from launch.slurm import room, submit
from launch.slurm.limits import Limits
from launch.slurm.order import add_gate, place, settle
from launch.slurm.room import back_into_the_queue
from launch.slurm.site import Site
from launch.slurm.submissions import INTENDED, read, take_turn
from synth.host import slurm
from synth.host.slurm import SlurmError
from synth.host.squeue import Listed
from tests.launch.slurm.played import ORDER, SCRIPTS, judge
from tests.launch.slurm.test_resources import cluster

FULL = "sbatch: error: AssocMaxSubmitJobLimit\nsbatch: error: Batch job submission failed: Job violates accounting/QOS policy"


@pytest.fixture
def limit(queue, monkeypatch):
    """limit(most): Slurm takes so many jobs; scancel makes room."""
    call = queue.call

    def set_to(most: int) -> None:
        def counted(*args: str, **kwargs: object) -> str:
            if args[0] == "sbatch":
                span = next((a.partition("=0-")[2] for a in args if a.startswith("--array=")), "0")
                wants, there = int(span.partition("%")[0]) + 1, sum(sizes.get(j.base, 1) for j in queue.jobs)
                if there + wants > most:
                    queue.calls.append(args)
                    raise SlurmError(f"sbatch: {FULL}")
                job = call(*args, **kwargs)
                sizes[job.strip()] = wants
                return job
            if args[0] == "scancel":
                queue.end(*args[1:])
            return call(*args, **kwargs)

        monkeypatch.setattr(slurm, "call", counted)

    sizes: dict[str, int] = {}
    return set_to


def placed(folder, tasks: int):
    return place(folder, take_turn(folder.path, settle), ORDER, SCRIPTS, tasks, ())


@pytest.mark.parametrize(("most", "tasks"), [(99, [3]), (3, [1]), (2, [1])])
def test_a_full_queue_gets_fewer_jobs_and_a_gate_behind_them(folder, queue, limit, most, tasks):
    limit(most)
    turn = placed(folder, 3)
    assert [a.tasks for a in turn.arrays] == tasks and turn.n_jobs == sum(tasks) and turn.gate
    assert {j.base for j in queue.jobs} == set(turn.job_ids) and len(read(folder.path)) == 1
    assert all(job.name.startswith(turn.job_name) for job in queue.jobs)


def test_a_queue_without_room_for_one_job_and_its_gate_keeps_nothing_and_no_record(folder, queue, limit):
    limit(1)
    with pytest.raises(SlurmError, match="AssocMaxSubmitJobLimit"):
        placed(folder, 3)
    assert not queue.jobs and not read(folder.path)
    limit(99)
    assert placed(folder, 3).number == 1


def test_while_fewer_are_tried_nobody_else_takes_the_turn(folder, queue, limit, monkeypatch):
    limit(2)
    states, call = [], slurm.call

    def seen(*args: str, **kwargs: object) -> str:
        states.append(read(folder.path)[0].state)
        return call(*args, **kwargs)

    monkeypatch.setattr(slurm, "call", seen)
    placed(folder, 3)
    assert set(states) == {INTENDED} and len(states) > 2


def test_a_gate_alone_that_finds_no_room_leaves_no_record(folder, queue, limit):
    limit(0)
    turn = dataclasses.replace(take_turn(folder.path, settle), order=dataclasses.asdict(ORDER))
    with pytest.raises(SlurmError):
        add_gate(folder, turn, SCRIPTS, ["7"])
    assert not read(folder.path)


@pytest.mark.parametrize(("in_queue", "most", "given"), [(0, None, 4), (8, None, 1), (12, None, 1), (12, 10, 0), (7, 10, 2)])
def test_room_is_counted_by_our_own_jobs_and_sbatch_has_the_last_word_where_there_seems_to_be_none(
    folder,
    queue,
    monkeypatch,
    in_queue,
    most,
    given,
):
    """Of others who submitted this run, or a part of it, the limit counts nothing."""
    ours = [Listed(str(n), "RUNNING", "", "", "", "training", cluster="dev") for n in range(in_queue)]
    theirs = [Listed(str(n), "PENDING", "", "", "", "x", cluster="dev") for n in range(20, 40)]
    monkeypatch.setattr(slurm, "listing", lambda users=(), clusters=("",): theirs if users else ours)
    stage = PlannedStage(folder.spec, folder.path.parent, planned=True)
    site = Site(dataclasses.replace(cluster("cluster.n_jobs=4"), max_submit=most), Limits(max_submit=10), None, "")
    assert submit.allotted([stage], site, theirs) == {folder.path: given}


# -- gates -------------------------------------------------------------------------------------------------------------


@pytest.fixture
def ignored(monkeypatch):
    """Signals that a process ignores from now on, noted."""
    found = []
    monkeypatch.setattr(room.signal, "signal", lambda number, how: found.append((number, how)))
    return found


def test_a_gate_that_meets_a_full_queue_goes_back_into_it_and_cancels_nothing(folder, queue, ended, ignored, capsys):
    queue.refuse["sbatch"] = FULL
    assert judge(folder, ended.number) == 75
    requeue, begin = queue.did("scontrol")
    assert requeue == ("requeue", ended.gate) and begin == ("update", f"JobId={ended.gate}", "StartTime=now+300seconds")
    assert not queue.did("scancel") and not (folder.path / "missing.json").exists() and ignored == [(signal.SIGTERM, signal.SIG_IGN)]
    assert "no room in the queue (AssocMaxSubmitJobLimit): back into it" in capsys.readouterr().out
    assert [s.number for s in read(folder.path)] == [ended.number]


def test_a_refusal_that_time_does_not_mend_ends_as_before(folder, queue, ended, ignored):
    queue.refuse["sbatch"] = "sbatch: error: QOSMaxWallDurationPerJobLimit"
    assert judge(folder, ended.number) == 65 and not ignored and not queue.did("scontrol")


def test_a_gate_that_may_not_go_back_says_so_with_the_limit(folder, queue, ended, ignored):
    queue.refuse |= {"sbatch": FULL, "scontrol": "Access/permission denied"}
    assert judge(folder, ended.number) == 65
    why = json.loads((folder.path / "missing.json").read_text())["why"]
    assert "No room in the queue (AssocMaxSubmitJobLimit)" in why and "Access/permission denied" in why


@pytest.mark.parametrize(
    ("env", "begins", "says"),
    [
        ({"SLURM_JOB_ID": "7"}, 300, ""),
        ({"SLURM_JOB_ID": "7", "SLURM_RESTART_COUNT": "2"}, 1200, ""),
        ({"SLURM_JOB_ID": "7", "SLURM_RESTART_COUNT": "900"}, 3600, ""),
        ({"SLURM_JOB_ID": "7", "SLURM_RESTART_COUNT": "1000"}, None, "looked 1001 times"),
        ({}, None, "no job of Slurm"),
    ],
)
def test_looks_are_ever_further_apart_and_bounded(queue, ignored, env, begins, says):
    said = back_into_the_queue("full", 1000, "", lambda text: None, env)
    assert says in said and bool(said) is (begins is None)
    assert [c[-1] for c in queue.did("scontrol") if c[0] == "update"] == ([f"StartTime=now+{begins}seconds"] if begins else [])


def test_a_begin_that_cannot_be_set_is_told_and_the_gate_waits_all_the_same(queue, ignored, monkeypatch):
    def call(*args: str, **kwargs: object) -> str:
        if "update" in args:
            raise SlurmError("scontrol: no")
        return ""

    monkeypatch.setattr(slurm, "call", call)
    told: list[str] = []
    assert back_into_the_queue("full", 9, "", told.append, {"SLURM_JOB_ID": "7"}) == "" and "scontrol: no" in told[-1]
