"""Which device the tests of this folder take. SYNTHSET_GPU_TESTS says it:

cuda    a GPU, or an error (make gpu)
cpu     a dry run: what can run on a CPU runs there, what cannot (marker cuda_only) is not collected
unset   a GPU where torch can use one, else the dry run: the tests themselves must not rot
"""

import os
from pathlib import Path

import pytest

ASKED = os.environ.get("SYNTHSET_GPU_TESTS", "")
if ASKED not in ("", "cpu", "cuda"):
    raise pytest.UsageError(f"SYNTHSET_GPU_TESTS={ASKED}: cuda, cpu, or leave it away")
if ASKED == "cpu":
    os.environ["CUDA_VISIBLE_DEVICES"] = ""  # before CUDA begins: workers and their children must not find one either

from synth.numerics import EXACT, environment  # noqa: E402

os.environ.update(environment(EXACT))  # before torch is imported, as in a worker

import torch  # noqa: E402

from tests.gpu.second import Second  # noqa: E402

if ASKED == "cuda" and not torch.cuda.is_available():
    raise pytest.UsageError(
        f"SYNTHSET_GPU_TESTS=cuda: torch {torch.__version__} (CUDA {torch.version.cuda}) can use no GPU here; see nvidia-smi"
    )
CUDA = torch.cuda.is_available()


def pytest_collection_modifyitems(config, items):
    here = [item for item in items if Path(__file__).parent in item.path.parents]
    for item in here:
        item.add_marker(pytest.mark.gpu)
        item.add_marker(pytest.mark.xdist_group(_group(item)))
    if gone := {item for item in here if _gpus(item) > torch.cuda.device_count()}:
        config.hook.pytest_deselected(items=list(gone))
        items[:] = [item for item in items if item not in gone]


def _group(item: pytest.Item) -> str:
    """Tests that one process should run, for `--dist loadgroup`: they share what was drawn. A model's row, or a file."""
    name = getattr(item, "callspec", None) and item.callspec.params.get("name")
    return f"{item.path.stem} {name or ''}".strip()


def _gpus(item: pytest.Item) -> int:
    """How many GPUs a test cannot do without: cuda_only, or cuda_only(gpus=2)."""
    mark = item.get_closest_marker("cuda_only")
    return mark.kwargs.get("gpus", 1) if mark else 0


@pytest.fixture(scope="session")
def on() -> torch.device:
    return torch.device("cuda", 0) if CUDA else torch.device("cpu")


@pytest.fixture(scope="package")
def second():
    """Another process, which is another job."""
    with Second() as process:
        yield process


@pytest.fixture(scope="package")
def cpu(second):
    """A process that has no GPU."""
    if not CUDA:
        yield second
        return
    with Second({"CUDA_VISIBLE_DEVICES": ""}) as process:
        yield process


@pytest.fixture(autouse=True)
def _as_found():
    """Each test begins with an empty cache and fresh peaks, and leaves no limit behind."""
    if CUDA:
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()
    yield
    if CUDA:
        torch.cuda.set_per_process_memory_fraction(1.0)
        torch.cuda.set_sync_debug_mode("default")
