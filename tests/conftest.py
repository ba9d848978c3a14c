import gc

import pytest

from tests.fixtures_images import table, tiny_sd  # noqa: F401 (fixtures)
from tests.order import longest_first

# A composed config is tens of thousands of objects; by default a fifth of the time of such tests goes to looking at them.
gc.set_threshold(20_000, 20, 20)


def pytest_configure(config):
    config.option.loadscopereorder = False  # pytest-xdist's own order, by numbers of tests


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items):
    longest_first(items)


def pytest_collection_finish():
    gc.collect()
    gc.freeze()  # what was imported stays: it need not be looked at again
