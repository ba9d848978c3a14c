"""A whole images stage of drawn pictures, and a tiny CLIP."""

from pathlib import Path

import pytest

from synth.store.folder import StageFolder
from tests.fixtures_clip import build_tiny_clip
from tests.verify.conftest import run  # noqa: F401 (a fixture)


@pytest.fixture(scope="session")
def tiny_clip(tmp_path_factory) -> Path:
    return build_tiny_clip(tmp_path_factory.mktemp("models") / "tiny_clip")


@pytest.fixture
def images(run) -> StageFolder:  # noqa: F811 (the fixture)
    return run.images
