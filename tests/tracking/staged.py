"""Planned pairs stages for tests, made from an annotation file without the planner, so that odd inputs reach the worker."""

import json
from dataclasses import replace
from pathlib import Path

from synth.config import ModelConfig, PairsConfig, dump
from synth.numerics import EXACT
from synth.store.folder import StageFolder
from synth.store.identity import LISTED, identity
from synth.store.spec import InputFile, StageSpec
from synth.tracking.canvas import bucket_of
from synth.tracking.listing import ROLE, ListingWriter
from synth.tracking.objects import objects_of

EMBEDDED = Path(__file__).parents[2] / "synth" / "embedded" / "models" / "tiny_sd"
PAIRS = PairsConfig(
    seed=3, model=ModelConfig("tiny"), guidance_scale=3.0, steps=4, min_area=144.0, dilate=3, long_side=64, short_side=48, bucket=16, harmonize=1
)


def pairs_stage(root: Path, annotated, model: Path = EMBEDDED, unit_size: int = 4, batch: int = 4, numerics=EXACT, run=None, **config) -> StageFolder:
    """annotated: an AnnotatedSet. Images with objects come first, by bucket; units end where a bucket does."""
    config = replace(PAIRS, **config)
    data = json.loads(annotated.annotations.read_text())
    captions = json.loads(annotated.captions.read_text())["annotations"] if annotated.captions else []
    found = []
    for image in data["images"]:
        own = [a for a in data["annotations"] if a["image_id"] == image["id"]]
        bucket = None
        if objects_of(own, config.min_area, config.max_area):
            bucket = bucket_of(image["width"], image["height"], config.long_side, config.short_side, config.bucket)
        file = annotated.images / image["file_name"]
        texts = [c["caption"] for c in captions if c["image_id"] == image["id"]]
        size = file.stat().st_size if file.is_file() else 0
        found.append({"path": image["file_name"], "size": size, "bucket": bucket, "captions": texts, "image": image, "annotations": own})
    found.sort(key=lambda row: (row["bucket"] is None, row["bucket"] or ()))
    writer, ends = ListingWriter(), []
    for at, row in enumerate(found):
        writer.add(json.dumps(row).encode())
        for variant in range(config.variants):
            slot = at * config.variants + variant
            begins = ends[-2] if len(ends) > 1 else 0
            if not ends or slot - begins == unit_size or (variant == 0 and row["bucket"] != found[at - 1]["bucket"]):
                ends.append(slot)
            ends[-1] = slot + 1
    files, listed = writer.finish()
    inputs = {"model": InputFile(str(model), identity(model)), "images": InputFile(str(annotated.images), LISTED + "images"), ROLE: InputFile("annotations", listed)}
    unit_size = max(b - a for a, b in zip([0, *ends], ends, strict=False))
    spec = StageSpec(
        "pairs", "pairs", dump(config), ends[-1], unit_size, batch, numerics, inputs=inputs, settings=run or {}, ends=tuple(ends), files=files
    )
    return StageFolder.create(root, spec)
