"""The two layouts of an HDF5 file of pictures, and how a list of pictures becomes one file.

keyed: `<key>.<ext>`, one dataset of uint8 [bytes] a picture, holding the encoded file.
packed, content=bytes: `images` uint8 [all bytes], encoded files back to back; picture i is images[offsets[i]:offsets[i+1]].
packed, content=pixels: `images` uint8 [N, H, W, 3], one picture a chunk, gzip'd if asked for.
Packed files also have `labels` int64 [N] (official indices), `captions` and `keys` (UTF-8) [N], and the attributes `layout`, `content`,
`class_names` and `class_indices`.
"""

import hashlib
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import h5py
import numpy as np
from h5py import h5d, h5p, h5s

from synth.errors import InputError
from synth.export.config import PACKED, PIXELS
from synth.export.hdf5.file import UINT8, NewFile, new_file, plain, pwrite
from synth.store.inside import misplaced
from synth.store.trees import Undecodable, decoded

TEXT = h5py.string_dtype("utf-8")


@dataclass(frozen=True)
class Item:
    """A picture to be written. `read` gives the bytes of its file, `size` of them; `digest` their sha256, where it may be known already."""

    name: str  # of its dataset in a keyed file
    key: str
    size: int
    read: Callable[[], bytes]
    label: int = 0
    caption: str = ""
    digest: Callable[[], str] | None = None

    def sha256(self, data: bytes) -> str:
        """Of its bytes, which `read` gave."""
        return self.digest() if self.digest else hashlib.sha256(data).hexdigest()


Items = Callable[[], Iterable[Item]]  # the same items in the same order at each call
Row = tuple[str, int, int, str]  # key, size, label and caption of an item


def row_of(item: Item) -> Row:
    return item.key, item.size, item.label, item.caption


def write_keyed(path: Path, items: Items) -> Iterator[str]:
    """Write a keyed file; yields the sha256 of each picture's file when it is written. Whole when exhausted."""
    with new_file(path) as new:
        properties = plain()
        for item in items():
            data = item.read()
            put(new.h5, item.name, data, properties)
            new.check()
            yield item.sha256(data)


def put(f: h5py.File, name: str, data: bytes, properties: h5p.PropDCID) -> None:
    """One dataset of bytes; a name with / stands in groups. Who takes the file apart makes files of such names."""
    if why := misplaced(name, foreign=True):
        raise InputError(f"dataset {ascii(name)[:200]} {why}; mend the name where it comes from")
    lcpl = h5p.create(h5p.LINK_CREATE)
    lcpl.set_create_intermediate_group(True)
    where = name.encode("utf-8", "surrogateescape")
    dataset = h5d.create(f.id, where, UINT8, h5s.create_simple((len(data),)), properties, lcpl)
    if data:
        dataset.write(h5s.ALL, h5s.ALL, np.frombuffer(data, np.uint8))


def write_packed(
    path: Path, items: Items, classes: Mapping[int, str], content: str, gzip: int, listed: Sequence[Row] | None = None
) -> Iterator[str]:
    """The same for a packed file. listed: the rows of the items, where they are known: `items` is called once then, and an item of another
    row is an InputError."""
    listed = [row_of(item) for item in items()] if listed is None else listed
    with new_file(path) as new:
        f = new.h5
        describe(f, classes, content)
        column(f, "labels", np.array([row[2] for row in listed], np.int64))
        for name, at in (("captions", 3), ("keys", 0)):
            column(f, name, np.array([encodable(row[at]) for row in listed], object), TEXT)
        if content == PIXELS:
            yield from _pixels(new, _as_listed(items(), listed), len(listed), gzip)
            return
        offsets = np.concatenate([[0], np.cumsum([row[1] for row in listed], dtype=np.uint64)]).astype(np.uint64)
        column(f, "offsets", offsets)
        at = contiguous(f, "images", int(offsets[-1]))
        new.close_h5()
        for item in _as_listed(items(), listed):
            data = item.read()
            pwrite(new.fd, data, at)
            at += len(data)
            yield item.sha256(data)


def _as_listed(items: Iterable[Item], listed: Sequence[Row]) -> Iterator[Item]:
    for item, row in zip(items, listed, strict=True):
        if row_of(item) != row:
            raise InputError(f"picture {item.key}: its record was read in two ways; verify --deep on its stage tells more")
        yield item


def describe(f: h5py.File, classes: Mapping[int, str], content: str) -> None:
    f.attrs["layout"], f.attrs["content"] = PACKED, content
    f.attrs.create("class_indices", np.array(sorted(classes), np.int64))
    f.attrs.create("class_names", np.array([encodable(classes[i]) for i in sorted(classes)], object), dtype=TEXT)


def column(f: h5py.File, name: str, values: np.ndarray, dtype=None) -> None:
    """A small dataset, one value a picture."""
    f.create_dataset(name, data=values, dtype=dtype, track_times=False)


def contiguous(f: h5py.File, name: str, size: int) -> int:
    """Make room for `size` bytes in one piece; its offset in the file."""
    dataset = h5d.create(f.id, name.encode(), UINT8, h5s.create_simple((size,)), plain())
    return dataset.get_offset() if size else 0


def pixel_properties(shape: tuple[int, int, int], gzip: int) -> h5p.PropDCID:
    properties = h5p.create(h5p.DATASET_CREATE)
    properties.set_obj_track_times(False)
    properties.set_chunk((1, *shape))
    properties.set_fill_time(h5d.FILL_TIME_NEVER)
    if gzip:
        properties.set_deflate(gzip)
    return properties


def _pixels(new: NewFile, items: Iterable[Item], n: int, gzip: int) -> Iterator[str]:
    f, dataset, shape = new.h5, None, (0, 0, 3)
    for row, item in enumerate(items):
        data = item.read()
        pixels = _decoded(data, item.key)
        if dataset is None:
            shape = pixels.shape
            dataset = h5d.create(f.id, b"images", UINT8, h5s.create_simple((n, *shape)), pixel_properties(shape, gzip))
        if pixels.shape != shape:
            raise InputError(
                f"picture {item.key} has {pixels.shape[1]}x{pixels.shape[0]} pixels, the first one {shape[1]}x{shape[0]}; "
                "pictures of several sizes need export.hdf5.content=bytes"
            )
        chunk = zlib.compress(pixels.tobytes(), gzip) if gzip else pixels.tobytes()
        dataset.write_direct_chunk((row, 0, 0, 0), chunk)
        new.check()
        yield item.sha256(data)
    if dataset is None:
        f.create_dataset("images", shape=(0, *shape), dtype=np.uint8, track_times=False)


def _decoded(data: bytes, key: str) -> np.ndarray:
    try:
        return np.asarray(decoded(data, "RGB"))
    except Undecodable as e:
        raise InputError(f"picture {key} cannot be decoded ({e.why}); verify --deep on its stage tells more") from e


def encodable(text: str) -> str:
    """Text without what HDF5's UTF-8 strings cannot hold: lone surrogates, and NUL, which ends them."""
    return text.encode("utf-8", "replace").decode().replace("\0", " ")
