"""Exports that pack pictures into files, against the records of their units: shallow by names and sizes, deep by every picture's digest."""

import json
import os
from collections.abc import Callable, Iterator
from itertools import groupby, islice
from pathlib import Path

from synth.errors import InputError
from synth.export.sharded import digest_of
from synth.kinds import config_of
from synth.store.folder import StageFolder
from synth.store.spec import canonical
from synth.store.tars import TornTar, members
from synth.verify.exports import AGAIN, Progress, beside, same, samples_in
from synth.verify.findings import Findings

Members = Callable[[Path], Iterator[tuple[str, str]]]  # (what, digest) of all that a file holds, in order
NUMBERS = 1024  # rows of an HDF5 file that are compared at once


def webdataset(folder: StageFolder, deep: bool, found: Findings, progress: Progress) -> None:
    """Every shard is there, of its size; deep: its members are the pictures of the units and their records, in order."""
    _files(folder, deep, found, progress, _tar_members, _in_tar)
    beside(folder, samples_in(folder), deep, found)


def parquet(folder: StageFolder, deep: bool, found: Findings, progress: Progress) -> None:
    """Every file is there, of its size; deep: its rows are the pictures of the units, their labels and captions, in order."""
    from synth.export.parquet import Parquet

    stage = Parquet(folder)
    stage.check()

    def expected(record: dict) -> list[tuple[str, str]]:
        key = record["member"].rpartition(".")[0]
        return [(record["member"], record["sha256"]), (f"row of {key}", digest_of(canonical(stage.small(key, record))))]

    _files(folder, deep, found, progress, lambda path: _parquet_members(path, stage.schema()), expected)
    beside(folder, samples_in(folder), deep, found)


def _files(
    folder: StageFolder, deep: bool, found: Findings, progress: Progress, members: Members, expected: Callable[[dict], list]
) -> None:
    records = (stored.json() for stored in folder.samples())
    for name, group in groupby(records, lambda r: r["file_name"].removesuffix(f"/{r['member']}")):
        mine, path = list(group), folder.out_dir / name
        progress(len(mine))
        try:
            size = path.stat().st_size
        except (FileNotFoundError, NotADirectoryError):
            found.add(path, "missing; --repair lets the next run of the same command write it again", file=name)
            continue
        if size != mine[0]["file_bytes"]:
            found.add(path, f"has {size} bytes, {mine[0]['file_bytes']} when it was written; {AGAIN}", file=name)
        elif deep and (wrong := _differs(mine, members, expected, path)):
            found.add(path, f"{wrong}; {AGAIN}", file=name)


def _differs(records: list[dict], members: Members, expected: Callable[[dict], list], path: Path) -> str:
    """What in a file is not as its records say; "" if nothing is."""
    import pyarrow as pa

    try:
        there = list(members(path))
    except (OSError, pa.ArrowException, ValueError, TypeError, AttributeError) as e:  # what damaged files make readers raise
        return f"cannot be read ({type(e).__name__}: {e})"
    said = [pair for r in records for pair in expected(r)]
    if there == said:
        return ""
    bad = next((b for a, b in zip(there, said, strict=False) if a != b), ("its number of pictures", ""))
    return f"{bad[0]} is not as in its unit"


def _tar_members(path: Path) -> Iterator[tuple[str, str]]:
    with open(path, "rb") as raw:
        total = os.fstat(raw.fileno()).st_size
        for member in members(raw):
            if member.stop > total:
                raise TornTar("it ends inside a member")
            yield member.name, digest_of(os.pread(raw.fileno(), member.size, member.offset)) if member.regular else ""


def _in_tar(record: dict) -> list[tuple[str, str]]:
    """(name, digest) of the members of one picture."""
    from synth.export.webdataset import beside as json_of

    name = f"{record['member'].rpartition('.')[0]}.json"
    return [(name, digest_of(json_of(record))), (record["member"], record["sha256"])]


def _parquet_members(path: Path, schema) -> Iterator[tuple[str, str]]:
    import pyarrow.parquet as pq

    with pq.ParquetFile(path) as f:
        if not f.schema_arrow.equals(schema) or (f.schema_arrow.metadata or {}).get(b"huggingface") != schema.metadata[b"huggingface"]:
            raise ValueError("its columns or its classes are not those of the export")
        for batch in f.iter_batches(64):
            for row in batch.to_pylist():
                image = row.pop("image")
                yield image["path"], digest_of(image["bytes"])
                yield f"row of {row['key']}", digest_of(canonical(row))


def hdf5(folder: StageFolder, deep: bool, found: Findings, progress: Progress) -> None:
    """The merged file is there, of its size, with a row or dataset a picture; deep: of the same bytes (or pixels), labels and captions."""
    from synth.export.hdf5.parts import n_datasets
    from synth.export.hdf5.whole import NAME

    path, parts = folder.out_dir / NAME, folder.upstream("parts")[0]
    with folder.reader(0) as reader:
        merged = json.loads(reader.read(reader.index.samples[0], "json"))
    if not path.exists() or path.stat().st_size != merged["bytes"]:
        what = "missing" if not path.exists() else "not of the size that it was written with"
        found.add(path, f"{what}; --repair lets the next run of the same command write it again", file=NAME)
        return
    for wrong in h5_problems(path, parts, 0, parts.spec.slots, deep, progress):
        found.add(path, f"{wrong}; {AGAIN}", file=NAME)
    beside(folder, n_datasets(parts, 0, parts.spec.slots), deep, found)


def hdf5_parts(folder: StageFolder, deep: bool, found: Findings) -> None:
    """The partitions that are there (they may be removed when they are merged) hold the pictures of their units."""
    from synth.export.hdf5.parts import partition

    for number in range(folder.spec.n_units):
        path, unit = partition(folder, number), folder.unit(number)
        if path.exists():
            for wrong in h5_problems(path, folder, unit.start, unit.stop, deep, lambda slots: None):
                found.add(path, f"{wrong}; --repair lets the next run of the same command write it again", unit=number)


def h5_problems(path: Path, parts: StageFolder, start: int, stop: int, deep: bool, progress: Progress) -> Iterator[str]:
    """What is wrong with an HDF5 file of the pictures of slots [start, stop) of a stage of partitions."""
    from synth.export.hdf5.parts import n_datasets
    from synth.export.hdf5.settings import KEYED
    from synth.store.hdf5 import TORN, Hdf5File

    keyed, count, expected = config_of(parts).layout == KEYED, 0, n_datasets(parts, start, stop)
    try:
        with Hdf5File(path) as f:
            there = {} if keyed else f.columns()
            rows = len(f.root) if keyed else len(there["labels"])
            if deep and not keyed and (wrong := _heads(parts, f.attributes())):
                yield wrong
            pixels = _decoded(parts, start, stop) if deep and not keyed and "offsets" not in there else None
            for chunk in batched(((s.key, s.json() if deep else {}) for s in parts.samples(start, stop)), NUMBERS):
                if deep:
                    yield from _keyed(f, chunk) if keyed else _rows(there, count, chunk, pixels)
                count += len(chunk)
                progress(len(chunk))
            if rows != expected:
                yield f"holds {rows} pictures, its units {expected}"
    except (InputError, *TORN) as e:
        yield f"cannot be read ({type(e).__name__}: {e})"


def batched(items: Iterator, n: int) -> Iterator[list]:
    while chunk := list(islice(items, n)):
        yield chunk


def _keyed(f, records: list[tuple[str, dict]]) -> Iterator[str]:
    """What is wrong with these pictures in a keyed file."""
    import h5py
    import numpy as np

    for said in (s for _, record in records for s in (record, record.get("original")) if s):
        dataset = f.dataset(said["name"])
        if dataset is None:
            yield f"{said['name']} is missing"
        elif digest_of(np.asarray(h5py.Dataset(dataset)).tobytes()) != said["sha256"]:
            yield f"{said['name']} is not the picture of its unit"


def _heads(folder: StageFolder, attributes: dict) -> str:
    """What is wrong with the classes in the attributes of a packed file."""
    from synth.export.hdf5.layouts import encodable
    from synth.store.names import classes_of

    classes = sorted(classes_of(folder).items())
    there = list(zip((int(i) for i in attributes["class_indices"]), attributes["class_names"], strict=True))
    return "" if there == [(i, encodable(n)) for i, n in classes] else "its class names are not those of the dataset"


def _rows(f, first: int, records: list[tuple[str, dict]], pixels: Iterator | None) -> Iterator[str]:
    """What is wrong with these pictures, which begin at row `first` of a packed file. pixels: the pictures from there on, decoded."""
    import numpy as np

    from synth.export.hdf5.layouts import encodable

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
            same_picture = np.array_equal(f["images"][row], next(pixels))
        else:
            same_picture = digest_of(f["images"][offsets[n] : offsets[n + 1]].tobytes()) == record["sha256"]
        if not same_picture:
            yield f"row {row} is not the picture {key} of its unit"


def _decoded(folder: StageFolder, start: int, stop: int) -> Iterator:
    import numpy as np

    from synth.reading.stage import ROLE, StageReader

    for picture in StageReader(folder.upstream(ROLE)[0]).samples(start, stop):
        yield np.asarray(picture.image())


def captions_txt(folder: StageFolder, deep: bool, found: Findings, progress: Progress) -> None:
    """The one file is that of the unit."""
    from synth.export.captions_txt import NAME

    with folder.reader(0) as reader:
        for entry in reader.index.samples:
            same(folder.out_dir, NAME, reader.read(entry, "txt"), found)
