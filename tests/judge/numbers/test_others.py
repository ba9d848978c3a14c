"""The numbers are those of prdc and scikit-learn, which run in a process that has them."""

import json
import os
import subprocess
import sys
from dataclasses import asdict

import numpy as np
import pytest

from synth.judge.numbers.balls import prdc
from synth.judge.probes import knn, linear_probe
from tests.export.test_readers import READERS, ROOT
from tests.judge.numbers.others import K, sets


@pytest.fixture(scope="module")
def others():
    if not (READERS / "prdc").is_dir():
        assert not os.environ.get("CI"), f"{READERS} is missing or old: make .venv/.readers"
        pytest.skip(f"{READERS} is missing or old: make .venv/.readers")
    env = os.environ | {"PYTHONPATH": f"{READERS}{os.pathsep}{ROOT}"}
    run = [sys.executable, "-m", "tests.judge.numbers.others"]
    return json.loads(subprocess.run(run, cwd=ROOT, env=env, check=True, stdout=subprocess.PIPE, timeout=300).stdout)


def test_other_libraries_say_the_same(others):
    (real, labels), (made, _) = sets()
    assert asdict(prdc(real, made, K)) == pytest.approx(others["prdc"])
    np.testing.assert_allclose(knn(real, labels, made, 4, K), others["knn"], atol=1e-5)
    np.testing.assert_allclose(linear_probe(real, labels, made, 4, l2=1e-3), others["linear"], atol=2e-3)
