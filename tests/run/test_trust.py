"""Commands and keys that a stage folder names: used for who planned them, and for nobody else without --trust."""

import json
import os
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from launch.local.sequence import in_order
from launch.local.supervisor import Slot, Supervisor
from launch.plan.planned import PlannedStage
from launch.slurm import sbatch
from launch.slurm.limits import Limits
from launch.slurm.order import place, settle
from launch.slurm.resources import resources_of
from launch.slurm.sbatch import Queued
from launch.slurm.scripts import scripts_of
from launch.slurm.stored import Scripts
from launch.slurm.submissions import Order, take_turn
from synth import worker
from synth.errors import EXIT_BAD_INPUT, InputError
from synth.host import children, private
from synth.keys import dump
from synth.numerics import EXACT
from synth.run import trust
from synth.store.folder import StageFolder
from synth.store.spec import InputFile, StageSpec
from tests.configs import CaptionerConfig, CaptionsConfig, CaptionsTxtConfig, DatasetConfig, ImagesConfig, ModelConfig, PromptsConfig
from tests.fixtures_images import captions_json_stage, captions_stage, child, work
from tests.images.test_external import script, stage
from tests.launch.slurm.test_resources import cluster
from tests.stages import probe

COMMAND = ("/envs/x/bin/python", "{model_command_1}", "--steps\x1b[2J")


def images(command=COMMAND, path="/home/me/draw.py", settings=None) -> StageSpec:
    config = ImagesConfig(seed=3, model=ModelConfig("toy", "external", command=command))
    inputs = {"model_command_1": InputFile(path, "0" * 64)}
    return StageSpec("images", "images", dump(config), 4, 4, 4, EXACT, inputs=inputs, settings=settings or {})


def captions(engine="served", settings=None, **change) -> StageSpec:
    captioner = CaptionerConfig(engine, "m", **{"command": ("serve", "{port}") if engine == "served" else (), **change})
    config = CaptionsConfig(seed=0, dataset=DatasetConfig("d", (), 0), prompts=PromptsConfig(), captioner=captioner)
    return StageSpec("captions", "captions", dump(config), 4, 4, 4, EXACT, framing="jsonl", settings=settings or {})


def export(out="/home/me/.local/lib") -> StageSpec:
    return StageSpec("captions_txt", "captions_txt", dump(CaptionsTxtConfig(out=out)), 1, 1, 1, EXACT, framing="jsonl")


OPENAI = {"base_url": "https://api.openai.com/v1", "api_key_env": "OPENAI_API_KEY"}
ACTS = {
    "a command that draws": images(),
    "a server": captions(),
    "a server by its flags alone": captions(command=(), settings={"flags": ["/bin/sh", "-c", "touch x"]}),
    "a key": captions("openai", OPENAI),
    "a place": export(),
}
TOLD = {
    "a command that draws": "its workers would run model.command: /envs/x/bin/python /home/me/draw.py --steps\\x1b[2J",
    "a server": "its workers would run captioner.command: serve {port}",
    "a server by its flags alone": "its workers would run captioner.command: /bin/sh -c touch x",
    "a key": "its workers would send the key in OPENAI_API_KEY to https://api.openai.com/v1",
    "a place": "its workers would write files into /home/me/.local/lib",
}


@pytest.fixture(autouse=True)
def _home(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))


@pytest.mark.parametrize("what", ACTS)
def test_a_stage_that_was_received_runs_nothing_and_sends_no_key(what, tmp_path, capsys):
    folder = StageFolder.create(tmp_path / "runs", ACTS[what])
    assert worker.main([str(folder.path), "--job-idx", "0", "--n-jobs", "1"]) == EXIT_BAD_INPUT
    told = capsys.readouterr().err
    assert str(folder.path) in told and "--trust" in told and "a file of yours, wherever it came from" in told and "\x1b" not in told
    assert TOLD[what] in told
    assert not list((folder.path / "events").iterdir())
    with pytest.raises(InputError, match="add --trust"):
        in_order([folder])
    assert in_order([folder], trust=True)[0].trusted == trust.words_of(ACTS[what])


@pytest.mark.parametrize("what", ACTS)
def test_its_planner_runs_it_by_its_words_or_by_its_private_file(what, tmp_path):
    spec = ACTS[what]
    folder = StageFolder.create(tmp_path / "runs", spec)
    flag, token = PlannedStage(spec, tmp_path / "runs", planned=True).trusted
    assert flag == "--planned" and PlannedStage(spec, tmp_path / "runs").trusted == ()
    trust.check(folder.path, folder.spec, token)
    trust.note(spec)
    trust.note(spec)
    trust.check(folder.path, folder.spec)
    notes = tmp_path / "state" / "synthset" / "planned"
    assert notes.read_text().split() == [token] and notes.stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize(
    "other",
    [
        images((*COMMAND, "--more")),
        images(path="/home/you/draw.py"),
        images(settings={"pass_env": ["OPENAI_API_KEY"]}),
        images(("./draw",)),
        export("/home/you"),
    ],
)
def test_another_command_file_or_secret_is_not_what_was_planned(other, tmp_path):
    trust.note(images())
    folder = StageFolder.create(tmp_path / "runs", other)
    with pytest.raises(InputError, match="not what was planned"):
        trust.check(folder.path, folder.spec, trust.token_of(images()))


def test_a_key_goes_nowhere_else(tmp_path):
    trust.note(captions("openai", OPENAI))
    with pytest.raises(InputError, match="would send the key in OPENAI_API_KEY to http://else"):
        trust.check(tmp_path, captions("openai", OPENAI | {"base_url": "http://else/v1"}))
    with pytest.raises(InputError, match="the key in AWS_SECRET_ACCESS_KEY"):
        trust.check(tmp_path, captions("openai", OPENAI | {"api_key_env": "AWS_SECRET_ACCESS_KEY"}))


def test_a_program_by_a_relative_path_is_the_one_that_was_meant(tmp_path, monkeypatch):
    for name in ("mine", "received"):
        (tmp_path / name).mkdir()
    monkeypatch.chdir(tmp_path / "mine")
    trust.note(images(("./draw",)))
    trust.check(tmp_path, images(("./draw",)))
    monkeypatch.chdir(tmp_path / "received")
    with pytest.raises(InputError, match="not planned by you"):
        trust.check(tmp_path, images(("./draw",)))


def test_a_private_file_that_others_may_write_or_have_put_there_says_nothing(tmp_path):
    spec = images()
    trust.note(spec)
    notes = private.folder() / trust.NOTES
    notes.chmod(0o620)
    with pytest.raises(InputError):
        trust.check(tmp_path, spec)
    notes.chmod(0o600)
    trust.check(tmp_path, spec)
    shutil.move(notes, tmp_path / "notes")
    notes.symlink_to(tmp_path / "notes")
    with pytest.raises(InputError):
        trust.check(tmp_path, spec)


def test_what_is_noted_counts_however_many_notes_there_are(tmp_path):
    spec = images()
    trust.note(spec)
    private.add(trust.NOTES, b"".join(b"%032x\n" % n for n in range(private.LARGEST // 33 + 1)))
    with pytest.raises(InputError):
        trust.check(tmp_path, spec)  # long ago
    trust.note(spec)
    trust.check(tmp_path, spec)


def test_without_a_home_nothing_is_noted_and_nothing_fails(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_STATE_HOME", "/proc/nowhere")
    trust.note(images())
    with pytest.raises(InputError):
        trust.check(tmp_path, images())


def test_most_stages_do_nothing_of_the_kind(tmp_path):
    for spec in (probe(tmp_path).spec, captions("llama"), captions("openai", {}), export("")):
        assert trust.words_of(spec) == ()
    for odd in ([], "x", {"command": "rm -rf"}, {"command": {"a": 1}}, None):
        assert trust.acts_of(replace(images(), config={"model": odd, "captioner": odd})) == {}


def test_what_inputs_json_says_counts_and_what_it_holds_breaks_nothing(tmp_path):
    folder = StageFolder.create(tmp_path / "runs", images())
    inputs = json.loads((folder.path / "inputs.json").read_text())
    inputs["paths"]["model_command_1"] = "/home/you/evil.py"
    inputs["settings"] = {"pass_env": ["\ud800", 3, float("inf"), {}]}
    (folder.path / "inputs.json").write_text(json.dumps(inputs))
    assert worker.main([str(folder.path), "--planned", trust.token_of(images())]) == EXIT_BAD_INPUT


def test_a_worker_draws_with_a_received_command_only_if_it_is_trusted(tmp_path):
    folder = stage(tmp_path / "runs" / "toys", script(tmp_path, f"open({str(tmp_path / 'ran')!r}, 'w')"))
    words = [sys.executable, "-m", "synth.worker", str(folder.path)]
    env = os.environ | {"XDG_STATE_HOME": str(tmp_path / "state"), "PYTHONPATH": str(Path(worker.__file__).parents[1])}
    refused = subprocess.run(words, env=env, capture_output=True, text=True)
    assert refused.returncode == EXIT_BAD_INPUT and "model.command: " in refused.stderr and not (tmp_path / "ran").exists()
    assert subprocess.run([*words, *trust.words_of(folder.spec)], env=env, capture_output=True).returncode == 0
    assert (tmp_path / "ran").exists() and folder.is_done()


def test_launchers_hand_the_digest_to_workers_scripts_and_gates_of_what_they_planned_alone(tmp_path, monkeypatch):
    spec = images()
    folder = StageFolder.create(tmp_path, spec)
    config = cluster()
    resources, behind = (resources_of(config, kind, spec.config) for kind in ("images", "gate"))
    for planned in (True, False):
        handed = PlannedStage(spec, tmp_path, planned=planned)
        texts = scripts_of(handed, resources, behind, 1, Limits(), "synthset run")
        given: list[str] = []
        monkeypatch.setattr(children, "tied", lambda module, words, *more, given=given: given.extend(words))
        supervisor = Supervisor(folder, [Slot(0)], 1, None, print, trusted=handed.trusted)
        supervisor._start(supervisor.pool[0])
        words = f"--planned {trust.token_of(spec)}"
        assert all((words in text) is planned for text in (texts.array, texts.gate, " ".join(given)))


def test_jobs_get_the_secrets_that_their_stage_needs(tmp_path, monkeypatch):
    folder = StageFolder.create(tmp_path, captions("openai", OPENAI))
    kept = []

    def submit(args, name, clusters, keep):
        kept.append(tuple(keep))
        return Queued("7")

    monkeypatch.setattr(sbatch, "submit", submit)
    order = Order("0001.sbatch", "0001.gate.sbatch", n_jobs=1)
    place(folder, take_turn(folder.path, settle), order, Scripts("a", "b"), 1, ())
    assert kept == [("OPENAI_API_KEY",)] * 2


def test_a_received_export_writes_into_the_place_that_it_names_only_if_it_is_trusted(tmp_path):
    site, root = tmp_path / "home" / "site-packages", tmp_path / "runs" / "toys"
    table = captions_json_stage(root, [captions_stage(root, ["a red crane"])], 1)
    assert work(table) == 0
    folder = child(root, "captions_txt", CaptionsTxtConfig(out=str(site)), {"captions": [table]})
    assert worker.main([str(folder.path)]) == EXIT_BAD_INPUT and not site.exists()
    trust.note(folder.spec)
    assert worker.main([str(folder.path)]) == 0 and (site / "captions.txt").exists()
