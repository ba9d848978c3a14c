"""Small annotated sets in LVIS's form, drawn by the renderer of the embedded pictures."""

import json
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from PIL import Image
from pycocotools import mask as rle

from synth.embedded.pictures import backgrounds, grammar
from synth.embedded.pictures.render import Item, Scene, classes, drawings, render

SIZES = ((96, 64), (64, 96), (64, 48))  # width, height
RARE = ("rocket", "pizza")  # frequency r


@dataclass(frozen=True)
class AnnotatedSet:
    annotations: Path
    images: Path  # a folder
    captions: Path | None

    @property
    def overrides(self) -> list[str]:
        """As the command line of run.py takes them, with the small areas that fit such scenes."""
        paths = {k: v for k in ("annotations", "images", "captions") if (v := getattr(self, k)) is not None}
        return [
            "recipe=tracking",
            "dataset=lvis",
            *(f"dataset.{k}={v}" for k, v in paths.items()),
            "tracking.min_area=144",
            "tracking.dilate=3",
        ]


def make(folder: Path, n: int = 6, size=SIZES, seed: int = 0, captions: bool = True) -> AnnotatedSet:
    """n scenes of 1 to 3 objects below `folder`: the first one has a crowd too, the last one (of several) no object.

    Segmentations are polygons, compressed and uncompressed RLE in turn. Images have the sizes of `size` in turn, two captions each.
    """
    folder = Path(folder)
    (folder / "images").mkdir(parents=True)
    rng, names = np.random.default_rng(seed), classes()
    images, annotations, texts = [], [], []
    for i in range(n):
        width, height = size[i % len(size)]
        background = backgrounds.NAMES[int(rng.integers(len(backgrounds.NAMES)))]
        count = 0 if i == n - 1 and n > 1 else 1 + i % 3
        chosen = [names[int(k)] for k in rng.permutation(len(names))[:count]]
        scene = render(
            Scene(background, tuple(_item(rng, c, at, count) for at, c in enumerate(chosen)), int(rng.integers(2**31))),
            height,
            width,
        )
        image_id = 1001 + 7 * i
        name = f"{image_id:012d}.jpg"
        Image.fromarray(scene.image).save(folder / "images" / name, quality=95, subsampling=0)
        lvis = {"neg_category_ids": [], "not_exhaustive_category_ids": [], "coco_url": f"http://images.test/train/{name}"}
        images.append({"id": image_id, "file_name": name, "width": width, "height": height} | lvis)
        for cls, mask in zip(chosen, scene.masks, strict=True):
            if mask.sum() >= 12:
                annotations.append(annotation(len(annotations) + 1, image_id, names.index(cls) + 1, mask, len(annotations) % 3))
        if i == 0:
            mask = np.zeros((height, width), bool)
            mask[2 : height // 2, 2 : width // 2] = True
            annotations.append(annotation(len(annotations) + 1, image_id, 1, mask, 2) | {"iscrowd": 1})
        where, who = grammar.background_phrase(background, rng), " and ".join(grammar.article(c) for c in chosen) or "nothing"
        for text in (f"{who} {where}", f"a picture of {who} {where}"):
            texts.append({"id": len(texts) + 1, "image_id": image_id, "caption": text})
    categories = [
        {"id": k + 1, "name": c, "synset": f"{c}.n.01", "frequency": "r" if c in RARE else "f", "image_count": 1}
        for k, c in enumerate(names)
    ]
    (folder / "annotations.json").write_text(
        json.dumps({"info": {}, "images": images, "annotations": annotations, "categories": categories})
    )
    if captions:
        (folder / "captions.json").write_text(json.dumps({"images": images, "annotations": texts}))
    return AnnotatedSet(folder / "annotations.json", folder / "images", folder / "captions.json" if captions else None)


def annotation(number: int, image_id: int, category_id: int, mask: np.ndarray, form: int) -> dict:
    """The annotation of a mask, bool [H, W]; form: 0 polygons, 1 compressed RLE, 2 uncompressed RLE."""
    rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
    x, y = float(columns[0]), float(rows[0])
    return {
        "id": number,
        "image_id": image_id,
        "category_id": category_id,
        "iscrowd": 0,
        "bbox": [x, y, float(columns[-1]) + 1 - x, float(rows[-1]) + 1 - y],
        "area": float(mask.sum()),
        "segmentation": (polygons, compressed, uncompressed)[form](mask),
    }


def polygons(mask: np.ndarray) -> list[list[float]]:
    """Outlines through the corners of the outer pixels, so that filling them gives about the mask."""
    big = cv2.resize(mask.astype(np.uint8), None, fx=4, fy=4, interpolation=cv2.INTER_NEAREST)
    found, _ = cv2.findContours(big, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_TC89_L1)
    return [[float(v) for v in (c.reshape(-1, 2) / 4 + 0.125).ravel()] for c in found if len(c) >= 3]


def compressed(mask: np.ndarray) -> dict:
    found = rle.encode(np.asfortranarray(mask.astype(np.uint8)))
    return {"size": list(mask.shape), "counts": found["counts"].decode()}


def uncompressed(mask: np.ndarray) -> dict:
    flat = mask.ravel(order="F")
    ends = np.flatnonzero(np.diff(flat)) + 1
    runs = np.diff(np.concatenate(([0], ends, [flat.size]))).tolist()
    return {"size": list(mask.shape), "counts": [0, *runs] if flat[0] else runs}


def _item(rng: np.random.Generator, cls: str, at: int, count: int) -> Item:
    """One of `count` objects side by side."""
    share = float(rng.uniform(0.55, 0.8)) if count == 1 else float(rng.uniform(0.4, 0.6))
    x = (at + 1) / (count + 1) + float(rng.uniform(-0.04, 0.04))
    return Item(cls, int(rng.integers(len(drawings(cls)))), place=(x, float(rng.uniform(0.4, 0.6)), share))
