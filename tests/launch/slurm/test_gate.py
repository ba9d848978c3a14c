"""What a gate finds when the jobs of its stage have ended, and does about it, with a queue that is played."""

import dataclasses
import json

import pytest

from launch.slurm import endings, gate
from launch.slurm.endings import Ended
from launch.slurm.submissions import Order, read, record
from synth.host import slurm, squeue
from synth.host.slurm import SlurmError
from synth.host.squeue import Listed
from synth.run.loop import Worker
from tests.launch.slurm.played import ORDER, judge, raising, submitted
from tests.stages import probe


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
