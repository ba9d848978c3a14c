"""How the tests of this suite are handed to the processes of pytest-xdist."""

from types import SimpleNamespace

import pytest

from tests.order import WAITING, BesideEachOther


class Process:
    """What the scheduler knows of one."""

    shutting_down = False

    def __init__(self):
        self.got: list[str] = []

    def send_runtest_some(self, numbers):
        self.got += [FILES[n] for n in numbers]


FILES = [*(f"{WAITING}test_{n}.py" for n in "abc"), *(f"tests/test_{n}.py" for n in "defghij")]


@pytest.fixture
def handed():
    """What each of two processes gets that are given a file each, in turn, until none is left."""
    scheduler = BesideEachOther(SimpleNamespace(getvalue={"tx": ["2*popen"]}.get))
    tests = [f"{file}::test" for file in FILES]
    processes = Process(), Process()
    for process in processes:
        scheduler.add_node(process)
        scheduler.add_node_collection(process, tests)
    scheduler.workqueue.update({file: {test: False} for file, test in zip(FILES, tests, strict=True)})
    while scheduler.workqueue:
        for process in processes:
            if scheduler.workqueue:
                scheduler._assign_work_unit(process)
    return [process.got for process in processes]


def test_one_process_waits_for_slurm_while_the_other_computes_and_each_takes_what_is_left(handed):
    waiting, computing = handed
    assert waiting[:3] == FILES[:3] and computing == FILES[3:6] + FILES[7::2]
    assert sorted(waiting + computing) == FILES
