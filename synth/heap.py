"""What the C library does with freed memory. It decides how fast tensors come and go, and changes no byte of any result."""

import ctypes

M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3  # malloc.h
LARGEST = 32 * 2**20  # bytes; glibc refuses a higher threshold
NEVER = -1


def keep_freed_memory() -> bool:
    """Let this process reuse what it frees, at the cost of a heap that stays as large as it once was. False: not glibc.

    Layers on a CPU allocate and free megabytes every few milliseconds. glibc hands many of those blocks back to the kernel, which
    zeroes each page when it is touched again: up to a sixth of a denoising step of the tiny model (`python -m tests.bench.heap`).
    """
    set_option = getattr(ctypes.CDLL(None), "mallopt", None)  # macOS and musl have none
    return set_option is not None and all(map(set_option, (M_MMAP_THRESHOLD, M_TRIM_THRESHOLD), (LARGEST, NEVER)))
