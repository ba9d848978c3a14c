import subprocess
import sys

import pytest

CHILD = """
import resource, sys
import numpy as np
from synth.numerics import keep_freed_memory
{first}
def layer():
    for array in [np.empty(20 * 2**20, np.uint8) for _ in range(4)]:
        array[::4096] = 1
for _ in range(3):
    layer()
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(5):
    layer()
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


def faults(first: str) -> int:
    """Page faults of taking and freeing 80 MB five times, in a process of its own."""
    found = subprocess.run([sys.executable, "-c", CHILD.format(first=first)], capture_output=True, text=True, check=True)
    return int(found.stdout)


@pytest.mark.skipif(sys.platform != "linux", reason="mallopt is glibc's")
def test_freed_memory_is_taken_again_without_asking_the_kernel():
    assert faults("") > 1000
    assert faults("assert keep_freed_memory()") < 100


@pytest.mark.skipif(sys.platform != "linux", reason="mallopt is glibc's")
def test_a_process_that_computes_on_a_cpu_keeps_what_it_frees():
    apply = "import os\nos.environ['CUDA_VISIBLE_DEVICES'] = ''\nfrom synth.numerics import EXACT, apply\napply(EXACT)"
    assert faults(apply) < 100


def test_another_c_library_changes_nothing(monkeypatch):
    from synth import numerics as heap

    monkeypatch.setattr(heap.ctypes, "CDLL", lambda _: object())
    assert not heap.keep_freed_memory()
