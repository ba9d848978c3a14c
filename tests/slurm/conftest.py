import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.slurm.devcluster import cluster  # noqa: F401 (a fixture)


def pytest_collection_modifyitems(items):
    for item in items:
        if "tests/slurm/" in item.path.as_posix():
            item.add_marker(pytest.mark.slurm)


@pytest.fixture
def disk() -> Iterator[Path]:
    """A folder that is no machine's memory, as tmp_path may be: the doctor tells of that."""
    with tempfile.TemporaryDirectory(prefix="synthset-tests-", dir="/var/tmp") as folder:
        yield Path(folder)
