"""A keyed HDF5 file made of a plain folder of pictures: a dataset a file, holding its bytes, as mmcv's hdf5 backend opens them.

    python -m synth.export.keyed_hdf5 FOLDER OUT.h5 [--names path]

Datasets are called like the files (`000000391895.jpg`), or with --names path like their path below FOLDER. Files are copied as they
are and stay where they are. OUT.h5 appears when it is whole. Exit codes: 0; 65 bad input; 75 the disk refuses, run it again.
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from synth.errors import InputError, tool
from synth.store.trees import MODERN, PICTURES, Unread, is_picture_file, walk


def main(argv: Sequence[str] | None = None) -> int:
    p = argparse.ArgumentParser(
        prog="python -m synth.export.keyed_hdf5", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    p.add_argument("folder", type=Path)
    p.add_argument("output", type=Path)
    p.add_argument("--names", choices=["file", "path"], default="file")
    args = p.parse_args(argv)
    return tool(lambda: convert(args.folder, args.output, args.names == "path"))


def convert(folder: Path, out: Path, by_path: bool = False) -> str:
    """Write `out`; what to say. Two files of one name are an InputError. A file that is there already is left alone."""
    from synth.export.hdf5.layouts import Item, write_keyed

    if not folder.is_dir():
        raise InputError(f"{folder}: no such folder")
    if out.exists():
        raise InputError(f"{out}: is there already; remove it or choose another one")
    names: dict[str, str] = {}
    unread = Unread()
    for path, entry in walk(folder, unread=unread):
        name = path if by_path else entry.name
        if not is_picture_file(entry):
            unread.other(path)
            continue
        if not entry.is_file():
            raise InputError(
                f"{folder}/{path}: {'a link that leads to no file' if entry.is_symlink() else 'not a regular file'}; remove it"
            )
        if name in names:
            raise InputError(f"{folder}/{path} and {folder}/{names[name]} have one name; --names path tells them apart")
        names[name] = path
    if not names:
        raise InputError(f"{folder}: holds no pictures ({', '.join(sorted({**PICTURES, **MODERN}))})")
    items = [Item(name, name, 0, (folder / path).read_bytes) for name, path in sorted(names.items())]
    count = sum(1 for _ in write_keyed(out, lambda: items))
    left_out = f"; {unread.note()}" if unread else ""
    return f"{out}: {count:,} pictures, {out.stat().st_size:,} bytes{left_out}"


if __name__ == "__main__":
    sys.exit(main())
