"""Copying what lies in one HDF5 file to another, as it lies there: types, chunks as they are stored, filters, attributes.

Not by HDF5's own copy: that makes references null, and refuses what a newer library wrote.
"""

import itertools
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from h5py import h5d, h5g, h5p, h5s, h5t

from synth.export.hdf5 import beside
from synth.export.hdf5.beside import LeftOut
from synth.export.hdf5.file import plain
from synth.store.hdf5 import Refused


def copy_item(path: Path, item: Any, name: bytes, target: h5g.GroupID, leave: LeftOut, check: Callable[[], None]) -> None:
    """Copy a dataset, or a type that has a name, with its attributes. Refused for references. check: called often."""
    tp = item.get_type() if isinstance(item, h5d.DatasetID) else item
    if beside.refers(tp):
        raise Refused(path, name, beside.refusal(name))
    links = with_groups()
    if not isinstance(item, h5d.DatasetID):
        twin: Any = beside.rebuilt(tp)
        twin.commit(target, name, links)
    else:
        twin = _twin(item, name, target, links)
        _fill(item, twin, check)
    beside.copy_attributes(path, item, twin, name, leave)


def with_groups() -> h5p.PropLCID:
    """Properties of a link by which the groups in its name are made."""
    links = h5p.create(h5p.LINK_CREATE)
    links.set_create_intermediate_group(True)
    return links


def _twin(model: h5d.DatasetID, name: bytes, target: h5g.GroupID, links: h5p.PropLCID) -> h5d.DatasetID:
    """An empty dataset with the type, shape, chunks, filters and fill value of another one."""
    d, old = h5py.Dataset(model), model.get_create_plist()
    properties = properties_like(d)
    if old.fill_value_defined() == h5d.FILL_VALUE_USER_DEFINED and not d.dtype.hasobject:
        value = np.zeros((), d.dtype.base)
        old.get_fill_value(value)
        properties.set_fill_value(value)
    return h5d.create(target, name, beside.rebuilt(model.get_type()), model.get_space().copy(), properties, links)


def _fill(source: h5d.DatasetID, new: h5d.DatasetID, check: Callable[[], None]) -> None:
    """Give a twin what is in the other one."""
    if source.get_space().get_simple_extent_type() == h5s.NULL:
        return
    if not source.rank:
        value = np.zeros((), source.dtype) if source.dtype.subdtype is None else np.zeros(source.dtype.shape, source.dtype.base)
        memory = h5t.py_create(source.dtype)
        source.read(h5s.ALL, h5s.ALL, value, memory)
        new.write(h5s.ALL, h5s.ALL, value, memory)
        return
    ours, theirs = h5py.Dataset(new), h5py.Dataset(source)
    if not chunks_moved(theirs, ours, 0, check):
        slabs_copied(theirs, ours, 0, check)


def properties_like(model: h5py.Dataset) -> h5p.PropDCID:
    """How a dataset like another one lies in a file; in one piece where that one has no chunks."""
    if model.chunks is None and not model.dtype.hasobject and model.shape:
        return plain()
    properties = h5p.create(h5p.DATASET_CREATE)  # not the model's own properties: a newer library's have a version that ours refuses
    properties.set_obj_track_times(False)
    if model.chunks is not None:
        properties.set_chunk(model.chunks)
        for code, flags, values in _filters(model):
            properties.set_filter(code, flags, values)
    return properties


def chunks_moved(source: h5py.Dataset, new: h5py.Dataset, first: int, check: Callable[[], None]) -> bool:
    """Move chunks as they are stored, filters and checksums included; False where they do not fall on chunks of the new dataset."""
    size = source.chunks
    same = size is not None and size == new.chunks and source.id.get_type() == new.id.get_type() and not source.dtype.hasobject
    if not same or first % size[0] or _filters(source) != _filters(new) or (source.shape[0] % size[0] and first + len(source) != len(new)):
        return False
    corners = math.prod(-(-n // c) for n, c in zip(source.shape, size, strict=True))
    if source.id.get_num_chunks() != corners:  # some were never written, and stand for the fill value
        return False
    for corner in itertools.product(*(range(0, n, c) for n, c in zip(source.shape, size, strict=True))):
        mask, data = source.id.read_direct_chunk(corner)
        new.id.write_direct_chunk((first + corner[0], *corner[1:]), data, mask)
        check()
    return True


def _filters(dataset: h5py.Dataset) -> list[tuple]:
    properties = dataset.id.get_create_plist()
    return [properties.get_filter(i)[:3] for i in range(properties.get_nfilters())]


def slabs_copied(source: h5py.Dataset, new: h5py.Dataset, first: int, check: Callable[[], None]) -> None:
    for values in beside.slabs(source):
        new[first : first + len(values)] = values
        first += len(values)
        check()
