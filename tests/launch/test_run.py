"""run.py as a user calls it, with the probe: exit codes, sweeps, dry runs, only/until, no stray folders."""

import errno
import json
import os
import subprocess
import sys
from types import SimpleNamespace

import pytest

from synth.errors import StoreError
from synth.store.folder import StageFolder
from tests.fixtures_images import work
from tests.launch.conftest import REPO, command, environment


def stages(world, dataset="probe"):
    return sorted(p.name for p in (world.runs / dataset).glob("*-*") if (p / "stage.json").exists())


def test_a_run_completes_and_a_second_one_finds_everything_done(world):
    first = world.run(*world.probe, "cluster.n_jobs=2", "notify.command='echo told $SYNTHSET_OUTCOME of $SYNTHSET_DATASET; exit 9'")
    assert first.returncode == 0, first.stdout + first.stderr
    assert "warning: notify.command ended with exit code 9: told done of probe" in first.stdout
    (name,) = stages(world)
    assert json.loads((world.runs / "probe" / name / "done.json").read_bytes())["samples"] == 64
    second = world.run(*world.probe)
    assert second.returncode == 0 and "Everything was done already." in second.stdout


def test_debug_runs_in_the_calling_process(world):
    result = world.run(*world.probe, "cluster=debug", "try=16")
    assert result.returncode == 0, result.stdout + result.stderr
    (name,) = stages(world, "try/probe")
    tried = world.runs / "try" / "probe"
    assert not list((tried / name / "logs").iterdir())  # no process of its own, so no log of one
    assert "try=16: probe 16 of 64" in result.stdout and f"report.py {tried} --out {tried}/report.html" in result.stdout
    assert not (world.runs / "probe").exists()


def test_plan_only_makes_folders_in_which_workers_can_work_and_computes_nothing(world):
    result = world.run(*world.probe, "probe.slots=8", "plan_only=true")
    assert result.returncode == 0, result.stderr
    (name,) = stages(world)
    folder = StageFolder.open(world.runs / "probe" / name)
    assert len(folder.missing()) == folder.spec.n_units and str(folder.path) in result.stdout
    assert "nothing was computed" in result.stdout
    assert work(folder) == 0 and folder.is_done()


def test_dry_run_shows_the_plan_and_writes_nothing(world):
    before = world.tree()
    result = world.run(*world.overrides, "dry_run=true")
    assert result.returncode == 0, result.stderr
    assert world.tree() == before
    for word in ("captions-", "captions_json-", "images-", "contact_sheet-", "new", "nothing was written"):
        assert word in result.stdout
    world.run(*world.probe, "probe.slots=8")
    before = world.tree()
    assert "done" in world.run(*world.probe, "probe.slots=8", "dry_run=true").stdout
    assert world.tree() == before


def test_a_sweep_plans_each_distinct_stage_once(world):
    result = world.run("-m", *world.overrides, "seed=0,1", "images.guidance_scale=1.5,4", "dry_run=true", "export=[]")
    assert result.returncode == 0, result.stderr
    rows = [line.split()[1] for line in result.stdout.splitlines() if line.startswith("│")]
    count = {name: sum(r.startswith(name + "-") for r in rows) for name in ("captions", "captions_json", "images")}
    assert count == {"captions": 2, "captions_json": 2, "images": 4}


def test_a_sweep_goes_on_after_a_bad_point_and_exits_with_the_worst_code(world):
    result = world.run("-m", *world.probe, "probe.slots=8", "probe.unit_size=0,4", "probe.seed=0,1")
    assert result.returncode == 65
    assert len(stages(world)) == 2
    assert "probe.unit_size=0: must be 1 or more" in result.stdout
    assert "probe.unit_size=0 probe.seed=1" in result.stdout.replace("\n", " ")  # the point is named


def test_the_worst_code_of_all_stages_wins(world):
    bad = "probe.behaviour={3:{raise:bug}}"
    result = world.run("-m", *world.probe, "probe.slots=8", "probe.unit_size=4,0", bad)
    assert result.returncode == 70, result.stdout + result.stderr
    assert "failed three times: RuntimeError: slot 3 raises as asked" in result.stdout
    assert "retry_failed=true" in result.stdout


def test_units_set_aside_are_tried_again_on_request(world):
    flaky = [*world.probe, "probe.slots=8", "probe.behaviour={3:{raise:bug,times:3}}"]
    assert world.run(*flaky).returncode == 70
    assert world.run(*flaky).returncode == 70
    result = world.run(*flaky, "retry_failed=true")
    assert result.returncode == 0, result.stdout + result.stderr


def test_bad_input_in_a_worker_exits_65_with_its_last_words_and_the_log(world):
    result = world.run(*world.probe, "probe.slots=8", "probe.behaviour={3:{raise:input}}")
    assert result.returncode == 65, result.stdout + result.stderr
    assert "slot 3 raises as asked" in result.stdout and "/logs/local-" in result.stdout.replace("\n", "")


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["images.stepz=3"], "did you mean images.steps?"),
        (["model=nope"], "there are auraflow, "),
        (["seed=0,1"], "add -m"),
        (["--wrong"], "no such option"),
        (["images.height=33"], "multiples of 8"),
        (["until=nothing"], "no such stage"),
    ],
)
def test_a_wrong_command_is_a_short_message_and_65(world, arguments, said):
    result = world.run(*world.overrides, *arguments)
    assert result.returncode == 65
    assert said in result.stdout + result.stderr and "Traceback" not in result.stdout + result.stderr
    assert not world.runs.exists()


def test_no_stray_folders_are_left_by_runs_sweeps_and_shows(world):
    before = {p.name for p in world.path.iterdir()}
    world.run(*world.probe, "probe.slots=8")
    world.run("-m", *world.probe, "probe.slots=8", "probe.seed=0,1")
    assert world.run("--cfg", "job", *world.probe).returncode == 0
    assert {p.name for p in world.path.iterdir()} - before == {"runs"}


def test_cfg_job_prints_the_composed_config(world):
    result = world.run("--cfg", "job", "seed=3")
    assert result.returncode == 0 and "guidance_scale: 4.0" in result.stdout and result.stdout.startswith("seed: 3")


def test_only_refuses_an_upstream_that_is_not_whole_and_names_the_nearest(world):
    """The upstream is planned, never computed; a stage of another seed lies beside it."""
    from synth.store.folder import StageFolder

    other = next(s for s in world.point("seed=1").stages if s.name == "captions")
    StageFolder.create(other.dataset_root, other.spec)
    result = world.run(*world.overrides, "only=[captions_json]")
    assert result.returncode == 65
    assert "captions, which is not whole" in result.stdout
    assert other.spec.folder_name in result.stdout and "captions.seed is 1, asked 0" in result.stdout
    assert stages(world, "pictures") == [other.spec.folder_name]  # nothing was made


def test_help_answers_without_hydra_and_torch(world):
    code = (
        "import sys, runpy\nsys.argv = ['run.py', '--help']\n"
        # a command leaves at once: behind it nothing runs
        "import atexit\natexit.register(lambda: print([m for m in ('torch', 'hydra', 'rich') if m in sys.modules]))\n"
        f"runpy.run_path({str(REPO / 'launch' / 'run.py')!r}, run_name='__main__')"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment())
    assert result.stdout.rstrip().endswith("[]"), result.stdout + result.stderr
    for word in ("captioner", "images.guidance_scale", "dry_run=true", "Examples:", "tiny_llama*", "class_images*"):
        assert word in result.stdout


def test_help_into_a_pipe_that_nobody_reads_ends_quietly():
    gone, pipe = os.pipe()
    os.close(gone)
    with os.fdopen(pipe, "wb") as stdout:
        result = subprocess.run(command("--help"), stdout=stdout, stderr=subprocess.PIPE, text=True, env=environment())
    assert (result.returncode, result.stderr) == (0, "")


def test_help_names_real_keys_only():
    from launch.config.root import Config
    from launch.config.usage import COMMON, EXAMPLES, usage
    from synth.keys import documented

    declared = dict(documented(Config))
    assert set(COMMON) <= set(declared) and len(EXAMPLES) == 5
    assert all(declared[key].text in usage() for key in COMMON)


@pytest.mark.parametrize(
    ("asked", "lines"),
    [
        ("images", ["images.steps ", "denoising steps; null: the model's own (model.native_steps) (must be 1 or more)"]),
        ("filter=near_duplicates", ["filter.near_duplicates.distance", "bits of 64 in which two hashes may differ (must be from 0 to 31)"]),
        ("captioner=openai", ["captioner.api_key_env"]),
        ("cluster=slurm", ["cluster.partition"]),
        ("model=sd15", ["model.native_steps"]),
    ],
)
def test_help_of_a_group_or_an_option_lists_its_keys(asked, lines, capsys):
    from launch import run

    assert run.main(["--help", asked]) == 0
    text = capsys.readouterr().out
    assert all(line in text for line in lines) and "recipe.name" not in text


@pytest.mark.parametrize(("asked", "near"), [("image", "images"), ("filter=near_duplicate", "near_duplicates")])
def test_help_of_what_is_no_group_or_option_names_the_near_ones(asked, near, capsys):
    from launch import run

    assert run.main(["--help", asked]) == 65
    assert f"did you mean {near}" in capsys.readouterr().err


def test_run_py_works_from_another_folder_without_pythonpath(tmp_path):
    result = subprocess.run(command("recipe=probe", "probe.slots=4"), cwd=tmp_path, env=environment(), capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    assert (tmp_path / "runs" / "probe").is_dir()


def test_a_bug_shows_its_traceback_and_exits_70(monkeypatch, capsys):
    from launch import run

    def broken(self, argv):
        raise RuntimeError("a bug of ours")

    monkeypatch.setattr(run.Session, "check", broken)
    assert run.main(["seed=1"]) == 70
    assert "a bug of ours" in capsys.readouterr().err


@pytest.mark.parametrize("error", [StoreError("/data: stale"), OSError(errno.ESTALE, "Stale file handle", "/data")])
def test_a_file_system_in_trouble_while_a_point_is_planned_is_75_without_a_traceback(monkeypatch, error):
    from hydra.core.hydra_config import HydraConfig

    from launch import run
    from launch.config import compose

    def stale(self, config, label):
        raise error

    monkeypatch.setattr(HydraConfig, "get", lambda: SimpleNamespace(overrides=SimpleNamespace(task=[])))
    monkeypatch.setattr(compose, "typed", lambda config: config)
    monkeypatch.setattr(run.Session, "planned", stale)
    session = run.Session()
    session.plan(None)
    assert [(f.code, f.message) for f in session.failures] == [(75, str(error))]


@pytest.mark.parametrize("begun", [False, True])
def test_a_ctrl_c_behind_a_submission_does_not_say_that_nothing_was_begun(monkeypatch, capsys, begun):
    from launch import run

    def stopped(session, argv):
        session.begun = begun
        raise KeyboardInterrupt

    monkeypatch.setattr(run, "planned_and_run", stopped)
    assert run.main(["recipe=probe"]) == 75
    said = capsys.readouterr().err
    assert ("before anything was begun" in said) != begun and ("status" in said) == begun


def test_a_recipe_of_the_users_own_folder_runs(world):
    (world.path / "mine" / "recipe").mkdir(parents=True)
    text = (
        "# @package _global_\ndefaults: [{override /cluster: debug}, {override /export: []}]\n"
        "probe: {slots: 4}\nrecipe: {name: r, stages: {probe: {kind: probe}}}\n"
    )
    (world.path / "mine" / "recipe" / "four.yaml").write_text(text)
    result = world.run("--config-dir", str(world.path / "mine"), "recipe=four", f"runs_dir={world.runs}")
    assert result.returncode == 0, result.stdout + result.stderr
    (done,) = (world.runs / "pictures").glob("probe-*/done.json")
    assert json.loads(done.read_bytes())["slots"] == 4
