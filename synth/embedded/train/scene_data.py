"""Render the training set of the models that look at pictures: scenes of one to five objects, and what is where in them.

Writes into a scratch folder
  pictures.npy  uint8 [N, 96, 96, 3]  longer side 96 pixels, in the upper left corner of black, as detector and segmenter take them
  owners.npy    uint8 [N, 96, 96]     which object a pixel of those shows, from 1; 0: none
  squares.npy   uint8 [N, 64, 64, 3]  stretched, as CLIP takes them
  labels.npy    int16 [N, 3 + MOST]   height and width in pictures.npy, background, class of each object; -1: there are fewer
  captions.json list of N lists of true captions

A third are grammar.py's scenes of one object, at the 32 pixels of the image model and more. Objects are drawn half with the drawings that
ship and half with those of more_drawings.py; half of the pictures went through JPEG. With --as-shipped, so large a share of all is made as
../scenes is, of other numbers: the sizes, the drawings and the JPEGs that recipe=layout meets when it is run without arguments.
"""

import argparse
import io
import json
from dataclasses import replace
from multiprocessing import Pool
from pathlib import Path

import numpy as np
from PIL import Image

from synth.embedded.pictures import backgrounds, grammar
from synth.embedded.pictures.render import Item, Rendered, Scene, classes, drawings, render
from synth.embedded.train import scenes
from synth.embedded.train.scene_captions import captions

LONG, SIDE, MOST = 96, 64, 5  # pixels of pictures.npy and squares.npy; objects of a scene
SHAPES = (((1.0, 1.0), 0.35), ((1.0, 2 / 3), 0.3), ((2 / 3, 1.0), 0.15), ((1.0, 0.8), 0.1), ((0.8, 1.0), 0.1))  # (width, height), share
LENGTHS = ((96, 0.5), (64, 0.15), (80, 0.1), (128, 0.15), (192, 0.1))  # pixels of the longer side as rendered, share
SIDES = {1: (0.3, 0.95), 2: (0.28, 0.65), 3: (0.24, 0.52), 4: (0.22, 0.44), 5: (0.2, 0.38)}  # of drawings, shares of the shorter side
COUNTS = (0.2, 0.3, 0.25, 0.15, 0.1)
OVERLAP = 0.3  # of the smaller of two squares, at most
FIRST = 1_000_000  # number of the first picture made as ../scenes is; tests/bench/quality_layout.py measures with 1001 to 1200


def one(rng: np.random.Generator, shares):
    values, weights = zip(*shares, strict=True)
    return values[int(rng.choice(len(values), p=weights))]


class Drawings:
    """Drawings by class: those that ship, and those of a folder."""

    def __init__(self, folder: Path):
        self._more = {cls: sorted(folder.glob(f"{cls}.*.png")) for cls in classes()}

    def pick(self, rng: np.random.Generator, item: Item) -> Item:
        if rng.random() < 0.5:
            return replace(item, drawing=int(rng.integers(len(drawings(item.cls)))))
        files = self._more[item.cls]
        return replace(item, file=files[int(rng.integers(len(files)))])


def items(rng: np.random.Generator, width: float, height: float, choice: Drawings) -> tuple[Item, ...]:
    """One to MOST objects that cover each other little, in a picture of these relative sides, the shorter one being 1."""
    n = 1 + int(rng.choice(MOST, p=COUNTS))
    placed: list[Item] = []
    squares: list[np.ndarray] = []
    for _ in range(n):
        cls = placed[0].cls if placed and rng.random() < 0.15 else str(rng.choice(classes()))
        for _ in range(20):
            side = rng.uniform(0.13, 0.2) if rng.random() < 0.08 else rng.uniform(*SIDES[n])
            x, y = (rng.uniform(min(side * 0.4, edge / 2), max(edge - side * 0.4, edge / 2)) for edge in (width, height))
            square = np.array([x - side / 2, y - side / 2, x + side / 2, y + side / 2])
            if all(shared(square, other) < OVERLAP * min(side, other[2] - other[0]) ** 2 for other in squares):
                placed.append(choice.pick(rng, Item(cls, place=(x / width, y / height, side))))
                squares.append(square)
                break
    return tuple(placed)


def shared(a: np.ndarray, b: np.ndarray) -> float:
    """The area that two boxes (left, top, right, bottom) have in common."""
    return float(np.clip(np.minimum(a[2:], b[2:]) - np.maximum(a[:2], b[:2]), 0, None).prod())


def scene(rng: np.random.Generator, choice: Drawings) -> tuple[Rendered, Scene, list[str]]:
    """A picture, its scene, and captions of it."""
    if rng.random() < 1 / 3:
        captioned = grammar.sample(rng)
        side = int(rng.choice((32, 48, 64, 96)))
        own = replace(captioned.scene, items=tuple(choice.pick(rng, item) for item in captioned.scene.items))
        return render(own, side, side), own, [captioned.caption]
    across, down = one(rng, SHAPES)
    long = one(rng, LENGTHS)
    short = min(across, down)
    name = str(rng.choice(backgrounds.NAMES))
    own = Scene(name, items(rng, across / short, down / short, choice), int(rng.integers(2**31)))
    return render(own, round(long * down), round(long * across)), own, captions(own, rng)[:2]


def jpeg(image: Image.Image, quality: int) -> Image.Image:
    out = io.BytesIO()
    image.save(out, "JPEG", quality=quality, subsampling=0)
    return Image.open(out)


def as_shipped(rng: np.random.Generator, number: int) -> tuple[Rendered, Scene, list[str], Image.Image]:
    """A picture, its scene, captions of it, and the JPEG, as those of ../scenes."""
    made = scenes.made(FIRST + number)
    return made.rendered, made.scene, captions(made.scene, rng)[:2], Image.open(io.BytesIO(scenes.jpeg(made.rendered.image)))


def drawn(rng: np.random.Generator, number: int, choice: Drawings, share: float) -> tuple[Rendered, Scene, list[str], Image.Image]:
    """share: of those that are made as ../scenes is."""
    if share and rng.random() < share:
        return as_shipped(rng, number)
    made, own, texts = scene(rng, choice)
    image = Image.fromarray(made.image)
    return made, own, texts, jpeg(image, int(rng.integers(70, 96))) if rng.random() < 0.5 else image


def rows(seed: int, numbers: range, folder: Path, share: float = 0.0) -> tuple[np.ndarray, ...]:
    """(pictures, owners, squares, labels, captions) of scenes by their number; share: see drawn."""
    choice, n = Drawings(folder), len(numbers)
    pictures, owners = np.zeros((n, LONG, LONG, 3), np.uint8), np.zeros((n, LONG, LONG), np.uint8)
    squares, labels, texts = np.empty((n, SIDE, SIDE, 3), np.uint8), np.full((n, 3 + MOST), -1, np.int16), []
    for row, number in enumerate(numbers):
        rng = np.random.default_rng([seed, number])
        made, own, said, image = drawn(rng, number, choice, share)
        owner = (made.masks * np.arange(1, len(made.masks) + 1, dtype=np.uint8)[:, None, None]).sum(0).astype(np.uint8)
        scale = LONG / max(image.size)
        width, height = (max(1, int(edge * scale + 0.5)) for edge in image.size)
        pictures[row, :height, :width] = image.resize((width, height), Image.Resampling.BILINEAR)
        owners[row, :height, :width] = Image.fromarray(owner).resize((width, height), Image.Resampling.NEAREST)
        squares[row] = image.resize((SIDE, SIDE), Image.Resampling.BICUBIC)
        labels[row, :3] = height, width, backgrounds.NAMES.index(own.background)
        labels[row, 3 : 3 + len(own.items)] = [classes().index(item.cls) for item in own.items]
        texts.append(said)
    return pictures, owners, squares, labels, np.array([json.dumps(t) for t in texts], object)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("drawings", type=Path, help="folder of more_drawings.py")
    parser.add_argument("scratch", type=Path)
    parser.add_argument("--count", type=int, default=48_000)
    parser.add_argument("--as-shipped", type=float, default=0.0, metavar="SHARE", help="of all, 0..1 (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=11)
    parser.add_argument("--processes", type=int, default=2)
    args = parser.parse_args()
    args.scratch.mkdir(parents=True, exist_ok=True)
    step = 1000
    work = [
        (args.seed, range(start, min(start + step, args.count)), args.drawings, args.as_shipped) for start in range(0, args.count, step)
    ]
    with Pool(args.processes) as pool:
        parts = pool.starmap(rows, work)
    names = ("pictures", "owners", "squares", "labels")
    for column, name in enumerate(names):
        np.save(args.scratch / f"{name}.npy", np.concatenate([part[column] for part in parts]))
    texts = [json.loads(text) for part in parts for text in part[-1]]
    (args.scratch / "captions.json").write_text(json.dumps(texts))
    print(f"{args.count} scenes in {args.scratch}")


if __name__ == "__main__":
    main()
