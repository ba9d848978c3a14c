"""torch.compile of what a pipeline calls again and again, and where its results are kept."""

import hashlib
import os
import stat
import tempfile
from collections.abc import Iterable, Mapping
from pathlib import Path

from synth.errors import InputError
from synth.images.text_encoders import components

# numerics.compile -> arguments of torch.compile. CUDA graphs are left out: they matter at batch 1, and cost memory
MODES: Mapping[str, Mapping] = {
    "eager": {"backend": "eager"},  # traced but not compiled: for tests of shapes
    "aot_eager": {"backend": "aot_eager"},
    "default": {"mode": "default"},
    "max-autotune": {"mode": "max-autotune-no-cudagraphs"},
}
NONE, AUTO = "none", "auto"
PAYS_FROM = 2000  # pictures of a size in a stage: compiling takes minutes a worker and a size, which few pictures do not win back
DENOISERS = ("unet", "transformer")
SAFE = stat.S_IRWXU  # nobody else may put compiled code where we load it from


def resolve(name: str, device_type: str, slots: int) -> str:
    """A key of MODES, or none. auto: max-autotune on a GPU for stages of PAYS_FROM pictures of a size or more."""
    if name == AUTO:
        return "max-autotune" if device_type == "cuda" and slots >= PAYS_FROM else NONE
    if name != NONE and name not in MODES:
        raise InputError(f"numerics.compile={name!r}: use one of {', '.join((NONE, AUTO, *MODES))}")
    return name


def compile_pipelines(pipes: Iterable, mode: str) -> None:
    """Compile the denoisers and VAE decoders of pipelines in place, for the shapes they will be called with and no others."""
    import torch

    for module in {id(m): m for pipe in pipes for m in _repeated(pipe)}.values():
        module.forward = torch.compile(module.forward, dynamic=False, **MODES[mode])


def _repeated(pipe) -> list:
    parts = components(pipe)
    decoder = getattr(parts.get("vae"), "decoder", None)
    return [parts[n] for n in DENOISERS if n in parts] + ([decoder] if decoder is not None else [])


def keep_results(model_digest: str, device_name: str, versions: Mapping[str, str]) -> Path:
    """Point inductor's and Triton's caches at this node's own folder for this model, device and versions; the folder.

    Node-local, because a shared file system would be asked for thousands of small files; a worker that starts later on the
    same node finds what the first one compiled. A folder that is not ours alone is not used: it holds code that is run.
    """
    what = "\n".join([model_digest, device_name, *(f"{k}={v}" for k, v in sorted(versions.items()))])
    top = Path(tempfile.gettempdir(), f"synthset-compiled-{os.getuid()}")
    top.mkdir(mode=SAFE, exist_ok=True)
    info = top.lstat()
    if not stat.S_ISDIR(info.st_mode) or info.st_uid != os.getuid() or stat.S_IMODE(info.st_mode) & 0o077:
        top = Path(tempfile.mkdtemp(prefix="synthset-compiled-"))
    folder = top / hashlib.sha256(what.encode()).hexdigest()[:16]
    folder.mkdir(mode=SAFE, exist_ok=True)
    os.environ["TORCHINDUCTOR_CACHE_DIR"] = str(folder)
    os.environ["TRITON_CACHE_DIR"] = str(folder / "triton")
    return folder
