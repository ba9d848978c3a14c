"""Loading a diffusers pipeline from a local folder: offline, quiet, with the dtype and layout that the numerics say."""

import contextlib
import inspect
import os
import pickle
import warnings
from collections.abc import Iterator, Mapping

from synth import loading, numerics
from synth.errors import InputError, OutOfDeviceMemory, not_trouble
from synth.host.gpu import device, half_dtype
from synth.images.config import DrawingConfig
from synth.images.families import Family, family_class
from synth.images.loras import Adapter, Adapters, fuse_loras
from synth.images.model_folder import SAFETY, UNUSED, ModelFolder
from synth.images.safety import SafetyChecker
from synth.images.schedulers import DEFAULT, make_scheduler

TOO_LARGE = "the model does not fit on the device: choose a smaller model or a GPU with more memory"


def dtype_of(name: str, on, own: str = "auto"):
    """torch dtype of numerics["dtype"]; auto = the model's own on a GPU, on a CPU bfloat16 if it multiplies that natively, else float32.

    own: dtype of the model's config. On a GPU without bfloat16 of its own that and auto are float16.
    """
    import torch

    if name == "auto":
        if on.type == "cpu":
            return torch.bfloat16 if own != "float32" and _cpu_has_bfloat16() else torch.float32
        name = own
    if on.type == "cuda" and name in ("auto", "bfloat16"):
        return half_dtype(on)
    if not isinstance(dtype := getattr(torch, name, None), torch.dtype):
        raise InputError(f"numerics.dtype={name!r}: use float32, bfloat16, float16 or auto")
    return dtype


def open_family(model: ModelFolder, config: DrawingConfig, settings: Mapping, batch: int) -> Family:
    """A judged model, loaded and ready to draw `config`'s pictures in batches of `batch`. `settings` = the stage's numerics."""
    family, dtype = family_class(model.pipeline), config.model.dtype
    pipe = load(model, config.scheduler, settings, dtype)
    parts = {}
    for name, folder in model.parts.items():
        part = family.chain[name]
        given = dict.fromkeys(part.without) | {n: getattr(pipe, n) for n in part.shared if _alike(model, folder, n)}
        parts[name] = load(folder, DEFAULT, settings, dtype, given)
    if config.model.lora_weights:
        fuse_loras(pipe, model.loras, config.model.lora_weights)
    adapters = {c.index: Adapter(model.adapters[c.index], c.weight) for c in config.model.of_classes if c.file}
    safety = None
    if config.model.safety_checker != "off":
        on = device()
        with _named(model), loading.complete():
            safety = SafetyChecker(model.path, dtype_of(numerics.on(settings, on.type)["dtype"], on, dtype), on)
    return family(pipe, config, batch, parts, safety, Adapters(pipe, adapters) if adapters else None)


def _cpu_has_bfloat16() -> bool:
    """Whether the CPU has matrix instructions for it: 1.4 times faster with the embedded model, and slower without them."""
    try:
        with open("/proc/cpuinfo", encoding="ascii", errors="replace") as f:
            return any(flag in line.split() for line in f if line.startswith("flags") for flag in ("avx512_bf16", "amx_bf16"))
    except OSError:
        return False


def load(model: ModelFolder, scheduler: str, settings: Mapping, dtype: str = "auto", given: Mapping[str, object] | None = None):
    """The pipeline of a checked folder, ready to draw. `settings` = the stage's numerics, applied before anything is loaded.

    given: components to take instead of the folder's own. Safety checkers and watermarks are left out, so no picture is
    changed in silence. Raises InputError for a folder that diffusers refuses, OutOfDeviceMemory when the weights do not fit.
    """
    os.environ["HF_HUB_OFFLINE"] = "1"  # compute nodes have no network; a missing file must fail at once, not time out
    settings = numerics.apply(settings)
    diffusers = _quiet_diffusers()
    on = device()
    kind = dtype_of(settings["dtype"], on, dtype)
    with _named(model), loading.complete():
        given = dict(given or {})
        if model.vae is not None:
            given["vae"] = diffusers.AutoencoderKL.from_pretrained(str(model.vae), local_files_only=True, torch_dtype=kind)
        family_class(model.pipeline).before_loading()
        cls = getattr(diffusers, model.pipeline)
        arguments = _left_out(model, cls) | given
        if model.checkpoint is not None:
            arguments |= {"config": str(model.path), "local_files_only": True, "torch_dtype": kind}
            pipe = cls.from_single_file(str(model.checkpoint), **arguments)
        else:
            variant = {"variant": model.variant} if model.variant else {}
            with out_of_memory(TOO_LARGE):
                pipe = cls.from_pretrained(
                    str(model.path), local_files_only=True, torch_dtype=kind, **_straight_to(on, cls), **variant, **arguments
                )
    pipe.set_progress_bar_config(disable=True)
    loading.check_filled(str(model.checkpoint or model.path), pipe.components)
    with out_of_memory(TOO_LARGE):
        pipe = pipe.to(on)
    if "scheduler" in model.components:
        pipe.scheduler = make_scheduler(scheduler, pipe.scheduler)
    return pipe


def _straight_to(on, cls) -> dict[str, str]:
    """Arguments of from_pretrained that read weights from their mapped files straight into a GPU's memory.

    Pipelines that load a second one beside themselves cannot.
    """
    return {} if on.type == "cpu" or cls._load_connected_pipes else {"device_map": on.type}


def _left_out(model: ModelFolder, cls) -> dict[str, object]:
    """Arguments that keep safety checkers, watermarks and what text-to-image does not use out of a pipeline."""
    takes = inspect.signature(cls.__init__).parameters
    optional = getattr(cls, "_optional_components", ())
    names = [n for n in UNUSED if n in takes and n in optional and n not in model.components]
    out = {name: None for name in names if model.checkpoint is None or name in SAFETY}
    # a watermark is put on where its package is installed: pictures would depend on the environment
    return out | {k: False for k in ("requires_safety_checker", "add_watermarker") if k in takes}


def _alike(a: ModelFolder, b: ModelFolder, component: str) -> bool:
    """Whether two folders describe one component in the same words, apart from where it came from and who saved it."""

    def words(model: ModelFolder) -> dict:
        config = model.component_config(component)
        return {k: v for k, v in config.items() if k[:1] != "_" and "dtype" not in k and "version" not in k}

    return bool(words(a)) and words(a) == words(b)


@contextlib.contextmanager
def _named(model: ModelFolder) -> Iterator[None]:
    """Turn whatever diffusers says of a folder that it refuses into an InputError that names it."""
    import torch

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", FutureWarning)  # torch_dtype is called dtype in newer diffusers
            yield
    except (OSError, ValueError, KeyError, TypeError, AttributeError, ImportError, RuntimeError, pickle.UnpicklingError) as e:
        if isinstance(e, torch.OutOfMemoryError):
            raise
        what = model.checkpoint or model.path
        not_trouble(what, e)
        if _holds_code(e):
            raise InputError(f"{what}: holds Python objects beside its weights, which are never run; use its .safetensors form") from e
        reason = f"{type(e).__name__}: {(str(e).splitlines() or [''])[0]}"
        raise InputError(f"{what}: diffusers cannot load it ({reason}); fetch the model again or install what it names") from e


def _holds_code(error: BaseException | None) -> bool:
    """Whether torch.load(weights_only=True) refused a pickle somewhere on the way to an error."""
    while error is not None:
        if isinstance(error, pickle.UnpicklingError):
            return True
        error = error.__cause__ or error.__context__
    return False


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
        signs = (
            "out of memory",
            "can't allocate memory",
            "STATUS_ALLOC_FAILED",
        )  # of CUDA, the CPU's allocator, cuBLAS and cuDNN
        if isinstance(e, (torch.OutOfMemoryError, MemoryError)) or any(sign in text for sign in signs):
            first = text.splitlines()[0] if text else type(e).__name__
            raise OutOfDeviceMemory(f"{advice} ({first})") from e
        raise
