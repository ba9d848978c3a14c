"""Every reader of what others wrote, called again and again in a process whose file system is in trouble: a child of test_readers.py.

    python -m tests.faults.readers FOLDER MAKE|CALL|NO_FILES

MAKE fills FOLDER. CALL (under shim.c) and NO_FILES (no descriptor is left) read it, and print a JSON object: reader -> what it says.
"""

import contextlib
import io
import json
import os
import resource
import sys
from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image

from launch.plan.datasets import names_in
from launch.plan.inputs import read_json
from launch.plan.story import read_source
from synth.captions.config import ClassEntry, DatasetConfig
from synth.captions.prompts.own import read_own
from synth.errors import InputError, StoreError
from synth.images.sources import reader, row_groups
from synth.images.sources.read import Picture, read_bytes, read_file
from synth.store.hdf5 import Hdf5File
from synth.store.identity import file_identity
from synth.store.trees import Unread, pictures
from synth.tracking import coco, plain_pickle
from synth.tracking.sources import open_source

TIMES = 60


def make(root: Path) -> None:
    out = io.BytesIO()
    Image.new("RGB", (8, 8), "red").save(out, "PNG")
    png = out.getvalue()
    for cls in ("cat", "dog"):
        (root / "folder" / cls).mkdir(parents=True)
        for n in range(3):
            (root / "folder" / cls / f"{n}.png").write_bytes(png)
            (root / "folder" / cls / f"{n}.txt").write_text(f"a {cls}")
    (root / "tars").mkdir()
    import tarfile

    with tarfile.open(root / "tars" / "0.tar", "w") as tar:
        for n in range(3):
            for suffix, data in (("png", png), ("txt", b"a cat"), ("cls", b"0")):
                member = tarfile.TarInfo(f"{n}.{suffix}")
                member.size = len(data)
                tar.addfile(member, io.BytesIO(data))
    with h5py.File(root / "f.h5", "w") as f:
        for n in range(40):
            f[f"group{n % 4}/{n}.png"] = np.frombuffer(png + bytes(2000), np.uint8)
    keep_tables(root, png)
    annotations = {"images": [], "annotations": [{"image_id": 1, "caption": "a cat"}], "categories": []}
    (root / "annotations.json").write_text(json.dumps(annotations))
    (root / "captions.txt").write_text("a cat on a mat => cat\n")
    (root / "classes.txt").write_text("cat\ndog\n")
    (root / "book.txt").write_text("Once upon a time.\n")
    import pickle

    (root / "old.pkl").write_bytes(pickle.dumps([{"id": 1}]))


def keep_tables(root: Path, png: bytes) -> None:
    """Three pictures in a Parquet file, a row group each, and in an HDF5 file, keyed, with its manifest."""
    rows = [{"image": {"bytes": png, "path": f"{n}.png"}, "label": 0, "caption": "a cat"} for n in range(3)]
    (root / "parquet").mkdir()
    pq.write_table(pa.Table.from_pylist(rows), root / "parquet" / "0.parquet", row_group_size=1)
    (root / "keyed").mkdir()
    with h5py.File(root / "keyed" / "0.h5", "w") as f:
        for n in range(3):
            f[f"{n}.png"] = np.frombuffer(png, np.uint8)
    known = [{"file": f"0.h5/{n}.png", "label": 0, "class": "cat", "caption": "a cat"} for n in range(3)]
    pq.write_table(pa.Table.from_pylist(known), root / "keyed" / "manifest.parquet")


def in_hdf5(root: Path) -> str:
    source = open_source(root / "f.h5")
    try:
        found = source.find([f"{n}.png" for n in range(40)])
        wrong = [i.reason for i in found.values() if i.reason]
        wrong += [data for i in found.values() if isinstance(data := source.read(i.path, i.size), str)]
    finally:
        source.close()
    return "; ".join(wrong[:1])


def in_a_folder(root: Path) -> str:
    source = open_source(root / "folder")
    found = source.find(["cat/0.png", "dog/2.png"])
    wrong = [i.reason for i in found.values() if i.reason]
    return "; ".join(wrong + [data for i in found.values() if isinstance(data := source.read(i.path, i.size), str)])


def listed(layout: str, folder: str, expected: int) -> Callable[[Path], str]:
    def call(root: Path) -> str:
        inputs = list(reader(layout, root / folder, captions=True))
        wrong = [i.reason for i in inputs if i.reason] + ["without its caption" for i in inputs if not i.caption]
        return "; ".join(wrong) or ("" if len(inputs) == expected else f"{len(inputs)} of {expected} pictures")

    return call


def read_back(layout: str, folder: str) -> Callable[[Path], str]:
    def call(root: Path) -> str:
        inputs = list(reader(layout, root / folder, captions=True))
        wrong = [i.reason for i in inputs if i.reason] + ["without its caption" for i in inputs if not i.caption]
        row_groups._GROUPS._groups.clear()  # to be read again
        places = (Picture(0, i.key, i.place(root / folder), i.offset, i.size, packed=i.packed) for i in inputs)
        wrong += [data for p in places if isinstance(data := read_bytes(p, root / folder), str)]
        return "; ".join(wrong) or ("" if len(inputs) == 3 else f"{len(inputs)} of 3 pictures")

    return call


def pictures_below(root: Path) -> str:
    n = sum(1 for _ in pictures(root / "folder", Unread()))
    return "" if n == 6 else f"{n} of 6 pictures"


def read_one(root: Path) -> str:
    data = read_file(root / "folder" / "cat" / "0.png", None, root / "folder")
    return data if isinstance(data, str) else ""


def merged(root: Path) -> str:
    from synth.export.hdf5.beside import LeftOut
    from synth.export.hdf5.merge import _unique, check

    check([root / "f.h5"])
    _unique([root / "f.h5"], LeftOut())
    with Hdf5File(root / "f.h5") as f:
        return "" if len(list(f.items())) == 40 else "items are missing"


def quietly(call: Callable[[Path], object]) -> Callable[[Path], str]:
    def done(root: Path) -> str:
        call(root)
        return ""

    return done


READERS: dict[str, Callable[[Path], str]] = {
    "hdf5": in_hdf5,
    "hdf5 to merge": merged,
    "folder": in_a_folder,
    "image_folder": listed("image_folder", "folder", 6),
    "img2dataset": listed("img2dataset", "folder", 6),
    "webdataset": listed("webdataset", "tars", 3),
    "parquet of pictures": read_back("parquet", "parquet"),
    "hdf5 of pictures": read_back("hdf5", "keyed"),
    "pictures": pictures_below,
    "picture": read_one,
    "annotations": quietly(lambda root: coco.read(root / "annotations.json")),
    "captions of images": quietly(lambda root: list(coco.captions_of(root / "annotations.json"))),
    "own captions": quietly(lambda root: read_own(root / "captions.txt", DatasetConfig(name="custom", classes=(ClassEntry(0, "cat"),)))),
    "classes": quietly(lambda root: names_in(str(root / "classes.txt"))),
    "json": quietly(lambda root: read_json(str(root / "annotations.json"), "key", "JSON")),
    "book": quietly(lambda root: read_source(str(root / "book.txt"))),
    "old results": quietly(lambda root: plain_pickle.load(root / "old.pkl")),
    "identity": quietly(lambda root: file_identity(root / "book.txt")),
}


def said(call: Callable[[Path], str], root: Path) -> str:
    """ "", "again" for StoreError or an OSError that says so, or what it tells of the file."""
    try:
        return call(root)
    except StoreError:
        return "again"
    except InputError as e:
        return f"InputError: {e}"
    except OSError as e:
        from synth.errors import refused

        return "again" if refused(e) else f"{type(e).__name__}: {e}"
    except Exception as e:  # noqa: BLE001 (a traceback for the user)
        return f"{type(e).__name__}: {e}"


def without_files(root: Path) -> dict[str, list[str]]:
    answers = {}
    for name, call in READERS.items():
        call(root)  # what is imported is there
        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        free = os.open(os.devnull, os.O_RDONLY)
        os.close(free)
        resource.setrlimit(resource.RLIMIT_NOFILE, (free, hard))
        try:
            answers[name] = [said(call, root)]
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    return answers


def main(folder: str, what: str) -> None:
    root = Path(folder)
    if what == "MAKE":
        make(root)
        return
    with contextlib.redirect_stdout(sys.stderr):
        answers = without_files(root) if what == "NO_FILES" else {n: [said(c, root) for _ in range(TIMES)] for n, c in READERS.items()}
    print(json.dumps(answers))


if __name__ == "__main__":
    main(*sys.argv[1:])
