"""Merge HDF5 partitions of pictures into one file, whoever wrote them:

    python -m synth.export.merge_hdf5 --inputs 'DIR/*_split_*.h5' --output OUT.h5 [--total_p 8]

Keyed files (a dataset a picture, named like its file) are joined by name; arrays of one length (`images`, `labels`, ..) one behind
the other. Nothing is decoded, inflated or encoded, types stay as they are. Attributes, groups and single values are carried where
all files agree; where they differ (other class_names, above all), lie in other files or refer to something, they are refused by name:
mend the files, or leave such things out (--leave-out notes 'meta/*' '@created' '*@unit'; @ stands before an attribute).
Torn files, missing partitions (`.._total_p_8_split_3.h5` and `part_00003_of_00016.h5` say how many there should be) and names that
are there twice are told before anything is written. OUT.h5 appears when it is whole; merging the same files again does nothing.

Exit codes: 0; 65 bad input; 75 the disk refuses, or somebody still writes a file: run it again.
"""

import argparse
import glob
import hashlib
import os
import re
import sys
from collections.abc import Sequence
from pathlib import Path

from synth.errors import InputError, tool
from synth.store.identity import file_identity

# how partitions are called: of = number of them, k = which
PATTERNS = (
    re.compile(r"_total_p_(?P<of>\d+)_split_(?P<k>\d+)\.\w+$"),
    re.compile(r"part_(?P<k>\d+)_of_(?P<of>\d+)\.\w+$"),
    re.compile(r"_split_(?P<k>\d+)\.\w+$"),
)


def main(argv: Sequence[str] | None = None) -> int:
    p = argparse.ArgumentParser(
        prog="python -m synth.export.merge_hdf5", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    p.add_argument("--inputs", required=True, nargs="+", help="files, or patterns in quotes")
    p.add_argument("--output", required=True, type=Path)
    p.add_argument("--total_p", "--total-p", type=int, help="how many partitions there must be")
    p.add_argument("--layout", choices=["auto", "keyed", "packed"], default="auto")
    p.add_argument("--leave-out", nargs="+", default=[], metavar="NAME", help="of what is in the files; patterns in quotes")
    args = p.parse_args(argv)
    layout = "" if args.layout == "auto" else args.layout
    return tool(lambda: run(complete(found(args.inputs, args.output), args.total_p), args.output, layout, args.leave_out))


def run(paths: Sequence[Path], out: Path, layout: str, leave_out: Sequence[str] = ()) -> str:
    """Merge unless `out` was made of these very files; what to say. Another file there is never replaced."""
    from synth.export.hdf5.beside import MERGED, LeftOut
    from synth.export.hdf5.merge import check, merge
    from synth.store.hdf5 import Hdf5File

    check(paths)
    mark_name = MERGED.decode()
    # by their content: partitions that were made anew have the names and often the sizes of those before
    marks = [*(f"{p.name} {file_identity(p)}" for p in paths), *(f"less {name}" for name in sorted(leave_out))]
    mark = hashlib.sha256("\n".join(marks).encode("utf-8", "surrogateescape")).hexdigest()
    if out.exists():
        with Hdf5File(out) as f:
            says = f.attributes().get(mark_name)
            if isinstance(says, str) and says == mark:
                return f"{out}: is already the merge of these {len(paths)} files"
        raise InputError(f"{out}: is there already, and was not merged from these files; remove it or choose another --output")
    leave = LeftOut(leave_out)
    facts = merge(paths, out, layout, {mark_name: mark}, leave=leave)
    number = f"{facts['rows']:,} rows" if "rows" in facts else f"{facts['datasets']:,} datasets"
    return f"{out}: {number} of {len(paths)} {facts['layout']} files, {out.stat().st_size:,} bytes{leave.note()}"


def found(patterns: Sequence[str], out: Path) -> list[Path]:
    """The files that patterns name, each once, less the output; a pattern that names none is an InputError."""
    paths: dict[str, Path] = {}
    for pattern in patterns:
        hits = [pattern] if os.path.lexists(pattern) else sorted(glob.glob(os.path.expanduser(pattern)))
        if not hits:
            raise InputError(f"--inputs {pattern}: no such file")
        for hit in hits:
            if os.path.isdir(hit):
                raise InputError(f"--inputs {hit}: is a folder; write '{hit}/*.h5'")
            paths.setdefault(os.path.realpath(hit), Path(hit))
    paths.pop(os.path.realpath(out), None)
    return list(paths.values())


def complete(paths: Sequence[Path], total: int | None) -> list[Path]:
    """The partitions in order. Those that their names or `total` call for and that are not there are named in an InputError."""
    numbered = {path: _told(path.name) for path in paths}
    series = {(re.sub(r"(_total_p_\d+)?(_split_|part_)\d+(_of_\d+)?", "", p.name), numbered[p][1]) for p in paths}
    numbers = {numbered[p][1] for p in paths if numbered[p][1] is not None} | ({total} if total is not None else set())
    if len(numbers) > 1:
        say = ", ".join(f"{p.name}" for p in paths[:4])
        raise InputError(
            f"partitions of different totals ({', '.join(map(str, sorted(numbers)))}) do not belong together: {say}; "
            "see --inputs and --total_p"
        )
    ordered = sorted(paths, key=lambda p: (numbered[p][0] is None, numbered[p][0] or 0, p.name))
    if not numbers:
        return ordered
    of = numbers.pop()
    if len(series) > 1 and len(paths) > of:
        raise InputError(f"{len(paths)} files for {of} partitions: {', '.join(sorted(p.name for p in paths)[:6])}; narrow --inputs")
    there = [numbered[p][0] for p in paths if numbered[p][0] is not None]
    twice = sorted({k for k in there if there.count(k) > 1})
    if twice:
        names = ", ".join(p.name for p in ordered if numbered[p][0] in twice)
        raise InputError(f"partition {', '.join(map(str, twice))} is there twice: {names}")
    if len(there) == len(paths):
        first = 1 if there and min(there) == 1 and max(there) == of else 0  # some count from one
        missing = sorted(set(range(first, first + of)) - set(there))
        strange = sorted(set(there) - set(range(first, first + of)))
        if missing or strange:
            what = f"missing: {', '.join(map(str, missing[:20]))}" if missing else f"beyond the last: {', '.join(map(str, strange[:20]))}"
            raise InputError(f"{len(paths)} of {of} partitions are there; {what} (they are counted from {first}); make them first")
    elif len(paths) != of:
        raise InputError(f"{len(paths)} files, --total_p={of}")
    return ordered


def _told(name: str) -> tuple[int | None, int | None]:
    """(which partition, of how many) by a file's name."""
    for pattern in PATTERNS:
        if hit := pattern.search(name):
            of = hit.groupdict().get("of")
            return int(hit["k"]), int(of) if of else None
    return None, None


if __name__ == "__main__":
    sys.exit(main())
