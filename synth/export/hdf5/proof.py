"""HDF5 files of pictures against the records of their units: shallow by numbers, deep by every picture's digest, label and caption."""

from collections.abc import Iterable, Iterator
from itertools import islice, repeat
from pathlib import Path

import h5py
import numpy as np

from synth.errors import InputError, not_trouble
from synth.export.config import KEYED
from synth.export.hdf5.items import n_datasets, n_recorded
from synth.export.hdf5.layouts import encodable
from synth.export.sharded import digest_of
from synth.kinds import config_of
from synth.reading.stage import ROLE, StageReader
from synth.run.findings import Check
from synth.store.folder import StageFolder
from synth.store.hdf5 import TORN, Hdf5File
from synth.store.names import classes_of

NUMBERS = 1024  # rows that are compared at once


def problems(path: Path, parts: StageFolder, start: int, stop: int, check: Check) -> Iterator[str]:
    """What is wrong with an HDF5 file of the pictures of slots [start, stop) of a stage of partitions."""
    keyed, count, deep = config_of(parts).layout == KEYED, 0, check.deep
    expected = n_recorded(parts, start, stop) if check.alone else n_datasets(parts, start, stop)
    try:
        with Hdf5File(path) as f:
            there = {} if keyed else f.columns()
            rows = len(f.root) if keyed else len(there["labels"])
            if deep and not keyed and not check.alone and (wrong := _heads(parts, f.attributes())):
                yield wrong
            decoded = deep and not keyed and "offsets" not in there
            pixels = (repeat(None) if check.alone else _decoded(parts, start, stop)) if decoded else None
            for chunk in batched(((s.key, s.json() if deep else {}) for s in parts.samples(start, stop)), NUMBERS):
                if deep:
                    yield from _keyed(f, chunk) if keyed else _rows(there, count, chunk, pixels)
                count += len(chunk)
                check.progress(len(chunk))
            if rows != expected:
                yield f"holds {rows} pictures, its units {expected}"
    except (InputError, *TORN) as e:
        not_trouble(path, e)
        yield f"cannot be read ({type(e).__name__}: {e})"


def _keyed(f, records: list[tuple[str, dict]]) -> Iterator[str]:
    """What is wrong with these pictures in a keyed file."""
    for entry in (s for _, record in records for s in (record, record.get("original")) if s):
        dataset = f.dataset(entry["name"])
        if dataset is None:
            yield f"{entry['name']} is missing"
        elif digest_of(np.asarray(h5py.Dataset(dataset)).tobytes()) != entry["sha256"]:
            yield f"{entry['name']} is not the picture of its unit"


def _heads(folder: StageFolder, attributes: dict) -> str:
    """What is wrong with the classes in the attributes of a packed file."""
    classes = sorted(classes_of(folder).items())
    there = list(zip((int(i) for i in attributes["class_indices"]), attributes["class_names"], strict=True))
    return "" if there == [(i, encodable(n)) for i, n in classes] else "its class names are not those of the dataset"


def _rows(f, first: int, records: list[tuple[str, dict]], pixels: Iterator | None) -> Iterator[str]:
    """What is wrong with these pictures, which begin at row `first` of a packed file. pixels: the pictures from there on, decoded."""
    stop = first + len(records)
    labels = f["labels"][first:stop].tolist()
    captions, keys = (f[name].asstr()[first:stop].tolist() for name in ("captions", "keys"))
    offsets = f["offsets"][first : stop + 1] if pixels is None else None
    for n, (row, (key, record)) in enumerate(zip(range(first, stop), records, strict=True)):
        if n >= min(len(labels), len(captions), len(keys)):
            yield f"row {row} ({key}) is missing"
            return
        if (labels[n], captions[n], keys[n]) != (record["label"], encodable(record["caption"]), encodable(key)):
            yield f"label, caption or key of row {row} is not that of picture {key}"
        if pixels is not None:
            same_picture = (picture := next(pixels)) is None or np.array_equal(f["images"][row], picture)
        else:
            same_picture = digest_of(f["images"][offsets[n] : offsets[n + 1]].tobytes()) == record["sha256"]
        if not same_picture:
            yield f"row {row} is not the picture {key} of its unit"


def _decoded(folder: StageFolder, start: int, stop: int) -> Iterator:
    for picture in StageReader(folder.upstream(ROLE)[0]).samples(start, stop):
        yield np.asarray(picture.image())


def batched(items: Iterable, n: int) -> Iterator[list]:
    items = iter(items)
    while chunk := list(islice(items, n)):
        yield chunk
