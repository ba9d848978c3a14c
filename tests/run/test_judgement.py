"""Whose fault an error is, by the texts that torch and drivers use."""

from concurrent.futures.process import BrokenProcessPool

import pytest
import torch

from synth.captions.llama.engine import EngineError
from synth.errors import DeviceFailed, InputError, Killed, OutOfDeviceMemory, StageBroken, StoreError
from synth.run.judgement import Fault, Memory, TooLarge, breaks, brief, fault_of, is_fatal, judged, memory_told
from synth.run.suspicion import Kills
from tests.fixtures_images import full

TAIL = "the ranks of /m died (torchrun: exit 1)\nlast lines of ranks.log:\n[rank0]: Traceback\n"
POOLS = (  # a worker with CUDA graphs, on a GPU that somebody else uses too
    "torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 768.00 MiB. GPU 0 has a total capacity of 83.05 GiB of which 140.38 MiB "
    "is free. Including non-PyTorch memory, this process has 23.33 GiB memory in use. Of the allocated memory 21.92 GiB is allocated by "
    "PyTorch, with 104.00 MiB allocated in private pools (e.g., CUDA Graphs), and 797.79 MiB is reserved by PyTorch but unallocated."
)


def wrapped(outer: Exception, cause: Exception) -> Exception:
    outer.__cause__ = cause
    return outer


@pytest.mark.parametrize(
    "error",
    [
        RuntimeError("cuDNN error: CUDNN_STATUS_EXECUTION_FAILED"),
        RuntimeError("CUDA error: an illegal memory access was encountered\nCUDA kernel errors might be asynchronously reported"),
        torch.AcceleratorError("CUDA error: uncorrectable ECC error encountered"),
        torch.AcceleratorError("an error of some accelerator"),
        RuntimeError("CUDA error: device-side assert triggered"),
        RuntimeError("CUDA error: CUBLAS_STATUS_EXECUTION_FAILED when calling `cublasSgemm( handle, opa, opb)`"),
        RuntimeError("HIP error: the operation cannot be performed in the present state"),
        RuntimeError("miopenStatusUnknownError"),
        torch.distributed.DistBackendError("NCCL error in: ProcessGroupNCCL.cpp:77, unhandled system error"),
        RuntimeError("Triton Error [CUDA]: an illegal memory access was encountered"),
        RuntimeError("CUDA error: no kernel image is available for execution on the device"),
        EngineError(TAIL + "torch.AcceleratorError: CUDA error: unspecified launch failure"),
        wrapped(InputError("/m: diffusers cannot load it"), RuntimeError("CUDA error: unknown error")),
    ],
)
def test_a_device_that_failed_ends_the_worker_and_is_no_unit_s_fault(error):
    assert fault_of(error) is Fault.DEVICE
    end = judged(error, fitted=True)
    assert isinstance(end, DeviceFailed) and end.sticky and end.__cause__ is error and is_fatal(end) and not breaks(end)
    assert judged(end) is end


@pytest.mark.parametrize(
    "error",
    [
        RuntimeError("cuDNN error: CUDNN_STATUS_NOT_SUPPORTED. This error may appear if you passed in a non-contiguous input."),
        RuntimeError("CUDA error: CUBLAS_STATUS_INVALID_VALUE when calling `cublasGemmEx`"),
        RuntimeError("mat1 and mat2 shapes cannot be multiplied"),
        ValueError("a caption about a CUDA error"),
        StageBroken("the server was closed"),
        RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes. Error code 12"),
        OutOfDeviceMemory("a batch does not fit on the device: lower images.batch_size (MemoryError)"),
        wrapped(OutOfDeviceMemory("does not fit"), MemoryError("no room")),
        MemoryError("Unable to allocate 1.2 GiB for an array with shape (3,)"),
        KeyError("x"),
    ],
)
def test_what_a_unit_or_its_host_met_is_reported_as_ever(error):
    assert fault_of(error) is Fault.UNIT and judged(error) is error and not is_fatal(error)
    assert breaks(error) is isinstance(error, (StageBroken, OutOfDeviceMemory))


def test_bad_input_and_a_full_disk_keep_their_meaning():
    assert fault_of(InputError("x")) is Fault.INPUT and fault_of(StoreError("x")) is Fault.MACHINE
    assert fault_of(OSError(28, "No space left on device")) is Fault.MACHINE
    assert all(judged(e) is e and is_fatal(e) for e in (InputError("x"), StoreError("x")))


MEMORY = [
    torch.OutOfMemoryError(full(80, ours=78)),
    wrapped(OutOfDeviceMemory("does not fit: lower images.batch_size"), torch.OutOfMemoryError(full(80, ours=78))),
    OutOfDeviceMemory(f"out of device memory: lower captioner.max_batch_size\n[rank0]: torch.OutOfMemoryError: {full(80, ours=78)}"),
    EngineError(TAIL + f"torch.OutOfMemoryError: {full(80, ours=78)}\nNCCL error in the other rank"),
    wrapped(InputError("/m: transformers cannot load it"), torch.OutOfMemoryError(full(80, ours=78))),
]


@pytest.mark.parametrize("error", MEMORY)
def test_a_planned_batch_that_does_not_fit_on_a_free_device_is_the_plan_s_fault(error):
    assert fault_of(error) is Fault.MEMORY and breaks(error)
    end = judged(error, planned=80)
    assert isinstance(end, TooLarge) and is_fatal(end) and "80.0 GiB" in str(end) and judged(end) is end
    assert judged(error, planned=80, fitted=True) is error  # batches did fit: this unit has something of its own


@pytest.mark.parametrize("fitted", [True, False])
@pytest.mark.parametrize(
    ("text", "planned", "said"),
    [
        (full(80, ours=30), None, "others hold 49.9 of the device's 80.0 GiB"),
        (POOLS, None, "others hold 60.2 of the device's 83.0 GiB"),
        (full(23.5, ours=23), 80, "the device has 25.2 GB, and the stage was planned for 80 GB"),
    ],
)
def test_a_device_that_is_smaller_or_not_free_is_the_device_s_fault(text, planned, said, fitted):
    end = judged(torch.OutOfMemoryError(text), planned, fitted)
    assert isinstance(end, DeviceFailed) and said in str(end) and not end.sticky


@pytest.mark.parametrize(
    "text", ["CUDA error: out of memory", "CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"]
)
def test_memory_is_asked_of_torch_where_the_text_does_not_say_it(text, monkeypatch):
    assert isinstance(judged(RuntimeError(text)), DeviceFailed) and "is not known" in str(judged(RuntimeError(text)))
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda: (1 << 30, 80 << 30))
    monkeypatch.setattr(torch.cuda, "memory_reserved", lambda: 78 << 30)
    assert isinstance(judged(RuntimeError(text)), TooLarge)
    monkeypatch.setattr(torch.cuda, "memory_reserved", lambda: 40 << 30)
    assert "others hold 39.0" in str(judged(RuntimeError(text)))


def test_torch_s_message_is_read_with_its_units():
    assert memory_told(full(24, free=0.5, ours=20)) == Memory(24, 0.5, 20)
    assert memory_told(POOLS).ours == pytest.approx(21.92 + 797.79 / 1024)
    assert memory_told("CUDA out of memory. Tried to allocate 2 GiB") is None


def test_an_error_in_one_line_has_the_telling_line_of_a_child_s_log():
    assert brief(EngineError(TAIL + "RuntimeError: CUDA error: unknown error\nmore")) == (
        "EngineError: the ranks of /m died (torchrun: exit 1) ... RuntimeError: CUDA error: unknown error"
    )
    assert brief(ValueError()) == "ValueError: "


def test_a_process_that_somebody_else_killed_is_no_unit_s_fault_and_no_device_s():
    """The other ranks only miss it, whatever NCCL makes of that."""
    error = Killed(TAIL + "killed by SIGKILL\ntorch.distributed.DistBackendError: NCCL error, remote process exited")
    pool = wrapped(RuntimeError("CUDA error while compiling"), BrokenProcessPool("A process in the process pool was terminated abruptly"))
    for e in (error, pool):
        assert fault_of(e) is Fault.CHILD and judged(e, planned=80) is e and breaks(e) and not is_fatal(e)
    last = [Kills() for _ in range(2)]
    assert [last[0].another(error) for _ in range(2)] == [error] * 2
    end = last[0].another(error)
    assert is_fatal(end) and "3 times in a row" in str(end) and "killed by SIGKILL" in str(end)
    for _ in range(5):  # with batches in between it may go on
        last[1].made()
        assert last[1].another(error) is error
