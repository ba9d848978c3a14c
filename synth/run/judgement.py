"""Whose fault an error is: the unit's, the device's, the plan's, the machine's or the input's. Imports no torch.

    fault         the worker
    UNIT          reports it, goes on, and tries the unit again
    MEMORY        asks `out_of_memory` whether it is the unit's, the device's or the plan's
    DEVICE        leaves at once with 75: CUDA forgives nothing in a process that met such an error
    CHILD         starts the killed process anew and goes on, a few times; then it leaves with 75
    MACHINE       leaves with 75: the disk, or a service
    INPUT         leaves with 65

`judged` turns an error into what the worker does with it.
"""

import enum
import re
import sys
import traceback
from collections.abc import Iterator
from dataclasses import dataclass

from synth.errors import DeviceFailed, InputError, Killed, OutOfDeviceMemory, StageBroken, refused

# what torch's own checks begin their messages with (ATen/cuda/Exceptions.h, ATen/miopen/Exceptions.h), and what drivers say
DEVICE_SIGNS = (
    *("CUDA error", "CUDA driver error", "HIP error", "Triton Error [", "cuDNN error", "MIOpen Error", "miopenStatus", "NCCL error"),
    *("CUBLAS_STATUS", "HIPBLAS_STATUS", "cusolver error", "device-side assert", "uncorrectable ECC", "GPU has fallen off the bus"),
)
ASKED_WRONG = ("STATUS_NOT_SUPPORTED", "STATUS_BAD_PARAM", "STATUS_INVALID_VALUE")  # of such a library: about the call, not the device
FULL_DEVICE = (
    *("CUDA out of memory", "HIP out of memory", "error: out of memory", "]: out of memory", "OutOfMemoryError"),
    *("STATUS_ALLOC_FAILED", "DEVICE_ALLOCATION_FAILED"),
)
FULL_HOST = ("can't allocate memory", "(MemoryError", "bad_alloc", "for an array with shape")  # of torch's CPU allocator, Python and numpy

SPARE = 2.0, 0.1  # GiB, or share of the device, that a process uses beside torch's allocator: context, cuDNN, NCCL
SMALLER = 0.9  # share of the planned memory below which a device is another kind than planned for
_SIZE = r"([\d.]+) (bytes|KiB|MiB|GiB)"
GB_OF_A_GIB = 2**30 / 1e9
_GIB = {"bytes": 1 / 2**30, "KiB": 1 / 2**20, "MiB": 1 / 2**10, "GiB": 1.0}


class Fault(enum.Enum):
    UNIT, MEMORY, DEVICE, CHILD, MACHINE, INPUT = "unit", "memory", "device", "child", "machine", "input"


class TooLarge(InputError):
    """A batch of the planned size does not fit on a device that is as large as planned and free: every unit would fail alike."""


def fault_of(error: BaseException) -> Fault:
    """Whose fault an error is, by itself and by what it was raised from."""
    if any(isinstance(e, (Killed, *_loaded("concurrent.futures.process", "BrokenProcessPool"))) for e in _chain(error)):
        return Fault.CHILD  # whatever the others of its kind, which were left alone, say of their devices
    for e in _chain(error):
        text = str(e)
        if isinstance(e, MemoryError):
            return Fault.UNIT
        if isinstance(e, _loaded("torch", "OutOfMemoryError")):
            return Fault.MEMORY
        if not isinstance(e, (RuntimeError, StageBroken, OutOfDeviceMemory)):
            continue
        if any(sign in text for sign in FULL_HOST):
            return Fault.UNIT
        if any(sign in text for sign in FULL_DEVICE) or (isinstance(e, OutOfDeviceMemory) and e.__cause__ is None):
            return Fault.MEMORY
        signs = isinstance(e, _loaded("torch", "AcceleratorError")) or any(sign in text for sign in DEVICE_SIGNS)
        if signs and not any(sign in text for sign in ASKED_WRONG):
            return Fault.DEVICE
    if isinstance(error, InputError):
        return Fault.INPUT
    return Fault.MACHINE if refused(error) else Fault.UNIT


def is_fatal(error: BaseException) -> bool:
    """Whether an error that `judged` gave back ends the worker, and says nothing about one unit."""
    return isinstance(error, (InputError, DeviceFailed)) or refused(error)


def breaks(error: BaseException) -> bool:
    """Whether the stage must be opened anew behind an error before it is used again."""
    return isinstance(error, (StageBroken, OutOfDeviceMemory)) or fault_of(error) in (Fault.MEMORY, Fault.CHILD)


def judged(error: BaseException, planned: float | None = None, fitted: bool = False) -> BaseException:
    """What an error means to the worker: itself, or DeviceFailed or TooLarge that is raised from it.

    planned: GB of the device that the stage was planned for, if that is known. fitted: a whole batch was computed here before.
    """
    if isinstance(error, (DeviceFailed, TooLarge)):
        return error
    fault, meant = fault_of(error), error
    if fault is Fault.DEVICE:
        meant = DeviceFailed(f"the device cannot be used any more: {brief(error)}", sticky=True)
    elif fault is Fault.MEMORY:
        meant = out_of_memory(error, planned, fitted)
    if meant is not error:
        meant.__cause__ = error
    return meant


def forget_frames(error: BaseException) -> None:
    """Drop the local variables of all frames that an error and its causes came through: tensors, and what holds the model."""
    for e in _chain(error, context=True):
        traceback.clear_frames(e.__traceback__)


def out_of_memory(error: BaseException, planned: float | None, fitted: bool) -> BaseException:
    """The device's fault if it is smaller than planned or others fill it; the unit's if batches did fit; else the plan's.

    Where nothing says how much memory there is, another device shall say whether the plan is at fault.
    """
    memory = next((m for m in map(memory_told, map(str, _chain(error))) if m), None) or _memory_read()
    if memory and planned and memory.total * GB_OF_A_GIB < SMALLER * planned:
        has = f"the device has {memory.total * GB_OF_A_GIB:.1f} GB"
        return DeviceFailed(f"{has}, and the stage was planned for {planned:g} GB: {brief(error)}")
    if memory and memory.others > max(SPARE[0], SPARE[1] * memory.total):
        return DeviceFailed(f"others hold {memory.others:.1f} of the device's {memory.total:.1f} GiB: {brief(error)}")
    if fitted:
        return error
    if memory is None:
        return DeviceFailed(f"out of memory, and how much the device has is not known: {brief(error)}")
    return TooLarge(f"{brief(error)}. The device is free and has {memory.total:.1f} GiB: plan again with less, or take larger devices")


@dataclass(frozen=True)
class Memory:
    """Of a device, in GiB."""

    total: float
    free: float
    ours: float  # of torch's allocator in this process

    @property
    def others(self) -> float:
        """What neither is free nor ours: other processes', and a little of ours that torch does not count."""
        return self.total - self.free - self.ours


def memory_told(text: str) -> Memory | None:
    """What torch's own message of an allocation that failed says (c10/cuda/CUDACachingAllocator.cpp), also in the log of a child.

    >>> memory_told("GPU 0 has a total capacity of 14.50 GiB of which 1.50 GiB is free. Of the allocated memory 0.50 GiB "
    ...             "is allocated by PyTorch, and 512.00 MiB is reserved by PyTorch but unallocated.").others
    12.0
    """
    whole = re.search(rf"has a total capacity of {_SIZE} of which {_SIZE} is free", text)
    ours = re.search(rf"Of the allocated memory {_SIZE} is allocated by PyTorch", text)
    if not (whole and ours):
        return None
    kept = re.search(rf"{_SIZE} is reserved by PyTorch but unallocated", text)
    total, free = _gib(*whole.groups()[:2]), _gib(*whole.groups()[2:])
    return Memory(total, free, _gib(*ours.groups()) + (_gib(*kept.groups()) if kept else 0.0))


def _memory_read() -> Memory | None:
    """The same, asked of torch where this process has it and a GPU."""
    torch = sys.modules.get("torch")
    try:
        if torch is None or not torch.cuda.is_available():
            return None
        free, total = torch.cuda.mem_get_info()
        return Memory(total / 2**30, free / 2**30, torch.cuda.memory_reserved() / 2**30)
    except RuntimeError:  # the driver does not answer any more
        return None


def brief(error: BaseException) -> str:
    """An error in one line: its type, and the line of its text that says what went wrong.

    >>> brief(RuntimeError("CUDA error: an illegal memory access was encountered\\nCUDA kernel errors might be reported later"))
    'RuntimeError: CUDA error: an illegal memory access was encountered'
    """
    lines = [line.strip() for line in str(error).splitlines() if line.strip()] or [""]
    telling = [line for line in lines[1:] if any(s in line for s in (*FULL_DEVICE, *DEVICE_SIGNS))]  # the tail of a child's log
    return f"{type(error).__name__}: {' ... '.join([lines[0], *telling[:1]])}"


def _chain(error: BaseException, context: bool = False) -> Iterator[BaseException]:
    """An error and what it was raised from; context: also what was being handled when it came."""
    seen: set[int] = set()
    e: BaseException | None = error
    while e is not None and id(e) not in seen:
        seen.add(id(e))
        yield e
        e = e.__cause__ or (e.__context__ if context else None)


def _gib(number: str, unit: str) -> float:
    return float(number) * _GIB[unit]


def _loaded(module: str, name: str) -> tuple[type, ...]:
    """A module's class of that name, if this process has loaded the module and it has one."""
    found = getattr(sys.modules.get(module), name, None)
    return (found,) if isinstance(found, type) else ()
