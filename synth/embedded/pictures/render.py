"""Scenes to pictures: drawings pasted on a painted background, with the tight box and the mask of every object.

Pillow and numpy only. A scene is plain data; everything random about its background comes from `Scene.variant`, so the
same scene at the same size is the same picture.
"""

import functools
import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image, ImageFilter

from . import backgrounds

FOLDER = Path(__file__).resolve().parent
SIZES = {"small": 0.45, "medium": 0.65, "large": 0.90}  # longest side of the drawing / shorter side of the picture
# Centres as a share of the width. A large object has no room to move, so its left and right differ by little.
POSITIONS = {
    "small": {"left": 0.25, "centre": 0.5, "right": 0.75},
    "medium": {"left": 0.36, "centre": 0.5, "right": 0.64},
    "large": {"left": 0.46, "centre": 0.5, "right": 0.54},
}


@dataclass(frozen=True)
class Item:
    """One object. `place` = (centre x, centre y, side), all as shares of the picture, overrides size and position."""

    cls: str
    drawing: int = 0  # index into drawings(cls)
    size: str = "medium"
    position: str = "centre"
    lift: float = 0.0  # upward shift of the centre, as a share of the height
    place: tuple[float, float, float] | None = None
    held_out: bool = False  # take the drawing from the held-out artists
    file: Path | None = None  # a drawing that is neither among them nor ours, in place of `drawing`


@dataclass(frozen=True)
class Scene:
    """A background and objects, painted in order: later ones cover earlier ones."""

    background: str
    items: tuple[Item, ...]
    variant: int = 0  # seeds the background's tint, horizon, stars


@dataclass(frozen=True)
class Rendered:
    image: np.ndarray  # uint8 [H, W, 3]
    boxes: tuple[tuple[int, int, int, int], ...]  # (x, y, w, h) of the visible part; (0, 0, 0, 0) if wholly covered
    masks: np.ndarray  # bool [N, H, W], visible part of each object


@functools.cache
def classes() -> tuple[str, ...]:
    """The class names in official order (their index is the label)."""
    return tuple(json.loads((FOLDER / "classes.json").read_text())["classes"])


@functools.cache
def drawings(cls: str, held_out: bool = False) -> tuple[Path, ...]:
    """The drawing files of a class, sorted. Raises KeyError for a class without drawings."""
    files = tuple(sorted((FOLDER / ("held_out" if held_out else "drawings")).glob(f"{cls}.*.png")))
    if cls not in classes() or not files:
        raise KeyError(f"no drawing of {cls!r}: use one of {', '.join(classes())}")
    return files


@functools.cache
def _open(path: Path) -> Image.Image:
    """One drawing with colours multiplied by alpha, so that resizing does not bleed the colour of empty pixels."""
    with Image.open(path) as image:
        return image.convert("RGBA").convert("RGBa")


@functools.lru_cache(maxsize=4096)
def _sprite(path: Path, side: int) -> tuple[np.ndarray, np.ndarray]:
    """(colour float [S, S, 3] multiplied by alpha, alpha float [S, S] in 0..1) of a drawing at `side` pixels."""
    pixels = np.asarray(_open(path).resize((side, side), Image.Resampling.LANCZOS), np.float32)
    return pixels[..., :3], pixels[..., 3] / 255.0


@functools.lru_cache(maxsize=4096)
def _shade(path: Path, side: int, blur: int) -> np.ndarray:
    """Soft dark rim [S + 4 blur, ...] in 0..1: it keeps a red apple visible on a red background."""
    alpha = _sprite(path, side)[1]
    padded = Image.fromarray(np.pad((alpha * 255).astype(np.uint8), 2 * blur))
    return np.asarray(padded.filter(ImageFilter.GaussianBlur(blur)), np.float32) / 255.0


def _window(top: int, left: int, side: int, height: int, width: int) -> tuple[tuple[slice, slice], tuple[slice, slice]]:
    """Slices (into the picture, into the sprite) of the part of a side x side sprite that lies inside the picture."""
    y0, y1 = max(top, 0), max(min(top + side, height), max(top, 0))
    x0, x1 = max(left, 0), max(min(left + side, width), max(left, 0))
    return (slice(y0, y1), slice(x0, x1)), (slice(y0 - top, y1 - top), slice(x0 - left, x1 - left))


def _placed(item: Item, height: int, width: int) -> tuple[int, int, int]:
    """(top, left, side) in pixels."""
    if item.place is not None:
        cx, cy, share = item.place
    else:
        if item.size not in SIZES or item.position not in POSITIONS[item.size]:
            raise ValueError(f"{item}: size is one of {', '.join(SIZES)}, position one of left, centre, right")
        cx, cy, share = POSITIONS[item.size][item.position], 0.5 - item.lift, SIZES[item.size]
    side = max(1, int(share * min(height, width) + 0.5))
    return int(np.floor(cy * height - side / 2 + 0.5)), int(np.floor(cx * width - side / 2 + 0.5)), side


def _drawing(item: Item) -> Path:
    files = drawings(item.cls, item.held_out)
    return item.file or files[item.drawing % len(files)]


def tight_box(mask: np.ndarray) -> tuple[int, int, int, int]:
    """(x, y, w, h) of the True pixels of [H, W]; (0, 0, 0, 0) if there are none."""
    rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
    if not len(rows):
        return 0, 0, 0, 0
    return int(columns[0]), int(rows[0]), int(columns[-1] - columns[0] + 1), int(rows[-1] - rows[0] + 1)


def render(scene: Scene, height: int, width: int) -> Rendered:
    """Paint `scene` at height x width pixels. Raises ValueError for sizes below 1 and for unknown words."""
    if height < 1 or width < 1:
        raise ValueError(f"a picture needs at least 1 x 1 pixels, not {height} x {width}")
    canvas = backgrounds.paint(scene.background, height, width, np.random.default_rng(scene.variant)).astype(np.float32)
    masks = np.zeros((len(scene.items), height, width), bool)
    blur = max(1, round(min(height, width) / 32))
    for index, item in enumerate(scene.items):
        path = _drawing(item)
        top, left, side = _placed(item, height, width)
        into, part = _window(top - 2 * blur, left - 2 * blur, side + 4 * blur, height, width)
        canvas[into] *= 1 - 0.4 * _shade(path, side, blur)[part][..., None]
        into, part = _window(top, left, side, height, width)
        colour, alpha = _sprite(path, side)
        canvas[into] = canvas[into] * (1 - alpha[part][..., None]) + colour[part]
        solid = alpha[part] >= 0.5
        masks[:index, into[0], into[1]] &= ~solid  # covered by this object
        masks[index][into] = solid
    image = np.clip(np.rint(canvas), 0, 255).astype(np.uint8)
    return Rendered(image, tuple(tight_box(mask) for mask in masks), masks)
