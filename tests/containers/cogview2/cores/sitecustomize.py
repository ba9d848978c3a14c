"""Lets CogView2 compute without a GPU, for tests: with this folder on PYTHONPATH, "cuda" is the CPU and NCCL is Gloo.

At its end a process tells whether cuDNN is on.
"""

import atexit
import sys

import torch
import torch.distributed
from torch.overrides import TorchFunctionMode

CPU = torch.device("cpu")


def _here(value):
    return CPU if value == "cuda" or (isinstance(value, torch.device) and value.type == "cuda") else value


class OnCores(TorchFunctionMode):
    """Tensors that are made on, or moved to, a GPU stay here."""

    def __torch_function__(self, function, types, args=(), kwargs=None):
        kwargs = dict(kwargs or {})
        if "device" in kwargs:
            device = kwargs["device"]
            kwargs["device"] = CPU if isinstance(device, int) and not isinstance(device, bool) else _here(device)
        return function(*(_here(a) if isinstance(a, (str, torch.device)) else a for a in args), **kwargs)


def _gloo(backend=None, **more):
    return _init(backend="gloo", **more)


OnCores().__enter__()
_init = torch.distributed.init_process_group
torch.distributed.init_process_group = _gloo
torch.nn.Module.cuda = lambda self, device=None: self
torch.Tensor.cuda = lambda self, *a, **k: self
torch.cuda.is_available = lambda: True
torch.cuda.device_count = lambda: 1
torch.cuda.current_device = lambda: 0
torch.cuda.set_device = lambda device: None
torch.cuda.get_device_capability = lambda device=None: (8, 0)
torch.cuda.get_arch_list = lambda: ["sm_80"]
torch.cuda.manual_seed = torch.cuda.manual_seed_all = lambda seed: None
atexit.register(lambda: print(f"cuDNN is {'on' if torch.backends.cudnn.enabled else 'off'}", file=sys.stderr))
