"""Compiled pictures are the plain ones. Eager tracing stands for the compiler in a dry run."""

import tempfile

import pytest

from synth.errors import EXIT_OK
from synth.numerics import FAST, changed
from tests.fixtures_images import work
from tests.gpu.conftest import CUDA
from tests.gpu.rows import Planner
from tests.gpu.test_images import furthest

PLAIN = changed(FAST, dtype="float32", tf32=False, compile="none", fuse_qkv=False)  # rounding alike, so that nothing else differs


@pytest.mark.parametrize("name", ["sd15", pytest.param("flux_dev", marks=pytest.mark.cuda_only)])
def test_compiled_pictures_are_within_a_grey_level_of_plain_ones(name, tmp_path, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))  # where compiled code goes
    planned = Planner(tmp_path)
    plain, compiled = (planned(name, changed(PLAIN, compile=mode), "here") for mode in ("none", "default" if CUDA else "eager"))
    assert work(plain) == EXIT_OK and work(compiled) == EXIT_OK
    assert plain.path != compiled.path and furthest(plain, compiled) <= 1
