"""Meta files of a folder of pictures with alt texts: what `layout.source` reads without listing the folder once more.

    python -m synth.layout.meta SRC OUT --per-file 100000

SRC: img2dataset's output as files, or any folder of pictures with a .txt or .json beside each, or a metadata.jsonl. OUT/process_0.json, ..
are lists of {"image": path, "caption": text}, in the order of the paths, the last one with what remains. A picture without an alt text that
can be read is left out and counted; --keep-empty takes it with "". Files appear whole; running it again writes the same bytes.

Exit code 0: all is written. 65: something to mend, it is said what. 75: run the same command again.
"""

import argparse
import json
import sys
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

from synth.errors import InputError, tool
from synth.images.sources.base import Input
from synth.layout.readers import layout_of, reader
from synth.store.files import make_folder, write_atomic

NAME = "process_{}.json"


@dataclass(frozen=True)
class Written:
    """files, and entries in them; empty: pictures without an alt text; bad: pictures that cannot be used; notes: of the source."""

    files: int
    entries: int
    empty: int
    bad: int
    first_bad: str
    notes: tuple[str, ...]

    def text(self, out: Path, kept: bool) -> str:
        """For whoever ran it."""
        lines = [f"{out}: {self.entries:,} pictures in {self.files:,} files"]
        lines += [f"{self.empty:,} pictures without an alt text are {'in them with an empty one' if kept else 'left out'}"] * bool(
            self.empty
        )
        lines += [f"{self.bad:,} pictures cannot be used and are left out; the first: {self.first_bad}"] * bool(self.bad)
        return "\n".join([*lines, *self.notes])


def write_meta(source: Path, out: Path, per_file: int, keep_empty: bool) -> Written:
    """Write the meta files of a folder. InputError for a source that is none, and where `out` holds meta files of another number."""
    layout = layout_of(source)
    if layout != "files":
        raise InputError(f"{source}: is of layout {layout}, which layout.source reads as it is; meta files are of folders of pictures")
    if source in (out, *out.parents):
        raise InputError(f"{out}: lies in {source} and would become part of it; choose another folder")
    make_folder(out)
    inputs = reader(layout, source)
    counts = {"empty": 0, "bad": 0}
    first_bad: list[str] = []

    def entries() -> Iterator[dict[str, str]]:
        for item in inputs:
            if item.reason:
                counts["bad"] += 1
                first_bad.append(f"{item.key}: {item.reason}") if not first_bad else None
                continue
            counts["empty"] += not item.caption
            if item.caption or keep_empty:
                yield _entry(source, item)

    files = n = 0
    for files, part in enumerate(_parts(entries(), per_file), 1):
        write_atomic(out / NAME.format(files - 1), json.dumps(part, indent=0).encode())
        n += len(part)
    if not files:
        raise InputError(
            f"{source}: gives no entry ({counts['empty']:,} pictures without an alt text, {counts['bad']:,} that cannot be used)"
        )
    _no_others(out, files)
    notes = tuple(inputs.notes) + ((f"{source}: {inputs.unread.note()}",) if inputs.unread else ())
    return Written(files, n, counts["empty"], counts["bad"], "".join(first_bad), notes)


def _entry(source: Path, item: Input) -> dict[str, str]:
    return {"image": str(source / item.path), "caption": item.caption}


def _parts(entries: Iterable[dict[str, str]], size: int) -> Iterator[list[dict[str, str]]]:
    rest = iter(entries)
    while part := list(islice(rest, size)):
        yield part


def _no_others(out: Path, files: int) -> None:
    """InputError if there are more meta files than were written, of another source or size: a reader of the folder would take them too."""
    if (left := out / NAME.format(files)).exists():
        raise InputError(f"{left}: is of another run of this tool; remove it and those behind it, or write to another folder")


def main(argv: list[str]) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m synth.layout.meta", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("source", metavar="SRC", help="folder of pictures with alt texts")
    parser.add_argument("out", metavar="OUT", help="folder for the meta files")
    parser.add_argument("--per-file", type=int, default=100_000, metavar="N", help="pictures a file (100000)")
    parser.add_argument("--keep-empty", action="store_true", help="take pictures without an alt text too")
    args = parser.parse_args(argv)
    if args.per_file < 1:
        parser.error("--per-file must be 1 or more")

    def work() -> str:
        source, out = Path(args.source).expanduser().resolve(), Path(args.out).expanduser().absolute()
        if not source.is_dir():
            raise InputError(f"{args.source}: is no folder that is there")
        return write_meta(source, out, args.per_file, args.keep_empty).text(out, args.keep_empty)

    return tool(work)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
