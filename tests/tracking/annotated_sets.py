"""The smallest annotated sets: plain data, and images of a few bytes that nobody decodes."""

import json
from pathlib import Path

CATEGORIES = [
    {"id": 3, "name": "cat", "frequency": "f", "synset": "cat.n.01"},
    {"id": 5, "name": "yeti", "frequency": "r", "synset": "yeti.n.01"},
    {"id": 9, "name": "dog", "frequency": "c", "synset": "dog.n.01"},
]


def image(number: int, width: int = 96, height: int = 64, **more) -> dict:
    return {"id": number, "file_name": f"{number:03d}.jpg", "width": width, "height": height} | more


def square(number: int, image_id: int, category: int = 3, side: int = 20, **more) -> dict:
    """The annotation of a square in the corner."""
    found = {
        "id": number,
        "image_id": image_id,
        "category_id": category,
        "bbox": [0, 0, side, side],
        "area": float(side * side),
        "iscrowd": 0,
    }
    return found | {"segmentation": [[0, 0, side, 0, side, side, 0, side]]} | more


def plain() -> dict:
    """Three images of two buckets, the last one without objects."""
    images = [image(1), image(2, 64, 96), image(3)]
    return {
        "info": {"year": 2026},
        "images": images,
        "annotations": [square(1, 1), square(2, 2, 9), square(4, 1, 5)],
        "categories": CATEGORIES,
    }


def write(folder: Path, data: object, captions: object = None) -> Path:
    """annotations.json and captions.json (where given) in `folder`, and a file of a byte for each image that can have one."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "annotations.json").write_bytes(data if isinstance(data, bytes) else json.dumps(data).encode())
    if captions is not None:
        (folder / "captions.json").write_bytes(captions if isinstance(captions, bytes) else json.dumps(captions).encode())
    (folder / "images").mkdir(exist_ok=True)
    for row in data["images"] if isinstance(data, dict) and isinstance(data.get("images"), list) else []:
        name = str(row.get("file_name") or "x")
        if not name.startswith("/") and ".." not in name and "\0" not in name and not any("\ud800" <= c <= "\udfff" for c in name):
            path = folder / "images" / name
            path.parent.mkdir(parents=True, exist_ok=True)
            if not path.is_dir():
                path.write_bytes(b"x" * (1 + row["id"] % 5))
    return folder
