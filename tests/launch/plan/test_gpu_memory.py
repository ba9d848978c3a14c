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
    for asked in (module._partitions, module._of_this_machine):
        asked.cache_clear()

    def command(name: str, text: str) -> None:
        (tmp_path / name).write_text(text.format(log=tmp_path / "log"))
        os.chmod(tmp_path / name, 0o755)

    yield command
    for asked in (module._partitions, module._of_this_machine):
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
        ("cluster.partition='big,cpu'", 40, "Slurm, partition big,cpu: a100_40gb"),
        ("cluster.gres=''", 40, "Slurm, the default partition: a100"),  # not given to sbatch: a GPU is asked for in another way
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


LIST = "GPU 0: A (UUID: GPU-aaaa)\\nGPU 1: B (UUID: GPU-bbbb)\\n"
SLICES = "GPU 0: A (UUID: GPU-aaaa)\\n  MIG 1g.10gb     Device  0: (UUID: MIG-cccc)\\n"


def nvidia_smi(machine, listing: str) -> None:
    machine("nvidia-smi", f"#!/bin/sh\ncase \"$1\" in -L) printf '{listing}';; *) {SMI.splitlines()[1]};; esac\n")


def here(monkeypatch, visible: str | None = None):
    module._of_this_machine.cache_clear()
    if visible is not None:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    return found()


def test_the_smallest_visible_gpu_of_this_machine_counts(machine, monkeypatch):
    assert found() is None  # no GPU here: cores
    nvidia_smi(machine, LIST)
    seen = here(monkeypatch)
    assert (seen.gb, seen.source) == (25.8, "nvidia-smi of this machine, GPU 1")
    assert here(monkeypatch, "0").gb == here(monkeypatch, "GPU-aa").gb == 85.5
    assert here(monkeypatch, "") is None


def test_a_slice_has_the_memory_of_its_profile(machine, monkeypatch):
    nvidia_smi(machine, SLICES)
    assert here(monkeypatch).gb == 10
    assert here(monkeypatch, "MIG-cccc,GPU-bbbb").gb == 10
    assert here(monkeypatch, "MIG-unknown,0").gb == 24  # one that nobody tells of is not left out


def test_nvidia_smi_that_fails_ends_the_plan_instead_of_changing_it(machine, monkeypatch):
    machine("nvidia-smi", "#!/bin/sh\nexit 9\n")
    with pytest.raises(StoreError, match=r"cluster\.gpu_mem_gb"):
        here(monkeypatch, "0")
    assert found("cluster.gpu_mem_gb=80").gb == 80


def test_cores_have_no_gpu_memory(machine):
    assert found("cluster=slurm", "cluster.gpus_per_job=0") is None
    assert found("cluster=slurm", "cluster.stages.images.gpus_per_job=0") is None
    assert found("cluster=slurm", kind="image_folder") is None
    assert found("cluster=slurm", kind="captions", config={"captioner": {"engine": "openai"}}) is None
    assert found("cluster=slurm", kind="captions", config={"captioner": {"engine": "llama"}}).gb == 24
