"""Sources of pictures: what lies in a folder, listed without decoding a pixel, and how a worker reads it. No torch, no numpy.

A reader lists a layout: iterating over it yields one `Input` a picture, in an order that names alone decide, and it knows its
classes when that is through. What cannot be used is listed too, with its reason, so that nothing goes missing silently.
"""

import importlib
import re
from collections.abc import Mapping
from pathlib import Path

from synth.images.sources.base import KEY, Input, Reader, SourceClass
from synth.store.trees import entries

__all__ = ["LAYOUTS", "Input", "Reader", "SourceClass", "layout_of", "reader"]

LAYOUTS: Mapping[str, str] = {
    "image_folder": "synth.images.sources.image_folder:ImageFolderReader",
    "img2dataset": "synth.images.sources.image_folder:Img2DatasetReader",
    "webdataset": "synth.images.sources.webdataset:WebDatasetReader",
}
_STATS = re.compile(r"\d+_stats\.json")  # what img2dataset leaves beside each shard


def layout_of(root: Path) -> str:
    """The layout of a folder, by the names at its top: "stage", or one of LAYOUTS."""
    if root.is_file():
        return "webdataset"
    names = [e.name for e in entries(root, KEY, hidden=True)]
    if "stage.json" in names:
        return "stage"
    if any(n.endswith(".tar") for n in names):
        return "webdataset"
    return "img2dataset" if any(_STATS.fullmatch(n) for n in names) else "image_folder"


def reader(layout: str, root: Path, captions: bool) -> Reader:
    """The reader of one of LAYOUTS. captions: whether the source's own captions are wanted."""
    module, name = LAYOUTS[layout].split(":")
    return getattr(importlib.import_module(module), name)(root, captions)
