"""Make the 200 annotated scenes of ../scenes: pictures of one to four objects, annotations in LVIS's form, captions in COCO's.

    python -m synth.embedded.train.scenes [FOLDER]

    images.h5         a uint8 dataset a picture, called like its file, holding its JPEG
    annotations.json  images, annotations, categories
    captions.json     five captions a picture

Everything follows from SEED and the number of the picture. Masks are polygons along the borders of pixels, so that pycocotools
gives them back exactly; those with holes, and some others, are run lengths, as numbers or as COCO's text. Needs pycocotools.
"""

import argparse
import io
import json
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from synth.embedded.pictures import backgrounds
from synth.embedded.pictures.render import Item, Rendered, Scene, classes, drawings, render, tight_box
from synth.embedded.train.scene_captions import captions
from synth.export.outlines import polygons
from synth.tracking.segmentation import unpacked

FOLDER = Path(__file__).resolve().parent.parent / "scenes"
IMAGES, SEED = 200, 5
QUALITY = 88  # of the JPEGs
SIZES = (((96, 64), 0.5), ((64, 96), 0.15), ((80, 64), 0.2), ((64, 64), 0.15))  # (width, height), share
COUNTS = ((1, 0.25), (2, 0.4), (3, 0.25), (4, 0.1))  # objects, share
COMMON = ("dog", "cat", "car", "apple", "sailboat", "sunflower")  # drawn three times as often
RARE = ("pineapple", "honeybee", "umbrella")  # and these a quarter as often
SELDOM = {"forest": 0.25, "night sky": 0.35}  # places that the small model fills with specks where there is no object
FREQUENT, SOME = 30, 10  # pictures with a category, more than: f, c; else r
# every so many pictures, by their number: special cases that real files have
SPECIAL = {
    20: "small", 40: "empty", 55: "crowd", 90: "small", 110: "crowd", 130: "unlabelled", 150: "crowd", 160: "empty",
    175: "unlabelled", 190: "only crowd",
}  # fmt: skip


@dataclass(frozen=True)
class Made:
    """A scene with its picture. crowd: of the items that are annotated as one; left_out: items without annotation."""

    number: int  # from 1
    scene: Scene
    width: int
    height: int
    rendered: Rendered
    crowd: tuple[int, ...] = ()
    left_out: tuple[int, ...] = ()


def made(number: int) -> Made:
    """The scene of a picture, drawn anew until every object shows half of itself at least."""
    rng = np.random.default_rng([SEED, number])
    special = SPECIAL.get(number, "")
    (width, height) = _one(rng, SIZES)
    while True:
        background = _background(rng)
        items = _items(rng, special, width, height)
        scene = Scene(background, items, int(rng.integers(2**31)))
        rendered = render(scene, height, width)
        whole = [render(Scene(background, (i,), scene.variant), height, width).masks[0].sum() for i in items]
        if all(m.sum() >= 0.55 * w for m, w in zip(rendered.masks, whole, strict=True)):
            break
    crowd = tuple(range(len(items))) if special == "only crowd" else tuple(range(len(items) - 1)) if special == "crowd" else ()
    return Made(number, scene, width, height, rendered, crowd, (len(items) - 1,) if special == "unlabelled" else ())


def _items(rng: np.random.Generator, special: str, width: int, height: int) -> tuple[Item, ...]:
    if special == "empty":
        return ()
    if special in ("crowd", "only crowd"):
        cls = str(rng.choice(("penguin", "frog", "fish", "mushroom")))
        return _group(rng, cls, _item(rng, _class(rng)) if special == "crowd" else None)
    if special == "unlabelled":
        cls = _class(rng)
        return (_item(rng, cls, 0.3), _item(rng, cls, 0.7, (0.25, 0.3)))
    n = 2 if special == "small" else _one(rng, COUNTS)
    sides = (0.13, 0.17) if special == "small" else {1: (0.45, 0.7), 2: (0.38, 0.6), 3: (0.32, 0.5), 4: (0.28, 0.42)}[n]
    chosen = [_class(rng) for _ in range(n)]
    if n > 1 and rng.random() < 0.3:
        chosen[1] = chosen[0]
    order = rng.permutation(n)
    items = [_item(rng, cls, (order[k] + 0.5) / n, sides, 0.18 / n, tall=height > width) for k, cls in enumerate(chosen)]
    if not special and rng.random() < 0.15:
        items.append(_item(rng, _class(rng), float(rng.uniform(0.1, 0.9)), (0.13, 0.17)))  # too small to be kept
    return tuple(items)


def _item(rng, cls: str, along: float = 0.5, sides=(0.4, 0.55), shake: float = 0.05, tall: bool = False) -> Item:
    """An object, its centre `along` the longer side of the picture, its side a share of the shorter one."""
    share = float(np.round(rng.uniform(*sides), 3))
    across = float(rng.uniform(0.36, 0.62))
    along = float(np.clip(along + rng.normal(0, shake), 0.16, 0.84))
    x, y = (across, along) if tall else (along, across)
    return Item(cls, int(rng.integers(len(drawings(cls)))), place=(round(x, 3), round(y, 3), share))


def _group(rng, cls: str, beside: Item | None) -> tuple[Item, ...]:
    """Five or six small ones close together, and perhaps another object apart from them."""
    n, drawing, left = int(rng.integers(5, 7)), int(rng.integers(len(drawings(cls)))), 0.12 if beside else 0.2
    spread = 0.1 if beside else 0.13
    small = [Item(cls, drawing, place=(round(left + spread * k, 3), round(0.55 + 0.12 * (k % 2), 3), 0.24)) for k in range(n)]
    return (*small, Item(beside.cls, beside.drawing, place=(0.83, 0.4, 0.45))) if beside else tuple(small)


def _background(rng) -> str:
    """A painted place, or a plain colour an eighth of the time."""
    if rng.random() < 0.125:
        return f"{rng.choice(tuple(backgrounds.PLAIN))} background"
    weights = np.array([SELDOM.get(name, 1.0) for name in backgrounds.SCENES])
    return str(rng.choice(tuple(backgrounds.SCENES), p=weights / weights.sum()))


def _class(rng) -> str:
    weights = np.array([3.0 if c in COMMON else 0.25 if c in RARE else 1.0 for c in classes()])
    return str(rng.choice(classes(), p=weights / weights.sum()))


def _one(rng, shares):
    values, weights = zip(*shares, strict=True)
    return values[int(rng.choice(len(values), p=weights))]


# -- files -----------------------------------------------------------------------------------------------------------


def file_name(number: int) -> str:
    return f"{number:012d}.jpg"


def jpeg(image: np.ndarray) -> bytes:
    out = io.BytesIO()
    Image.fromarray(image).save(out, "JPEG", quality=QUALITY, subsampling=0, optimize=True)
    return out.getvalue()


def annotations(scenes: list[Made]) -> dict:
    """The annotation file, in LVIS's form with COCO's iscrowd and file_name."""
    order = sorted(classes())  # LVIS's categories are in the order of their names
    rows: list[dict] = []
    for scene in scenes:
        for cls, mask, crowd in _objects(scene):
            rows.append(_annotation(len(rows) + 1, scene.number, order.index(cls) + 1, mask, crowd))
    images = [_image(scene, order) for scene in scenes]
    categories = [_category(k, name, [r for r in rows if r["category_id"] == k]) for k, name in enumerate(order, start=1)]
    about = {"description": "drawn by synth.embedded.train.scenes", "version": "1"}
    return {"info": about, "images": images, "annotations": rows, "categories": categories}


def _category(number: int, name: str, rows: list[dict]) -> dict:
    """rows: its annotations."""
    n = len({r["image_id"] for r in rows})
    frequency = "f" if n > FREQUENT else "c" if n > SOME else "r"
    category = {"id": number, "name": name, "synset": f"{name}.n.01", "frequency": frequency}
    return category | {"image_count": n, "instance_count": len(rows)}


def _objects(picture: Made) -> Iterator[tuple[str, np.ndarray, int]]:
    """(class, mask, iscrowd) of what is annotated."""
    for k, item in enumerate(picture.scene.items):
        if k not in picture.crowd and k not in picture.left_out:
            yield item.cls, picture.rendered.masks[k], 0
    if picture.crowd:
        yield picture.scene.items[picture.crowd[0]].cls, picture.rendered.masks[list(picture.crowd)].any(0), 1


def _annotation(number: int, image: int, category: int, mask: np.ndarray, crowd: int) -> dict:
    return {
        "id": number,
        "image_id": image,
        "category_id": category,
        "bbox": list(tight_box(mask)),
        "area": int(mask.sum()),
        "segmentation": _segmentation(number, mask, crowd),
        "iscrowd": crowd,
    }


def _segmentation(number: int, mask: np.ndarray, crowd: int) -> list | dict:
    """Polygons; run lengths for crowds, as COCO has it, for masks with holes, and for number 12, 24, .. (as text)."""
    from pycocotools import mask as coco

    loops = polygons(mask) if not crowd and number % 12 else None
    if loops is not None:
        return loops
    text = coco.encode(np.asfortranarray(mask.astype(np.uint8)))["counts"].decode()
    counts = text if number % 12 == 0 else unpacked(text)
    return {"size": list(mask.shape), "counts": counts}


def _image(picture: Made, order: list[str]) -> dict:
    """Two absent classes are checked as such; one of which not every object is annotated says so."""
    shown = {i.cls for i in picture.scene.items}
    absent = [k for k, c in enumerate(order, start=1) if c not in shown]
    partly = (*picture.left_out, *picture.crowd[:1])
    rng = np.random.default_rng([SEED, picture.number, 1])
    return {
        "id": picture.number,
        "file_name": file_name(picture.number),
        "width": picture.width,
        "height": picture.height,
        "neg_category_ids": sorted(int(k) for k in rng.choice(absent, 2, replace=False)),
        "not_exhaustive_category_ids": sorted({order.index(picture.scene.items[k].cls) + 1 for k in partly}),
    }


def captions_file(scenes: list[Made]) -> dict:
    """COCO's captions file."""
    images = [{"id": s.number, "file_name": file_name(s.number), "width": s.width, "height": s.height} for s in scenes]
    rows = [(s.number, text) for s in scenes for text in captions(s.scene, np.random.default_rng([SEED, s.number, 2]))]
    texts = [{"id": k, "image_id": image, "caption": text} for k, (image, text) in enumerate(rows, start=1)]
    return {"images": images, "annotations": texts}


def lines(data: dict) -> bytes:
    """JSON with an item a line, so that a change shows what it changes."""
    parts = []
    for key, value in data.items():
        rows = ",\n".join(json.dumps(v, separators=(",", ":")) for v in value) if isinstance(value, list) else ""
        parts.append(f'"{key}":' + (f"[\n{rows}\n]" if isinstance(value, list) else json.dumps(value, separators=(",", ":"))))
    return ("{" + ",\n".join(parts) + "}\n").encode()


def write(folder: Path, say: Callable[[str], None] = print) -> None:
    from synth.export.hdf5.layouts import Item as Stored
    from synth.export.hdf5.layouts import write_keyed

    scenes = [made(number) for number in range(1, IMAGES + 1)]
    folder.mkdir(parents=True, exist_ok=True)
    pictures = {file_name(s.number): jpeg(s.rendered.image) for s in scenes}
    items = [Stored(name, name, 0, lambda data=data: data) for name, data in pictures.items()]
    (folder / "images.h5").unlink(missing_ok=True)
    for _ in write_keyed(folder / "images.h5", lambda: items):
        pass
    (folder / "annotations.json").write_bytes(lines(annotations(scenes)))
    (folder / "captions.json").write_bytes(lines(captions_file(scenes)))
    for path in sorted(folder.iterdir()):
        say(f"{path}: {path.stat().st_size:,} bytes")


def main(argv=None) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m synth.embedded.train.scenes", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folder", nargs="?", type=Path, default=FOLDER)
    write(parser.parse_args(argv).folder)
    return 0


if __name__ == "__main__":
    sys.exit(main())
