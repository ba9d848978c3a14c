"""Whatever stands in the place of a file of a run folder: a tool ends in time, by its exit codes, and still tells of the other stages."""

import json
import shutil
from pathlib import Path

import pytest

from launch import cancel, report, status, verify
from launch.slurm import gate, submissions
from synth import worker
from synth.host import slurm
from synth.numerics import EXACT
from synth.run.loop import Worker
from synth.store import leases
from synth.store.folder import StageFolder
from synth.store.leases import Owner
from synth.store.spec import StageSpec
from tests import hostile
from tests.stages import probe

SECONDS = 20  # of one command; the slowest takes a tenth of one
# file -> the tools that read it, and so name it where it cannot be read
READ_BY = {
    "stage.json": {"status", "report", "verify", "cancel", "gate", "worker"},
    "inputs.json": {"status", "report", "verify", "cancel", "gate", "worker"},
    "done.json": set(),
    "missing.json": set(),  # nothing is said of it where a lease is live
    "failed/000000.try1.json": set(),
    "events/w.jsonl": {"status", "report", "cancel"},
    "submissions/0001.json": {"gate"},
    "leases/000/000002.g0": set(),
    "leases/000/000000.g0": set(),
    "units/000/000000.tar": {"verify"},
    "parts/000/000002.w.0.tar.idx": set(),
    "parts/000/000002.w.0.tar": set(),
    "events": set(),
    "failed": set(),
    "submissions": set(),
    "leases/000": set(),
    "parts/000": set(),
    "logs": set(),
}
FOR_WORKERS = ("fifo", "folder", "link to itself", "other types")  # a worker does the missing unit each time, which takes a while
NO_FILES = ("fifo", "zero device", "socket")  # said to be what they are
TOOLS = {
    "status": lambda runs, stage: status.main([str(runs), "--no-slurm"]),
    "report": lambda runs, stage: report.main([str(runs)]),
    "verify": lambda runs, stage: verify.main([str(runs), "--deep"]),
    "cancel": lambda runs, stage: cancel.main([str(runs)]),
    "gate": lambda runs, stage: gate.main([str(stage), "1"]),
    "worker": lambda runs, stage: worker.main([str(stage), "--job-idx", "7", "--n-jobs", "8"]),
}


@pytest.fixture(scope="module")
def template(tmp_path_factory) -> Path:
    """Two stages: one whole, and one with all kinds of files, of which unit 2 is missing."""
    runs = tmp_path_factory.mktemp("template") / "runs"
    whole = probe(runs / "birds", slots=4, seed=1)
    assert Worker(whole, 0, 1).run() == 0
    stage = probe(runs / "birds", slots=12)
    assert Worker(stage, 0, 1).run() == 0
    (stage.path / "done.json").unlink()
    stage.unit_path(2).unlink()
    next((stage.path / "events").iterdir()).rename(stage.path / "events" / "w.jsonl")
    stage.report_failure(0, {"error": "bug", "traceback": "Traceback", "host": "h", "device": "cpu", "sticky": False})
    for unit in (0, 2):
        leases.create(stage.lease_path(unit), unit, 0, Owner("w", "h", "b", 1, "1")).close()
    facts = {
        "gate": "2",
        "state": "submitted",
        "job_name": "n",
        "user": "u",
        "token": "t",
        "order": {"script": "s", "gate_script": "g", "n_jobs": 1, "heal": 0, "command": "c", "worker": []},
    }
    first = submissions.intend(stage.path, 1)
    submissions.record(stage.path, submissions.Submission(**{**vars(first), **facts, "arrays": (submissions.Array("1", 3),)}))
    for name in ("done.json", "missing.json"):
        (stage.path / name).write_text('{"units": 3}\n' if name == "done.json" else '{"missing": [2], "why": "w", "command": "c"}\n')
    (stage.path / "done.json").unlink()
    (stage.path / "parts" / "000").mkdir(exist_ok=True)
    (stage.path / "parts" / "000" / "000002.w.0.tar").write_bytes(b"x")
    (stage.path / "parts" / "000" / "000002.w.0.tar.idx").write_bytes(b'{"batch": 0} 0\n')
    return runs


@pytest.fixture(autouse=True)
def no_slurm(monkeypatch):
    """A scheduler that knows of nothing."""
    monkeypatch.setattr(slurm, "command", lambda *a, **k: (0, "", ""))
    monkeypatch.setattr(gate, "PATIENCE", 0.0)
    monkeypatch.setenv(leases.ENV_BEAT, "0.1")
    monkeypatch.setenv(leases.ENV_DEAD_AFTER, "0.2")


def copy(template: Path, tmp_path: Path, number: int) -> tuple[Path, Path]:
    """(runs, the stage with a missing unit) of a copy."""
    runs = tmp_path / str(number)
    shutil.copytree(template, runs)
    return runs, next(p.parent for p in runs.glob("*/*/missing.json"))


@pytest.mark.parametrize("name", READ_BY)
def test_whatever_stands_in_the_place_of_a_file_no_tool_hangs_dies_or_forgets_the_other_stages(name, template, tmp_path, capfd):
    for number, form in enumerate(hostile.FORMS):
        runs, stage = copy(template, tmp_path, number)
        other = next(p for p in (runs / "birds").iterdir() if p != stage)
        hostile.put(stage / name, form)
        for tool, run in TOOLS.items():
            if tool == "worker" and form not in FOR_WORKERS:
                continue
            what = f"{tool} with {name} as {form}"
            with hostile.within(SECONDS, what):
                code = run(runs, stage)
            out, err = capfd.readouterr()
            said = out + err
            assert code in (0, 65, 75), f"{what}: exit {code}\n{said}"
            assert "Traceback (most" not in said, f"{what}: {said}"
            assert not set(said) & set("\x1b\x07\x9b\u202e"), f"{what}: {said!r}"
            if form in NO_FILES and tool in READ_BY[name]:
                assert Path(name).name in said.replace("\n", ""), f"{what}: {said}"
            if tool in ("status", "verify"):
                assert other.name in out.replace("\n", ""), f"{what}: {said}"
        shutil.rmtree(runs)


def test_a_stage_of_more_slots_than_anyone_counts_is_refused_by_name_at_once(template, tmp_path, capfd):
    runs, stage = copy(template, tmp_path, 0)
    spec = StageFolder.open(stage).spec
    raw = json.loads((stage / "stage.json").read_bytes())
    for slots in (10**13, 1e13, -1, "12", True, None):
        (stage / "stage.json").write_text(json.dumps(raw | {"slots": slots}))
        for tool, run in TOOLS.items():
            with hostile.within(SECONDS, f"{tool} with {slots!r} slots"):
                code = run(runs, stage)
            out, err = capfd.readouterr()
            assert code in (0, 65) and "stage.json" in out + err and "Traceback" not in out + err
    assert StageFolder.open(next(p for p in stage.parent.iterdir() if p != stage)).is_done() and spec.slots == 12


def test_what_a_report_or_a_name_holds_cannot_move_the_cursor(tmp_path, capfd):
    stage = probe(tmp_path / "runs" / "birds\x1b[31m", slots=4)
    for _ in range(3):
        stage.report_failure(0, {"error": hostile.ESCAPES, "traceback": hostile.ESCAPES + "郁金香", "host": "a", "device": ""})
    assert status.main([str(tmp_path / "runs"), "--no-slurm"]) == 0
    out, _ = capfd.readouterr()
    assert not set(out) & set("\x1b\x07\x9b\u202e") and "\\x1b[2J" in out and "郁金香" in out
    assert not any(line.startswith("whole") for line in out.splitlines())


def test_a_done_that_is_none_promises_nothing(tmp_path):
    for form in hostile.FORMS:
        stage = probe(tmp_path / form.replace(" ", "_"), slots=4)
        hostile.put(stage.path / "done.json", form)
        assert not stage.is_done(), form


@pytest.mark.parametrize(
    ("kind", "config"),
    [
        ("nope", {}),
        ("images", {}),
        ("images", {"dataset": 3}),
        ("captions", {"dataset": {"classes": [3]}}),
        ("probe", {"dataset": {"classes": [{"index": "0", "name": {}}]}}),
        ("image_folder", {"out": ""}),
        ("clip_scores", {"out": "nowhere"}),
        ("probe", {"behaviour": []}),
    ],
)
def test_a_forged_stage_whose_fingerprint_fits_is_told_and_the_others_are_looked_at(kind, config, template, tmp_path, capfd):
    runs, stage = copy(template, tmp_path, 0)
    forged = StageFolder.create(runs / "birds", StageSpec(kind, "forged", config, 4, 2, 1, EXACT, framing="tar"))
    forged.mark_done({"units": 2, "slots": 4, "samples": 4, "tombstones": 0})
    for tool in ("status", "verify", "cancel", "worker"):
        with hostile.within(SECONDS, tool):
            code = TOOLS[tool](runs, forged.path)
        said = "".join(capfd.readouterr())
        assert code in (0, 65, 75) and "Traceback (most" not in said, f"{tool}: exit {code}\n{said}"
        if tool in ("status", "verify"):
            assert stage.name in said.replace("\n", "") and forged.path.name in said.replace("\n", ""), said
