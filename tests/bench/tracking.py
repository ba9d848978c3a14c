"""How long tracking pairs take, and how well objects are kept.

    python -m tests.bench.tracking [--images 33] [--rounds 3]
    python -m tests.bench.tracking --plan [--images 100170] [--hdf5]

Without --plan: the pairs stage against a literal loop of batch 1, see tests/bench/tracking_drawing.py.
--plan: an annotation file of LVIS train's size (12.7 annotations an image, 1.1 GB) is simulated with its captions and (empty) images,
and planned in a child process: seconds and peak memory.
"""

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

PER_IMAGE = 12.7  # annotations, of LVIS train
POLYGONS = 4000  # distinct outlines
CATEGORIES = 1203


def simulate(root: Path, images: int) -> list[str]:
    """Annotations, captions and image files of a byte below `root`; the overrides that name them."""
    rng = np.random.default_rng(0)
    outlines = [_outline(rng, n) for n in rng.gamma(1.5, 31, POLYGONS).astype(int) + 3]
    counts, number = rng.poisson(PER_IMAGE, images), 0
    sizes = [(640, 480), (480, 640), (640, 427), (427, 640), (500, 375), (640, 640), (612, 612), (640, 360)]
    with open(root / "annotations.json", "w") as f:
        f.write('{"info": {}, "images": [')
        for i in range(images):
            w, h = sizes[i % len(sizes)]
            row = {
                "id": i,
                "width": w,
                "height": h,
                "coco_url": f"http://images.cocodataset.org/train2017/{i:012d}.jpg",
                "neg_category_ids": [1, 2],
            }
            f.write((", " if i else "") + json.dumps(row | {"not_exhaustive_category_ids": [], "license": 1}))
        f.write('], "annotations": [')
        for i, n in enumerate(counts):
            for _ in range(n):
                number += 1
                area, outline = outlines[number % POLYGONS]
                f.write(
                    f'{", " if number > 1 else ""}{{"id": {number}, "image_id": {i}, "category_id": {1 + number % CATEGORIES}, '
                    f'"area": {area}, "bbox": [10.25, 20.5, 100.75, 80.0], "segmentation": [{outline}]}}'
                )
        f.write('], "categories": ')
        names = ({"id": k, "name": f"class_{k}", "synset": f"class_{k}.n.01", "frequency": "fcr"[k % 3]} for k in range(1, CATEGORIES + 1))
        f.write(json.dumps(list(names)) + "}")
    captions = (
        {"image_id": i, "id": i * 5 + k, "caption": f"A picture of thing {i} seen from side {k}."} for i in range(images) for k in range(5)
    )
    (root / "captions.json").write_text(json.dumps({"annotations": list(captions)}))
    (root / "images" / "train2017").mkdir(parents=True)
    for i in range(images):
        (root / "images" / "train2017" / f"{i:012d}.jpg").write_bytes(b"x")
    return [
        f"dataset.{key}={root / name}"
        for key, name in (("annotations", "annotations.json"), ("captions", "captions.json"), ("images", "images"))
    ]


def keyed(root: Path, images: int) -> Path:
    """The same images as an HDF5 file keyed by name."""
    import h5py

    with h5py.File(root / "images.h5", "w", libver="latest") as f:
        for i in range(images):
            f.create_dataset(f"{i:012d}.jpg", data=np.zeros(1, np.uint8))
    return root / "images.h5"


def plan(overrides: list[str]) -> None:
    """Plan in this process and say what that took."""
    begun = time.perf_counter()
    from launch.config.compose import Composer, typed
    from launch.plan.graph import plan_point

    point = plan_point(
        typed(Composer().compose(["recipe=tracking", "dataset=lvis", "tracking.size=[768,512]", "tracking.bucket=64", *overrides]))
    )
    seconds, used = time.perf_counter() - begun, resource.getrusage(resource.RUSAGE_SELF)
    peak, cpu = used.ru_maxrss / 2**20, used.ru_utime + used.ru_stime
    spec = point.stages[0].spec
    listing = sum(map(len, spec.files.values())) / 2**20
    print(
        f"  {seconds:6.1f} s ({cpu:.1f} s of CPU)  peak {peak:.2f} GiB  {spec.slots:,} slots in {spec.n_units:,} units, "
        f"listing {listing:,.0f} MiB"
    )
    print(f"  {spec.settings['price']}")


def bench_plan(images: int, hdf5: bool) -> None:
    with tempfile.TemporaryDirectory(prefix="synthset-bench-") as name:
        root = Path(name)
        overrides = simulate(root, images)
        size = (root / "annotations.json").stat().st_size
        print(
            f"{images:,} images, annotations of {size / 2**20:,.0f} MiB, {os.cpu_count()} cores with a load of {os.getloadavg()[0]:.1f}; "
            "files warm in memory"
        )
        for place in ["folder", *(["HDF5"] if hdf5 else [])]:
            print(f"images in a {place}:" if place == "folder" else "images in an HDF5 file:", flush=True)
            more = [f"dataset.images={keyed(root, images)}"] if place == "HDF5" else []
            code = f"from tests.bench.tracking import plan\nplan({[*overrides, *more]!r})"
            subprocess.run([sys.executable, "-c", code], check=True)


def _outline(rng: np.random.Generator, n: int) -> tuple[float, str]:
    """(area, [x, y, ..] as text) of n points round an ellipse."""
    a, b = rng.uniform(5, 150, 2)
    angle = np.sort(rng.uniform(0, 2 * np.pi, n))
    points = np.stack([200 + a * np.cos(angle), 200 + b * np.sin(angle)], 1).round(2)
    return round(float(np.pi * a * b), 2), json.dumps(points.ravel().tolist())


def main() -> None:
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    p.add_argument("--plan", action="store_true", help="the plan of a file of LVIS train's size")
    p.add_argument("--images", type=int, default=None)
    p.add_argument("--rounds", type=int, default=3, help="of drawing")
    p.add_argument("--hdf5", action="store_true", help="plan with the images in an HDF5 file too")
    args = p.parse_args()
    if args.plan:
        bench_plan(args.images or 100_170, args.hdf5)
    else:
        from tests.bench.tracking_drawing import bench_drawing

        bench_drawing(args.images or 33, args.rounds)


if __name__ == "__main__":
    main()
