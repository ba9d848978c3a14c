"""Everything numeric that changes bytes, resolved at plan time and applied by one function before a model is loaded."""

import ctypes
import os
from collections.abc import Mapping

EXACT = {
    "name": "exact",  # bytes are promised for the same machine type, versions and batch
    "threads": 1,  # never derived from n_jobs or from the allocation
    "dtype": "float32",
    "tf32": False,
    "attention": "math",  # scaled_dot_product_attention's plain kernel
    "compile": "none",  # a key of synth.images.compiling.MODES, or auto
    "deterministic": True,
    "channels_last": False,
}
FAST = EXACT | {
    "name": "fast",  # autotuned; bytes are not promised, and the metadata says so
    "dtype": "auto",
    "tf32": True,
    "attention": "auto",
    "compile": "auto",
    "deterministic": False,
    "channels_last": True,
    "fuse_qkv": True,
}
# what the C library does with freed memory: it decides how fast tensors come and go, and changes no byte of any result
M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3  # malloc.h
LARGEST = 32 * 2**20  # bytes; glibc refuses a higher threshold
NEVER = -1
PRESETS = {"exact": EXACT, "fast": FAST}


def environment(numerics: Mapping) -> dict[str, str]:
    """Variables that must stand in the environment before numpy or torch is imported."""
    threads = str(numerics["threads"])
    names = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NUMEXPR_NUM_THREADS", "VECLIB_MAXIMUM_THREADS")
    env = dict.fromkeys(names, threads)
    if numerics.get("deterministic"):
        env["CUBLAS_WORKSPACE_CONFIG"] = ":4096:8"  # cuBLAS is deterministic only with a fixed workspace
    return env


def apply(numerics: Mapping) -> None:
    """Set threads, determinism, TF32 and the attention kernels of torch, in this process, before any model is loaded.

    Without a GPU the process also keeps the memory that it frees, which changes no byte.
    """
    os.environ.update(environment(numerics))
    import torch

    torch.set_num_threads(int(numerics["threads"]))
    deterministic = bool(numerics.get("deterministic"))
    torch.set_deterministic_debug_mode("warn" if deterministic else "default")
    if numerics.get("compile", "none") != "none":  # tells inductor too, by importing it: a second of every start
        torch.use_deterministic_algorithms(deterministic, warn_only=True)
    torch.utils.deterministic.fill_uninitialized_memory = False  # a debugging aid that writes every new tensor once more
    torch.backends.cudnn.deterministic = deterministic
    torch.backends.cudnn.benchmark = not deterministic
    torch.backends.cuda.matmul.allow_tf32 = bool(numerics.get("tf32"))
    torch.backends.cudnn.allow_tf32 = bool(numerics.get("tf32"))
    if not torch.cuda.is_available():
        keep_freed_memory()
    elif numerics.get("attention") == "math":
        torch.backends.cuda.enable_flash_sdp(False)
        torch.backends.cuda.enable_mem_efficient_sdp(False)
        torch.backends.cuda.enable_cudnn_sdp(False)


def keep_freed_memory() -> bool:
    """Let this process reuse what it frees, at the cost of a heap that stays as large as it once was. False: not glibc.

    Layers on a CPU allocate and free megabytes every few milliseconds. glibc hands many of those blocks back to the kernel, which
    zeroes each page when it is touched again: up to a sixth of a denoising step of the tiny model (`python -m tests.bench.heap`).
    """
    set_option = getattr(ctypes.CDLL(None), "mallopt", None)  # macOS and musl have none
    return set_option is not None and all(map(set_option, (M_MMAP_THRESHOLD, M_TRIM_THRESHOLD), (LARGEST, NEVER)))
