"""Readers of layout labels, as the projects that train on them read them: the rules of their loaders, without their packages."""

import base64
import io
import json
import os
from pathlib import Path

import numpy as np
from PIL import Image
from pycocotools import mask as coco

MOST = 20  # boxes a picture, of rich_context_L2I


def rich_context(root: Path, labels: Path, most: int = MOST, field: str = "caption") -> list[dict]:
    """rich_context_L2I's CC3MSyntheticDataset in its evaluating form: every .json below `labels` is a label file, its number leads to the
    picture; what img2dataset is said to have padded is cut off; the first `most` boxes, their labels numbered where they are the same."""
    found = []
    for parent, _, _ in sorted(os.walk(labels)):
        for name in sorted(os.listdir(parent)):
            if not name.endswith(".json"):
                continue
            number = name.split(".")[0].split("_")[-1]
            image = root / "cc3m-images" / f"{int(number) // 10000:05d}" / f"{number}.jpg"
            if not image.exists():
                continue
            path = labels / Path(parent).name / name  # of the path it keeps the last folder and the name
            found.append(_sample(image, json.loads(path.read_text()), most, field))
    return found


def _sample(image: Path, label: dict, most: int, field: str) -> dict:
    pixels = np.asarray(Image.open(image).convert("RGB"))
    boxes = [[x, y, x + w, y + h] for x, y, w, h in (a["bbox"] for a in label["annos"])]
    meta = json.loads(Path(str(image).replace(".jpg", ".json")).read_text())
    width, height = meta["original_width"], meta["original_height"]
    if height != width:
        at = int(abs(height - width) / 2 * (pixels.shape[0] / height if height > width else pixels.shape[1] / width))
        pixels = pixels[:, at : pixels.shape[1] - at] if height > width else pixels[at : pixels.shape[0] - at]
        boxes = [[x - at, y, z - at, w] if height > width else [x, y - at, z, w - at] for x, y, z, w in boxes]
    names = [a[field] for a in label["annos"]][:most]
    for n in range(len(names)):
        if names.count(names[n]) > 1:
            names[n] += f"_{names[:n].count(names[n])}"  # which is 0: those before it have another name by now
    return {"image": str(image), "pixels": pixels, "caption": label["caption"], "boxes": boxes[:most], "labels": names}


def instance_diffusion(root: Path, text_file: str = "train.txt") -> list[dict]:
    """InstanceDiffusion's JsonDataset and decode_item: a line a label file, the picture in base64 inside, masks as pycocotools
    has them: those that are there in one array, in which an object finds its own by its place among all objects."""
    found = []
    for line in (root / text_file).read_text().splitlines():
        item = json.loads((root / line.strip()).read_text())
        item["image"] = Image.open(io.BytesIO(base64.b64decode(item["image"]))).convert("RGB")
        for anno in item["annos"]:
            for name in ("text_embedding_before", "blip_clip_embeddings"):
                anno[name] = np.frombuffer(base64.b64decode(anno[name]), dtype="float32")
        segs = [coco.decode([a["mask"]])[:, :, 0].astype(bool) for a in item["annos"] if "mask" in a]
        item["segs"] = [segs[number] for number in range(len(item["annos"]))] if segs else []
        found.append(item)
    return found
