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


def test_planning_pulls_no_torch_and_no_numpy(world):
    code = (
        "from launch.config.compose import Composer, typed\nfrom launch.plan.graph import plan_point\nfrom launch.plan.state import "
        "state_of\n"
        f"p = plan_point(typed(Composer().compose({world.overrides!r})))\n[state_of(s) for s in p.stages]"
    )
    assert loaded(code, ("torch", "diffusers", "transformers", "fairscale", "numpy", "submitit")) == "[]"


@pytest.mark.parametrize(
    "module", ["synth.worker", "synth.run.loop", "synth.run.stage", "synth.kinds", "synth.store.folder", "synth.run.probe"]
)
def test_the_worker_side_pulls_no_hydra_and_no_submitit(module):
    assert loaded(f"import {module}", ("hydra", "omegaconf", "submitit", "launch")) == "[]"
