"""Turns, what is live, and gates, with a queue that is played by a few lines; tests/slurm does it on a real one."""

import dataclasses
import json
import threading

import pytest

from launch.slurm import endings, gate, order, stored
from launch.slurm.endings import Ended
from launch.slurm.order import behind, live, move, place, settle
from launch.slurm.stored import Scripts
from launch.slurm.submissions import ABANDONED, INTENDED, SUBMITTED, Array, Order, intend, read, record, take_turn
from synth.errors import InputError
from synth.host import slurm, squeue
from synth.host.slurm import SlurmError
from synth.host.squeue import Listed, Seen
from synth.run.loop import Worker
from tests.stages import probe

ORDER = Order(
    "0001.sbatch",
    "0001.gate.sbatch",
    n_jobs=4,
    max_array=3,
    heal=1,
    max_requeues=5,
    command="cd /x && python launch/run.py",
)


class Queue:
    """Slurm, played: sbatch makes pending jobs, update and scancel are noted."""

    def __init__(self):
        self.jobs: list[Listed] = []
        self.calls: list[tuple[str, ...]] = []
        self.refuse: dict[str, str] = {}  # command -> what it says

    def call(self, *args: str, **kwargs) -> str:
        self.calls.append(args)
        if args[0] in self.refuse:
            raise SlurmError(f"{args[0]}: {self.refuse[args[0]]}")
        if args[0] == "sbatch":
            options = dict(a[2:].split("=", 1) for a in args if a.startswith("--") and "=" in a)
            job = str(100 + len({j.base for j in self.jobs}))
            depends = ",".join(
                f"afterany:{j}(unfulfilled)" for j in options.get("dependency", "").removeprefix("afterany:").split(":") if j
            )
            why = "Dependency" if depends else "Priority"
            self.jobs.append(
                Listed(job, "PENDING", why, depends, "", options["job-name"], 1000.0 + len(self.jobs), kwargs.get("cluster") or "dev")
            )
            return job + "\n"
        return ""

    def seen(self, ids=(), names=(), cluster="", timeout=0.0, mine=False):
        found = [j for j in self.jobs if (j.base in ids or j.name in names) and j.cluster == (cluster or "dev")]
        return [Seen(j.job, j.state, 0, j.submitted, j.name) for j in found]

    def listing(self, users=(), clusters=("",)):
        return [j for j in self.jobs if j.cluster in {c or "dev" for c in clusters}]

    def did(self, name: str) -> list[tuple[str, ...]]:
        return [c[1:] for c in self.calls if c[0] == name]

    def end(self, *jobs: str) -> None:
        self.jobs = [j for j in self.jobs if j.base not in jobs]


@pytest.fixture
def queue(monkeypatch):
    played = Queue()
    monkeypatch.setattr(slurm, "call", played.call)
    monkeypatch.setattr(slurm, "listing", played.listing)
    monkeypatch.setattr(slurm, "seen", played.seen)
    monkeypatch.setattr(slurm, "cluster_name", lambda timeout=0.0: "dev")
    monkeypatch.setattr(gate, "PATIENCE", 0.0)
    return played


@pytest.fixture
def folder(tmp_path):
    return probe(tmp_path, slots=40, unit_size=4)


SCRIPTS = Scripts("#!/bin/bash\necho array\n", "#!/bin/bash\necho gate\n")


def submitted(folder, queue, depends=(), wanted=ORDER):
    stored.write(folder.path, wanted, SCRIPTS)
    return place(folder, take_turn(folder.path, settle), wanted, SCRIPTS, 4, depends)


def judge(folder, number):
    """The gate of a submission, told what its launcher told it."""
    return gate.judge(folder, number, SCRIPTS.told(next(s for s in read(folder.path) if s.number == number)))


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


def raising(error):
    def fail(*args, **kwargs):
        raise error

    return fail


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


@pytest.fixture
def ended(folder, queue, monkeypatch):
    """A submission whose arrays are over, judged by its gate, with a job that waits for it."""
    turn = submitted(folder, queue)
    monkeypatch.setenv("SLURM_JOB_ID", turn.gate)
    queue.end(*turn.job_ids)
    queue.jobs += [
        Listed(turn.gate, "RUNNING", "None", "", "", turn.named("gate"), cluster="dev"),
        Listed("300_[0-3]", "PENDING", "Dependency", f"afterany:{turn.gate}(unfulfilled)", "x/0", "next", cluster="dev"),
        Listed("301", "PENDING", "Dependency", "afterany:300_*(unfulfilled)", "x/gate", "next", cluster="dev"),
    ]
    return turn


def test_a_cluster_that_is_not_known_here_is_named_with_the_record_that_names_it(folder, queue, monkeypatch):
    stored.write(folder.path, ORDER, SCRIPTS)
    place(folder, take_turn(folder.path, settle), ORDER, SCRIPTS, 4, (), cluster="far")
    monkeypatch.setattr(slurm, "listing", raising(SlurmError("squeue: error: No cluster 'far' known by database.")))
    with pytest.raises(InputError, match=r"0001\.json: jobs of this submission are on cluster far, which Slurm does not know here"):
        order.queue_of([folder.path])
    with pytest.raises(SlurmError):
        order.queue_of([])


def test_a_gate_looks_again_while_slurm_does_not_answer(folder, queue, ended, monkeypatch, capsys):
    answers = [SlurmError("Slurm backup controller in standby mode", passing=True), SlurmError("Unexpected message received", passing=True)]
    listing = queue.listing

    def away(*args, **kwargs):
        if answers:
            raise answers.pop()
        return listing(*args, **kwargs)

    monkeypatch.setattr(slurm, "listing", away)
    monkeypatch.setattr(gate, "PAUSE", 0.0)
    assert judge(folder, ended.number) == 0 and read(folder.path)[1].tries == 1
    assert "Unexpected message received; this gate looks again" in capsys.readouterr().out
    monkeypatch.setattr(gate, "AWAY", -1.0)
    monkeypatch.setattr(slurm, "listing", raising(SlurmError("standby mode", passing=True)))
    assert judge(folder, ended.number) == 65
    assert "Slurm did not answer its gate (standby mode)" in json.loads((folder.path / "missing.json").read_text())["why"]


def test_a_whole_stage_passes(folder, ended):
    assert Worker(folder, 0, 1).run() == 0
    assert judge(folder, ended.number) == 0


def test_a_gate_submits_what_is_missing_and_moves_what_waits_as_often_as_it_may(folder, queue, ended):
    assert judge(folder, ended.number) == 0
    second = read(folder.path)[1]
    assert (
        second.tries == 1 and second.goes_on == 1 and ("update", "JobId=300", f"Dependency=afterany:{second.gate}") in queue.did("scontrol")
    )
    queue.end(*second.job_ids)
    assert judge(folder, second.number) == 65
    assert len(read(folder.path)) == 2


def test_units_that_were_made_since_do_not_count_as_a_failed_try(folder, queue, ended):
    judge(folder, ended.number)
    second = read(folder.path)[1]
    queue.end(*second.job_ids)
    worker = Worker(folder, 0, 1)
    worker._settle, settle_one = lambda *a: (settle_one(*a), worker._ask_to_drain(15, None)), worker._settle
    worker.run()
    assert 0 < len(folder.committed()) < 10
    assert judge(folder, second.number) == 0 and read(folder.path)[2].tries == 0


def test_where_what_a_stage_reads_lost_its_gate_it_waits_for_the_arrays_and_tells_what_is_not_whole(folder, queue, monkeypatch):
    """Its own jobs ended at once, on several nodes: not because of these."""
    up = probe(folder.path.parent / "up", slots=8)
    ahead = submitted(up, queue)
    own = submitted(folder, queue)
    monkeypatch.setattr(gate, "upstream", lambda stage: [up] if stage.path == folder.path else [])
    monkeypatch.setattr(endings, "ended", lambda *_: [Ended(f"7_{i}", "FAILED", 65, f"n{i}") for i in range(2)])
    queue.end(*own.job_ids, ahead.gate)
    assert judge(folder, own.number) == 0
    again = read(folder.path)[1]
    waits = next(j for j in queue.jobs if j.base == again.arrays[0].job)
    assert set(squeue.depends_on(waits)) == {a.job for a in ahead.arrays}
    queue.end(*again.job_ids, *ahead.job_ids)
    record(folder.path, dataclasses.replace(again, tries=0))
    (up.path / "missing.json").write_text('{"why": "no such file"}')
    assert judge(folder, again.number) == 65
    why = json.loads((folder.path / "missing.json").read_text())["why"]
    assert why == f"{up.path}, which it reads, is not whole, and no job of it is in the queue: no such file"


def test_without_tries_the_verdict_is_written_and_what_waits_is_cancelled(folder, queue, ended):
    record(folder.path, dataclasses.replace(ended, order={**ended.order, "heal": 0}))
    assert judge(folder, ended.number) == 65
    verdict = json.loads((folder.path / "missing.json").read_text())
    assert len(verdict["missing"]) == 10 and verdict["command"] == ORDER.command
    assert queue.did("scancel") == [("300", "301")]


def test_what_waits_may_be_held_instead(folder, queue, ended):
    record(folder.path, dataclasses.replace(ended, order={**ended.order, "heal": 0, "on_missing": "hold"}))
    judge(folder, ended.number)
    assert queue.did("scontrol") == [("hold", "300", "301")]


def test_units_that_were_set_aside_are_not_tried_again(folder, queue, ended, capsys):
    for unit in range(10):
        for _ in range(3):
            folder.report_failure(unit, {"error": "x"})
    assert judge(folder, ended.number) == 65 and len(read(folder.path)) == 1
    assert "retry_failed=true" in capsys.readouterr().err


def test_live_jobs_of_the_stage_get_a_new_gate(folder, queue, ended):
    queue.jobs.append(Listed(f"{ended.arrays[0].job}_1", "RUNNING", "None", "", "", ended.named("0"), cluster="dev"))
    assert judge(folder, ended.number) == 0
    second = read(folder.path)[1]
    assert second.arrays == () and second.gate and f"--dependency=afterany:{ended.arrays[0].job}" in queue.did("sbatch")[-1]
    assert ("update", "JobId=300", f"Dependency=afterany:{second.gate}") in queue.did("scontrol")


def test_a_newer_submission_takes_over_and_an_older_gate_never_does(folder, queue, ended):
    newer = submitted(folder, queue)
    sbatches = len(queue.did("sbatch"))
    assert judge(folder, ended.number) == 0 and len(queue.did("sbatch")) == sbatches
    assert ("update", "JobId=300", f"Dependency=afterany:{newer.gate}") in queue.did("scontrol")


def test_without_rights_on_the_node_the_verdict_says_so(folder, queue, ended):
    queue.refuse = dict.fromkeys(("sbatch", "scontrol", "scancel"), "Access denied")
    assert judge(folder, ended.number) == 65
    assert "Access denied" in json.loads((folder.path / "missing.json").read_text())["why"]


def test_a_stage_whose_batches_fit_nowhere_is_not_submitted_again(folder, queue, ended):
    told = {"event": "too_large", "time": ended.created + 1, "why": "images.batch_size=8 fits here"}
    (folder.path / "events" / "node1-1-abc.jsonl").write_text(json.dumps(told) + "\n")
    assert judge(folder, ended.number) == 65 and len(read(folder.path)) == 1
    assert "images.batch_size=8 fits here" in json.loads((folder.path / "missing.json").read_text())["why"]
    folder.unit_path(0).parent.mkdir(parents=True)
    folder.unit_path(0).touch()  # another device made one: the small ones are not all there is
    assert judge(folder, ended.number) == 0


def worked(folder, node: str, *left: str) -> None:
    """Events of workers on a node: one that went well, and one that left its device for each reason."""
    for n, why in enumerate(("", *left)):
        events = [{"event": "start", "host": node, "node": node, "place": "gpu 0"}]
        events += [{"event": "device", "host": node, "node": node, "place": "gpu 0", "why": why}] if why else []
        (folder.path / "events" / f"{node}-{n}-abc.jsonl").write_text("".join(json.dumps(e) + "\n" for e in events))


def test_a_node_that_two_workers_left_as_bad_is_left_out_of_what_a_gate_submits(folder, queue, ended, capsys):
    worked(folder, "node1")
    worked(folder, "node2", "CUDA error: unknown error")
    worked(folder, "node3", "cuDNN error: a", "cuDNN error: b")
    record(folder.path, dataclasses.replace(ended, order={**ended.order, "exclude": "node[8-9]"}))
    assert judge(folder, ended.number) == 0
    second = read(folder.path)[1]
    arrays = [c for c in queue.did("sbatch") if any(w.startswith("--array") for w in c)]
    assert all("--exclude=node[8-9],node3" in c for c in arrays[2:]) and not any("--exclude" in w for c in arrays[:2] for w in c)
    assert second.excluded == ("node3",) and Order.of(second).exclude == "node[8-9]"
    told = capsys.readouterr().out
    assert "bad device on node3, left by 2 workers (gpu 0: cuDNN error: b)" in told and "left out from now on: node3" in told


@pytest.mark.parametrize(("nodes", "most"), [(("node1", "node2"), 32), (("node1", "node2", "node3"), 1)])
def test_nodes_are_never_left_out_if_no_other_ever_worked_or_too_many_are_bad(folder, queue, ended, capsys, monkeypatch, nodes, most):
    monkeypatch.setattr(gate, "AT_MOST", most)
    for node in nodes[:2]:
        worked(folder, node, "bad", "bad")
    for node in nodes[2:]:
        worked(folder, node)
    assert judge(folder, ended.number) == 0
    assert read(folder.path)[1].excluded == () and not any("--exclude" in w for c in queue.did("sbatch") for w in c)
    assert f"2 nodes have bad devices, of {len(nodes)} that ever worked here: none is left out" in capsys.readouterr().out


def test_an_intent_that_is_open_is_no_submission(folder):
    intend(folder.path, 1)
    assert read(folder.path)[0].state == INTENDED and live(read(folder.path), []) == order.Live()
