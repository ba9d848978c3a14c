"""What this machine is and which kernels torch picks on it: python -m tests.gpu.probe. A minute; on a CPU a dry run of small shapes.

First the ceilings. Then attention at the shapes of the models: the kernel that torch chooses among all, how long the first call of a
shape takes (cuDNN plans then), and for each fused kernel whether it gives the same bits twice.
"""

import time
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch.nn.attention import SDPBackend, sdpa_kernel

from tests.bench.ceilings import copy_bandwidth, matrix_peak, median_seconds, name_of

ON = torch.device("cuda" if torch.cuda.is_available() else "cpu")
SHAPES = {  # name: query, key, dtype, mask, causal
    "llama prefill, one beginning a row": ((96, 32, 167, 128), (96, 32, 167, 128), torch.bfloat16, None, True),
    "llama prefill, shared beginnings": ((96, 32, 166, 128), (96, 32, 167, 128), torch.bfloat16, (96, 1, 166, 167), False),
    "llama decode, 64 rows": ((64, 32, 1, 128), (64, 32, 192, 128), torch.bfloat16, (64, 1, 1, 192), False),
    "sd15 64x64 float16": ((32, 8, 4096, 40), (32, 8, 4096, 40), torch.float16, None, False),
    "sd15 64x64 bfloat16": ((32, 8, 4096, 40), (32, 8, 4096, 40), torch.bfloat16, None, False),
    "sd15 64x64 float32": ((4, 8, 4096, 40), (4, 8, 4096, 40), torch.float32, None, False),
    "sdxl 64x64 bfloat16": ((16, 10, 4096, 64), (16, 10, 4096, 64), torch.bfloat16, None, False),
    "flux 1024 px bfloat16": ((2, 24, 4608, 128), (2, 24, 4608, 128), torch.bfloat16, None, False),
    "vae 128x128 bfloat16": ((2, 1, 16384, 512), (2, 1, 16384, 512), torch.bfloat16, None, False),
}
FUSED = {  # numerics.ATTENTION["fused"] allows the first two
    "flash": SDPBackend.FLASH_ATTENTION, "efficient": SDPBackend.EFFICIENT_ATTENTION, "cudnn": SDPBackend.CUDNN_ATTENTION,
}  # fmt: skip


def ceilings() -> None:
    print(f"copy: {copy_bandwidth(ON) / 1e12:.3g} TB/s")
    for dtype, tf32 in ((torch.bfloat16, False), (torch.float16, False), (torch.float32, True), (torch.float32, False)):
        print(f"matrix product {str(dtype)[6:]}{' tf32' if tf32 else ''}: {matrix_peak(ON, dtype, tf32) / 1e12:.3g} TFLOP/s")


def attention() -> None:
    print("attention | chosen among all | first call s | then ms | fused: ms, same bits twice")
    for name, shapes in SHAPES.items():
        print(f"{name} | {looked_at(*shapes)}", flush=True)


def looked_at(q: tuple, k: tuple, dtype: torch.dtype, mask: tuple | None, causal: bool) -> str:
    """The columns of one shape; on a CPU of a small part of it."""
    if ON.type == "cpu":
        q, k = ((1, shape[1], min(shape[2], 64), shape[3]) for shape in (q, k))
        mask = mask and (1, 1, q[2], k[2])
    query, key, value = (torch.randn(shape, device=ON, dtype=dtype) for shape in (q, k, k))
    seen = None
    if mask:
        seen = torch.rand(mask, device=ON) > 0.3
        seen[..., 0] = True  # no row without a key

    def attend() -> torch.Tensor:
        return F.scaled_dot_product_attention(query, key, value, attn_mask=seen, is_causal=causal)

    chosen = SDPBackend(torch._fused_sdp_choice(query, key, value, attn_mask=seen, is_causal=causal)).name
    begun = time.perf_counter()
    attend().sum().item()
    first = time.perf_counter() - begun
    return f"{chosen} | {first:.3f} | {1e3 * median_seconds(attend, ON):.2f} | {fused(attend)}"


def fused(attend: Callable[[], torch.Tensor]) -> str:
    """Each fused kernel: its milliseconds and whether two calls give the same bits; "no" where it does not take such inputs."""
    told = []
    for name, kernel in FUSED.items():
        with sdpa_kernel(kernel):
            try:
                same = torch.equal(attend(), attend())
                told.append(f"{name} {1e3 * median_seconds(attend, ON):.2f}, {same}")
            except RuntimeError:  # no kernel for these inputs
                told.append(f"{name} no")
    return "; ".join(told)


def workspaces() -> None:
    """What cuDNN takes beside the tensors for convolutions as of a VAE's decoder, chosen as in numerics=exact and reference; and the time
    of torch's own kernels, which take the room of one picture's columns."""
    torch.backends.cudnn.deterministic, torch.backends.cudnn.benchmark, torch.backends.cudnn.allow_tf32 = True, False, False
    print("convolutions 3x3 of 4 pictures | cuDNN ms, GB beside its tensors | without cuDNN", flush=True)
    cuda = ON.type == "cuda"
    for channels, size in ((512, 64), (512, 256), (256, 512), (128, 512)):
        for dtype in (torch.float32, torch.bfloat16):
            side = size if cuda else 8
            pictures = torch.randn(4, channels, side, side, device=ON, dtype=dtype)
            weight = torch.randn(channels, channels, 3, 3, device=ON, dtype=dtype)
            told = []
            for torch.backends.cudnn.enabled in (True, False):
                beside = 0.0
                if cuda:
                    torch.cuda.synchronize()
                    torch.cuda.reset_peak_memory_stats()
                    before = torch.cuda.memory_allocated()
                F.conv2d(pictures, weight, padding=1).flatten()[0].item()
                if cuda:
                    beside = (torch.cuda.max_memory_allocated() - before - pictures.numel() * pictures.element_size()) / 1e9
                took = median_seconds(lambda p=pictures, w=weight: F.conv2d(p, w, padding=1), ON)
                told.append(f"{1e3 * took:.2f}, {beside:.2f}")
            torch.backends.cudnn.enabled = True
            print(f"{channels} channels, {size}x{size}, {str(dtype)[6:]} | {' | '.join(told)}", flush=True)


def main() -> None:
    import diffusers
    import transformers

    print(f"torch {torch.__version__} (CUDA {torch.version.cuda}), cuDNN {torch.backends.cudnn.version()}")
    print(f"diffusers {diffusers.__version__}, transformers {transformers.__version__}; {name_of(ON)}")
    if ON.type == "cuda":
        major, minor = torch.cuda.get_device_capability()
        print(f"sm_{major}{minor}, bfloat16 in hardware: {torch.cuda.is_bf16_supported(including_emulation=False)}")
    with torch.inference_mode():
        ceilings()
        attention()
        workspaces()


if __name__ == "__main__":
    main()
