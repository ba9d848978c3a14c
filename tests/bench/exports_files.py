"""Exports that write files against the plain way, in one run:
python -m tests.bench.exports_files [--images 20000] [--bytes 20000] [--runs 3] [--root DIR]

ImageFolder against `tar -x` of the units, WebDataset against `cat` of them, Parquet for information; each ends with a sync of the file
system, the page cache holds the units. The pictures are simulated: random bytes with a record beside each. Ratios of medians.
"""

import argparse
import contextlib
import io
import os
import resource
import shutil
import statistics
import subprocess
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

from synth.numerics import EXACT
from synth.store.folder import StageFolder
from synth.store.framing import UnitIndex, frame, seal
from synth.store.samples import Sample
from synth.store.spec import InputFile, StageSpec, Upstream, canonical
from tests.configs import ImageFolderConfig, ParquetConfig, WebDatasetConfig
from tests.fixtures_images import IMAGES, captions_json_stage, captions_stage, child, dump, work

UNIT, SHARD, CLASSES = 500, 1000, 100


def simulated(root: Path, n: int, size: int) -> StageFolder:
    """A whole images stage of n pictures of about `size` bytes."""
    table = captions_json_stage(root, [captions_stage(root, ["a", "b"], classes=tuple(f"class {i}" for i in range(CLASSES)))], 2)
    ups = {"captions": (Upstream(f"../{table.path.name}", table.spec.fingerprint),)}
    folder = StageFolder.create(
        root, StageSpec("images", "images", dump(IMAGES), n, UNIT, 50, EXACT, ups, {"model": InputFile("/nowhere", "0")})
    )
    noise = np.random.default_rng(0).bytes(size + (1 << 20))
    for number in range(folder.spec.n_units):
        unit, made = folder.unit(number), []
        for s in range(unit.start, unit.stop):
            record = {
                "caption": f"a picture of class {s % CLASSES}, number {s}",
                "class": f"class {s % CLASSES}",
                "label": s % CLASSES,
                "seed": s,
            }
            made.append(Sample(s, f"{s:09d}", {"png": noise[s * 17 % (1 << 20) :][: size + s % 999], "json": canonical(record)}))
        batch = frame("tar", made)
        end, _ = seal("tar", UnitIndex(number, unit.start, len(unit), batch.entries, {}, ""), len(batch.data))
        folder.unit_path(number).parent.mkdir(parents=True, exist_ok=True)
        folder.unit_path(number).write_bytes(batch.data + end)
    return folder


def timed(do: Callable[[], None], root: Path) -> float:
    subprocess.run(["sync", "-f", root], check=True)
    begun = time.perf_counter()
    do()
    subprocess.run(["sync", "-f", root], check=True)
    return time.perf_counter() - begun


def untar(images: StageFolder, out: Path) -> None:
    out.mkdir()
    for number in range(images.spec.n_units):
        subprocess.run(["tar", "-x", "-C", out, "-f", images.unit_path(number)], check=True)


def cat(images: StageFolder, out: Path) -> None:
    """As many files as the export has shards, each of some units."""
    out.mkdir()
    units = [str(images.unit_path(u)) for u in range(images.spec.n_units)]
    per = SHARD // UNIT
    for k in range(0, len(units), per):
        with open(out / f"{k}.tar", "wb") as f:
            subprocess.run(["cat", *units[k : k + per]], stdout=f, check=True)


def export(images: StageFolder, kind: str, config, shard: int) -> None:
    folder = child(images.path.parent, kind, config, {"images": [images]}, images.spec.slots, shard, shard)
    with contextlib.redirect_stderr(io.StringIO()):
        assert work(folder) == 0
    folder_out, stage = folder.out_dir, folder.path
    export.made = folder_out, stage


def main() -> None:
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    p.add_argument("--images", type=int, default=20_000)
    p.add_argument("--bytes", type=int, default=20_000, help="of a picture")
    p.add_argument("--runs", type=int, default=3)
    p.add_argument("--root", help="folder on the disk to be measured")
    args = p.parse_args()
    with tempfile.TemporaryDirectory(prefix="synthset-bench-", dir=args.root) as name:
        root = Path(name)
        images = simulated(root / "runs", args.images, args.bytes)
        total = sum(images.unit_path(u).stat().st_size for u in range(images.spec.n_units)) / 2**20
        print(
            f"{args.images:,} pictures of {args.bytes:,} bytes, {total:,.0f} MiB, {images.spec.n_units} units; 1 worker; "
            f"load {os.getloadavg()[0]:.1f}",
            flush=True,
        )
        kinds = {
            "image_folder": (ImageFolderConfig(), UNIT, "tar -x", untar),
            "webdataset": (WebDatasetConfig(), SHARD, "cat", cat),
            "parquet": (ParquetConfig(), 5 * SHARD, "cat", cat),
        }
        print(f"{'export':14}{'s':>8}{'MiB/s':>8}   {'plain':8}{'s':>8}{'MiB/s':>8}   {'ratio':>6}  runs")
        for kind, (config, shard, plain, do) in kinds.items():
            ours, theirs = [], []
            for _ in range(args.runs):
                theirs.append(timed(lambda do=do: do(images, root / "plain"), root))
                shutil.rmtree(root / "plain")
                ours.append(timed(lambda k=kind, c=config, s=shard: export(images, k, c, s), root))
                for made in export.made:
                    shutil.rmtree(made)
            a, b = statistics.median(ours), statistics.median(theirs)
            each = " ".join(f"{y / x:.2f}" for x, y in zip(ours, theirs, strict=True))
            print(f"{kind:14}{a:8.2f}{total / a:8.0f}   {plain:8}{b:8.2f}{total / b:8.0f}   {b / a:6.2f}  {each}", flush=True)
        print(f"peak memory of this process: {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024:,.0f} MB")
        print("Goals: image_folder at least 0.8 of tar -x, webdataset at least 0.8 of cat, memory below 300 MB.")


if __name__ == "__main__":
    main()
