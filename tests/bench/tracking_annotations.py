"""What the annotation file of many tracking pairs takes, from a simulated set as large as LVIS's training images.

    python -m tests.bench.tracking_annotations [--images 100170] [--per-image 12.7] [--variants 1] [--root DIR]

A set of so many images in 12 buckets, with polygons of 32 corners on average, and one pair of each image with half of its objects; the
export reads listing and units and writes annotations.json. Seconds and peak memory of the process that writes, and the size of what it
reads and writes. Prints a table, asserts nothing.
"""

import argparse
import json
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

from synth.keys import dump
from synth.numerics import EXACT
from synth.store.folder import StageFolder
from synth.store.framing import UnitIndex, frame, seal
from synth.store.samples import Sample
from synth.store.spec import InputFile, StageSpec, canonical
from synth.tracking.listing import ROLE, ListingWriter, head_file
from tests.configs import AnnotationsConfig, DatasetConfig, ModelConfig, PairsConfig
from tests.fixtures_images import child

BUCKETS, UNIT, CORNERS = 12, 256, 32
JPG = b"\xff\xd8" + bytes(20_000)  # no reader of annotations looks at it
MEASURED = """
import sys, time
from synth.store.folder import StageFolder
from synth.tracking.annotations import Annotations
stage = Annotations(StageFolder.open(sys.argv[1]))
stage.check()
begin = time.perf_counter()
facts = stage.compute(None, range(1))[0]
annotations = sum(n for name, n in facts["counts"].items() if name.endswith("annotations"))
peak = next(line for line in open("/proc/self/status") if line.startswith("VmHWM"))  # ru_maxrss would be inherited from who started this
print(time.perf_counter() - begin, int(peak.split()[1]) / 1024, facts["bytes"], annotations)
"""


def polygons(rng: np.random.Generator, n: int) -> list[str]:
    """JSON of polygons, to be chosen from."""
    return [json.dumps([[round(float(v), 2) for v in rng.uniform(0, 480, 2 * int(rng.integers(4, 2 * CORNERS - 4)))]]) for _ in range(n)]


def simulated(root: Path, images: int, per_image: float, variants: int) -> StageFolder:
    """A whole pairs stage of so many images, listed by bucket, in the order of the file within each."""
    rng = np.random.default_rng(0)
    shapes, counts, bucket = polygons(rng, 2000), rng.poisson(per_image, images), rng.integers(BUCKETS, size=images)
    first = np.concatenate([[0], np.cumsum(counts)])
    writer, order = ListingWriter(), np.argsort(bucket, kind="stable")
    for place in order.tolist():
        annotations = ",".join(
            f'{{"id": {first[place] + k + 1}, "image_id": {place + 1}, "category_id": {k % 1203 + 1}, "area": {500 + 700 * k}.25, '
            f'"bbox": [{k}.5, 20.25, 100.0, 120.75], "segmentation": {shapes[(place * 7 + k) % len(shapes)]}}}'
            for k in range(counts[place])
        )
        image = f'{{"id": {place + 1}, "file_name": "{place + 1:012d}.jpg", "width": 640, "height": 480, "neg_category_ids": [1, 2, 3]}}'
        size = f'"size": {len(JPG)}, "bucket": [768, 512], "captions": []'
        writer.add(f'{{"path": "{place + 1:012d}.jpg", {size}, "image": {image}, "annotations": [{annotations}]}}'.encode(), place)
    categories = [{"id": k + 1, "name": f"c{k}", "synset": f"c{k}.n.01", "frequency": "f"} for k in range(1203)]
    files, identity = writer.finish(head_file(categories, images, int(first[-1]), int(first[-1])))
    config = dump(PairsConfig(seed=0, model=ModelConfig("x"), dataset=DatasetConfig("bench", (), 0), variants=variants, format="jpg"))
    inputs = {ROLE: InputFile("/nowhere", identity), "images": InputFile("/nowhere", "0")}
    folder = StageFolder.create(root, StageSpec("pairs", "pairs", config, images * variants, UNIT, 8, EXACT, {}, inputs, files=files))
    for number in range(folder.spec.n_units):
        unit = folder.unit(number)
        made = [sample(slot, int(order[slot // variants]), variants, counts, first) for slot in range(unit.start, unit.stop)]
        batch = frame("tar", made)
        end, _ = seal("tar", UnitIndex(number, unit.start, len(unit), batch.entries, {}, ""), len(batch.data))
        folder.unit_path(number).parent.mkdir(parents=True, exist_ok=True)
        folder.unit_path(number).write_bytes(batch.data + end)
    return folder


def sample(slot: int, place: int, variants: int, counts: np.ndarray, first: np.ndarray) -> Sample:
    objects = [
        {
            "id": int(first[place]) + k + 1,
            "category_id": k % 1203 + 1,
            "bbox": [3, 4, 90, 80],
            "area": 5000,
            "segmentation": {"size": [480, 640], "counts": "a" * 200},
        }
        for k in range(6, counts[place])
    ]
    name = f"{place + 1:012d}"
    record = {
        "file_name": f"{name}_v{slot % variants}.jpg",
        "source": f"{name}.jpg",
        "width": 640,
        "height": 480,
        "unchanged": False,
        "objects": objects,
    }
    return Sample(slot, f"{slot:09d}", {"jpg": JPG, "json": canonical(record)})


def main() -> None:
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--images", type=int, default=100_170)
    p.add_argument("--per-image", type=float, default=12.7)
    p.add_argument("--variants", type=int, default=1)
    p.add_argument("--root", type=Path, default=None)
    args = p.parse_args()
    root = Path(tempfile.mkdtemp(dir=args.root))
    try:
        begin = time.perf_counter()
        pairs = simulated(root / "runs", args.images, args.per_image, args.variants)
        listing = sum(f.stat().st_size for f in pairs.path.glob("annotated.*"))
        units = sum(pairs.unit_path(n).stat().st_size for n in range(pairs.spec.n_units))
        print(f"{args.images:,} images x {args.variants} variants simulated in {time.perf_counter() - begin:.0f} s")
        for segmentations in (False, True):
            folder = child(pairs.path.parent, "annotations", AnnotationsConfig(segmentations=segmentations), {"images": [pairs]})
            run = subprocess.run([sys.executable, "-c", MEASURED, str(folder.path)], check=True, capture_output=True, text=True)
            seconds, memory, size, annotations = map(float, run.stdout.split())
            print(
                f"segmentations={segmentations!s:5}  listing {listing / 1e6:,.0f} MB (packed), "
                f"units {units / 1e9:.1f} GB -> {size / 1e6:,.0f} MB, "
                f"{annotations:,.0f} annotations: {seconds:.1f} s, peak {memory:,.0f} MB"
            )
    finally:
        shutil.rmtree(root)


if __name__ == "__main__":
    main()
