"""The import rules: the launcher pulls no torch, the workers no hydra."""

import pkgutil
import subprocess
import sys

import pytest

import launch
from tests.launch.conftest import REPO

MODULES = sorted(m.name for m in pkgutil.walk_packages(launch.__path__, "launch."))
HEAVY = ("torch", "diffusers", "transformers", "fairscale", "sentencepiece")


def loaded(imports: str, names: tuple[str, ...]) -> str:
    code = f"import sys\n{imports}\nprint(sorted(m for m in {names!r} if m in sys.modules))"
    return subprocess.run([sys.executable, "-c", code], cwd=REPO, capture_output=True, text=True, check=True).stdout.strip()


def test_no_launch_module_pulls_torch():
    assert len(MODULES) > 15
    assert loaded("\n".join(f"import {m}" for m in MODULES), HEAVY) == "[]"


def test_a_dry_run_pulls_no_torch_and_no_numpy(world):
    code = f"from launch.run import main\nassert main([*{world.overrides!r}, 'dry_run=true']) == 0"
    said = loaded(code, ("torch", "diffusers", "transformers", "fairscale", "numpy", "submitit"))
    assert said.splitlines()[-1] == "[]"


def test_the_login_part_of_the_doctor_pulls_no_torch(world):
    code = f"from launch.doctor import main\nassert main([*{world.overrides!r}, '--login-only', '--json']) == 0"
    assert loaded(code, ("torch", "diffusers", "transformers", "fairscale")).splitlines()[-1] == "[]"


@pytest.mark.parametrize(
    "module", ["synth.worker", "synth.run.loop", "synth.run.stage", "synth.kinds", "synth.store.folder", "synth.run.probe"]
)
def test_the_worker_side_pulls_no_hydra_and_no_submitit(module):
    assert loaded(f"import {module}", ("hydra", "omegaconf", "submitit", "launch")) == "[]"
