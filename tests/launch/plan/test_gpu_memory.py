"""The memory of one GPU that a plan goes by, and where it says that the figure is from."""

import os

import pytest

from launch.config.compose import Composer, typed
from launch.plan import gpu_memory as module
from launch.plan.gpu_memory import gpu_memory
from synth.errors import InputError, StoreError

SINFO = (
    "#!/bin/sh\necho called >> {log}\nprintf 'long*|gpu:a100:4(S:0-1)|ib\\nbig|gpu:8|h100_80gb\\nbig|gpu:8|a100_40gb\\ncpu|(null)|amd\\n'\n"
)
SMI = "#!/bin/sh\nprintf '0, GPU-aaaa, 81559\\n1, GPU-bbbb, 24564\\n'\n"


@pytest.fixture
def machine(tmp_path, monkeypatch):
    """A machine without Slurm and without a GPU, and a way to give it commands."""
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    for asked in (module._partitions, module._listed):
        asked.cache_clear()

    def command(name: str, text: str) -> None:
        (tmp_path / name).write_text(text.format(log=tmp_path / "log"))
        os.chmod(tmp_path / name, 0o755)

    yield command
    for asked in (module._partitions, module._listed):
        asked.cache_clear()


def found(*overrides: str, kind: str = "images", config=None):
    return gpu_memory(typed(Composer().compose(["recipe=probe", *overrides])).cluster, kind, config or {})


def test_what_the_user_says_comes_first(machine):
    machine("sinfo", SINFO)
    assert found("cluster=slurm", "cluster.gpu_mem_gb=80", "cluster.gres=gpu:v100:1").gb == 80
    own = found("cluster=slurm", "cluster.gpu_mem_gb=80", "cluster.stages.images.gpu_mem_gb=24")
    assert (own.gb, own.source) == (24, "cluster.stages.images.gpu_mem_gb")
    with pytest.raises(InputError, match=r"cluster\.gpu_mem_gb=-5: the memory of one GPU"):
        found("cluster.gpu_mem_gb=-5")


@pytest.mark.parametrize(
    ("asked", "gb", "source"),
    [
        ("cluster.gres=gpu:a100:4", 40, "cluster.gres: a100"),  # the smaller of the two of that name
        ("cluster.gres=gpu:a100-sxm4-80gb:1", 80, "cluster.gres: a100-sxm4-80gb"),
        ("cluster.gres=gpu:1g.10gb:1", 10, "cluster.gres: 1g.10gb"),
        ("cluster.constraint='h100|v100'", 16, "cluster.constraint: v100"),
        ("cluster.stages.images.gres=gpu:h200:1", 141, "cluster.gres: h200"),
        ("cluster.gres=gpu:2", 40, "Slurm, the default partition: a100"),
        ("cluster.partition=big", 40, "Slurm, partition big: a100_40gb"),
        ("cluster.partition=cpu", 24, "assumed: neither cluster.gpu_mem_gb nor Slurm says"),
    ],
)
def test_slurm_is_asked_by_the_words_that_jobs_ask_with(machine, asked, gb, source):
    machine("sinfo", SINFO)
    seen = found("cluster=slurm", asked)
    assert (seen.gb, seen.source) == (gb, source)


def test_a_command_asks_slurm_once_and_goes_on_where_there_is_none(machine, tmp_path):
    assert found("cluster=slurm").gb == 24
    module._partitions.cache_clear()
    machine("sinfo", SINFO)
    for _ in range(3):
        found("cluster=slurm")
    assert (tmp_path / "log").read_text().count("called") == 1


def test_slurm_that_does_not_answer_ends_the_plan_instead_of_changing_it(machine):
    machine("sinfo", "#!/bin/sh\necho 'Unable to contact slurm controller' >&2\nexit 1\n")
    with pytest.raises(StoreError, match=r"Unable to contact slurm controller.*cluster\.gpu_mem_gb"):
        found("cluster=slurm")
    assert found("cluster=slurm", "cluster.gpu_mem_gb=80").gb == 80


def test_the_smallest_visible_gpu_of_this_machine_counts(machine, monkeypatch):
    assert found() is None  # no GPU here: cores
    listing = 'echo "GPU 0: A (UUID: GPU-aaaa)"; echo "GPU 1: B (UUID: GPU-bbbb)"'
    machine("nvidia-smi", f'#!/bin/sh\ncase "$1" in -L) {listing};; *) ' + SMI.splitlines()[1] + ";; esac\n")
    assert (found().gb, found().source) == (25.8, "nvidia-smi of this machine")
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0")
    assert found().gb == 85.5
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    assert found() is None


def test_cores_have_no_gpu_memory(machine):
    assert found("cluster=slurm", "cluster.gpus_per_job=0") is None
    assert found("cluster=slurm", "cluster.stages.images.gpus_per_job=0") is None
    assert found("cluster=slurm", kind="image_folder") is None
    assert found("cluster=slurm", kind="captions", config={"captioner": {"engine": "openai"}}) is None
    assert found("cluster=slurm", kind="captions", config={"captioner": {"engine": "llama"}}).gb == 24
