"""A whole `pairs` stage made without a model: every variant is its original mirrored and moved to the right, masks as well."""

import hashlib
import io
import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image
from pycocotools import mask as rle
from pycocotools.coco import COCO

from synth.captions.config import ClassEntry
from synth.keys import dump
from synth.numerics import EXACT
from synth.store.folder import StageFolder
from synth.store.framing import UnitIndex, frame, seal
from synth.store.samples import Sample, Tombstone
from synth.store.spec import InputFile, StageSpec, canonical
from synth.tracking.listing import ROLE, ListingWriter, head_file
from synth.tracking.objects import objects_of, variant_name
from tests.configs import DatasetConfig, ModelConfig, PairsConfig
from tests.tracking.scenes import AnnotatedSet

SHIFT = 20  # pixels
MIN_AREA = 144.0


@dataclass(frozen=True)
class Planned:
    """An image as the listing has it."""

    row: int
    path: str
    image: dict
    annotations: list[dict]
    kept: list[dict]


def listed(found: AnnotatedSet, config: PairsConfig) -> tuple[list[Planned], dict[str, bytes], str]:
    """(images in the order of the listing, files of the stage, identity): buckets by size, images without objects last."""
    data = json.loads(found.annotations.read_text())
    captions = json.loads(found.captions.read_text())["annotations"] if found.captions else []
    rows = []
    for order, image in enumerate(data["images"]):
        annotations = [a for a in data["annotations"] if a["image_id"] == image["id"]]
        kept = objects_of(annotations, config.min_area, config.max_area)
        rows.append((not kept, image["width"] if kept else 0, order, image, annotations, kept))
    writer, images = ListingWriter(), []
    for row, (_, _, order, image, annotations, kept) in enumerate(sorted(rows, key=lambda r: r[:3])):
        path = image["file_name"]
        line = {
            "path": path, "size": (found.images / path).stat().st_size, "bucket": [128, 128] if kept else None,
            "captions": [c["caption"] for c in captions if c["image_id"] == image["id"]], "image": image, "annotations": annotations,
        }  # fmt: skip
        writer.add(json.dumps(line).encode(), order)
        images.append(Planned(row, path, image, annotations, kept))
    head = head_file(
        data["categories"], max(i["id"] for i in data["images"]), max((a["id"] for a in data["annotations"]), default=0),
        sum(not a["iscrowd"] for a in data["annotations"]),
    )  # fmt: skip
    return images, *writer.finish(head)


def pairs_stage(
    root: Path, found: AnnotatedSet, variants: int = 2, dead: tuple[tuple[int, int], ...] = (), unit_size: int = 4, **config
) -> StageFolder:
    """dead: (image id, variant) of tombstones."""
    categories = json.loads(found.annotations.read_text())["categories"]
    dataset = DatasetConfig("scenes", tuple(ClassEntry(c["id"], c["name"]) for c in categories), len(categories))
    settings = PairsConfig(
        **{
            "seed": 0,
            "model": ModelConfig("tiny"),
            "dataset": dataset,
            "variants": variants,
            "min_area": MIN_AREA,
            "format": "jpg",
        }
        | config
    )
    images, files, identity = listed(found, settings)
    inputs = {ROLE: InputFile(str(found.annotations), identity), "images": InputFile(str(found.images), "0")}
    spec = StageSpec("pairs", "pairs", dump(settings), len(images) * variants, unit_size, unit_size, EXACT, {}, inputs, files=files)
    folder = StageFolder.create(root, spec)
    results = [made(found, coco, p, v, variants, dead) for coco in [quiet(found.annotations)] for p in images for v in range(variants)]
    for number in range(spec.n_units):
        unit = folder.unit(number)
        batch = frame("tar", results[unit.start : unit.stop])
        end, _ = seal("tar", UnitIndex(number, unit.start, len(unit), batch.entries, dict(batch.tombstones), ""), len(batch.data))
        folder.unit_path(number).parent.mkdir(parents=True, exist_ok=True)
        folder.unit_path(number).write_bytes(batch.data + end)
    return folder


def made(found: AnnotatedSet, coco: COCO, p: Planned, variant: int, variants: int, dead) -> Sample | Tombstone:
    slot = p.row * variants + variant
    if (p.image["id"], variant) in dead:
        return Tombstone(slot, f"{p.image['file_name']}: cannot be read (made so)")
    data = (found.images / p.path).read_bytes()
    pixels = np.asarray(Image.open(io.BytesIO(data)).convert("RGB"))
    objects = []
    for annotation in p.kept:
        mask = warp(coco.annToMask(annotation), variant)
        said = rle.encode(np.asfortranarray(mask))
        box = [int(n) for n in rle.toBbox(said)] if mask.any() else [0, 0, 0, 0]
        segmentation = {"size": list(mask.shape), "counts": said["counts"].decode()}
        objects.append(
            {
                "id": annotation["id"],
                "category_id": annotation["category_id"],
                "bbox": box,
                "area": int(mask.sum()),
                "segmentation": segmentation,
            }
        )
    record = {
        "file_name": variant_name(p.image["file_name"], variant), "image_id": p.image["id"], "source": p.image["file_name"],
        "source_sha256": hashlib.sha256(data).hexdigest(), "variant": variant, "width": p.image["width"], "height": p.image["height"],
        "seed": slot + 1, "caption": f"caption of {p.image['id']}" if p.kept else "", "unchanged": not p.kept, "objects": objects,
        "format": "jpg",
    }  # fmt: skip
    return Sample(slot, f"{slot:09d}", {"jpg": jpg(warp(pixels, variant) if p.kept else pixels), "json": canonical(record)})


def warp(pixels: np.ndarray, variant: int) -> np.ndarray:
    """Mirrored, then moved by SHIFT for each variant but the first; what comes from outside is black."""
    mirrored, shift = pixels[:, ::-1], SHIFT * variant
    out = np.zeros_like(pixels)
    out[:, shift:] = mirrored[:, : mirrored.shape[1] - shift]
    return out


def jpg(pixels: np.ndarray) -> bytes:
    out = io.BytesIO()
    Image.fromarray(pixels).save(out, "JPEG", quality=95, subsampling=0)
    return out.getvalue()


def quiet(annotations: Path) -> COCO:
    """pycocotools' reader, without what it prints."""
    import contextlib

    with contextlib.redirect_stdout(io.StringIO()):
        return COCO(str(annotations))
