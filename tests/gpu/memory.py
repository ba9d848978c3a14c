"""What this process holds of the GPU's memory, and how to leave it little."""

import torch


def held() -> int:
    """Bytes of live tensors. cuBLAS keeps a workspace from its first call on, which is nobody's leak."""
    torch.cuda.synchronize()
    torch._C._cuda_clearCublasWorkspaces()
    return torch.cuda.memory_allocated()


def leave(more: int) -> None:
    """From here on this process gets no more than what it holds and `more` bytes."""
    torch.cuda.empty_cache()
    total = torch.cuda.get_device_properties(0).total_memory
    torch.cuda.set_per_process_memory_fraction(min(1.0, (torch.cuda.memory_reserved() + more) / total))
