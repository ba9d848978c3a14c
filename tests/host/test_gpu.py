"""The device of a worker: a GPU that was given is used, or named in an error; never a CPU in silence."""

import doctest
import os
import stat
from pathlib import Path

import pytest
import torch

from synth.errors import DeviceFailed, InputError, OutOfDeviceMemory
from synth.host import gpu
from synth.host.gpu import device, driver_version, dtype_on, every_allocation, given, half_dtype

NO_GPU = {"CUDA_VISIBLE_DEVICES": ""}
OPEN_MODULE = "NVRM version: NVIDIA UNIX Open Kernel Module for x86_64  570.86.15  Release Build  (dvs@x)  Thu Jan 23\n"
OLD_MODULE = "NVRM version: NVIDIA UNIX x86_64 Kernel Module  535.129.03  Thu Oct 19 18:56:32 UTC 2023\nGCC version:  gcc 11.4.0\n"


@pytest.fixture
def machine(tmp_path, monkeypatch):
    """The files of a machine, without any tool of NVIDIA's: (name, text) -> root."""
    monkeypatch.setenv("PATH", "")

    def make(**files: str) -> Path:
        for name, text in files.items():
            path = tmp_path / name.replace("__", "/")
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
        return tmp_path

    return make


def fake_torch(monkeypatch, cuda="13.0", count=0, error="", archs=(), capability=(9, 0), hip=None):
    """A torch that was built for CUDA and sees `count` GPUs; `error`: what its start says without one."""

    def init():
        if error:
            raise RuntimeError(error)

    for name, value in {
        "is_available": lambda: count > 0,
        "device_count": lambda: count,
        "init": init,
        "get_arch_list": lambda: list(archs),
        "get_device_capability": lambda index=None: capability,
        "get_device_name": lambda index=None: "Tesla V100-SXM2-16GB",
    }.items():
        monkeypatch.setattr(torch.cuda, name, value)
    monkeypatch.setattr(torch.version, "cuda", cuda)
    monkeypatch.setattr(torch.version, "hip", hip)
    monkeypatch.setattr(torch, "__version__", f"2.13.0+{'cu' + cuda.replace('.', '') if cuda else 'cpu'}")


def test_the_examples_of_the_docstrings_hold():
    assert doctest.testmod(gpu).failed == 0


# -- was one given? ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("env", "says"),
    [
        ({"CUDA_VISIBLE_DEVICES": "0"}, "CUDA_VISIBLE_DEVICES=0"),
        ({"HIP_VISIBLE_DEVICES": "1"}, "HIP_VISIBLE_DEVICES=1"),
        ({"ROCR_VISIBLE_DEVICES": "GPU-1"}, "ROCR_VISIBLE_DEVICES=GPU-1"),
        ({"SLURM_JOB_GPUS": "0"}, "SLURM_JOB_GPUS=0"),
        ({"SLURM_GPUS_ON_NODE": "4"}, "SLURM_GPUS_ON_NODE=4"),
        ({"SLURM_GPUS_ON_NODE": "0"}, ""),
        ({"CUDA_VISIBLE_DEVICES": "NoDevFiles"}, ""),
        ({"CUDA_VISIBLE_DEVICES": "", "SLURM_JOB_GPUS": "0", "ROCR_VISIBLE_DEVICES": "0"}, ""),
        ({"CUDA_VISIBLE_DEVICES": "-1"}, ""),
        ({"HIP_VISIBLE_DEVICES": "-1", "SLURM_JOB_GPUS": "0"}, ""),
        ({}, ""),
    ],
)
def test_variables_say_whether_a_gpu_was_given_and_an_empty_list_is_a_wish_for_the_cpu(env, says, tmp_path):
    assert given(env, tmp_path) == says


def test_device_files_of_nvidia_count_and_those_of_amd_where_torch_is_built_for_them(machine):
    node = "sys__class__kfd__kfd__topology__nodes"
    root = machine(dev__kfd="", **{f"{node}__0__properties": "cpu_cores_count 8\nsimd_count 0\n"})
    assert given({}, root, rocm=True) == ""
    root = machine(**{f"{node}__1__properties": "cpu_cores_count 0\nsimd_count 304\n"})
    assert given({}, root, rocm=True).endswith("nodes/1/properties") and given({}, root) == ""
    root = machine(dev__nvidiactl="", dev__nvidia10="", dev__nvidia2="", dev__nvidia_uvm="")
    assert given({}, root) == str(root / "dev/nvidia2")
    assert given(NO_GPU, root) == ""


def test_a_device_file_that_may_not_be_opened_belongs_to_another_job(machine, monkeypatch):
    root = machine(dev__nvidia0="")
    opened = Path.open

    def refused(path, *args, **kwargs):
        if path.name == "nvidia0":
            raise PermissionError(1, "Operation not permitted")
        return opened(path, *args, **kwargs)

    monkeypatch.setattr(Path, "open", refused)
    assert given({}, root) == ""


# -- what is computed on ----------------------------------------------------------------------------------------------------


def test_without_a_gpu_or_with_the_wish_for_none_it_is_the_cpu(monkeypatch, tmp_path):
    fake_torch(monkeypatch, cuda=None)
    assert device(env={}, root=tmp_path) == device(env=NO_GPU, root=tmp_path) == torch.device("cpu")


def test_a_gpu_that_torch_can_use_is_used(monkeypatch, tmp_path):
    fake_torch(monkeypatch, count=2, archs=("sm_80", "sm_90"))
    assert device(env={}, root=tmp_path) == torch.device("cuda") and device(1, {}, tmp_path) == torch.device("cuda", 1)


def test_a_torch_for_cpus_refuses_a_gpu_and_names_the_build_for_the_driver(monkeypatch, machine):
    fake_torch(monkeypatch, cuda=None)
    root = machine(proc__driver__nvidia__version=OLD_MODULE)
    with pytest.raises(InputError, match="built for CPUs alone") as e:
        device(env={"CUDA_VISIBLE_DEVICES": "0"}, root=root)
    for word in ("CUDA_VISIBLE_DEVICES=0", "2.13.0+cpu", "535.129.03", "whl/cu126", 'CUDA_VISIBLE_DEVICES=""'):
        assert word in str(e.value)


def test_the_build_that_is_installed_here_refuses_a_gpu(monkeypatch):
    """Not faked: the tests' torch has no CUDA, or there is no such GPU."""
    if torch.cuda.is_available():
        pytest.skip("there is a GPU here")
    with pytest.raises((InputError, DeviceFailed), match="CUDA_VISIBLE_DEVICES=0"):
        device(env={"CUDA_VISIBLE_DEVICES": "0"})


def test_a_torch_for_cpus_beside_gpus_of_amd_names_the_build_for_rocm(monkeypatch, machine):
    fake_torch(monkeypatch, cuda=None)
    root = machine(dev__kfd="", sys__class__kfd__kfd__topology__nodes__1__properties="simd_count 304\n")
    with pytest.raises(InputError, match="ROCm build"):
        device(env={"ROCR_VISIBLE_DEVICES": "0"}, root=root)


def test_a_driver_that_is_too_old_is_the_installation_on_all_nodes_alike(monkeypatch, machine):
    said = "The NVIDIA driver on your system is too old (found version 12080). Please update your GPU driver by downloading."
    fake_torch(monkeypatch, error=said)
    with pytest.raises(InputError, match="too old") as e:
        device(env={"SLURM_JOB_GPUS": "3"}, root=machine(proc__driver__nvidia__version=OPEN_MODULE))
    for word in ("SLURM_JOB_GPUS=3", "CUDA 13.0", "570.86.15", "found version 12080", "whl/cu126"):
        assert word in str(e.value)


@pytest.mark.parametrize("said", ["No CUDA GPUs are available", "Found no NVIDIA driver on your system. Please", "CUDA unknown error"])
def test_a_gpu_that_does_not_answer_is_this_nodes_matter_and_is_tried_again(said, monkeypatch, machine):
    fake_torch(monkeypatch, error=said)
    with pytest.raises(DeviceFailed, match=said.partition(".")[0]):
        device(env={"CUDA_VISIBLE_DEVICES": "0"}, root=machine(proc__driver__nvidia__version=OPEN_MODULE))


def test_a_card_that_torch_has_no_kernels_for_is_named_before_anything_is_computed(monkeypatch, machine):
    fake_torch(monkeypatch, count=1, archs=("sm_75", "sm_80", "sm_90", "compute_120"), capability=(7, 0))
    with pytest.raises(InputError, match=r"Tesla V100-SXM2-16GB \(compute capability 7.0\).*whl/cu126"):
        device(env={}, root=machine(proc__driver__nvidia__version=OPEN_MODULE.replace("570.86", "580.65")))
    fake_torch(monkeypatch, count=1, archs=("gfx90a",), hip="6.4", cuda=None)
    assert device(env={}, root=machine()).type == "cuda"


def test_the_drivers_version_is_the_kernel_modules_else_nvidia_smis(machine, tmp_path, monkeypatch):
    assert driver_version(machine(proc__driver__nvidia__version=OPEN_MODULE)) == "570.86.15"
    assert driver_version(machine(proc__driver__nvidia__version=OLD_MODULE)) == "535.129.03"
    (tmp_path / "nvidia-smi").write_text("#!/bin/sh\necho 550.54.15\necho 550.54.15\n")
    os.chmod(tmp_path / "nvidia-smi", stat.S_IRWXU)
    assert driver_version(tmp_path / "empty") == ""
    monkeypatch.setenv("PATH", f"{tmp_path}:/bin:/usr/bin")
    assert driver_version(tmp_path / "empty") == "550.54.15"


# -- half precision ---------------------------------------------------------------------------------------------------------


def test_a_card_that_emulates_bfloat16_computes_in_float16(monkeypatch):
    cuda, cpu = torch.device("cuda"), torch.device("cpu")
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation=True: including_emulation)
    assert half_dtype(cuda) == dtype_on("bfloat16", cuda) == torch.float16
    assert half_dtype(cpu) == torch.bfloat16 and dtype_on("float32", cuda) == torch.float32
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation=True: True)
    assert half_dtype(cuda) == torch.bfloat16


def test_an_allocation_that_failed_in_silence_is_out_of_memory_where_bits_are_promised(monkeypatch):
    """cuDNN that gets no workspace goes on with another kernel: nothing is raised, and the bits are others."""
    failed = [3]
    monkeypatch.setattr(torch.cuda, "is_initialized", lambda: True)
    monkeypatch.setattr(torch.cuda, "memory_stats", lambda: {"num_ooms": failed[0]})

    def work(promised: bool, more: int) -> None:
        with every_allocation(promised):
            failed[0] += more
            assert more < 5, "of the work"

    work(True, 0)
    work(False, 2)
    with pytest.raises(OutOfDeviceMemory, match=r"2 allocation\(s\) failed.*lower the batch size"):
        work(True, 2)
    with pytest.raises(AssertionError, match="of the work"):  # an error of its own is not covered up
        work(True, 5)
