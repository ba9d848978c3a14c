import pytest

from tests.fixtures_images import table, tiny_sd  # noqa: F401 (fixtures)
from tests.order import longest_first


def pytest_configure(config):
    config.option.loadscopereorder = False  # pytest-xdist's own order, by numbers of tests


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items):
    longest_first(items)
