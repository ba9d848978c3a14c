"""Exports that pack pictures into files, against the records of their units: shallow by names and sizes, deep by every picture's digest."""

import hashlib
import io
import json
import tarfile
from collections.abc import Callable, Iterator
from itertools import groupby
from pathlib import Path

from synth.store.folder import StageFolder
from synth.verify.exports import AGAIN, Progress, beside, same
from synth.verify.findings import Findings

Members = Callable[[Path], Iterator[tuple[str, bytes]]]


def webdataset(folder: StageFolder, deep: bool, found: Findings, progress: Progress) -> None:
    """Every shard is there, of its size; deep: its members are the pictures of the units, in order, with keys of their own."""
    _files(folder, deep, found, progress, _tar_members, _in_tar)
    beside(folder, ((s.key, s.json()) for s in folder.samples()), deep, found)


def parquet(folder: StageFolder, deep: bool, found: Findings, progress: Progress) -> None:
    """Every file is there, of its size; deep: its pictures are those of the units, in order."""
    _files(folder, deep, found, progress, _parquet_members, _in_parquet)
    beside(folder, ((s.key, s.json()) for s in folder.samples()), deep, found)


def _files(folder: StageFolder, deep: bool, found: Findings, progress: Progress, members: Members, expected: Callable[[dict], list]) -> None:
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
        there = [(name, hashlib.sha256(data).hexdigest()) for name, data in members(path)]
    except (OSError, tarfile.TarError, pa.ArrowException, ValueError) as e:
        return f"cannot be read ({type(e).__name__}: {e})"
    said = [pair for r in records for pair in expected(r)]
    if there == said:
        return ""
    bad = next((b for a, b in zip(there, said, strict=False) if a != b), ("its number of pictures", ""))
    return f"{bad[0]} is not as in its unit"


def _tar_members(path: Path) -> Iterator[tuple[str, bytes]]:
    with tarfile.open(path) as tar:
        for info in tar:
            yield info.name, tar.extractfile(info).read()


def _in_tar(record: dict) -> list[tuple[str, str]]:
    """(name, digest) of the members of one picture."""
    from synth.export.webdataset import beside as json_of

    return [(f"{record['member'].rpartition('.')[0]}.json", hashlib.sha256(json_of(record)).hexdigest()), *_in_parquet(record)]


def _in_parquet(record: dict) -> list[tuple[str, str]]:
    return [(record["member"], record["sha256"])]


def _parquet_members(path: Path) -> Iterator[tuple[str, bytes]]:
    import pyarrow.parquet as pq

    with pq.ParquetFile(path) as f:
        for batch in f.iter_batches(64, columns=["image"]):
            for image in batch.column("image").to_pylist():
                yield image["path"], image["bytes"]


def hdf5(folder: StageFolder, deep: bool, found: Findings, progress: Progress) -> None:
    """The merged file is there, of its size, with a row or dataset a picture; deep: of the same bytes (or pixels)."""
    import h5py
    import numpy as np

    from synth.export.hdf5 import NAME
    from synth.export.hdf5_settings import KEYED, PIXELS

    path, parts = folder.out_dir / NAME, folder.upstream("parts")[0]
    with folder.reader(0) as reader:
        merged = json.loads(reader.read(reader.index.samples[0], "json"))
    if not path.exists() or path.stat().st_size != merged["bytes"]:
        what = "missing" if not path.exists() else "not of the size that it was written with"
        found.add(path, f"{what}; --repair lets the next run of the same command write it again", file=NAME)
        return
    keyed, pixels = parts.config.layout == KEYED, parts.config.content == PIXELS
    names = []
    try:
        with h5py.File(path, "r", locking=False) as f:
            rows = len(f) if keyed else len(f["labels"])
            for row, stored in enumerate(parts.samples()):
                record = stored.json()
                names.append((stored.key, record))
                progress(1)
                if not deep:
                    continue
                if keyed:
                    data = np.asarray(f[record["name"]]).tobytes()
                elif not pixels:
                    data = f["images"][f["offsets"][row] : f["offsets"][row + 1]].tobytes()
                else:
                    continue
                if hashlib.sha256(data).hexdigest() != record["sha256"]:
                    found.add(path, f"{record['name']} is not the picture of its unit; {AGAIN}", file=NAME)
            if rows != len(names):
                found.add(path, f"holds {rows} pictures, its units {len(names)}; {AGAIN}", file=NAME)
            if deep and pixels and not keyed:
                _pixels(folder, f, found, path)
    except (OSError, KeyError, ValueError) as e:
        found.add(path, f"cannot be read ({type(e).__name__}: {e}); {AGAIN}", file=NAME)
    beside(folder, iter(names), deep, found)


def _pixels(folder: StageFolder, f, found: Findings, path: Path) -> None:
    import numpy as np
    from PIL import Image

    from synth.export.hdf5 import NAME
    from synth.export.pictures import Pictures

    for row, picture in enumerate(Pictures(folder.upstream("images")[0]).samples()):
        with Image.open(io.BytesIO(picture.read())) as image:
            if not np.array_equal(f["images"][row], np.asarray(image.convert("RGB"))):
                found.add(path, f"row {row} is not the picture {picture.key}; {AGAIN}", file=NAME)


def captions_txt(folder: StageFolder, deep: bool, found: Findings, progress: Progress) -> None:
    """The one file is that of the unit."""
    from synth.export.captions_txt import NAME

    with folder.reader(0) as reader:
        for entry in reader.index.samples:
            same(folder.out_dir, NAME, reader.read(entry, "txt"), found)

