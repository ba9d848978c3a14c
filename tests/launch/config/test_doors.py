"""Hydra's own settings: what would do nothing here, or queue jobs that only plan, is refused with what to type instead."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from hydra.core.config_store import ConfigStore

from launch.config.check import check
from launch.config.compose import Composer
from launch.config.doors import check_setting
from launch.config.folders import CONF
from synth.errors import InputError

ROOT = Path(__file__).resolve().parents[3]


@pytest.mark.parametrize(
    ("word", "instead"),
    [
        ("hydra/launcher=joblib", "cluster=local runs them here"),
        ("hydra.launcher.timeout_min=60", "cluster=slurm"),
        ("hydra/sweeper=optuna", "-m KEY=A,B"),
        ("+hydra.sweeper.params.seed='0,1'", "-m KEY=A,B"),
        ("hydra.sweeper=null", "-m KEY=A,B"),
        ("hydra.mode=MULTIRUN", "-m KEY=A,B"),
        ("hydra.searchpath=[file:///mine]", "--config-dir DIR"),
        ("hydra.run.dir=/mine", "runs_dir=DIR"),
        ("hydra.sweep.dir=/mine", "runs_dir=DIR"),
        ("hydra.sweep.subdir=x", "runs_dir=DIR"),
        ("hydra.output_subdir=mine", "stage.json"),
        ("hydra.job.chdir=true", "runs_dir=DIR"),
        ("+hydra.job.env_set.A=1", "+cluster.env.NAME=VALUE"),
        ("+hydra.callbacks.mine._target_=os.getcwd", "status --json"),
        ("hydra.runtime.cwd=/mine", "hydra.verbose"),
        ("hydra=null", "hydra.verbose"),
    ],
)
def test_a_setting_of_hydra_is_refused_with_what_to_type_instead(word, instead):
    with pytest.raises(InputError) as told:
        check_setting(word.lstrip("+").partition("=")[0], word)
    assert instead in str(told.value) and str(told.value).startswith(word)


@pytest.mark.parametrize(
    ("words", "instead"),
    [
        (["-m", "hydra/launcher=submitit_slurm", "seed=0,1"], "cluster=slurm queues the jobs"),
        (["~hydra.callbacks"], "status --json"),
        (["~hydra.sweeper.params"], "-m KEY=A,B"),
        (["-m", "hydra.output_subdir=null,mine"], "stage.json"),
        (["-m", "hydra/launcher=basic,joblib"], "cluster=slurm queues the jobs"),
        (["-p", "gpu"], "cluster.partition=NAME"),
        (["--resolve"], "nothing without it"),
        (["-m", "--cfg", "job", "seed=0,1"], "leave all but one out"),
        (["-cp", "/mine"], "--config-dir DIR"),
        (["--experimental-rerun", "run.pickle"], "the same command again"),
    ],
)
def test_the_command_line_is_judged_before_hydra_sees_it(words, instead):
    with pytest.raises(InputError) as told:
        check(words)
    assert instead in str(told.value)


@pytest.mark.parametrize(
    "word",
    [
        "hydra.output_subdir=null",
        "hydra.output_subdir=.hydra",
        "hydra.run.dir=.",
        "hydra.job.chdir=false",
        "hydra/launcher=basic",
        "hydra/sweeper=basic",
    ],
)
def test_a_value_that_leaves_a_door_shut_is_taken_as_it_is_in_a_yaml_file(word):
    assert [override.input_line for override in check([word]).overrides] == [word]


def test_what_only_changes_what_hydra_says_stays():
    assert check(["hydra.verbose=true", "hydra/job_logging=none"]).overrides


@pytest.mark.parametrize(
    ("yaml", "key"),
    [
        ("  - override hydra/launcher: somebodys", "hydra.launcher._target_=mine.Launcher"),
        ("hydra: {searchpath: [file:///tmp]}", "hydra.searchpath"),
        ("hydra: {sweep: {dir: /mine}}", "hydra.sweep.dir=/mine"),
        ("hydra: {mode: MULTIRUN}", "hydra.mode"),
    ],
)
def test_the_same_in_a_yaml_file_of_the_users_own(tmp_path, yaml, key):
    ConfigStore.instance().store(group="hydra/launcher", name="somebodys", node={"_target_": "mine.Launcher"})  # as its plugin does
    ours = (CONF / "config.yaml").read_text().partition("\nhydra:")[0]
    text = ours.replace("  - override hydra/job_logging: none", yaml) if yaml.startswith("  -") else f"{ours}\n{yaml}\n"
    (tmp_path / "config.yaml").write_text(text)
    with pytest.raises(InputError) as told:
        Composer(str(tmp_path)).compose([])
    assert key in str(told.value) and "YAML" in str(told.value)


PLUGIN = """
from pathlib import Path
from hydra.core.config_store import ConfigStore
from hydra.plugins.launcher import Launcher
class Somebodys(Launcher):
    def setup(self, *, hydra_context, task_function, config):
        Path("used").touch()
    def launch(self, job_overrides, initial_job_idx):
        return []
for name in ("joblib", "submitit_slurm", "submitit_local"):
    ConfigStore.instance().store(group="hydra/launcher", name=name, node={"_target_": f"{__name__}.Somebodys"}, provider="somebody")
"""


def test_a_launcher_that_is_installed_is_never_used(tmp_path):
    """As hydra-submitit-launcher and hydra-joblib-launcher are: plugins are found by the package that they lie in."""
    (tmp_path / "lib/hydra_plugins").mkdir(parents=True)
    (tmp_path / "lib/hydra_plugins/somebodys.py").write_text(PLUGIN)
    (tmp_path / "mine/exp").mkdir(parents=True)
    (tmp_path / "mine/exp/far.yaml").write_text("# @package _global_\ndefaults:\n  - override /hydra/launcher: submitit_slurm\n")
    words = ["-m", "--config-dir", str(tmp_path / "mine"), "+exp=far", "dataset=aircraft,cars", "dry_run=true"]
    env = os.environ | {"PYTHONPATH": f"{tmp_path / 'lib'}:{ROOT}"}
    ran = subprocess.run(
        [sys.executable, ROOT / "launch/run.py", *words], cwd=tmp_path, env=env, capture_output=True, text=True, check=False
    )
    assert ran.returncode == 65 and "Somebodys (of a YAML file)" in ran.stderr and "cluster=slurm queues the jobs" in ran.stderr
    assert not (tmp_path / "used").exists()


def test_a_config_of_the_users_own_without_hydras_part_is_taken(tmp_path):
    (tmp_path / "config.yaml").write_text((CONF / "config.yaml").read_text().partition("\nhydra:")[0])
    assert Composer(str(tmp_path)).compose([]).seed == 0
