"""Everything numeric that changes bytes, resolved at plan time and applied by one function before a model is loaded."""

import ctypes
import os
from collections.abc import Mapping

# what holds for a kind of device; "cpu" or "cuda" (ROCm's name too)
PLAIN = {
    "dtype": "float32",
    "tf32": False,
    "attention": "math",  # a key of ATTENTION
    "compile": "none",  # a key of synth.images.compiling.MODES, or auto
    "channels_last": False,
    "fuse_qkv": False,
}
TUNED = PLAIN | {"dtype": "auto", "tf32": True, "attention": "auto", "compile": "auto", "channels_last": True, "fuse_qkv": True}
REFERENCE = {
    "name": "reference",  # float32 and plain kernels everywhere: what the others are compared with
    "threads": 1,  # never derived from n_jobs or from the allocation
    "deterministic": True,  # of convolutions, cuBLAS and whatever else torch can choose
    "cpu": PLAIN,
    # of convolutions in float32 cuDNN takes the kernel whose workspace fits into what happens to be free: on an H100 one of 40 GB
    # for four pictures of Stable Diffusion 1.5. torch's own take the columns of one picture, and are as fast there
    "cuda": PLAIN | {"cudnn": False},
}
EXACT = REFERENCE | {
    "name": "exact",  # bytes are promised for the same kind of device, versions and batch
    # the forward passes of the fused kernels give the same bits every time, and half precision rounds alike every time
    "cpu": PLAIN | {"attention": "fused"},
    "cuda": PLAIN | {"dtype": "auto", "attention": "fused", "channels_last": True},
}
FAST = REFERENCE | {
    "name": "fast",  # autotuned and compiled; bytes are not promised, and the metadata says so
    "deterministic": False,
    "cpu": TUNED,
    "cuda": TUNED,
}
# scaled_dot_product_attention's kernels that may be chosen: (flash, memory-efficient, cuDNN's). Its plain kernel always may
ATTENTION = {"math": (False, False, False), "fused": (True, True, False), "auto": (True, True, True)}
# what the C library does with freed memory: it decides how fast tensors come and go, and changes no byte of any result
M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3  # malloc.h
LARGEST = 32 * 2**20  # bytes; glibc refuses a higher threshold
NEVER = -1
PRESETS = {"exact": EXACT, "fast": FAST, "reference": REFERENCE}


def on(numerics: Mapping, device: str) -> dict:
    """The numerics of one kind of device, flat: {"name", "threads", "deterministic", "dtype", ...}."""
    return {key: value for key, value in numerics.items() if key not in ("cpu", "cuda")} | dict(numerics.get(device, {}))


def changed(numerics: Mapping, **values: object) -> dict:
    """Numerics with some of what holds for a kind of device changed, for each kind."""
    return {**numerics, **{device: {**numerics[device], **values} for device in ("cpu", "cuda")}}


def environment(numerics: Mapping) -> dict[str, str]:
    """Variables that must stand in the environment before numpy or torch is imported."""
    threads = str(numerics["threads"])
    names = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NUMEXPR_NUM_THREADS", "VECLIB_MAXIMUM_THREADS")
    env = dict.fromkeys(names, threads)
    # TorchScript (ChatGLM's, in Kolors) runs a function plainly first and fuses it later, which rounds otherwise in half precision:
    # pictures would depend on which were drawn first
    env["PYTORCH_JIT"] = "0"
    if numerics.get("deterministic"):
        env["CUBLAS_WORKSPACE_CONFIG"] = ":4096:8"  # cuBLAS is deterministic only with a fixed workspace
    return env


def apply(numerics: Mapping) -> dict:
    """Set threads, determinism, TF32 and the attention kernels of torch, in this process, before any model is loaded.

    What is now in force here: `on` the device of this process. Every flag is set both ways, so that of two numerics in one
    process each is what it says. Without a GPU the process also keeps the memory that it frees, which changes no byte.
    """
    os.environ.update(environment(numerics))
    import torch

    now = on(numerics, "cuda" if torch.cuda.is_available() else "cpu")
    torch.set_num_threads(int(now["threads"]))
    deterministic = bool(now.get("deterministic"))
    torch.set_deterministic_debug_mode("warn" if deterministic else "default")
    if now.get("compile", "none") != "none":  # tells inductor too, by importing it: a second of every start
        torch.use_deterministic_algorithms(deterministic, warn_only=True)
    torch.utils.deterministic.fill_uninitialized_memory = False  # a debugging aid that writes every new tensor once more
    torch.backends.cudnn.enabled = bool(now.get("cudnn", True))
    torch.backends.cudnn.deterministic = deterministic
    torch.backends.cudnn.benchmark = not deterministic
    torch.backends.cuda.matmul.allow_tf32 = bool(now.get("tf32"))
    torch.backends.cudnn.allow_tf32 = bool(now.get("tf32"))
    flash, efficient, cudnn = ATTENTION[now.get("attention", "auto")]
    torch.backends.cuda.enable_flash_sdp(flash)
    torch.backends.cuda.enable_mem_efficient_sdp(efficient)
    torch.backends.cuda.enable_cudnn_sdp(cudnn)
    if not torch.cuda.is_available():
        keep_freed_memory()
    return now


def apply_to_text(numerics: Mapping) -> dict:
    """`apply`, for models of text, whose shapes differ from step to step: cuDNN's attention, the first choice of torch on recent
    GPUs, plans a kernel for each new shape, which took 0.44 s on a B200 (FunASR issue 3704). It stays off whatever the numerics say."""
    now = apply(numerics)
    import torch

    torch.backends.cuda.enable_cudnn_sdp(False)
    return now


def keep_freed_memory() -> bool:
    """Let this process reuse what it frees, at the cost of a heap that stays as large as it once was. False: not glibc.

    Layers on a CPU allocate and free megabytes every few milliseconds. glibc hands many of those blocks back to the kernel, which
    zeroes each page when it is touched again: up to a sixth of a denoising step of the tiny model (`python -m tests.bench.heap`).
    """
    set_option = getattr(ctypes.CDLL(None), "mallopt", None)  # macOS and musl have none
    return set_option is not None and all(map(set_option, (M_MMAP_THRESHOLD, M_TRIM_THRESHOLD), (LARGEST, NEVER)))
