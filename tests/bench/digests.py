"""What it costs that whoever reads a sample compares it with its digest.

    python -m tests.bench.digests [--runs 5] [--only NAME,..] [--root DIR]

Each reader runs over one simulated stage of images in turn with samples taken on trust, as over units without digests of files, and as it
is. On trust nothing is compared; what an export tells of a picture, its own digest, is taken there too. The page cache holds the stage, so
that reading itself costs next to nothing and a digest the most. Of each: medians of wall and of CPU time a picture, and of the ratios to
the run on trust beside it. Prints tables, asserts nothing.
"""

import argparse
import contextlib
import io
import os
import resource
import shutil
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

import synth
from synth.errors import EXIT_OK
from synth.keys import dump
from synth.numerics import EXACT
from synth.store import units
from synth.store.folder import StageFolder
from synth.store.samples import Sample
from synth.store.spec import InputFile, StageSpec, Upstream, canonical
from tests.configs import (
    BalanceConfig,
    Hdf5PartsConfig,
    ImageFolderConfig,
    NearDuplicatesConfig,
    ParquetConfig,
    PerceptualHashConfig,
    WebDatasetConfig,
)
from tests.fixtures_images import CLASSES, IMAGES, captions_json_stage, captions_stage, child, commit_units, work
from tests.verify.flips import as_earlier, forget, on_trust, trusting

SHAPES = {512: 200, 32: 2000}  # pixels of a side -> pictures
COUNTS = {str(i): 2 for i in range(len(CLASSES))}
KINDS = {
    "image_folder": ImageFolderConfig(),
    "webdataset": WebDatasetConfig(),
    "parquet": ParquetConfig(),
    "hdf5_parts": Hdf5PartsConfig("keyed"),
    "perceptual_hash": PerceptualHashConfig("phash"),
    "balance": BalanceConfig(1, COUNTS),
}


@dataclass(frozen=True)
class Spent:
    """Seconds."""

    wall: float
    cpu: float


def pictures(side: int, n: int) -> Iterator[Sample]:
    """n samples of half as much noise as a picture can hold; their metadata is as long as that of real ones."""
    files = []
    for k in range(8):
        out = io.BytesIO()
        noise = np.random.default_rng(k).integers(0, 8, (side, side, 3), np.uint8)
        Image.fromarray(noise + np.uint8(100)).save(out, "PNG", compress_level=1)
        files.append(out.getvalue())
    for slot in range(n):
        label = slot % len(CLASSES)
        record = {
            "caption": f"caption {slot}",
            "class": CLASSES[label],
            "label": label,
            "labels": [label],
            "seed": slot,
            "caption_seed": slot,
        }
        record |= {"width": side, "height": side, "settings": "x" * 900}
        yield Sample(slot, f"{slot:09d}", {"png": files[slot % 8], "json": canonical(record)})


def images(root: Path, side: int, n: int) -> StageFolder:
    table = captions_json_stage(root, [captions_stage(root, ["a"])], 1)
    assert work(table) == EXIT_OK
    ups = {"captions": (Upstream(f"../{table.path.name}", table.spec.fingerprint),)}
    folder = StageFolder.create(
        root, StageSpec("images", "images", dump(IMAGES), n, 500, 100, EXACT, ups, {"model": InputFile("/nowhere", "0")})
    )
    commit_units(folder, list(pictures(side, n)))
    return folder


def spent(run: Callable[[], None]) -> Spent:
    use, begun = resource.getrusage(resource.RUSAGE_SELF), time.perf_counter()
    run()
    wall, now = time.perf_counter() - begun, resource.getrusage(resource.RUSAGE_SELF)
    return Spent(wall, now.ru_utime + now.ru_stime - use.ru_utime - use.ru_stime)


def readers(folder: StageFolder) -> dict[str, Callable[[], None]]:
    """name -> a pass over all pictures."""
    n, root = folder.spec.slots, folder.path.parent

    def worked(stage: StageFolder) -> Callable[[], None]:
        def run() -> None:
            forget(stage)
            assert work(stage) == EXIT_OK

        return run

    def each(ask: Callable) -> Callable[[], None]:
        def run() -> None:
            with synth.open_stage(folder.path) as stage:
                for sample in stage:
                    ask(sample)

        return run

    def metadata() -> None:
        with synth.open_stage(folder.path, check=units._checked is not on_trust) as stage:
            for sample in stage:
                sample.metadata  # noqa: B018 (it is read)

    def torch_items() -> None:
        items = synth.open_stage(folder.path).torch(np.asarray)
        for k in range(len(items)):
            items[k]

    stages = {name: child(root, name, config, {"images": [folder]}, n, 500, 500) for name, config in KINDS.items()}
    scores = child(root, "perceptual_hash", PerceptualHashConfig("dhash"), {"images": [folder]}, n, 500, 100)
    assert work(scores) == EXIT_OK
    filtered = child(root, "near_duplicates", NearDuplicatesConfig(), {"images": [folder], "scores": [scores]}, n, 500, 100)
    return {
        **{name: worked(stage) for name, stage in stages.items()},
        "near_duplicates": worked(filtered),
        "open_stage: picture and metadata": each(lambda s: (s.metadata, s.read())),
        "open_stage: metadata alone": metadata,
        "open_stage: decoded": each(lambda s: s.image()),
        "torch dataset": torch_items,
    }


WAYS = {"on trust": trusting, "earlier": as_earlier, "checked": contextlib.nullcontext}


def compare(name: str, run: Callable[[], None], n: int, runs: int) -> None:
    """One row: the ways in turn, the first round not counted."""
    ways: dict[str, list[Spent]] = {way: [] for way in WAYS}
    for k in range(runs + 1):
        for way, context in WAYS.items():
            with context():
                took = spent(run)
            if k:
                ways[way].append(took)
    cells = []
    for of in ("wall", "cpu"):
        took = {way: [getattr(s, of) / n * 1e6 for s in all_of] for way, all_of in ways.items()}
        cells.append(f"{statistics.median(took['on trust']):8.0f}")
        for way in ("earlier", "checked"):
            ratio = statistics.median(b / a for a, b in zip(took["on trust"], took[way], strict=True))
            cells.append(f"{statistics.median(took[way]):8.0f} {100 * (ratio - 1):+6.1f} %")
    print(f"{name:34} {' '.join(cells)}", flush=True)


def main() -> None:
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    p.add_argument("--runs", type=int, default=5)
    p.add_argument("--only", default="", help="names of readers")
    p.add_argument("--sides", default=",".join(map(str, SHAPES)), help="pixels")
    p.add_argument("--root", type=Path, help="where the stages lie for the time being")
    args = p.parse_args()
    for side in map(int, args.sides.split(",")):
        with tempfile.TemporaryDirectory(prefix="synthset-bench-", dir=args.root) as place, open(os.devnull, "w") as quiet:
            n = SHAPES.get(side, 400)
            with contextlib.redirect_stderr(quiet):
                folder = images(Path(place) / "runs" / "toys", side, n)
                size = folder.reader(0).index.samples[0].files["png"][1]
                print(f"{side}x{side}, {size:,} bytes a PNG, {n:,} pictures, {args.runs} runs; microseconds a picture")
                print(f"{'':34} {'wall: on trust, earlier, checked':44} {'CPU: on trust, earlier, checked'}")
                for name, run in readers(folder).items():
                    if not args.only or name in args.only.split(","):
                        compare(name, run, n, args.runs)
            shutil.rmtree(place, ignore_errors=True)
            Path(place).mkdir()


if __name__ == "__main__":
    main()
