"""Live tensors counted on the meta device: what a GPU's allocator would be asked for, without a GPU and without the weights."""

import contextlib
from collections.abc import Iterator

import torch
from torch.multiprocessing.reductions import StorageWeakRef
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_iter

CONVOLUTIONS = (torch.ops.aten.conv2d.default, torch.ops.aten.conv2d.padding, torch.ops.aten.convolution.default)


class Live(TorchDispatchMode):
    """Counts the bytes of the storages on the meta device that are alive, made inside. `peak`: the most at any time.

    A convolution also asks for a copy of its input: weights lie in channels_last (synth.images.speed), and torch's GPU kernel of
    GroupNorm, behind which nearly all convolutions stand, takes and gives the other layout.
    """

    def __init__(self):
        super().__init__()
        self.now = self.peak = 0
        self._alive: dict[int, tuple[StorageWeakRef, int]] = {}

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        out = func(*args, **(kwargs or {}))
        given = {t.untyped_storage()._cdata for t in tree_iter((args, kwargs)) if isinstance(t, torch.Tensor)}
        for tensor in tree_iter(out):
            if isinstance(tensor, torch.Tensor) and tensor.device.type == "meta":
                storage = tensor.untyped_storage()
                if storage._cdata not in self._alive and storage._cdata not in given:
                    self._alive[storage._cdata] = (StorageWeakRef(storage), storage.nbytes())
                    self.now += storage.nbytes()
        beside = args[0].numel() * args[0].element_size() if func in CONVOLUTIONS else 0
        if self.now + beside > self.peak:
            self._sweep()
            self.peak = max(self.peak, self.now + beside)
        return out

    def _sweep(self) -> None:
        for key in [k for k, (ref, _) in self._alive.items() if ref.expired()]:
            self.now -= self._alive.pop(key)[1]

    def restart(self) -> None:
        """Forget the peak: the next phase begins."""
        self._sweep()
        self.peak = self.now


class Kernels(TorchFunctionMode):
    """scaled_dot_product_attention as a GPU does it: fused kernels keep no scores; the plain one (`math`) holds them in float32.

    Questions about values ("is all of the mask set?") are answered no: of a padded batch that is true.
    """

    def __init__(self, math: bool):
        super().__init__()
        self.math = math

    def __torch_function__(self, func, types, args=(), kwargs=None):
        if func is torch.Tensor.__bool__ and args[0].device.type == "meta":
            return False
        if func is not torch.nn.functional.scaled_dot_product_attention:
            return func(*args, **(kwargs or {}))
        q, k, v, *rest = args if len(args) >= 3 else [kwargs.pop(n) for n in ("query", "key", "value")]
        mask = rest[0] if rest else (kwargs or {}).get("attn_mask")
        return plain(q, k, v, mask) if self.math else torch.empty((*q.shape[:-1], v.shape[-1]), dtype=q.dtype, device=q.device)


def plain(q, k, v, mask):
    """What torch's plain kernel makes on the way: scaled copies in float32, scores, softmax, and its guard against rows of -inf."""
    scores = (q.float() * 0.1) @ (k.float() * 0.1).transpose(-2, -1)
    if mask is not None:
        scores.add_(mask if mask.dtype != torch.bool else torch.zeros_like(mask, dtype=scores.dtype))
    soft = torch.softmax(scores, -1)
    masked = torch.isneginf(scores)
    soft = torch.where(torch.all(masked, -1, keepdim=True), torch.zeros((), device=soft.device), soft)
    return (soft @ v.float()).to(q.dtype)


@contextlib.contextmanager
def counted(math: bool) -> Iterator[Live]:
    with torch.inference_mode(), Kernels(math), Live() as live:
        yield live
