"""What exports cost against the plain way, in one run.

    python -m tests.bench.exports [--partitions 16] [--items 400] [--runs 3] [--memory 100000] [--root DIR]

HDF5: merging partitions, against `cp` of the same bytes and against a loop over the items with h5py (read an item, write it). Each is
followed by fsync; the page cache holds the source. Ratios are of medians, and of the bytes that are copied. The loop runs over a
part of the items and is scaled up. --memory: peak memory of the whole export of so many simulated pictures of 20 KB (0 leaves it out).
Prints tables, asserts nothing.
"""

import argparse
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np

from synth.export.hdf5.file import new_file, plain
from synth.export.hdf5.layouts import Item, put, write_packed
from synth.export.hdf5.merge import merge

SIZE = 20_000  # bytes of an encoded picture
SIDE = 128  # pixels of an array
LOOP = 2000  # items of the plain loop


def partitions(root: Path, n: int, items: int, write: Callable[[Path, int, int], None]) -> list[Path]:
    root.mkdir()
    paths = [root / f"part_{k:05d}_of_{n:05d}.h5" for k in range(n)]
    for k, path in enumerate(paths):
        write(path, k * items, items)
    return paths


def blob(k: int) -> bytes:
    """Bytes that no file system can pack."""
    return np.random.default_rng(k).bytes(SIZE + k % 1000)


def keyed(path: Path, first: int, items: int) -> None:
    with new_file(path) as new:
        for k in range(first, first + items):
            put(new.h5, f"{k:012d}.jpg", blob(k), plain())


def encoded(path: Path, first: int, items: int) -> None:
    def listed():
        return [
            Item(f"{k:09d}.png", f"{k:09d}", SIZE + k % 1000, lambda k=k: blob(k), k % 100, f"caption {k}")
            for k in range(first, first + items)
        ]

    for _ in write_packed(path, listed, {i: str(i) for i in range(100)}, "bytes", 0):
        pass


def arrays(gzip: int):
    def write(path: Path, first: int, items: int) -> None:
        ramp = np.add.outer(np.arange(SIDE), np.arange(SIDE))[..., None] // 2
        with h5py.File(path, "w", libver="latest") as f:
            data = f.create_dataset(
                "images",
                (items, SIDE, SIDE, 3),
                "u1",
                chunks=(1, SIDE, SIDE, 3),
                compression="gzip" if gzip else None,
                compression_opts=gzip or None,
            )
            f["labels"] = np.arange(items)
            for i in range(items):
                noise = np.random.default_rng(first + i).integers(0, 24, (SIDE, SIDE, 3))
                data[i] = (ramp + noise).astype("u1")

    return write


def loop(paths: list[Path], out: Path) -> int:
    """The plain way, an item at a time; how many it did."""
    done = 0
    with h5py.File(out, "w") as f:
        for k, path in enumerate(paths):
            with h5py.File(path, "r") as source:
                names = list(source)
                if "images" not in source:
                    for name in names:
                        f.create_dataset(name, data=np.array(source[name]))
                        done += 1
                        if done >= LOOP:
                            return done
                    continue
                images, offsets = source["images"], source.get("offsets")
                n = len(offsets) - 1 if offsets is not None else len(images)
                if not k:
                    make = (
                        {"dtype": h5py.vlen_dtype(np.uint8)}
                        if offsets is not None
                        else {"dtype": "u1", "chunks": images.chunks, "compression": images.compression}
                    )
                    target = f.create_dataset("images", (len(paths) * n, *images.shape[1:]), **make)
                for i in range(n):
                    target[done] = images[offsets[i] : offsets[i + 1]] if offsets is not None else images[i]
                    done += 1
                    if done >= LOOP:
                        return done
    return done


def timed(out: Path, runs: int, function: Callable[[], object]) -> tuple[float, object]:
    """(median seconds with fsync, last value); `out` is gone before and after each run."""
    seconds, value = [], None
    for _ in range(runs):
        shutil.rmtree(out, ignore_errors=True)
        out.unlink(missing_ok=True) if out.exists() and not out.is_dir() else None
        os.sync()
        begun = time.perf_counter()
        value = function()
        for path in [out] if out.is_file() else sorted(out.iterdir()):
            with open(path, "rb+") as f:
                os.fsync(f.fileno())
        seconds.append(time.perf_counter() - begun)
    shutil.rmtree(out) if out.is_dir() else out.unlink()
    return statistics.median(seconds), value


def copy(paths: list[Path], out: Path) -> None:
    out.mkdir()
    subprocess.run(["cp", *map(str, paths), str(out)], check=True)


def hdf5(root: Path, n: int, items: int, runs: int) -> None:
    print(
        f"HDF5 merge of {n} partitions of {items} items; median of {runs} runs, fsync included; "
        f"load {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores"
    )
    print(f"{'layout':28} {'MB':>6} {'merge s':>8} {'MB/s':>6} {'cp s':>6} {'of cp':>6} {'loop s':>8} {'x loop':>7}")
    out = root / "out"
    kinds = {
        "keyed, encoded": keyed,
        "packed, encoded": encoded,
        "packed, pixels": arrays(0),
        "packed, pixels, gzip 4": arrays(4),
    }
    for name, write in kinds.items():
        folder = root / name.replace(", ", "-").replace(" ", "")
        paths = partitions(folder, n, items, write)
        size = sum(p.stat().st_size for p in paths)
        cp, _ = timed(out, runs, lambda paths=paths: copy(paths, out))
        ours, _ = timed(out, runs, lambda paths=paths: merge(paths, out))
        plain_way, done = timed(out, 1, lambda paths=paths: loop(paths, out))
        plain_way *= n * items / done
        print(
            f"{name:28} {size / 1e6:6.0f} {ours:8.2f} {size / 1e6 / ours:6.0f} {cp:6.2f} {cp / ours:6.2f} {plain_way:8.2f} "
            f"{plain_way / ours:7.1f}"
        )
        shutil.rmtree(folder)


MEMORY = """
import resource, sys
from synth.run.loop import Worker
from synth.store.folder import StageFolder
code = Worker(StageFolder.open(sys.argv[1]), 0, 1).run()
print(code, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
"""


def simulated(root: Path, n: int):
    """An images stage of n made-up pictures of about 20 KB."""
    from synth.keys import dump
    from synth.numerics import EXACT
    from synth.store.folder import StageFolder
    from synth.store.framing import UnitIndex, frame, seal
    from synth.store.samples import Sample
    from synth.store.spec import InputFile, StageSpec, Upstream, canonical
    from tests.fixtures_images import IMAGES, captions_json_stage, captions_stage

    table = captions_json_stage(root, [captions_stage(root, ["a", "b", "c"])], 3)
    ups = {"captions": (Upstream(f"../{table.path.name}", table.spec.fingerprint),)}
    folder = StageFolder.create(
        root, StageSpec("images", "images", dump(IMAGES), n, 500, 16, EXACT, ups, {"model": InputFile("/nowhere", "0")})
    )
    rest = blob(0)
    for number in range(folder.spec.n_units):
        unit, samples = folder.unit(number), []
        for slot in range(unit.start, unit.stop):
            record = {
                "caption": f"a caption of about the usual length, number {slot}",
                "class": "crane",
                "label": 2,
                "seed": slot,
                "width": 256,
                "height": 256,
            }
            samples.append(Sample(slot, f"{slot:09d}", {"png": slot.to_bytes(8, "little") + rest[8:], "json": canonical(record)}))
        batch = frame("tar", samples)
        end, _ = seal("tar", UnitIndex(number, unit.start, len(unit), batch.entries, {}, ""), len(batch.data))
        folder.unit_path(number).parent.mkdir(parents=True, exist_ok=True)
        folder.unit_path(number).write_bytes(batch.data + end)
    return folder


def memory(root: Path, n: int) -> None:
    from tests.configs import Hdf5Config, Hdf5PartsConfig
    from tests.fixtures_images import child

    images = simulated(root / "runs" / "toys", n)
    print(f"\nexport of {n:,} simulated pictures of {SIZE / 1000:.0f} KB by one worker")
    print(f"{'stage':28} {'seconds':>8} {'pictures/s':>11} {'peak MB':>8}")
    for layout in ("keyed", "packed"):
        parts = child(images.path.parent, "hdf5_parts", Hdf5PartsConfig(layout), {"images": [images]}, n, min(n, 4096), min(n, 4096))
        merged = child(images.path.parent, "hdf5", Hdf5Config(), {"parts": [parts], "images": [images]})
        for stage in (parts, merged):
            begun = time.perf_counter()
            run = subprocess.run([sys.executable, "-c", MEMORY, str(stage.path)], capture_output=True, text=True, check=True)
            seconds = time.perf_counter() - begun
            code, peak = run.stdout.split()[-2:]
            name = f"{stage.spec.kind}, {layout}" + ("" if code == "0" else f" (exit code {code})")
            print(f"{name:28} {seconds:8.1f} {n / seconds:11.0f} {int(peak) / 1024:8.0f}")
        shutil.rmtree(parts.path)
        shutil.rmtree(merged.out_dir)


def main() -> None:
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--partitions", type=int, default=16)
    p.add_argument("--items", type=int, default=400, help="a partition")
    p.add_argument("--runs", type=int, default=3)
    p.add_argument("--memory", type=int, default=100_000, help="pictures; needs three times 20 KB each of disk")
    p.add_argument("--root", type=Path, help="where files are made (default: a temporary folder)")
    args = p.parse_args()
    root = Path(tempfile.mkdtemp(prefix="bench-exports-", dir=args.root))
    try:
        hdf5(root, args.partitions, args.items, args.runs)
        if args.memory:
            memory(root, args.memory)
    finally:
        shutil.rmtree(root, ignore_errors=True)


if __name__ == "__main__":
    main()
