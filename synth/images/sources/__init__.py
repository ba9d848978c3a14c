"""Sources of pictures: what lies in a folder, listed without decoding a pixel, and how a worker reads it. No torch, no numpy.

A reader lists a layout: iterating over it yields one `Input` a picture, in an order that names alone decide, and it knows its
classes when that is through. What cannot be used is listed too, with its reason, so that nothing goes missing silently.
"""

import importlib
import re
from collections.abc import Mapping, Sequence
from pathlib import Path

from synth.errors import InputError
from synth.images.sources.base import KEY, STATS, Input, Reader, SourceClass
from synth.images.sources.packed import SUFFIXES, packed_layout
from synth.store.trees import entries, is_folder, is_picture_file

__all__ = ["LAYOUTS", "Input", "Reader", "SourceClass", "layout_of", "reader"]

LAYOUTS: Mapping[str, str] = {
    "class_folders": "synth.images.sources.image_folder:ImageFolderReader",
    "image_folder": "synth.images.sources.image_folder:PlainFolderReader",
    "img2dataset": "synth.images.sources.image_folder:Img2DatasetReader",
    "files": "synth.images.sources.image_folder:FilesReader",
    "webdataset": "synth.images.sources.webdataset:WebDatasetReader",
    "parquet": "synth.images.sources.parquet:ParquetReader",
    "hdf5": "synth.images.sources.hdf5:Hdf5Reader",
}
_SHARD = re.compile(r"\d{5,}")
_LOOKED_INTO = 5  # folders with pictures: each may hold 10,000
TABLES = tuple(SUFFIXES)  # layouts of files that hold many pictures, and know their classes without folders
TABLE_SUFFIXES = tuple(suffix for suffixes in SUFFIXES.values() for suffix in suffixes)
NO_LAYOUT = (".arrow", ".lmdb", ".zip", ".gz", ".tgz", ".bz2", ".xz", ".7z", ".rar")


def layout_of(root: Path, key: str = KEY) -> str:
    """The layout of a folder, by what lies at its top: "stage", or one of LAYOUTS. InputError for pictures in files that are no layout.

    key: of the config that names the folder, for errors.
    """
    if root.is_file():
        if root.name.lower().endswith(NO_LAYOUT):
            raise _no_layout(root, root.name, key)
        return next((layout for layout, suffixes in SUFFIXES.items() if root.name.lower().endswith(suffixes)), "webdataset")
    there = entries(root, key)
    names = [e.name for e in there]
    if "stage.json" in names:
        return "stage"
    if any(n.endswith(".tar") for n in names):
        return "webdataset"
    folders = [e.name for e in there if is_folder(e, key)]
    if any(STATS.fullmatch(n) for n in names) or _shards(root, folders, key):
        return "img2dataset"
    if layout := packed_layout(root, key):
        return layout
    packed = next((e.name for e in there if e.name.lower().endswith(NO_LAYOUT)), "")
    if packed and not folders and not any(is_picture_file(e) for e in there):
        raise _no_layout(root, packed, key)
    return "class_folders"


def _shards(root: Path, folders: Sequence[str], key: str) -> bool:
    """Whether folders are img2dataset's shards without their _stats.json: 00012/000120007.jpg, the shard in each picture's name."""
    if not folders or not all(_SHARD.fullmatch(f) for f in folders):
        return False
    looked_into = 0
    for folder in folders:
        stems = (e.name.partition(".")[0] for e in entries(root / folder, key) if is_picture_file(e))
        if stem := next(stems, ""):
            if not (stem.isdecimal() and stem.startswith(folder) and len(stem) > len(folder)):
                return False
            looked_into += 1
            if looked_into == _LOOKED_INTO:
                break
    return looked_into > 0


def _no_layout(root: Path, name: str, key: str) -> InputError:
    return InputError(
        f"{key}: {root}: pictures in {name} cannot be read; a source is class folders, plain tars (WebDataset), Parquet or HDF5 files "
        "or a stage folder: unpack it"
    )


def reader(layout: str, root: Path, captions: bool, key: str = KEY) -> Reader:
    """The reader of one of LAYOUTS. captions: whether the source's own captions are wanted; key: of the config that names the root."""
    module, name = LAYOUTS[layout].split(":")
    return getattr(importlib.import_module(module), name)(root, captions, key)
