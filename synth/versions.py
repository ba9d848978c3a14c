"""Versions of what computes, for people who read stage.json and events. Not part of any fingerprint."""

import platform
import zlib
from functools import cache
from importlib.metadata import PackageNotFoundError, version

PACKAGES = ("synthset", "torch", "diffusers", "transformers", "numpy", "pillow")


@cache
def versions() -> dict[str, str]:
    """name -> version of the installed packages, without importing them."""
    installed = {"python": platform.python_version(), "zlib": zlib.ZLIB_RUNTIME_VERSION}  # zlib: it packs the PNGs
    for name in PACKAGES:
        try:
            installed[name] = version(name)
        except PackageNotFoundError:
            continue
    return installed
