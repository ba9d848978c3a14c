"""What the device under a bench can do at most, measured in the same run: the roofline that figures are held against."""

import time
from collections.abc import Callable

import torch


def median_seconds(work: Callable[[], object], device: torch.device, tries: int = 10) -> float:
    """Of a call that was made once before: by the device's own events on a GPU, by the clock on a CPU."""
    work()
    took = []
    for _ in range(tries):
        if device.type == "cuda":
            begun, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
            begun.record()
            work()
            end.record()
            end.synchronize()
            took.append(begun.elapsed_time(end) / 1e3)
        else:
            clock = time.perf_counter()
            work()
            took.append(time.perf_counter() - clock)
    return sorted(took)[tries // 2]


def copy_bandwidth(device: torch.device) -> float:
    """Bytes a second of a large copy on the device, those read and those written."""
    n = 1 << 30 if device.type == "cuda" else 1 << 26
    a, b = (torch.zeros(n, dtype=torch.uint8, device=device) for _ in range(2))
    return 2 * n / median_seconds(lambda: b.copy_(a), device)


def matrix_peak(device: torch.device, dtype: torch.dtype, tf32: bool = False) -> float:
    """Operations a second of a large square matrix product of random numbers."""
    n = 8192 if device.type == "cuda" else 512
    before = torch.backends.cuda.matmul.allow_tf32
    torch.backends.cuda.matmul.allow_tf32 = tf32
    try:
        a, b = (torch.randn(n, n, device=device, dtype=dtype) for _ in range(2))
        return 2 * n**3 / median_seconds(lambda: a @ b, device)
    finally:
        torch.backends.cuda.matmul.allow_tf32 = before


def name_of(device: torch.device) -> str:
    """The card, with its memory in GB (10^9 bytes); "cpu"."""
    if device.type != "cuda":
        return "cpu"
    card = torch.cuda.get_device_properties(device)
    return f"{card.name} ({card.total_memory / 1e9:.0f} GB)"
