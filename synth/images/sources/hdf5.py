"""HDF5 files with pictures, in the two layouts of our export, listed with the place of each picture: workers read without HDF5.

keyed: a dataset of uint8 a picture, called like its file; what our export knows of it stands in the manifest.parquet beside.
packed: `images`, `labels`, `captions`, `keys`, with the classes in the file's attributes; content=pixels holds values, others files.
What lies in another file, by links or as a view, is refused by name.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from h5py import h5d, h5i, h5z

from synth.errors import InputError
from synth.images.sources.base import BYTES, DEFLATED, MANIFEST, MAX_PIXELS, PIXELS, Input, Packed, SourceClass, too_large
from synth.images.sources.class_folders import CLASSES, known_classes
from synth.images.sources.packed import SUFFIXES, PackedReader, apart
from synth.images.sources.row_groups import opened
from synth.store.hdf5 import Hdf5File, NoFilter, Refused, place, reading
from synth.store.trees import can_decode, is_picture, plain, suffix_of

ROWS = 4096  # of the small columns that are in memory at once
WANTED = "wanted: a dataset of uint8 a picture, called like its file (12.png), or images, labels, captions, keys as export.hdf5 writes them"
NOT_PLAIN = "does not lie in the file in one piece, as bytes: h5repack -l CONTI -f NONE makes it so"
NO_IMAGE = "is no row of bytes (uint8)"
_COLUMNS = ("images", "labels", "captions", "keys")


@dataclass(frozen=True)
class Known:
    """What the manifest of an export says of a picture."""

    classes: tuple[SourceClass, ...]
    caption: str


class Hdf5Reader(PackedReader):
    suffixes = SUFFIXES["hdf5"]

    def __iter__(self) -> Iterator[Input]:
        for name, path in self.files():
            identity = self.identify(path)
            with Hdf5File(path, self.key) as file, reading(path):
                if h5i.get_file_id(file.root).get_create_plist().get_userblock():
                    raise InputError(f"{self.key}: {path}: begins with a block of something else (a user block): take it off (h5unjam)")
                listed = self._packed if file.attributes().get("layout") == "packed" else self._keyed
                yield from listed(name, path, file, identity)

    # -- keyed -------------------------------------------------------------------------------------------------------

    def _keyed(self, name: str, path: Path, file: Hdf5File, identity: str) -> Iterator[Input]:
        known = self._manifest(path)
        for c in known_classes(path.parent / CLASSES).values():
            self.number(c)  # a class of an export is a class without pictures too
        n = 0
        for dataset_name in file.names():
            dataset = dataset_name.decode("utf-8", "surrogateescape")
            if not is_picture(dataset):
                self.unread.other(f"{name}/{dataset}")
                continue
            n += 1
            if not can_decode(suffix := suffix_of(dataset)):
                self.unread.undecoded[suffix] += 1
                continue
            offset, size, reason = self._place(file, dataset_name)
            said = known.get(dataset, Known((), ""))
            labels = tuple(self.number(c) for c in said.classes)
            key = plain(f"{name}/{dataset}")
            yield Input(key, name, size, offset, labels, said.caption, reason, packed=Packed(identity, BYTES))
        if not n:
            there = ", ".join(plain(d.decode("utf-8", "surrogateescape")) for d in list(file.names())[:8])
            raise InputError(f"{self.key}: {path}: holds {there or 'nothing'}, and no picture; {WANTED}")

    def _place(self, file: Hdf5File, name: bytes) -> tuple[int, int, str]:
        """(offset in the file, bytes, why it cannot be used) of a picture's dataset. NoFilter if nothing here unpacks it."""
        try:
            dataset = file.dataset(name)
        except NoFilter:
            raise
        except Refused as e:
            return 0, 0, e.reason
        if dataset is None or dataset.rank != 1 or dataset.dtype != np.uint8:
            return 0, 0, NO_IMAGE
        size = dataset.shape[0]
        if why := too_large(size):
            return 0, size, why
        offset = place(dataset)
        return (0, size, NOT_PLAIN) if offset is None else (offset, size, "")

    def _manifest(self, path: Path) -> Mapping[str, Known]:
        """dataset -> what the manifest of the export says of it; {} where there is none beside the file."""
        manifest = path.parent / MANIFEST
        if not manifest.is_file():
            self.notes.append(f"there is no {MANIFEST} beside {path}, which has classes and captions: its pictures have none")
            return {}
        known, start = {}, f"{path.name}/"
        with opened(manifest, self.key) as table:
            wanted = ["file", "label", "class", "caption"]
            if missing := [c for c in wanted if c not in table.schema_arrow.names]:
                raise InputError(
                    f"{self.key}: {manifest}: has no column {missing[0]!r}, so it is of no export; remove it, or put back its own"
                )
            for batch in table.iter_batches(ROWS, columns=wanted, use_threads=False):
                for row in batch.to_pylist():
                    if isinstance(row["file"], str) and row["file"].startswith(start):
                        known[row["file"].removeprefix(start)] = self._known(row, manifest)
        return known

    def _known(self, row: Mapping[str, Any], manifest: Path) -> Known:
        label, name, caption = row["label"], row["class"], row["caption"] if self.captions else None
        if not (isinstance(label, int | None) and isinstance(name, str | None) and isinstance(caption, str | None)) or (label or 0) < 0:
            raise InputError(f"{self.key}: {manifest}: label, class or caption of {row['file']!r} is none; remove it, or put back its own")
        classes = () if label is None else (SourceClass(label, name if name is not None else str(label)),)
        return Known(classes, (caption or "").strip())

    # -- packed ------------------------------------------------------------------------------------------------------

    def _packed(self, name: str, path: Path, file: Hdf5File, identity: str) -> Iterator[Input]:
        where, there = f"{self.key}: {path}", file.columns()
        numbers = self._classes(file.attributes(), where)
        if missing := [c for c in _COLUMNS if c not in there]:
            raise InputError(f"{where}: has the columns {', '.join(there)}, and no {missing[0]}; {WANTED}")
        n, size = there["labels"].size or 0, path.stat().st_size
        if n > size:  # rows that were never written take no room: a few KB may tell of billions
            raise InputError(f"{where}: tells of {n:,} pictures in {size:,} bytes; copy or make the file again")
        _judge(there, n, where)
        places = _files_in(there, n, where) if "offsets" in there else _values_in(there["images"], n, where)
        taken = set[str]()
        for start in range(0, n, ROWS):
            stop = min(n, start + ROWS)
            labels = there["labels"][start:stop].tolist()
            keys = there["keys"].asstr(errors="replace")[start:stop].tolist()
            captions = there["captions"].asstr(errors="replace")[start:stop].tolist() if self.captions else [""] * len(keys)
            for row, (label, key, caption) in enumerate(zip(labels, keys, captions, strict=True), start):
                offset, size, form, reason = next(places)
                number = numbers.get(label)
                wrong = "" if number is not None or label < 0 else f"has label {label}, which is no class of its file"
                classes = () if number is None else (number,)
                packed = Packed(identity, form)
                spoken = plain(f"{name}/{apart(key or str(row), row, taken)}")
                yield Input(spoken, name, size, offset, classes, caption.strip(), reason or wrong, packed=packed)

    def _classes(self, attributes: Mapping[str, object], where: str) -> dict[int, int]:
        """official index -> class number of the reader."""
        indices, names = attributes.get("class_indices"), attributes.get("class_names")
        if not (isinstance(indices, np.ndarray) and isinstance(names, np.ndarray) and indices.dtype.kind in "iu" and indices.ndim == 1):
            raise InputError(f"{where}: its attributes class_indices and class_names list no classes; {WANTED}")
        if indices.shape != names.shape or not all(isinstance(n, str) for n in names) or (indices < 0).any():
            raise InputError(f"{where}: its attributes class_indices and class_names do not belong together; {WANTED}")
        if len(set(indices.tolist())) < len(indices):
            raise InputError(f"{where}: its attribute class_indices holds an index twice, so a label is of two classes; {WANTED}")
        return {index: self.number(SourceClass(index, name)) for index, name in zip(indices.tolist(), names.tolist(), strict=True)}


def _judge(there: Mapping[str, h5py.Dataset], n: int, where: str) -> None:
    """InputError for columns that are not a value a picture, or of another type."""
    fits = {
        "labels": lambda d: d.dtype.kind in "iu",
        "captions": lambda d: h5py.check_string_dtype(d.dtype) is not None,
        "keys": lambda d: h5py.check_string_dtype(d.dtype) is not None,
    }
    for name, of_type in fits.items():
        column = there[name]
        if column.shape != (n,) or not of_type(column):
            raise InputError(
                f"{where}: {name} is {column.dtype} {column.shape}, expected one {'number' if name == 'labels' else 'text'} a picture"
            )
    if there["images"].dtype != np.uint8:
        raise InputError(f"{where}: images is of {there['images'].dtype}, expected uint8; {WANTED}")


def _files_in(there: Mapping[str, h5py.Dataset], n: int, where: str) -> Iterator[tuple[int, int, str, str]]:
    """(offset, bytes, form, why it cannot be used) of files back to back."""
    images, offsets = there["images"], there["offsets"]
    if offsets.shape != (n + 1,) or offsets.dtype.kind not in "iu" or images.ndim != 1:
        raise InputError(f"{where}: offsets is {offsets.dtype} {offsets.shape} for {n} pictures, expected {n + 1} numbers; {WANTED}")
    at = place(images.id) if images.shape[0] else 0
    if at is None:
        raise InputError(f"{where}: images {NOT_PLAIN}")
    for start in range(0, n, ROWS):
        ends = [int(v) for v in offsets[start : start + ROWS + 1]]
        for first, end in pairwise(ends):
            if not 0 <= first <= end <= images.shape[0]:
                raise InputError(f"{where}: offsets leads from {first} to {end} in {images.shape[0]} bytes; copy or make the file again")
            yield at + first, end - first, BYTES, too_large(end - first)


def _values_in(images: h5py.Dataset, n: int, where: str) -> Iterator[tuple[int, int, str, str]]:
    """The same of values, N, H, W, 3: in one piece, or a chunk a picture, plain or gzip'd."""
    if images.ndim != 4 or images.shape[0] != n or images.shape[3] != 3:
        raise InputError(
            f"{where}: images has the shape {images.shape} for {n} pictures, expected N, H, W, 3, or offsets beside it; {WANTED}"
        )
    _, height, width, _ = images.shape
    size, wrong = height * width * 3, _too_many(width, height)
    form = f"{width}x{height}"
    if (at := place(images.id)) is not None:
        for row in range(n):
            yield at + row * size, size, f"{PIXELS} {form}", wrong
        return
    created = images.id.get_create_plist()
    filters = [created.get_filter(i)[0] for i in range(created.get_nfilters())]
    if created.get_layout() != h5d.CHUNKED or images.chunks != (1, *images.shape[1:]) or filters not in ([], [h5z.FILTER_DEFLATE]):
        raise InputError(f"{where}: images {NOT_PLAIN}; a chunk a picture, plain or gzip'd, is fine too")
    for row in range(n):
        chunk = images.id.get_chunk_info_by_coord((row, 0, 0, 0))
        if chunk.byte_offset is None:
            yield 0, 0, f"{PIXELS} {form}", "has no values in the file"
            continue
        packed = DEFLATED if filters and not chunk.filter_mask else PIXELS
        yield chunk.byte_offset, chunk.size, f"{packed} {form}", wrong or too_large(chunk.size)


def _too_many(width: int, height: int) -> str:
    """The reason for values of a picture that is refused unread; "" if its size is fine."""
    if width * height > MAX_PIXELS:
        return f"too large: {width} x {height} pixels, {MAX_PIXELS:,} at most"
    return too_large(width * height * 3)
