"""OpenCV and pycocotools, imported when they are used; whoever lacks them is told what to install."""

import functools
import importlib
from types import ModuleType

from synth.errors import InputError


@functools.cache
def cv2() -> ModuleType:
    """OpenCV on the caller's thread alone: a worker has one core, and images are warped in several threads."""
    module = _imported("cv2")
    module.setNumThreads(0)
    return module


@functools.cache
def coco_masks() -> ModuleType:
    """pycocotools.mask"""
    return _imported("pycocotools.mask")


def _imported(name: str) -> ModuleType:
    try:
        return importlib.import_module(name)
    except ImportError as e:
        raise InputError(f"recipe=tracking needs {name.partition('.')[0]} ({e}): pip install synthset[tracking]") from e
