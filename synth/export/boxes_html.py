"""Boxes and masks over pictures on a page: their colours, their CSS, and where their labels lie. Pure."""

from collections.abc import Sequence

# Okabe and Ito's colours, which people with any colour blindness tell apart; then five that most do.
# (colour, whether text on it is black)
PALETTE = (
    ("#e69f00", True), ("#56b4e9", True), ("#009e73", False), ("#f0e442", True), ("#0072b2", False), ("#d55e00", False),
    ("#cc79a7", True), ("#ffffff", True), ("#882255", False), ("#44aa99", True), ("#999933", True), ("#332288", False),
)  # fmt: skip
LOW = 0.14  # share of the height: a box that begins above has its label inside
RIGHT = 0.6  # share of the width: one that begins behind has its label at its right end
PICTURE, LABEL, LETTER, PAD = 14.0, 0.95, 0.43, 0.4  # rem: height of a picture, of a label; width of a letter of it, and around them
COLOURS = "".join(f".c{i} {{ --c: {c}; --t: {'#000' if dark else '#fff'} }}\n" for i, (c, dark) in enumerate(PALETTE))
LIT = "{ outline: 3px solid var(--c); outline-offset: 2px; z-index: 1 }"  # where the pointer is
# of a .pic, which is positioned: .box with a label in <b>, and paths of an <svg>
BOXES = """.box { position: absolute; box-sizing: border-box; border: 2px solid var(--c);
  box-shadow: 0 0 0 1px #000a, inset 0 0 0 1px #000a; }
.again { border-style: dashed; }
.box b { position: absolute; left: -2px; bottom: 100%; padding: 0 .25em; font: 600 .68rem/1.35 system-ui, sans-serif;
  white-space: nowrap; z-index: 2; background: var(--c); color: var(--t); }
.box.low b { bottom: auto; top: 0; } .box.right b { left: auto; right: -2px; }
.box.under b { bottom: auto; top: 100%; } .box.foot b { bottom: 0; } .box:hover b { z-index: 3; }
svg { position: absolute; inset: 0; width: 100%; height: 100%; pointer-events: none; }
path { fill: var(--c); fill-opacity: .45; fill-rule: evenodd; stroke: var(--c); stroke-width: 2;
  vector-effect: non-scaling-stroke; }
"""
Box = Sequence[float]  # x, y, width, height in pixels


def places(boxes: Sequence[tuple[str, Box]], width: int, height: int) -> list[str]:
    """The class of each box that says where its label lies, so that labels do not cover each other: above the box (""), inside at its top
    (low), below it (under) or inside at its bottom (foot), at its left or right end; the first that is free and inside the picture.

    boxes: (label, box); width, height: of the picture.
    """
    chosen, taken = [], []
    for label, box in boxes:
        spots = _spots(label, box, width, height)
        inside = [(name, at) for name, at in spots if at[1] >= 0 and at[3] <= 1 and at[0] >= 0 and at[2] <= 1]
        free = [(name, at) for name, at in inside if not any(_meet(at, other) for other in taken)]
        name, at = (free if free and any(_meet(spots[0][1], other) for other in taken) else spots)[0]
        chosen.append(name)
        taken.append(at)
    return chosen


def _spots(label: str, box: Box, width: int, height: int) -> list[tuple[str, tuple[float, float, float, float]]]:
    """(class, where the label lies: left, top, right, bottom as shares of the picture) of all places of a label, the usual one first."""
    x, y, w, h = (v / side for v, side in zip(box, (width, height) * 2, strict=True))
    high = LABEL / PICTURE
    wide = (len(label) * LETTER + PAD) / (PICTURE * width / height)
    tops = {"": y - high, " low": y, " under": y + h, " foot": y + h - high}
    lefts = {"": x, " right": x + w - wide}
    first, end = (" low" if y < LOW else ""), (" right" if x > RIGHT else "")
    spots = [(top + left, (lefts[left], tops[top], lefts[left] + wide, tops[top] + high)) for top in tops for left in lefts]
    return sorted(spots, key=lambda spot: spot[0] != first + end)


def _meet(a: tuple[float, ...], b: tuple[float, ...]) -> bool:
    return a[0] < b[2] and b[0] < a[2] and a[1] < b[3] and b[1] < a[3]


def place_of(box: Box, width: int, height: int) -> str:
    """The style that lays a box over its picture."""
    x, y, w, h = box
    left, top, wide, high = (100 * v for v in (x / width, y / height, w / width, h / height))
    return f"left:{left:.3f}%;top:{top:.3f}%;width:{wide:.3f}%;height:{high:.3f}%"
