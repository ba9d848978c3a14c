import subprocess
import sys

import pytest

from synth import numerics

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


def flags():
    import torch

    return (
        torch.backends.cuda.flash_sdp_enabled(), torch.backends.cuda.mem_efficient_sdp_enabled(), torch.backends.cuda.cudnn_sdp_enabled(),
        torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32, torch.backends.cudnn.deterministic,
        torch.backends.cudnn.enabled, torch.backends.cudnn.benchmark, torch.get_deterministic_debug_mode() > 0,
    )  # fmt: skip


@pytest.mark.parametrize("device", ["cpu", "cuda"])
def test_each_numerics_sets_every_flag_whatever_was_applied_before(device, monkeypatch):
    import torch

    monkeypatch.setattr(torch.cuda, "is_available", lambda: device == "cuda")
    alone = {}
    for name, preset in numerics.PRESETS.items():
        numerics.apply(preset)
        alone[name] = flags()
    assert len(set(alone.values())) == len(alone)
    for before in numerics.PRESETS.values():
        for name, preset in numerics.PRESETS.items():
            numerics.apply(before)
            assert numerics.apply(preset) == numerics.on(preset, device)
            assert flags() == alone[name]
    numerics.apply(numerics.EXACT)


def test_exact_on_a_gpu_is_half_precision_with_kernels_that_are_fused_and_deterministic():
    gpu, cpu = (numerics.on(numerics.EXACT, device) for device in ("cuda", "cpu"))
    assert (gpu["dtype"], gpu["attention"], gpu["deterministic"], gpu["compile"]) == ("auto", "fused", True, "none")
    assert (cpu["dtype"], cpu["deterministic"]) == ("float32", True)


def test_numerics_of_a_stage_that_an_older_version_planned_are_flat_and_hold_everywhere():
    old = {"name": "exact", "threads": 1, "dtype": "float32", "deterministic": True}
    assert numerics.on(old, "cuda") == old == numerics.apply(old)
