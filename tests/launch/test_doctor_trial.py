"""The trial of launch/doctor.py: how stages are cut, what two runs of true workers tell, and the jobs of a site."""

import io
import json
import os
import signal
from dataclasses import replace

import pytest
from rich.console import Console

from launch import doctor
from launch.checkup import jobs, trial
from launch.checkup.rows import OK, UNKNOWN, WARN, WRONG, exit_code
from launch.checkup.trial import Ended
from launch.config.compose import Composer, typed
from launch.plan.graph import plan_point
from launch.run import main as run
from launch.show import calibration
from launch.slurm.resources import resources_of
from launch.slurm.sbatch import Queued
from launch.slurm.site import Site
from synth import worker
from synth.errors import EXIT_AGAIN, EXIT_BAD_INPUT, EXIT_OK
from synth.host.squeue import Seen
from synth.store.folder import StageFolder
from tests.launch.test_doctor import LIMITS, slurm

IMAGES = ("prompts=class_name", "captioner=none", "dataset.classes=0..1", "captions.per_class=1", "export=[]")


# -- the trial -------------------------------------------------------------------------------------------------------


def in_this_process(stage, name):
    """The true worker, without a process of its own: torch is here already."""
    StageFolder.create(stage.dataset_root, stage.spec)
    return Ended(worker.main([str(stage.folder), "--job-idx", "0", "--n-jobs", "1", *stage.trusted]))


def stages_of(runs, *overrides):
    config = typed(Composer().compose([f"runs_dir={runs}", *IMAGES, *overrides]))
    return plan_point(config).stages


def test_a_trial_is_measured_by_true_workers_and_known_to_the_dry_run(tmp_path, capsys):
    runs, plan_ = tmp_path / "runs", (*IMAGES, "dataset.classes=0..5", "images.batch_size=2", "images.unit_size=4", "images.steps=2")
    stages = stages_of(runs, *plan_[len(IMAGES) :])
    with trial.throwaway(runs) as place:
        chain = trial.chain_of(stages, place)
        assert [(t.stage.name, t.first.spec.slots, t.second is not None) for t in chain.tried] == [
            ("captions", 6, False),
            ("captions_json", 1, False),
            ("images", 4, True),
        ]
        rows = trial.run(chain, runs, in_this_process)
    assert [(r.what, r.verdict) for r in rows] == [("device of images", OK), ("batch of images", OK), ("bytes of images", OK)], rows
    assert "2 samples in" in rows[1].found and "(the second batch)" in rows[1].found and "of host memory" in rows[1].found
    assert [p.name for p in (runs / calibration.FOLDER).iterdir()] == [f"images-{trial.work_of_spec(stages[2].spec)[:12]}.json"]
    assert run([f"runs_dir={runs}", *plan_, "images.seed=7", "dry_run=true"]) == EXIT_OK
    said = " ".join(capsys.readouterr().out.split())
    assert "by 1 unit of the doctor's calibration; a worker held" in said and "not known of captions" in said


def test_what_reads_pictures_is_cut_to_those_that_are_made(tmp_path):
    chain = trial.chain_of(stages_of(tmp_path, "dataset.classes=0..19", "images.batch_size=4", "filter=[clip_score]"), tmp_path / "t")
    slots = {t.stage.name: t.first.spec.slots for t in chain.tried}
    assert slots == {"captions": 20, "captions_json": 1, "images": 8, "features": 8} and not chain.skipped
    assert (
        chain.tried[3].first.spec.config["texts"] == 0 and chain.tried[3].second.spec.fingerprint == chain.tried[3].first.spec.fingerprint
    )


def test_what_cannot_be_cut_is_not_tried_and_says_why(world):
    chain = trial.chain_of(world.point("prompts=hirpg", "captioner.max_seq_len=512").stages, world.path / "t")
    why = {s.name: s.why for s in chain.skipped}
    assert "belong together" in why["metaprompts"] and "which is not tried" in why["images"] and not chain.tried


def test_the_first_batch_is_not_measured_and_a_stage_of_one_batch_says_so(tmp_path):
    stages = stages_of(tmp_path, "images.batch_size=16")
    cut = trial.chain_of(stages, tmp_path / "t").tried[2]
    assert (cut.first.spec.slots, cut.first.spec.batch, cut.first.spec.unit_size) == (2, 2, 2)
    folder = StageFolder.create(cut.first.dataset_root, cut.first.spec)
    lines = [
        {"event": "start", "time": 0, "host": "n1"},
        {"event": "open", "device": "NVIDIA H100", "cuda": "12.6", "bf16": False, "time": 1},
    ]
    lines += [
        {"event": "unit", "unit": n, "outcome": "ours", "samples": 2, "tombstones": 0, "seconds": s, "bytes": 8, "time": n}
        for n, s in ((0, 60.0), (1, 2.0))
    ]
    lines += [{"event": "stop", "seconds": 70.0, "busy_s": 60.0, "time": 9, "device_peak": 8 * 10**9}]
    (folder.path / "events" / "w.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    pace = trial.measured(folder.path)
    assert (pace.slot_s, pace.units, pace.device_peak) == (1.0, 1, 8 * 10**9)
    rows = trial.told(cut, Ended(0, node={"host": "n7", "links": "no"}), Ended(75, "gone"))
    assert "on n7" in rows[0].found and "no bfloat16" in rows[0].found and rows[0].verdict == WARN, "no hard links there"
    assert "the only batch" in rows[1].found and "8.0 GB of GPU memory" in rows[1].found
    assert rows[2].verdict == UNKNOWN and "gone" in rows[2].found


@pytest.mark.parametrize(
    ("ended", "verdict", "code"),
    [
        (Ended(65, "torch was built for CPUs"), WRONG, 65),
        (Ended(75, "the GPU does not answer"), WRONG, 75),
        (Ended(70, "a bug"), WRONG, 65),
        (Ended(trial.NOT_TOLD, "job 7 waited 10 min"), UNKNOWN, 0),
    ],
)
def test_a_stage_that_fails_is_a_row_and_what_reads_it_is_not_begun(tmp_path, ended, verdict, code):
    chain = trial.chain_of(stages_of(tmp_path), tmp_path / "t")
    begun = []

    def make(stage, name):
        begun.append(stage.name)
        return ended

    rows = trial.run(chain, tmp_path, make)
    assert begun == ["captions"] and [r.verdict for r in rows] == [verdict, UNKNOWN] and exit_code(rows) == code


def test_units_that_differ_are_wrong_where_their_bytes_are_promised(tmp_path, monkeypatch):
    tried = trial.chain_of(stages_of(tmp_path), tmp_path / "t").tried[2]
    made = iter([["a", "b"], ["a", "c"]] * 2)
    monkeypatch.setattr(trial, "digests", lambda stage: next(made))
    assert trial._same(tried, Ended(0)).verdict == WRONG
    fast = replace(tried, first=replace(tried.first, spec=replace(tried.first.spec, numerics={"deterministic": False})))
    assert trial._same(fast, Ended(0)).verdict == OK


def test_what_a_killed_doctor_left_is_removed_and_what_one_at_work_holds_is_not(tmp_path):
    with trial.throwaway(tmp_path) as first:
        dead = first.with_name(first.name.replace(f"-{os.getpid()}-", "-999999999-"))
        dead.mkdir()
        with trial.throwaway(tmp_path) as second:
            assert first.is_dir() and second.is_dir() and not dead.exists()
    assert not (tmp_path / calibration.FOLDER).exists()


@pytest.mark.parametrize(
    "text", ['{"pace": 1}', "{", "[]", '{"work": "w", "pace": {"slot_s": -1}}', '{"work": "w", "pace": {"slot_s": 1e999}}']
)
def test_a_torn_calibration_is_none(tmp_path, text):
    path = calibration.place(tmp_path, "images", "w")
    path.parent.mkdir()
    path.write_text(text)
    assert calibration.kept(tmp_path, "images", "w") is None


# -- jobs ------------------------------------------------------------------------------------------------------------


def test_a_job_of_the_trial_asks_for_minutes_and_one_worker():
    asks = resources_of(slurm("cluster.time='2-0'", "cluster.gpus_per_job=4", "cluster.n_jobs=9"), "images", {})
    small = jobs.small(asks)
    flags = small.flags()
    assert flags["time"] == str(jobs.MINUTES) and flags["gres"] == "gpu:4" and flags["ntasks"] == 1 and flags["no-requeue"]
    assert jobs.small(resources_of(slurm("cluster.time='5:00'"), "images", {})).time == "5:00"


@pytest.mark.parametrize(
    ("states", "code", "words"),
    [
        (["PENDING"] * 9, trial.NOT_TOLD, "job 7 waited 0 min in the queue (QOSMaxWallDurationPerJobLimit), and was cancelled"),
        (["PENDING", "RUNNING", "FAILED"], EXIT_AGAIN, "job 7 ended (FAILED) before a worker began: no such module"),
    ],
)
def test_a_job_that_waits_too_long_is_cancelled_and_one_that_never_began_tells_its_log(tmp_path, monkeypatch, states, code, words):
    stage = trial.chain_of(stages_of(tmp_path), tmp_path / "t").tried[2].first
    folder, left, called = StageFolder.create(stage.dataset_root, stage.spec), iter(states), []
    (folder.path / "logs").mkdir(exist_ok=True)
    (folder.path / "logs" / "7_0.log").write_text("no such module\n")
    monkeypatch.setattr(jobs, "LOOK", (0.001, 0.001))
    monkeypatch.setattr(jobs.slurm, "seen", lambda ids, cluster="": [Seen("7_0", next(left), 0, 0.0, "n")])
    monkeypatch.setattr(jobs.slurm, "ask", lambda *words, **more: "QOSMaxWallDurationPerJobLimit\n")
    monkeypatch.setattr(jobs.slurm, "command", lambda *words, **more: called.append(words))
    ended = jobs._ended(folder, Queued("7"), 0.003 if code == trial.NOT_TOLD else 60, lambda text: None)
    assert ended.code == code and words in ended.why
    assert called == ([("scancel", "7")] if code == trial.NOT_TOLD else [])


def test_a_job_of_the_trial_that_was_killed_for_memory_names_the_key(tmp_path, monkeypatch):
    stage = trial.chain_of(stages_of(tmp_path), tmp_path / "t").tried[2].first
    folder = StageFolder.create(stage.dataset_root, stage.spec)
    said = {"scontrol": "JobId=7 JobState=FAILED ExitCode=1:0 DerivedExitCode=0:125 NodeList=n1 MinMemoryNode=4G"}
    monkeypatch.setattr(jobs.slurm, "ask", lambda *words, **more: said.get(words[0], ""))
    ended = jobs._outcome(folder, Queued("7"), "FAILED")
    assert ended.code == EXIT_BAD_INPUT and "cluster.stages.images.mem=8192M" in ended.why and "began" not in ended.why


def test_ctrl_c_cancels_the_job_and_leaves_no_folder(tmp_path, monkeypatch):
    called, stages = [], stages_of(tmp_path / "runs")

    def stop(*args):
        raise KeyboardInterrupt

    monkeypatch.setattr(jobs, "site_of", lambda cluster: Site(cluster, LIMITS, resources_of(cluster, "gate", {}), "the command"))
    monkeypatch.setattr(jobs, "_submitted", lambda *args: Queued("7"))
    monkeypatch.setattr(jobs, "_ended", stop)
    monkeypatch.setattr(jobs.slurm, "command", lambda *words, **more: called.append(words))

    def try_it():
        with trial.throwaway(tmp_path / "runs") as place:
            images = trial.chain_of(stages, place).tried[2].first
            jobs.on_nodes([images], slurm(), Console(file=io.StringIO()), 1.0)(images, "images")

    with pytest.raises(KeyboardInterrupt):
        try_it()
    assert called == [("scancel", "7")] and not (tmp_path / "runs" / calibration.FOLDER).exists()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_a_signal_that_ends_the_doctor_is_ctrl_c(number, monkeypatch, capsys):
    before = signal.signal(number, lambda *_: None)
    try:
        monkeypatch.setattr(doctor, "examined", lambda *_: os.kill(os.getpid(), number) or 0)
        assert doctor.main(["--login-only"]) == EXIT_AGAIN and "stopped" in capsys.readouterr().err
    finally:
        signal.signal(number, before)
