"""Loading a diffusers pipeline from a local folder: offline, quiet, with the dtype and layout that the numerics say."""

import contextlib
import os
import warnings
from collections.abc import Iterator, Mapping

from synth import numerics
from synth.errors import InputError, OutOfDeviceMemory
from synth.images.families import Family, SampleConfig, family_class
from synth.images.model_folder import ModelFolder
from synth.images.schedulers import DEFAULT, make_scheduler


def device():
    """The device that a worker computes on: its first visible GPU, else the CPU."""
    import torch

    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def dtype_of(name: str, on):
    """torch dtype of numerics["dtype"]; auto = bfloat16 where the device multiplies it natively, else float16 on a GPU, float32 on a CPU."""
    import torch

    if name == "auto":
        if on.type == "cpu":
            return torch.bfloat16 if _cpu_has_bfloat16() else torch.float32
        return torch.bfloat16 if torch.cuda.is_bf16_supported() else torch.float16
    if not isinstance(found := getattr(torch, name, None), torch.dtype):
        msg = f"numerics.dtype={name!r}: use float32, bfloat16, float16 or auto"
        raise InputError(msg)
    return found


def open_family(model: ModelFolder, config: SampleConfig, settings: Mapping, batch: int) -> Family:
    """A judged model, loaded and ready to draw `config`'s pictures in batches of `batch`. `settings` = the stage's numerics."""
    family = family_class(model.pipeline)
    parts = {name: load(part, DEFAULT, settings, config.model.dtype) for name, part in model.parts.items()}
    return family(load(model, config.scheduler, settings, config.model.dtype), config, batch, parts)


def _cpu_has_bfloat16() -> bool:
    """Whether the CPU has matrix instructions for it: 1.4 times faster with the embedded model, and slower without them."""
    try:
        with open("/proc/cpuinfo", encoding="ascii", errors="replace") as f:
            return any(flag in line.split() for line in f if line.startswith("flags") for flag in ("avx512_bf16", "amx_bf16"))
    except OSError:
        return False


def load(model: ModelFolder, scheduler: str, settings: Mapping, dtype: str = "auto"):
    """The pipeline of a checked folder, ready to draw. `settings` = the stage's numerics, applied before anything is loaded.

    Safety checkers are left out (None), so no picture is silently replaced by a black one. Raises InputError for a folder
    that diffusers refuses, OutOfDeviceMemory when the weights do not fit.
    """
    os.environ["HF_HUB_OFFLINE"] = "1"  # compute nodes have no network; a missing file must fail at once, not time out
    numerics.apply(settings)
    import torch

    diffusers = _quiet_diffusers()
    on = device()
    index = (model.path / "model_index.json").read_text(encoding="utf-8")
    extras = {"safety_checker": None, "requires_safety_checker": False} if '"safety_checker"' in index else {}
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", FutureWarning)  # torch_dtype is called dtype in newer diffusers; both take this name
            pipe = diffusers.DiffusionPipeline.from_pretrained(
                str(model.path), local_files_only=True, torch_dtype=dtype_of(settings["dtype"], on), **extras
            )
    except (OSError, ValueError, KeyError, TypeError, AttributeError, ImportError, RuntimeError) as e:
        if isinstance(e, torch.OutOfMemoryError):
            raise
        msg = f"{model.path}: diffusers cannot load it ({type(e).__name__}: {e}); fetch the model again or install what it names"
        raise InputError(msg) from e
    pipe.set_progress_bar_config(disable=True)
    with out_of_memory("the model does not fit on the device: choose a smaller model.id or a GPU with more memory"):
        pipe = pipe.to(on)
    if "scheduler" in model.components:
        pipe.scheduler = make_scheduler(scheduler, pipe.scheduler)
    return pipe


def _quiet_diffusers():
    """The diffusers module, without progress bars and warnings: one a truncated caption would fill the log."""
    import transformers

    transformers.utils.logging.set_verbosity_error()  # first: importing diffusers makes it warn of what we do not use
    transformers.utils.logging.disable_progress_bar()
    import diffusers

    diffusers.utils.logging.set_verbosity_error()
    diffusers.utils.logging.disable_progress_bar()
    return diffusers


@contextlib.contextmanager
def out_of_memory(advice: str) -> Iterator[None]:
    """Turn torch's out-of-memory errors, of a GPU or of the CPU's allocator, into OutOfDeviceMemory with advice."""
    import torch

    try:
        yield
    except (torch.OutOfMemoryError, MemoryError, RuntimeError) as e:
        text = str(e)
        signs = ("out of memory", "can't allocate memory", "STATUS_ALLOC_FAILED")  # of CUDA, the CPU's allocator, cuBLAS and cuDNN
        if isinstance(e, (torch.OutOfMemoryError, MemoryError)) or any(sign in text for sign in signs):
            first = text.splitlines()[0] if text else type(e).__name__
            raise OutOfDeviceMemory(f"{advice} ({first})") from e
        raise
