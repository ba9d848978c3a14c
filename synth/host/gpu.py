"""The device that a worker computes on, and why a GPU that it was given cannot be used.

A worker computes on the CPU only where no GPU was given to it, or where it is told to: CUDA_VISIBLE_DEVICES="" (ROCm:
HIP_VISIBLE_DEVICES=-1). A GPU that torch cannot use never becomes a CPU in silence.
"""

import contextlib
import gc
import os
import re
import subprocess
import sys
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from synth.errors import DeviceFailed, InputError, OutOfDeviceMemory
from synth.host.environment import without_secrets

if TYPE_CHECKING:
    import torch

CUDA, HIP, ROCR = "CUDA_VISIBLE_DEVICES", "HIP_VISIBLE_DEVICES", "ROCR_VISIBLE_DEVICES"
VISIBLE = (CUDA, HIP, ROCR)
BY_SLURM = ("SLURM_STEP_GPUS", "SLURM_JOB_GPUS", "SLURM_GPUS_ON_NODE", "GPU_DEVICE_ORDINAL")
NONE = ("-1", "NoDevFiles")  # the second is Slurm's, in a job that asked for no GPU
ROOT = Path("/")
SMI_PATIENCE = 10.0  # seconds; without persistence mode nvidia-smi starts every card first
WHEELS = "https://download.pytorch.org/whl"
# (first driver, build, first compute capability that it has kernels for): the newest that fits is advised
BUILDS = ((580, "cu130", (7, 5)), (525, "cu126", (5, 0)))
CPU = 'to compute on the CPU: CUDA_VISIBLE_DEVICES=""'


def device(index: int | None = None, env: Mapping[str, str] = os.environ, root: Path = ROOT) -> "torch.device":
    """The torch.device that this process computes on: its visible GPU `index`, or the first; the CPU where none was given.

    InputError: torch is built for another driver or card than are here. DeviceFailed: the GPU itself does not answer.
    """
    import torch

    if torch.cuda.is_available():
        _check_kernels(index or 0, root)
        return torch.device("cuda") if index is None else torch.device("cuda", index)
    if by := given(env, root, bool(torch.version.hip)):
        raise _unusable(by, root)
    return torch.device("cpu")


@contextlib.contextmanager
def every_allocation(promised: bool) -> Iterator[None]:
    """Around what computes. promised: that its bits are always the same.

    Where the GPU is so full that a workspace does not fit, torch goes on with a kernel that needs none and says nothing: the bits are
    others. OutOfDeviceMemory, then, although the work came to its end.
    """
    before = _refused() if promised else 0
    yield
    if promised and (failed := _refused() - before) > 0:
        raise OutOfDeviceMemory(
            f"the GPU is nearly full: {failed} allocation(s) failed, and torch went on with other kernels, whose results have other bits; "
            "lower the batch size, or take a GPU with more memory"
        )


def _refused() -> int:
    """Allocations on the GPU that failed in this process, whatever became of them."""
    torch = sys.modules.get("torch")
    return torch.cuda.memory_stats().get("num_ooms", 0) if torch is not None and torch.cuda.is_initialized() else 0


def free() -> None:
    """Give the device back what nothing uses any more: wrapped and compiled modules, and hooks, are held by circles."""
    gc.collect()
    torch = sys.modules.get("torch")
    if torch is not None and torch.cuda.is_available():
        torch.cuda.empty_cache()


def half_dtype(on: "torch.device") -> "torch.dtype":
    """The 16-bit float of a torch.device: bfloat16, but float16 on a GPU that only emulates it (NVIDIA's before Ampere).

    Emulated, every product is computed in float32, and cuDNN has no such convolutions.
    """
    import torch

    native = on.type != "cuda" or torch.cuda.is_bf16_supported(including_emulation=False)
    return torch.bfloat16 if native else torch.float16


def dtype_on(name: str, on: "torch.device") -> "torch.dtype":
    """torch's dtype of a name on a torch.device; "bfloat16" is `half_dtype`."""
    import torch

    return half_dtype(on) if name == "bfloat16" else getattr(torch, name)


def listed(value: str) -> list[str]:
    """What a variable such as CUDA_VISIBLE_DEVICES names: up to the first -1, as CUDA reads it.

    >>> listed("2, GPU-8c5e"), listed("0,-1,1"), listed("NoDevFiles")
    (['2', 'GPU-8c5e'], ['0'], [])
    """
    names = [name.strip() for name in value.split(",")]
    end = next((i for i, name in enumerate(names) if name in NONE), len(names))
    return [name for name in names[:end] if name]


def given(env: Mapping[str, str], root: Path = ROOT, rocm: bool = False) -> str:
    """What says that this process was given a GPU, as "CUDA_VISIBLE_DEVICES=0" or "/dev/nvidia0"; "" if nothing does.

    rocm: whether AMD's device files count, too. They are there on every laptop with AMD graphics.
    """
    if any(name in env and not listed(env[name]) for name in VISIBLE):
        return ""
    for name in (*VISIBLE, *BY_SLURM):
        if env.get(name) and not (name == "SLURM_GPUS_ON_NODE" and env[name] == "0"):
            return f"{name}={env[name]}"
    files = [*nvidia_files(root), *(amd_nodes(root) if rocm else [])]
    return str(next(filter(_is_ours, files), ""))


def nvidia_files(root: Path = ROOT) -> list[Path]:
    """/dev/nvidia0, /dev/nvidia1, ...: those that this container was given."""
    return sorted((p for p in (root / "dev").glob("nvidia[0-9]*") if p.name[6:].isdigit()), key=lambda p: int(p.name[6:]))


def amd_nodes(root: Path = ROOT) -> list[Path]:
    """The kernel's files on AMD's GPUs that ROCm can use, in its order. CPUs are listed beside them, without SIMD units."""
    if not (root / "dev/kfd").exists():
        return []
    nodes = []
    for path in (root / "sys/class/kfd/kfd/topology/nodes").glob("[0-9]*/properties"):
        with contextlib.suppress(OSError):  # of a GPU that the container was not given
            if re.search(r"^simd_count [1-9]", path.read_text(), re.MULTILINE):
                nodes.append(path)
    return sorted(nodes, key=lambda p: int(p.parent.name))


def _is_ours(path: Path) -> bool:
    """Whether this process may open a device file: a Slurm job sees those of all GPUs, and may open its own. Broken ones are ours."""
    try:
        path.open("rb", buffering=0).close()
    except PermissionError:
        return False
    except OSError:
        return True
    return True


def driver_version(root: Path = ROOT) -> str:
    """Of NVIDIA's driver, as "550.54.15"; "" without one."""
    with contextlib.suppress(OSError):
        if found := re.search(r"Module\b.*?\s(\d+\.\d+(?:\.\d+)?)\s", (root / "proc/driver/nvidia/version").read_text()):
            return found[1]
    with contextlib.suppress(OSError, subprocess.SubprocessError):
        return smi("--query-gpu=driver_version", "--format=csv,noheader").partition("\n")[0].strip()
    return ""


def smi(*options: str) -> str:
    """What nvidia-smi prints. OSError: there is none; CalledProcessError: it failed; TimeoutExpired: it hangs."""
    process = subprocess.Popen(
        ["nvidia-smi", *options], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, env=without_secrets()
    )
    try:
        said, _ = process.communicate(timeout=SMI_PATIENCE)
    except subprocess.TimeoutExpired:
        process.kill()  # and not waited for: inside a driver that hangs it cannot be ended
        raise
    if process.returncode:
        raise subprocess.CalledProcessError(process.returncode, process.args, said)
    return said


def has_kernels(capability: tuple[int, int], architectures: Iterable[str]) -> bool:
    """Whether a build of torch for `architectures` runs on a card: sm_80 on 8.0 to 8.9, sm_90a on 9.0, compute_80 on all from 8.0.

    >>> has_kernels((7, 0), ["sm_75", "sm_80"]), has_kernels((8, 9), ["sm_75", "sm_80"]), has_kernels((7, 0), ["sm_75", "compute_60"])
    (False, True, True)
    """
    for word in architectures:
        if parts := re.fullmatch(r"(sm|compute)_(\d+)(\d)([af]?)", word):
            least = int(parts[2]), int(parts[3])
            later = capability[0] == least[0] or parts[1] == "compute"
            if capability == least or (parts[4] != "a" and later and capability > least):
                return True
    return False


def _check_kernels(index: int, root: Path) -> None:
    """InputError for a card that this build of torch has no kernels for: its first kernel would fail."""
    import torch

    architectures = torch.cuda.get_arch_list()
    if torch.version.hip or not architectures:
        return
    capability = torch.cuda.get_device_capability(index)
    if not has_kernels(capability, architectures):
        name = f"{torch.cuda.get_device_name(index)} (compute capability {capability[0]}.{capability[1]})"
        raise InputError(
            f"{name}: torch {torch.__version__} has no kernels for it, only {', '.join(architectures)}; "
            f"{_advice(driver_version(root), capability)}, or, {CPU}"
        )


def _unusable(by: str, root: Path) -> InputError | DeviceFailed:
    """Why torch does not use the GPU that was given `by`: how torch was installed, alike on all nodes, or this node."""
    import torch

    driver = driver_version(root)
    build = f"ROCm {torch.version.hip}" if torch.version.hip else f"CUDA {torch.version.cuda or 'none'}"
    here = f"{by} gives this worker a GPU, and torch {torch.__version__} ({build}) cannot use it; NVIDIA's driver here: {driver or 'none'}"
    if not torch.version.cuda and not torch.version.hip:
        amd = not driver and bool(amd_nodes(root))
        fix = f"a ROCm build of torch ({WHEELS}/rocm<version>)" if amd else _advice(driver)
        return InputError(f"{here}. It was built for CPUs alone: install {fix}, or, {CPU}")
    said = _said_by_torch()
    if "driver on your system is too old" in said:
        return InputError(f"{here}. {said} Fix: update the driver, or {_advice(driver)}, or, {CPU}")
    hint = "" if driver or torch.version.hip else "; in a container: docker run --gpus all, apptainer exec --nv"
    return DeviceFailed(f"{here}. {said} Another GPU may answer{hint}; {CPU}", sticky=True)


def _said_by_torch() -> str:
    """The error of torch's own start of CUDA: its first sentence."""
    import torch

    try:
        torch.cuda.init()
    except Exception as e:  # noqa: BLE001 (of whatever class: its words are told)
        return f"{str(e).strip().partition('. ')[0].rstrip('.') or type(e).__name__}."
    return "torch.cuda.is_available() is false and says no reason."


def too_old(driver: str, cuda: str) -> str:
    """What to do where NVIDIA's `driver` cannot run a build of torch for `cuda` ("" for one for CPUs alone); "" where it can, or nobody
    knows.

    >>> too_old("550.54.15", "13.0").startswith("update the driver to 580 or later, or a build of torch for CUDA 12.6")
    True
    >>> too_old("550.54.15", "12.8"), too_old("", "13.0")
    ('', '')
    """
    if not cuda:
        return f"install {_advice(driver)}"
    major, of = driver.partition(".")[0], cuda.partition(".")[0]
    least = next((least for least, name, _ in BUILDS if name.startswith(f"cu{of}")), None)
    if least is None or not major.isdigit() or int(major) >= least:
        return ""
    return f"update the driver to {least} or later, or {_advice(driver)}"


def _advice(driver: str, capability: tuple[int, int] | None = None) -> str:
    """The build of torch for a driver and a card.

    >>> _advice("550.54.15")
    'a build of torch for CUDA 12.6 (pip install torch --index-url https://download.pytorch.org/whl/cu126)'
    """
    major = int(driver.partition(".")[0]) if driver.partition(".")[0].isdigit() else None
    for least, name, first in BUILDS:
        if (major is None or major >= least) and (capability is None or capability >= first):
            return f"a build of torch for CUDA {name[2:4]}.{name[4:]} (pip install torch --index-url {WHEELS}/{name})"
    return f"driver {BUILDS[-1][0]} or later and a build of torch for CUDA 12.6 (pip install torch --index-url {WHEELS}/cu126)"
