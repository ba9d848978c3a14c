import pytest

from tests.slurm.devcluster import cluster  # noqa: F401 (a fixture)


def pytest_collection_modifyitems(items):
    for item in items:
        if "tests/slurm/" in item.path.as_posix():
            item.add_marker(pytest.mark.slurm)
