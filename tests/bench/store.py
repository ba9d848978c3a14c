"""What the store costs: units a second, calls of the file system a unit, and the time of a look at a large stage.

    python tests/bench/store.py [--units 100000] [--processes 2] [--batches 1] [--root DIR]

A stage of tiny probe samples is done by several worker processes; the work itself is almost nothing, so what is timed is the
store: leases, parts, index, fsync, link. System calls are counted by `strace -f -c` on a smaller stage, less those of a stage
with a single unit (starting Python); without strace that table is left out. The counts hold the one open and two reads with
which the finishing worker counts each unit, and fstat of files that are open, which stay on this machine. Prints tables,
asserts nothing.
"""

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

from synth.keys import dump  # noqa: E402
from synth.numerics import EXACT  # noqa: E402
from synth.run.config import ProbeConfig  # noqa: E402
from synth.store.folder import StageFolder  # noqa: E402
from synth.store.spec import StageSpec  # noqa: E402

GROUPS = {
    "metadata (a round trip to the server each)": [
        "open",
        "openat",
        "creat",
        "stat",
        "lstat",
        "newfstatat",
        "statx",
        "access",
        "faccessat",
        "faccessat2",
        "link",
        "linkat",
        "unlink",
        "unlinkat",
        "rename",
        "renameat",
        "renameat2",
        "mkdir",
        "mkdirat",
        "symlink",
        "readlink",
        "getdents64",
    ],
    "fsync": ["fsync", "fdatasync"],
    "write": ["write", "pwrite64"],
    "read": ["read", "pread64"],
}


def plan(root: Path, units: int, batches: int, framing: str) -> StageFolder:
    config = dump(ProbeConfig(framing=framing))
    return StageFolder.create(root, StageSpec("probe", f"probe{units}x{batches}", config, units * batches, batches, 1, EXACT))


def worker(folder: StageFolder, job: int, n_jobs: int, prefix: tuple[str, ...] = ()) -> subprocess.Popen:
    command = [*prefix, sys.executable, "-m", "synth.worker", str(folder.path), "--job-idx", str(job), "--n-jobs", str(n_jobs)]
    return subprocess.Popen(command, cwd=ROOT, stderr=subprocess.DEVNULL, env=os.environ | {"PYTHONPATH": str(ROOT)})


def counts(root: Path, units: int, batches: int, framing: str) -> dict[str, int]:
    """System calls of one worker that does a stage, by name."""
    table = root / "strace.txt"
    folder = plan(root, units, batches, framing)
    if worker(folder, 0, 1, ("strace", "-f", "-c", "-o", str(table))).wait():
        raise RuntimeError(f"the worker on {folder.path} failed")
    found = {}
    for line in table.read_text().splitlines():
        words = line.split()
        if len(words) in (5, 6) and words[3].isdigit():
            found[words[-1]] = int(words[3])
    return found


def calls_table(root: Path, batches: int, framing: str, units: int = 200) -> None:
    one, many = counts(root, 1, batches, framing), counts(root, units + 1, batches, framing)
    a_unit = {name: (n - one.get(name, 0)) / units for name, n in many.items()}
    print(f"\ncalls a unit of {batches} batch(es), {framing}")
    for group, names in GROUPS.items():
        used = {n: a_unit[n] for n in names if a_unit.get(n, 0) >= 0.05}
        each = ", ".join(f"{n} {k:.1f}" for n, k in sorted(used.items(), key=lambda item: -item[1]))
        print(f"  {sum(used.values()):6.1f}  {group}: {each}")


def timed(what: str, function) -> None:
    begun = time.perf_counter()
    value = function()
    size = value if isinstance(value, (int, bool)) else len(value)
    print(f"  {time.perf_counter() - begun:8.3f} s  {what} -> {size}")


def looks(folder: StageFolder) -> None:
    timed("committed()", folder.committed)
    timed("missing()", folder.missing)
    timed("is_whole()", folder.is_whole)
    timed("progress()", folder.progress)


def run(root: Path, units: int, processes: int, batches: int, framing: str) -> None:
    folder = plan(root, units, batches, framing)
    print(f"\na look at {units:,} planned units, none of them there")
    looks(folder)
    begun = time.perf_counter()
    workers = [worker(folder, i, processes) for i in range(processes)]
    while any(w.poll() is None for w in workers):
        time.sleep(0.2)
        if sys.stderr.isatty():
            print(f"\r  {len(folder.committed()):,}", end="", file=sys.stderr)
            time.sleep(5)
    seconds = time.perf_counter() - begun
    codes = [w.wait() for w in workers]
    print(
        f"\n{units:,} units of {batches} batch(es), {processes} processes: "
        f"{seconds:.1f} s, {units / seconds:.0f} units/s, exit codes {codes}"
    )
    print(f"\na look at {units:,} finished units")
    looks(folder)


def main() -> None:
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--units", type=int, default=100_000)
    p.add_argument("--processes", type=int, default=os.cpu_count())
    p.add_argument("--batches", type=int, default=1, help="batches a unit")
    p.add_argument("--framing", choices=["tar", "jsonl"], default="tar")
    p.add_argument("--root", type=Path, help="where the stages are made, e.g. on a network file system (default: a temporary folder)")
    args = p.parse_args()
    root = Path(tempfile.mkdtemp(prefix="bench-store-", dir=args.root))
    try:
        if shutil.which("strace"):
            for batches in sorted({1, 4, args.batches}):
                calls_table(root, batches, args.framing)
        if args.units:
            run(root, args.units, args.processes, args.batches, args.framing)
    finally:
        shutil.rmtree(root, ignore_errors=True)


if __name__ == "__main__":
    main()
