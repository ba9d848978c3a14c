"""model.attention_backend: which kernels compute the attention of a denoiser whose code in diffusers lets them be chosen."""

import importlib.util
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from synth.keys import WrongKey


@dataclass(frozen=True)
class Backend:
    """One of diffusers' attention backends. exact: the same bits every time in the forward pass, without choosing among algorithms."""

    package: str = "torch"  # import name
    exact: bool = False
    float32: bool = False


# diffusers' names (AttentionBackendName), without those of other devices and those that fetch code from a hub when they are first used
BACKENDS: Mapping[str, Backend] = {
    "native": Backend(exact=True, float32=True),
    "_native_math": Backend(exact=True, float32=True),
    "_native_efficient": Backend(exact=True, float32=True),
    "_native_flash": Backend(exact=True),
    "_native_cudnn": Backend(),
    "flex": Backend(),
    "flash": Backend("flash_attn"),
    "_flash_3": Backend("flash_attn_3"),
    "sage": Backend("sageattention"),
    "xformers": Backend("xformers"),
}
KEY = "attention_backend"
OWN = "use null, torch's own"


def check_backend(name: str | None, chooses: bool, what: str, numerics: str) -> None:
    """WrongKey if the denoiser of `what` does not ask for a backend, or if one is not what a preset of numerics promises. No torch."""
    if name is None:
        return
    if not chooses:
        raise WrongKey(KEY, name, f"the denoiser of {what} does not let its attention be chosen", OWN, "model")
    backend = BACKENDS[name]
    allowed = {"exact": backend.exact, "reference": backend.exact and backend.float32}.get(numerics, True)
    if not allowed:
        fit = ", ".join(n for n, b in BACKENDS.items() if b.exact and (b.float32 or numerics == "exact"))
        raise WrongKey(KEY, name, f"numerics={numerics} does not promise its bytes", f"use one of {fit}, or numerics=fast", "model")
    check_installed(name)


def check_installed(name: str | None) -> None:
    """WrongKey if the package of a backend is not installed here."""
    if name is not None and importlib.util.find_spec(package := BACKENDS[name].package) is None:
        raise WrongKey(KEY, name, f"needs the package {package}, which is not installed", f"install it, or {OWN}", "model")


def set_backend(denoisers: Iterable, name: str | None) -> None:
    """Let denoisers compute attention with a backend; None: with torch's own, whatever an earlier model of this process was given.

    WrongKey if diffusers refuses it here, or if one of the denoisers has no layer that would ask for it.
    """
    from diffusers.models.attention_dispatch import AttentionBackendName, _AttentionBackendRegistry

    # what layers without one of their own use is a setting of the process, which an environment variable gives too
    _AttentionBackendRegistry.set_active_backend(AttentionBackendName.NATIVE)
    if name is None:
        return
    for module in denoisers:
        try:
            module.set_attention_backend(name)
        except (RuntimeError, ValueError, ImportError) as e:
            raise WrongKey(KEY, name, str(e).splitlines()[0], OWN, "model") from e
        if not any(getattr(p, "_attention_backend", None) == name for p in _processors(module)):
            raise WrongKey(KEY, name, f"no layer of {type(module).__name__} asks for it", OWN, "model")


def _processors(module) -> list:
    return [m.processor for m in module.modules() if getattr(m, "processor", None) is not None]
